// The agents' page, served at /agent.

import '../shared/base.css';
import './agent.css';
import { RingdeskClient, browserEnv, type Availability, type ErrorCode } from '../client';
import { Banner } from '../shared/banner';
import { DICTIONARY, type Key } from '../shared/dictionary';
import { setKey } from '../shared/dom';
import { Notice } from '../shared/notice';
import { profileStore, socketBase, startPage, tabStore } from '../shared/page';
import { Desk } from './desk';
import { Lists } from './lists';
import { Login } from './login';
import { Pane } from './pane';
import { keepSession, keptSession, type AgentSession } from './session';

const AVAIL_KEY = 'ringdesk.agent.avail';
const MAX_CAP = 500;
const TOAST_MS = 5_000;

const { i18n, make, languageButton } = startPage();
let session = keptSession(tabStore);

const client = new RingdeskClient({
  role: 'agent',
  base: socketBase(),
  env: browserEnv({ store: profileStore, outbox: tabStore }),
  ...(session ? { ticket: session.ticket } : {}),
});

let due = false;
const changed = (): void => {
  if (due) return;
  due = true;
  queueMicrotask(() => {
    due = false;
    show();
  });
};

const desk = new Desk(client, changed);

// ---- one's own state

/** What the person chose on this browser. Who never chose works with the capacity that the server's settings give. */
const readAvail = (): { state: Availability; cap: number } | undefined => {
  try {
    const kept = JSON.parse(profileStore.get(AVAIL_KEY) ?? '') as { state?: Availability; cap?: number };
    if (kept.state !== undefined && kept.cap !== undefined) return { state: kept.state, cap: kept.cap };
  } catch {
    // Never chosen yet.
  }
  return undefined;
};
const chosen = readAvail();
/** Until the server says it, no capacity is known. */
let avail: { state: Availability; cap: number | undefined } = chosen ?? { state: 'online', cap: undefined };

const state = make('select', {
  label: 'agent.availability',
  on: {
    change: () => {
      setAvail({ ...avail, state: state.value as Availability });
    },
  },
});
for (const value of ['online', 'busy', 'away'] as const) {
  state.append(make('option', { t: `agent.${value}`, attrs: { value } }));
}
const cap = make('input', {
  class: 'cap',
  label: 'agent.capacityLabel',
  attrs: { type: 'number', min: '0', max: String(MAX_CAP), step: '1', inputmode: 'numeric' },
  on: {
    change: () => {
      const n = Math.round(Number(cap.value));
      setAvail({ ...avail, cap: Number.isFinite(n) ? Math.min(MAX_CAP, Math.max(0, n)) : avail.cap });
    },
  },
});

const showAvail = (): void => {
  state.value = avail.state;
  if (document.activeElement !== cap || cap.value === '') cap.value = avail.cap === undefined ? '' : String(avail.cap);
  document.body.dataset.avail = avail.state;
};

const setAvail = (next: { state: Availability; cap: number | undefined }): void => {
  avail = next;
  if (avail.cap !== undefined) profileStore.set(AVAIL_KEY, JSON.stringify(avail));
  client.avail(avail.state, avail.cap);
  cap.value = avail.cap === undefined ? '' : String(avail.cap);
  showAvail();
};

// ---- the page

const login = new Login(make, i18n, languageButton(), (fresh: AgentSession) => {
  session = fresh;
  keepSession(tabStore, session);
  client.authenticate(session.ticket);
});
const me = make('span', { class: 'me' });
const logout = make('button', {
  class: 'quiet',
  t: 'agent.logout',
  attrs: { type: 'button' },
  on: {
    click: () => {
      session = null;
      keepSession(tabStore, null);
      client.logout();
    },
  },
});
const banner = new Banner(make, i18n, client);
const notice = new Notice(make);
const lists = new Lists(make, i18n, desk);
const pane = new Pane(make, i18n, desk);
const toast = make('div', { class: 'toast', attrs: { role: 'alert', hidden: '' } });
const app = make(
  'div',
  { class: 'desk', attrs: { hidden: '' } },
  make(
    'header',
    {},
    make('h1', {}, 'ringdesk'),
    make('span', { class: 'own' }, make('span', { class: 'avail-dot' }), state, capLabel(), cap),
    me,
    languageButton(),
    logout,
  ),
  banner.element,
  notice.element,
  make('div', { class: 'columns' }, lists.element, pane.element),
);
document.body.append(login.element, app, toast);

function capLabel(): HTMLElement {
  return make('span', { class: 'cap-label', t: 'agent.capacity', attrs: { 'aria-hidden': 'true' } });
}

let toastTimer = 0;
const say = (key: Key): void => {
  setKey(toast, 't', key, i18n);
  toast.hidden = false;
  window.clearTimeout(toastTimer);
  toastTimer = window.setTimeout(() => {
    toast.hidden = true;
  }, TOAST_MS);
};

const errorKey = (code: ErrorCode): Key => {
  const key = `err.${code}`;
  return key in DICTIONARY.en ? (key as Key) : 'err.other';
};

const show = (): void => {
  const { phase } = client.state;
  const loggedIn = phase !== 'login' && phase !== 'idle';
  app.hidden = !loggedIn;
  if (!loggedIn) return;
  const name = client.name ?? session?.agent.name ?? '';
  if (me.textContent !== name) me.textContent = name;
  document.body.dataset.view = desk.selected === null ? 'list' : 'chat';
  lists.show();
  pane.show();
  const unread = desk.unread();
  const calls = desk.offers.size;
  document.title = unread + calls > 0 ? `(${unread + calls}) ringdesk` : 'ringdesk';
};

// ---- what happens

client.on('state', (now) => {
  if (now.phase === 'login') {
    const expired = now.code !== undefined;
    session = null;
    keepSession(tabStore, null);
    desk.forget();
    document.title = 'ringdesk';
    login.show(expired);
  } else {
    login.hide();
  }
  changed();
});
client.on('avail', (now) => {
  avail = { state: now.state, cap: now.cap };
  showAvail();
});
client.on('refused', ({ item, error }) => {
  if (item.op === 'accept' || item.op === 'close') say(errorKey(error.code));
});
client.on('gone', () => {
  say('err.not_found');
});
client.on('notice', ({ text }) => {
  notice.show(text);
});
pane.element.addEventListener('seen', changed);
i18n.onChange(() => {
  lists.show();
  pane.translate();
});

showAvail();
client.sub('queue');
client.sub('mine');
if (chosen) client.avail(chosen.state, chosen.cap);
client.connect();
changed();
