// The left column: who waits and what is one's own, both live.

import type { Make } from '../shared/dom';
import type { I18n } from '../shared/i18n';
import type { Conversation, Desk } from './desk';

const TICK_MS = 500;

interface RowView {
  element: HTMLLIElement;
  update(conversation: Conversation, place: number | undefined): void;
}

export class Lists {
  readonly element: HTMLElement;
  readonly #make: Make;
  readonly #i18n: I18n;
  readonly #desk: Desk;
  readonly #waiting: Section;
  readonly #mine: Section;
  #timer = 0;

  constructor(make: Make, i18n: I18n, desk: Desk) {
    this.#make = make;
    this.#i18n = i18n;
    this.#desk = desk;
    const showMore = (): void => {
      desk.showMore();
    };
    this.#waiting = new Section(make, 'agent.waiting', 'agent.noneWaiting', () => this.#row(), showMore);
    this.#mine = new Section(make, 'agent.mine', 'agent.noneMine', () => this.#row());
    this.element = make(
      'nav',
      { class: 'lists', label: 'agent.lists' },
      this.#waiting.element,
      this.#mine.element,
    );
    this.element.removeAttribute('title');
  }

  show(): void {
    const desk = this.#desk;
    const find = (c: string): Conversation | undefined => desk.conversations.get(c);
    const queue = desk.queue.map(find).filter((c) => c !== undefined);
    const mine = desk.mine.map(find).filter((c) => c !== undefined);
    mine.sort((a, b) => b.activity - a.activity);
    const { t } = this.#i18n;
    const more = (key: 'agent.moreWaiting' | 'agent.moreMine', n: number, shown: number): string =>
      n > 0 ? t(key, { n, shown }) : '';
    const waitingMore = more('agent.moreWaiting', desk.beyond('queue'), queue.length);
    this.#waiting.show(queue, desk.totals.queue, waitingMore, true);
    this.#mine.show(mine, desk.totals.mine, more('agent.moreMine', desk.beyond('mine'), mine.length), false);
    window.clearTimeout(this.#timer);
    if (desk.queue.length === 0) return;
    // Waiting times grow and offers run out by themselves; only an offer needs a fine clock.
    const hasOffers = desk.expireOffers(performance.now());
    this.#timer = window.setTimeout(
      () => {
        this.show();
      },
      hasOffers ? TICK_MS : 20 * TICK_MS,
    );
  }

