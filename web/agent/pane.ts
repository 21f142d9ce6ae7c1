// The middle: one conversation, and where one writes into it.

import { Composer } from '../shared/composer';
import { icon, setKey, type Make } from '../shared/dom';
import type { I18n } from '../shared/i18n';
import { Log } from '../shared/log';
import type { Conversation, Desk } from './desk';

export class Pane {
  readonly element: HTMLElement;
  readonly #i18n: I18n;
  readonly #desk: Desk;
  readonly #log: Log;
  readonly #composer: Composer;
  readonly #empty: HTMLElement;
  readonly #full: HTMLElement;
  readonly #name: HTMLElement;
  readonly #state: HTMLElement;
  readonly #accept: HTMLButtonElement;
  readonly #close: HTMLButtonElement;
  readonly #message: HTMLInputElement;
  readonly #note: HTMLInputElement;
  readonly #why: HTMLElement;
  readonly #unheard: HTMLElement;
  #shown: Conversation | undefined;

  constructor(make: Make, i18n: I18n, desk: Desk) {
    this.#i18n = i18n;
    this.#desk = desk;
    const { client } = desk;
    this.#log = new Log(make, i18n, {
      older: () => (desk.selected === null ? Promise.resolve() : desk.older(desk.selected)),
      retry: (cid) => {
        client.retry(cid);
      },
      discard: (cid) => {
        client.discard(cid);
        this.show();
      },
      seen: (s) => {
        const open = desk.open;
        // Only who answers says "seen": a look at those who wait promises nothing.
        if (!open || desk.standing(open) !== 'mine' || open.transcript.seen.agent >= s) return;
        open.transcript.receipt('seen', 'agent', s);
        client.seen(open.c, s);
        queueMicrotask(() => {
          this.#afterSeen();
        });
      },
    });

    const radio = (value: 'message' | 'note'): HTMLInputElement =>
      make('input', {
        attrs: { type: 'radio', name: 'mode', value },
        on: {
          change: () => {
            const open = desk.open;
            if (open) open.mode = value;
            this.show();
            this.#composer.focus();
          },
        },
      });
    this.#message = radio('message');
    this.#note = radio('note');
    this.#why = make('span', { class: 'why' });
    const modes = make(
      'div',
      { class: 'modes', attrs: { role: 'radiogroup' }, label: 'agent.mode' },
      make('label', { class: 'mode' }, this.#message, make('span', { t: 'composer.message' })),
      make('label', { class: 'mode mode-note' }, this.#note, icon('note'), make('span', { t: 'composer.note' })),
      this.#why,
    );
    modes.removeAttribute('title');

    this.#composer = new Composer(
      make,
      i18n,
      {
        send: (body) => {
          const open = desk.open;
          if (!open) return;
          if (this.#mode(open) === 'note') client.note(open.c, body);
          else client.send(open.c, body);
        },
        typing: () => {
          const open = desk.open;
          if (open && this.#mode(open) === 'message') client.typing(open.c);
        },
        empty: () => {
          if (desk.selected !== null) client.typingEnded(desk.selected);
        },
      },
      [modes],
    );

    const back = make(
      'button',
      {
        class: 'quiet back',
        label: 'agent.back',
        attrs: { type: 'button' },
        on: {
          click: () => {
            desk.select(null);
          },
        },
      },
      icon('back'),
    );
    this.#name = make('h2', { class: 'pane-name', attrs: { dir: 'auto' } });
    this.#state = make('p', { class: 'pane-state' });
    this.#accept = make('button', {
      class: 'primary',
      t: 'agent.accept',
      attrs: { type: 'button' },
      on: {
        click: () => {
          if (desk.selected !== null) desk.accept(desk.selected);
        },
      },
    });
    this.#close = make('button', {
      class: 'close-conversation',
      t: 'agent.close',
      attrs: { type: 'button' },
      on: {
        click: () => {
          if (desk.selected !== null) desk.close(desk.selected);
        },
      },
    });
    this.#unheard = make('p', { class: 'pane-unheard', attrs: { role: 'status', hidden: '' } });
    this.#empty = make(
      'div',
      { class: 'pane-empty' },
      make('h2', { t: 'agent.pick' }),
      make('p', { t: 'agent.pickMore' }),
    );
    this.#full = make(
      'div',
      { class: 'pane-full' },
      make(
        'div',
        { class: 'pane-head' },
        back,
        make('div', { class: 'titles' }, this.#name, this.#state),
        this.#accept,
        this.#close,
      ),
      this.#unheard,
      this.#log.element,
      this.#composer.element,
    );
    this.element = make('main', { class: 'pane' }, this.#empty, this.#full);
  }

  translate(): void {
    this.#composer.translate();
    this.show();
  }

  show(): void {
    const desk = this.#desk;
    const open = desk.open;
    this.#empty.hidden = open !== undefined;
    this.#full.hidden = open === undefined;
    if (open !== this.#shown) this.#turnTo(open);
    if (!open) return;
    const { t } = this.#i18n;
    const standing = desk.standing(open);
    const online = desk.client.state.phase === 'ready';
    const visitor = open.row.name ?? t('agent.anonymous', { id: open.c.slice(-4) });
    setText(this.#name, visitor);
    const state = {
      waiting: 'agent.statusWaiting',
      mine: 'agent.statusOpen',
      other: 'agent.statusOther',
      closed: 'agent.statusClosed',
    } as const;
    const presence =
      open.online === undefined ? '' : `${t(open.online ? 'agent.visitorOnline' : 'agent.visitorOffline')} · `;
    setText(this.#state, presence + t(state[standing]));
    this.#state.classList.toggle('on', open.online === true);
    this.#accept.hidden = standing !== 'waiting';
    this.#accept.disabled = desk.accepting.has(open.c) || !online;
    this.#close.hidden = standing !== 'mine';
    this.#close.disabled = desk.closing.has(open.c);

    this.#unheard.hidden = open.unheard === undefined;
    const tooMany = open.unheard === 'quota';
    if (open.unheard !== undefined) {
      setKey(this.#unheard, 't', tooMany ? 'agent.unheardQuota' : 'agent.unheard', this.#i18n);
    }

    const mode = this.#mode(open);
    const maySay = this.#maySay(open);
    this.#message.disabled = !maySay;
    this.#message.checked = mode === 'message';
    this.#note.checked = mode === 'note';
    const why = { waiting: 'composer.acceptFirst', other: 'composer.notYours', closed: 'composer.isClosed' } as const;
    this.#why.hidden = maySay;
    if (standing !== 'mine' && !maySay) setKey(this.#why, 't', why[standing], this.#i18n);
    this.#composer.element.classList.toggle('writing-note', mode === 'note');
    if (mode === 'note') this.#composer.purpose('composer.writeNote', 'composer.saveNote', 'composer.note');
    else this.#composer.purpose('composer.write', 'composer.send', 'composer.message');

    this.#log.show({
      transcript: open.transcript,
      pending: desk.client.pending.filter((item) => item.c === open.c),
      me: desk.client.me,
      online,
      name: (kind) => (kind === 'visitor' ? visitor : t('log.agent')),
    });
  }

  /** What can be written now: without being the owner only notes. */
  #mode(open: Conversation): 'message' | 'note' {
    return this.#maySay(open) ? open.mode : 'note';
  }

  /** As the owner; or while he is becoming it: what is said then goes out behind the `accept`, and is refused with it. */
  #maySay(open: Conversation): boolean {
    return this.#desk.standing(open) === 'mine' || this.#desk.accepting.has(open.c);
  }

  #turnTo(open: Conversation | undefined): void {
    if (this.#shown) {
      this.#shown.draft = this.#composer.value;
      this.#desk.client.typingEnded(this.#shown.c);
    }
    this.#shown = open;
    this.#composer.value = open?.draft ?? '';
    if (open && window.matchMedia('(hover: hover) and (min-width: 761px)').matches) this.#composer.focus();
  }

  #afterSeen(): void {
    this.element.dispatchEvent(new CustomEvent('seen', { bubbles: true }));
  }
}

const setText = (node: HTMLElement, text: string): void => {
  if (node.textContent !== text) node.textContent = text;
};
