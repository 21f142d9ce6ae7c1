// The visitor's page, served at /chat/<inbox id>.

import '../shared/base.css';
import './visitor.css';
import { RingdeskClient, browserEnv, type OutboxItem } from '../client';
import { Banner } from '../shared/banner';
import { Composer } from '../shared/composer';
import { Log } from '../shared/log';
import { Notice } from '../shared/notice';
import { profileStore, socketBase, startPage } from '../shared/page';
import { Transcript } from '../shared/transcript';

const { i18n, make, languageButton } = startPage();
const inbox = decodeURIComponent(location.pathname.split('/').findLast((part) => part !== '') ?? '');

const client = new RingdeskClient({
  role: 'visitor',
  base: socketBase(),
  inbox,
  env: browserEnv({ store: profileStore, outbox: profileStore }),
  intro: () => ({
    page: (document.referrer === '' ? location.href : document.referrer).slice(0, 512),
    locale: i18n.lang,
  }),
});

let transcript = new Transcript('visitor');
let agentName: string | undefined;
let position: number | undefined;
let closing = false;
/** The server does not tell us what is said, for now. */
let unheard = false;

// ---- the page

const title = make('h1', { t: 'visitor.title' });
const subtitle = make('p', { class: 'subtitle', attrs: { role: 'status' } });
const end = make('button', { class: 'quiet end', t: 'visitor.end', attrs: { type: 'button', hidden: '' } });
const banner = new Banner(make, i18n, client);
const notice = new Notice(make);
const hello = make(
  'div',
  { class: 'hello' },
  make('h2', { t: 'visitor.hello' }),
  make('p', { t: 'visitor.helloMore' }),
);

const log = new Log(make, i18n, {
  older: async () => {
    const c = client.conversation;
    const before = transcript.first;
    if (c === null || before === undefined) return;
    const page = await client.history(c, before);
    if (c !== client.conversation) return;
    transcript.prepend(page);
    show();
  },
  retry: (cid) => {
    client.retry(cid);
  },
  discard: (cid) => {
    client.discard(cid);
    show();
  },
  seen: (s) => {
    if (client.conversation !== null) client.seen(client.conversation, s);
  },
});

const composer = new Composer(make, i18n, {
  send: (body) => {
    client.say(body);
  },
  typing: () => {
    if (client.conversation !== null) client.typing(client.conversation);
  },
  empty: () => {
    if (client.conversation !== null) client.typingEnded(client.conversation);
  },
});

const dialog = make(
  'dialog',
  { class: 'dialog', attrs: { 'aria-labelledby': 'end-title' } },
  make('h2', { t: 'visitor.endAsk', attrs: { id: 'end-title' } }),
  make('p', { t: 'visitor.endMore' }),
  make(
    'form',
    { class: 'dialog-buttons', attrs: { method: 'dialog' } },
    make('button', { t: 'common.cancel', attrs: { value: 'no' } }),
    make('button', { class: 'primary', t: 'visitor.endYes', attrs: { value: 'yes' } }),
  ),
);
end.addEventListener('click', () => {
  dialog.returnValue = '';
  dialog.showModal();
});
dialog.addEventListener('close', () => {
  if (dialog.returnValue !== 'yes' || client.conversation === null) return;
  closing = true;
  client.close(client.conversation);
  show();
});

document.body.append(
  make(
    'main',
    { class: 'card' },
    make('header', {}, make('div', { class: 'titles' }, title, subtitle), end, languageButton()),
    banner.element,
    notice.element,
    hello,
    log.element,
    composer.element,
  ),
  dialog,
);

// ---- showing

let due = false;

/** Draws once for everything that happened in this turn. */
const show = (): void => {
  if (due) return;
  due = true;
  queueMicrotask(() => {
    due = false;
    draw();
  });
};

const draw = (): void => {
  const online = client.state.phase === 'ready';
  const pending: readonly OutboxItem[] = client.pending;
  log.show({
    transcript,
    pending,
    me: client.me,
    online,
    name: (kind) => (kind === 'visitor' ? i18n.t('log.you') : (agentName ?? i18n.t('log.agent'))),
  });
  const spoken = client.conversation !== null || pending.length > 0;
  hello.hidden = spoken;
  log.element.hidden = !spoken;
  const closed = transcript.status === 'closed';
  end.hidden = client.conversation === null || closed;
  end.disabled = closing;
  composer.purpose(closed && spoken ? 'composer.reopen' : 'composer.write', 'composer.send', 'composer.message');
  const words = subtitleWords(spoken);
  if (subtitle.textContent !== words) subtitle.textContent = words;
  document.body.dataset.status = spoken ? transcript.status : 'none';
  document.title = i18n.t('visitor.title');
};

const subtitleWords = (spoken: boolean): string => {
  if (!spoken) return '';
  if (unheard) return i18n.t('visitor.unheard');
  switch (transcript.status) {
    case 'closed':
      return `${i18n.t('visitor.closed')} · ${i18n.t('visitor.closedMore')}`;
    case 'open':
      return i18n.t('visitor.with', { name: agentName ?? i18n.t('log.agent') });
    case 'waiting':
      if (position === 1) return i18n.t('visitor.next');
      return position === undefined ? i18n.t('visitor.waiting') : i18n.t('visitor.position', { n: position });
  }
};

// ---- what the server tells

client.on('conversation', (c) => {
  // The first words are shown before there is a conversation; they stay.
  if (c === null) transcript = new Transcript('visitor');
  if (c === null) agentName = position = undefined;
  unheard = false;
  show();
});
client.on('event', ({ event, cid }) => {
  transcript.append(event, cid);
  if (event.op === 'agent') agentName = event.d.joined.name;
  if (event.op === 'msg' && event.d.from.kind === 'agent') agentName = event.d.from.name ?? agentName;
  if (event.op === 'agent' || (event.op === 'status' && event.d.status === 'closed')) position = undefined;
  if (event.op === 'status') closing = false;
  show();
});
client.on('reset', ({ from }) => {
  transcript.reset(from);
  show();
});
client.on('sync', ({ state }) => {
  transcript.sync(state);
  closing = unheard = false;
  show();
});
client.on('unheard', () => {
  unheard = true;
  show();
});
client.on('history_lost', ({ from, to, reason }) => {
  if (reason !== 'rewound') transcript.lost(from, to);
  show();
});
client.on('settled', ({ item, s, ts }) => {
  transcript.settle(item, s, ts);
  show();
});
client.on('refused', ({ item }) => {
  if (item.op === 'close') closing = false;
  show();
});
client.on('typing', ({ who, on }) => {
  if (on) transcript.typing.set(who.id, who.kind);
  else transcript.typing.delete(who.id);
  show();
});
for (const type of ['seen', 'delivered'] as const) {
  client.on(type, ({ who, s }) => {
    transcript.receipt(type, who, s);
    show();
  });
}
client.on('queue', ({ pos }) => {
  position = pos;
  show();
});
client.on('notice', ({ text }) => {
  notice.show(text);
});
client.on('state', ({ phase }) => {
  if (phase !== 'ready') transcript.typing.clear();
  show();
});
client.on('outbox', show);
i18n.onChange(() => {
  composer.translate();
  show();
});

if (inbox === '') {
  subtitle.textContent = i18n.t('visitor.noInbox');
  composer.enable(false);
} else {
  client.connect();
}
show();
if (window.matchMedia('(hover: hover)').matches) composer.focus();