  #row(): RowView {
    const make = this.#make;
    const { t } = this.#i18n;
    const desk = this.#desk;
    let c = '';
    const dot = make('span', { class: 'dot' });
    const name = make('span', { class: 'row-name', attrs: { dir: 'auto' } });
    const time = make('span', { class: 'row-time' });
    const preview = make('span', { class: 'row-preview', attrs: { dir: 'auto' } });
    const badge = make('span', { class: 'badge' });
    const open = make(
      'button',
      {
        class: 'row-open',
        attrs: { type: 'button' },
        on: {
          click: () => {
            desk.select(c);
          },
        },
      },
      make('span', { class: 'row-top' }, dot, name, time),
      make('span', { class: 'row-bottom' }, preview, badge),
    );
    const offerText = make('span', { class: 'offer-text' });
    const bar = make('progress', { class: 'offer-bar', attrs: { max: '1', 'aria-hidden': 'true' } });
    const decline = make('button', {
      class: 'quiet',
      t: 'agent.decline',
      attrs: { type: 'button' },
      on: {
        click: () => {
          desk.decline(c);
        },
      },
    });
    const accept = make('button', {
      class: 'accept',
      t: 'agent.accept',
      attrs: { type: 'button' },
      on: {
        click: () => {
          desk.accept(c);
        },
      },
    });
    const actions = make('div', { class: 'row-actions' }, offerText, decline, accept);
    const element = make('li', { class: 'row' }, open, actions, bar);
    return {
      element,
      update: (conversation, place) => {
        c = conversation.c;
        element.dataset.c = c;
        const { row } = conversation;
        const offer = desk.offers.get(c);
        element.classList.toggle('selected', desk.selected === c);
        element.classList.toggle('offered', offer !== undefined);
        accept.classList.toggle('primary', offer !== undefined);
        if (desk.selected === c) open.setAttribute('aria-current', 'true');
        else open.removeAttribute('aria-current');
        setText(name, row.name ?? t('agent.anonymous', { id: c.slice(-4) }));
        const silent = conversation.unheard !== undefined;
        setText(preview, silent ? t('agent.unheardRow') : (row.preview ?? ''));
        element.classList.toggle('unheard', silent);
        dot.classList.toggle('on', conversation.online === true);
        const since = row.since === undefined ? undefined : Date.now() + desk.clockOffset - row.since;
        if (place === undefined) {
          const unread = conversation.transcript.unread();
          badge.hidden = unread === 0;
          setText(badge, String(unread));
          badge.setAttribute('aria-label', t('agent.unread', { n: unread }));
          setText(time, conversation.activity > 0 ? this.#i18n.time(conversation.activity) : '');
        } else {
          badge.hidden = true;
          setText(time, since === undefined ? '' : this.#i18n.ago(Math.max(0, since)));
          dot.textContent = String(place);
          dot.title = t('agent.pos', { n: place });
        }
        dot.classList.toggle('place', place !== undefined);
        actions.hidden = place === undefined;
        accept.disabled = desk.accepting.has(c) || desk.client.state.phase !== 'ready';
        decline.hidden = offer === undefined;
        offerText.hidden = bar.hidden = offer === undefined;
        if (offer) {
          const left = Math.max(0, offer.until - performance.now());
          setText(offerText, t('agent.offered', { n: Math.ceil(left / 1_000) }));
          bar.value = left / offer.ttl;
        }
      },
    };
  }
}

class Section {
  readonly element: HTMLElement;
  readonly #count: HTMLElement;
  readonly #list: HTMLElement;
  readonly #none: HTMLElement;
  readonly #more: HTMLElement;
  readonly #moreButton: HTMLButtonElement | undefined;
  readonly #create: () => RowView;
  readonly #rows = new Map<string, RowView>();

  constructor(
    make: Make,
    title: 'agent.waiting' | 'agent.mine',
    none: 'agent.noneWaiting' | 'agent.noneMine',
    create: () => RowView,
    showMore?: () => void,
  ) {
    this.#create = create;
    this.#count = make('span', { class: 'section-count' });
    this.#list = make('ul', { class: 'section-rows' });
    this.#none = make('p', { class: 'none', t: none });
    this.#more = make('p', { class: 'none' });
    if (showMore) {
      this.#moreButton = make('button', {
        class: 'quiet show-more',
        t: 'agent.showMore',
        attrs: { type: 'button' },
        on: { click: showMore },
      });
    }
    this.element = make(
      'section',
      { class: title === 'agent.waiting' ? 'waiting' : 'mine' },
      make('h2', {}, make('span', { t: title }), this.#count),
      this.#list,
      this.#none,
      this.#more,
      ...(this.#moreButton ? [this.#moreButton] : []),
    );
  }

  show(conversations: Conversation[], total: number, more: string, numbered: boolean): void {
    setText(this.#count, String(total));
    this.#none.hidden = conversations.length > 0;
    this.#more.hidden = more === '';
    if (this.#moreButton) this.#moreButton.hidden = more === '';
    setText(this.#more, more);
    const there = new Set(conversations.map(({ c }) => c));
    for (const [c, view] of this.#rows) {
      if (there.has(c)) continue;
      view.element.remove();
      this.#rows.delete(c);
    }
    let at = this.#list.firstElementChild;
    conversations.forEach((conversation, i) => {
      let view = this.#rows.get(conversation.c);
      if (!view) this.#rows.set(conversation.c, (view = this.#create()));
      view.update(conversation, numbered ? i + 1 : undefined);
      if (view.element === at) at = at.nextElementSibling;
      else this.#list.insertBefore(view.element, at);
    });
  }
}

const setText = (node: HTMLElement, text: string): void => {
  if (node.textContent !== text) node.textContent = text;
};

