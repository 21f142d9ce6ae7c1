// Draws a transcript. Every row keeps its element as long as its key lives, so nothing flickers or is read aloud twice.

import type { OutboxItem } from '../client';
import { icon, setKey, type Icon, type Make } from './dom';
import type { Key } from './dictionary';
import type { I18n } from './i18n';
import type { Row, Tick, Transcript } from './transcript';

const NEAR_END_PX = 80;

export interface LogSource {
  transcript: Transcript;
  pending: readonly OutboxItem[];
  me: string | undefined;
  online: boolean;
  /** The name of the other side where an event brings none. */
  name(kind: 'visitor' | 'agent' | 'system'): string;
}

export interface LogActions {
  /** Resolves when the older events are in the transcript. */
  older(): Promise<void>;
  retry(cid: string): void;
  discard(cid: string): void;
  /** The person has the end of the conversation before his eyes. */
  seen(s: number): void;
}

type TextRow = Extract<Row, { kind: 'text' }>;

const TICK_ICON: Record<Tick, Icon> = {
  sending: 'clock',
  waiting: 'clock',
  sent: 'sent',
  delivered: 'double',
  seen: 'double',
  failed: 'failed',
};

const TICK_KEY: Record<Tick, Key> = {
  sending: 'tick.sending',
  waiting: 'tick.waiting',
  sent: 'tick.sent',
  delivered: 'tick.delivered',
  seen: 'tick.seen',
  failed: 'tick.failed',
};

export class Log {
  readonly element: HTMLElement;
  readonly #make: Make;
  readonly #i18n: I18n;
  readonly #actions: LogActions;
  readonly #scroller: HTMLElement;
  readonly #list: HTMLOListElement;
  readonly #typing: HTMLElement;
  readonly #toEnd: HTMLButtonElement;
  #nodes = new Map<string, { node: HTMLLIElement; update: (row: Row) => void }>();
  #source: LogSource | undefined;
  #transcript: Transcript | undefined;
  #lang: string;
  #lastRow: string | undefined;
  #loading = false;

  constructor(make: Make, i18n: I18n, actions: LogActions) {
    this.#make = make;
    this.#i18n = i18n;
    this.#actions = actions;
    this.#lang = i18n.lang;
    this.#list = make('ol', {
      class: 'log-rows',
      label: 'log.label',
      attrs: { role: 'log', 'aria-live': 'polite', 'aria-relevant': 'additions' },
    });
    this.#typing = make('div', { class: 'typing', attrs: { hidden: '' } });
    this.#scroller = make('div', { class: 'log-scroll', attrs: { tabindex: '0' }, label: 'log.label' });
    this.#scroller.removeAttribute('title');
    this.#list.removeAttribute('title');
    this.#scroller.append(this.#list, this.#typing);
    this.#toEnd = make('button', {
      class: 'to-end',
      attrs: { type: 'button', hidden: '' },
      label: 'log.toEnd',
      on: {
        click: () => {
          this.toEnd();
        },
      },
    });
    this.#toEnd.append(icon('down'));
    this.element = make('div', { class: 'log' }, this.#scroller, this.#toEnd);
    this.#scroller.addEventListener('scroll', () => {
      this.#looked();
    });
    document.addEventListener('visibilitychange', () => {
      this.#looked();
    });
    new ResizeObserver(() => {
      if (this.#toEnd.hidden) this.toEnd();
    }).observe(this.#scroller);
  }

  show(source: LogSource): void {
    const other = source.transcript !== this.#transcript;
    if (other || this.#lang !== this.#i18n.lang) {
      this.#nodes.clear();
      this.#list.replaceChildren();
    }
    this.#lang = this.#i18n.lang;
    this.#source = source;
    this.#transcript = source.transcript;
    const atEnd = other || this.#nearEnd();
    const heightBefore = this.#scroller.scrollHeight;
    const topBefore = this.#scroller.scrollTop;
    const firstBefore = this.#list.querySelector('[data-s]')?.getAttribute('data-s');

    const rows = source.transcript.rows(source.pending, source.me, source.online);
    this.#draw(rows);
    this.#showTyping();

    const last = rows.at(-1);
    const saidNow = last?.kind === 'text' && last.mine && last.key !== this.#lastRow;
    this.#lastRow = last?.key;
    const firstNow = this.#list.querySelector('[data-s]')?.getAttribute('data-s');
    if (atEnd || saidNow) this.toEnd();
    else if (firstBefore !== firstNow) {
      // Older ones came in above: what was being read stays where it was.
      this.#scroller.scrollTop = topBefore + this.#scroller.scrollHeight - heightBefore;
    }
    this.#looked();
  }

  toEnd(): void {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#looked();
  }

  #draw(rows: Row[]): void {
    const nodes = new Map<string, { node: HTMLLIElement; update: (row: Row) => void }>();
    let at: ChildNode | null = this.#list.firstChild;
    for (const row of rows) {
      const drawn = this.#nodes.get(row.key) ?? this.#create(row);
      nodes.set(row.key, drawn);
      drawn.update(row);
      if (drawn.node === at) at = at.nextSibling;
      else this.#list.insertBefore(drawn.node, at);
    }
    for (const [key, { node }] of this.#nodes) if (!nodes.has(key)) node.remove();
    this.#nodes = nodes;
  }

  #create(row: Row): { node: HTMLLIElement; update: (row: Row) => void } {
    const make = this.#make;
    switch (row.kind) {
      case 'older': {
        const button = make('button', { class: 'link', t: 'log.older', attrs: { type: 'button' } });
        button.addEventListener('click', () => {
          if (this.#loading) return;
          this.#loading = button.disabled = true;
          this.#actions
            .older()
            .catch(() => {
              setKey(button, 't', 'log.olderFailed', this.#i18n);
            })
            .finally(() => {
              this.#loading = button.disabled = false;
            });
        });
        return still(make('li', { class: 'row-older' }, button));
      }
      case 'day':
        return still(make('li', { class: 'row-day' }, make('span', {}, this.#i18n.day(row.ts, Date.now()))));
      case 'lost':
        return still(make('li', { class: 'row-line lost', t: 'log.lost' }));
      case 'line':
        return still(make('li', { class: 'row-line', attrs: { 'data-s': String(row.event.s) } }, this.#line(row)));
      case 'text':
        return this.#text(row);
    }
  }

  #line({ event }: Extract<Row, { kind: 'line' }>): string {
    const { t } = this.#i18n;
    const me = this.#source?.me;
    if (event.op === 'agent') {
      const { id, name } = event.d.joined;
      return id === me ? t('log.youJoined') : t('log.joined', { name: name ?? this.#nameOf('agent') });
    }
    if (event.op !== 'status') return '';
    const { status, by } = event.d;
    if (status === 'waiting') return t(by.kind === 'visitor' ? 'log.reopened' : 'log.requeued');
    if (by.kind === 'system') return t('log.closed');
    return by.id === me ? t('log.closedByYou') : t('log.closedBy', { name: by.name ?? this.#nameOf(by.kind) });
  }

  #text(row: TextRow): { node: HTMLLIElement; update: (row: Row) => void } {
    const make = this.#make;
    const who = make('div', { class: 'who' });
    const bubble = make('div', { class: 'bubble', attrs: { dir: 'auto' } }, row.body);
    const time = make('time');
    const tick = make('span', { class: 'tick' });
    const actions = make('span', { class: 'failed-actions' });
    const node = make('li', {}, who, bubble, make('div', { class: 'meta' }, time, tick, actions));
    let shownTick: Tick | undefined;
    const update = (now: Row): void => {
      if (now.kind !== 'text') return;
      const side = now.ours ? 'ours' : now.from.kind === 'system' ? 'system' : 'theirs';
      node.className = `row-text ${side}${now.note ? ' note' : ''}${now.first ? ' first' : ''}${now.quiet ? ' quiet-meta' : ''}`;
      setData(node, 's', now.s === undefined ? undefined : String(now.s));
      setData(node, 'cid', now.cid);
      setData(node, 'tick', now.tick);
      const name = now.mine
        ? this.#i18n.t('log.you')
        : (now.from.name ?? this.#nameOf(now.ours ? this.#transcript?.role ?? now.from.kind : now.from.kind));
      const note = now.mine ? this.#i18n.t('log.yourNote') : this.#i18n.t('log.noteBy', { name });
      const whoText = now.note ? note : name;
      if (who.textContent !== whoText) who.textContent = whoText;
      who.hidden = !now.first;
      if (now.ts !== undefined && time.textContent === '') {
        time.dateTime = new Date(now.ts).toISOString();
        time.textContent = this.#i18n.time(now.ts);
      }
      if (now.tick !== shownTick) {
        shownTick = now.tick;
        tick.replaceChildren();
        actions.replaceChildren();
        if (now.tick !== undefined) this.#fillTick(now.tick, now.cid, tick, actions);
      }
    };
    return { node, update };
  }

  #fillTick(tick: Tick, cid: string | undefined, into: HTMLElement, actions: HTMLElement): void {
    const label = this.#make('span', { class: tick === 'failed' || tick === 'seen' ? '' : 'hidden', t: TICK_KEY[tick] });
    into.append(icon(TICK_ICON[tick]), label);
    into.title = this.#i18n.t(TICK_KEY[tick]);
    if (tick !== 'failed' || cid === undefined) return;
    const button = (t: Key, fn: () => void): HTMLElement =>
      this.#make('button', { class: 'link', t, attrs: { type: 'button' }, on: { click: fn } });
    actions.append(
      button('tick.retry', () => {
        this.#actions.retry(cid);
      }),
      button('tick.discard', () => {
        this.#actions.discard(cid);
      }),
    );
  }

  #showTyping(): void {
    const kinds = [...(this.#transcript?.typing.values() ?? [])];
    const kind = kinds[0];
    this.#typing.hidden = kind === undefined;
    if (kind === undefined) return;
    const text = this.#i18n.t('log.typing', { name: this.#nameOf(kind) });
    if (this.#typing.title === text) return;
    this.#typing.title = text;
    const dots = this.#make('span', { class: 'dots', attrs: { 'aria-hidden': 'true' } });
    dots.append(this.#make('i'), this.#make('i'), this.#make('i'));
    this.#typing.replaceChildren(dots, this.#make('span', { class: 'hidden' }, text));
  }

  #nameOf(kind: 'visitor' | 'agent' | 'system'): string {
    return this.#source?.name(kind) ?? '';
  }

  #nearEnd(): boolean {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
  }

  #looked(): void {
    const atEnd = this.#nearEnd();
    this.#toEnd.hidden = atEnd;
    const last = this.#transcript?.lastOfOthers ?? 0;
    // Not on screen (another page, another view of a narrow window): not seen.
    if (atEnd && last > 0 && document.visibilityState === 'visible' && this.#scroller.offsetParent !== null) {
      this.#actions.seen(last);
    }
  }
}

const still = (node: HTMLLIElement): { node: HTMLLIElement; update: (row: Row) => void } => ({
  node,
  update: () => undefined,
});

const setData = (node: HTMLElement, name: string, value: string | undefined): void => {
  if (value === undefined) node.removeAttribute(`data-${name}`);
  else if (node.getAttribute(`data-${name}`) !== value) node.setAttribute(`data-${name}`, value);
};
