// What an agent's page knows: the conversations of both lists, the offers, and the one that is open. No DOM.

import {
  MAX_LIST_ROWS,
  type ErrorCode,
  type ListPage,
  type Numbered,
  type RingdeskClient,
  type Row,
  type Scope,
} from '../client';
import { Transcript } from '../shared/transcript';

/** A list that holds not all is asked for again when something changes, this seldom. */
const REFILL_MS = 5_000;

export interface Conversation {
  readonly c: string;
  row: Row;
  readonly transcript: Transcript;
  online: boolean | undefined;
  /** Why what is said in it is not told us, for now. */
  unheard: ErrorCode | undefined;
  /** When something was last said, for the order of one's own conversations. */
  activity: number;
  draft: string;
  mode: 'message' | 'note';
}

export interface Offer {
  offer: number;
  /** On the clock of `performance.now`. */
  until: number;
  ttl: number;
}

/** How far a list was read: from its beginning, page by page, until it holds about as many rows as are wanted. */
class Reading {
  /** Behind which row more are left. */
  next: string | undefined;
  /** Rows of its pages, and those that came into the list meanwhile, in order. */
  readonly told = new Set<string>();
  /** The queue is read as far as the person looks; one's own are read to the end, for they are all listened to. */
  wanted: number;
  asking = false;
  /** Which beginning it goes on from; a page of an earlier one means nothing. */
  run = 0;

  constructor(wanted: number) {
    this.wanted = wanted;
  }

  restart(): void {
    this.run += 1;
    this.next = undefined;
    this.asking = false;
    this.told.clear();
  }

  /** Whether another page would be more than is wanted, or there is none. */
  get isDone(): boolean {
    return this.next === undefined || this.told.size + MAX_LIST_ROWS > this.wanted;
  }
}

const readings = (): Record<Scope, Reading> => ({
  queue: new Reading(MAX_LIST_ROWS),
  mine: new Reading(Infinity),
});

export class Desk {
  readonly client: RingdeskClient;
  readonly conversations = new Map<string, Conversation>();
  readonly offers = new Map<string, Offer>();
  /** Ids of those who wait, the longest first. */
  queue: string[] = [];
  mine: string[] = [];
  /** All that wait and all own ones, also those beyond the rows of a list. */
  totals: Record<Scope, number> = { queue: 0, mine: 0 };
  #readings = readings();
  readonly #refills = new Map<Scope, ReturnType<typeof setTimeout>>();
  selected: string | null = null;
  /** Accepted and not yet answered. */
  readonly accepting = new Set<string>();
  readonly closing = new Set<string>();
  /** Server time minus ours. */
  clockOffset = 0;
  readonly #changed: () => void;

  constructor(client: RingdeskClient, changed: () => void) {
    this.client = client;
    this.#changed = changed;
    this.#hear();
  }

  get open(): Conversation | undefined {
    return this.selected === null ? undefined : this.conversations.get(this.selected);
  }

  /** Who may do what in it. */
  standing(conversation: Conversation): 'waiting' | 'mine' | 'other' | 'closed' {
    const { status, owner } = conversation.row;
    if (status !== 'open') return status;
    return owner === this.client.me ? 'mine' : 'other';
  }

  select(c: string | null): void {
    const before = this.selected;
    this.selected = c;
    if (before !== null && before !== c) this.#dropIfIdle(before);
    if (c !== null) {
      this.#conversation(c, { c, status: 'waiting' });
      this.client.listen(c);
    }
    this.#changed();
  }

  accept(c: string): void {
    if (this.accepting.has(c)) return;
    this.accepting.add(c);
    this.client.accept(c, this.offers.get(c)?.offer);
    this.#changed();
  }

  decline(c: string): void {
    const offer = this.offers.get(c);
    if (!offer) return;
    this.offers.delete(c);
    this.client.decline(c, offer.offer);
    this.#changed();
  }

  close(c: string): void {
    if (this.closing.has(c)) return;
    this.closing.add(c);
    this.client.close(c);
    this.#changed();
  }

  async older(c: string): Promise<void> {
    const transcript = this.conversations.get(c)?.transcript;
    const before = transcript?.first;
    if (!transcript || before === undefined) return;
    const page = await this.client.history(c, before);
    transcript.prepend(page);
    this.#changed();
  }

  /** Offers whose time is over. True if there are any left. */
  expireOffers(now: number): boolean {
    for (const [c, { until }] of this.offers) if (until <= now) this.offers.delete(c);
    return this.offers.size > 0;
  }

  unread(): number {
    let n = 0;
    for (const c of this.mine) n += this.conversations.get(c)?.transcript.unread() ?? 0;
    return n;
  }

  /** How many there are that the list does not show: those of pages that were not read. */
  beyond(scope: Scope): number {
    return Math.max(0, this.totals[scope] - this.#of(scope).length);
  }

  /** The person wants to see more of the queue. */
  showMore(): void {
    const reading = this.#readings.queue;
    if (reading.asking || reading.next === undefined) return;
    reading.wanted += MAX_LIST_ROWS;
    this.#readOn('queue');
  }

  forget(): void {
    for (const timer of this.#refills.values()) clearTimeout(timer);
    this.#refills.clear();
    for (const reading of Object.values(this.#readings)) reading.restart();
    this.#readings = readings();
    this.conversations.clear();
    this.offers.clear();
    this.queue = [];
    this.mine = [];
    this.totals = { queue: 0, mine: 0 };
    this.selected = null;
    this.accepting.clear();
    this.closing.clear();
    this.#changed();
  }

  #conversation(c: string, row: Row): Conversation {
    let conversation = this.conversations.get(c);
    if (!conversation) {
      conversation = {
        c,
        row,
        transcript: new Transcript('agent'),
        online: undefined,
        unheard: undefined,
        activity: row.since ?? 0,
        draft: '',
        mode: 'message',
      };
      this.conversations.set(c, conversation);
    }
    return conversation;
  }

  #hear(): void {
    const { client } = this;
    const on: RingdeskClient['on'] = (type, fn) =>
      client.on(type, (value) => {
        fn(value);
        this.#changed();
      });

    on('ready', ({ ts, resumed }) => {
      this.clockOffset = ts - Date.now();
      if (!resumed) this.offers.clear();
    });
    on('list', (page) => {
      this.#readings[page.scope].restart();
      this.#page(page);
    });
    on('conv', (row) => {
      this.#refill();
      // Its place is behind those that are not shown, or it is one of them: a later page tells it.
      if (row.status === 'waiting' && this.#readings.queue.next !== undefined && !this.conversations.has(row.c)) return;
      this.#place(row);
    });
    on('sync', ({ c, state }) => {
      const conversation = this.conversations.get(c);
      if (!conversation) return;
      conversation.unheard = undefined;
      conversation.transcript.sync(state);
      conversation.online = state.visitor?.online;
      const row: Row = { c, status: state.status };
      if (state.owner !== undefined) row.owner = state.owner;
      if (state.visitor?.name !== undefined) row.name = state.visitor.name;
      this.#place(row);
    });
    on('unheard', ({ c, code }) => {
      const conversation = this.conversations.get(c);
      if (conversation) conversation.unheard = code;
    });
    on('event', ({ event, cid }) => {
      this.#event(event, cid);
    });
    on('reset', ({ c, from }) => this.conversations.get(c)?.transcript.reset(from));
    on('history_lost', ({ c, from, to, reason }) => {
      if (reason !== 'rewound') this.conversations.get(c)?.transcript.lost(from, to);
    });
    on('gone', ({ c }) => {
      this.#remove(c);
      this.conversations.delete(c);
      if (this.selected === c) this.selected = null;
    });
    on('settled', ({ item, c, s, ts }) => {
      this.conversations.get(c)?.transcript.settle(item, s, ts);
      if (item.op === 'accept') {
        // The answer says it before the event does that tells everybody. Behind that event there may be others.
        const isNews = (this.conversations.get(c)?.transcript.last ?? 0) < s;
        if (isNews && this.client.me !== undefined) {
          this.#place({ c, status: 'open', owner: this.client.me, since: ts });
        }
        this.accepting.delete(c);
        this.offers.delete(c);
        this.select(c);
      }
      if (item.op === 'close') this.closing.delete(c);
    });
    on('refused', ({ item }) => {
      if (item.c === null) return;
      if (item.op === 'accept') this.accepting.delete(item.c);
      if (item.op === 'accept') this.offers.delete(item.c);
      if (item.op === 'close') this.closing.delete(item.c);
    });
    on('outbox', () => undefined);
    on('typing', ({ c, who, on: typing }) => {
      const heard = this.conversations.get(c)?.transcript.typing;
      if (typing) heard?.set(who.id, who.kind);
      else heard?.delete(who.id);
    });
    on('seen', ({ c, who, s }) => this.conversations.get(c)?.transcript.receipt('seen', who, s));
    on('delivered', ({ c, who, s }) => this.conversations.get(c)?.transcript.receipt('delivered', who, s));
    on('presence', ({ c, online }) => {
      const conversation = this.conversations.get(c);
      if (conversation) conversation.online = online;
    });
    on('offer', ({ c, offer, ttl_ms, name, preview }) => {
      const row: Row = { c, status: 'waiting' };
      if (name !== undefined) row.name = name;
      if (preview !== undefined) row.preview = preview;
      this.#place(row);
      this.offers.set(c, { offer, ttl: ttl_ms, until: performance.now() + ttl_ms });
    });
    on('offer_gone', ({ c, offer }) => {
      if (this.offers.get(c)?.offer === offer) this.offers.delete(c);
    });
    on('state', ({ phase }) => {
      if (phase !== 'ready') for (const { transcript } of this.conversations.values()) transcript.typing.clear();
    });
  }

  #page({ scope, convs, total, next }: ListPage): void {
    const reading = this.#readings[scope];
    const before = this.#of(scope);
    for (const row of convs) {
      reading.told.add(row.c);
      const conversation = this.#conversation(row.c, row);
      conversation.row = { ...conversation.row, ...row };
    }
    reading.next = next;
    // Until the last page that is wanted nobody is let go because the pages before it leave him out.
    const kept = before.filter((c) => !reading.isDone && !reading.told.has(c) && this.#stands(scope, c));
    const now = [...reading.told, ...kept];
    if (scope === 'queue') this.queue = now;
    else this.mine = now;
    if (scope === 'mine') for (const { c } of convs) this.client.listen(c);
    for (const c of before) if (!reading.told.has(c) && !kept.includes(c)) this.#dropIfIdle(c);
    this.totals[scope] = next === undefined ? now.length : Math.max(total, now.length);
    if (!reading.isDone) this.#readOn(scope);
  }

  #readOn(scope: Scope): void {
    const reading = this.#readings[scope];
    const { next, run } = reading;
    if (next === undefined || reading.asking) return;
    reading.asking = true;
    void this.client
      .rows(scope, next)
      .then((page) => {
        if (reading.run !== run) return;
        reading.asking = false;
        this.#page(page);
      })
      .catch(() => {
        if (reading.run !== run) return;
        reading.asking = false;
        // It is read anew in a while, or on the next socket.
        this.#refill();
      })
      .finally(() => {
        this.#changed();
      });
  }

  #stands(scope: Scope, c: string): boolean {
    const conversation = this.conversations.get(c);
    return conversation !== undefined && this.standing(conversation) === (scope === 'queue' ? 'waiting' : 'mine');
  }

  #of(scope: Scope): string[] {
    return scope === 'queue' ? this.queue : this.mine;
  }

  /** Something changed: of a list that holds not all, others may be in the rows now. */
  #refill(): void {
    for (const scope of ['queue', 'mine'] as const) {
      if (this.#readings[scope].next === undefined || this.#refills.has(scope)) continue;
      const timer = setTimeout(() => {
        this.#refills.delete(scope);
        if (this.#readings[scope].next !== undefined) this.client.sub(scope);
      }, REFILL_MS);
      this.#refills.set(scope, timer);
    }
  }

  /** A row has changed: it may belong to another list now, or to none. */
  #place(row: Row): void {
    const conversation = this.#conversation(row.c, row);
    const kept = { ...conversation.row };
    delete kept.owner;
    delete kept.pos;
    conversation.row = { ...kept, ...row };
    const standing = this.standing(conversation);
    this.#belongs('queue', row.c, standing === 'waiting');
    this.#belongs('mine', row.c, standing === 'mine');
    if (standing !== 'waiting') this.offers.delete(row.c);
    if (standing === 'mine') this.client.listen(row.c);
    else this.#dropIfIdle(row.c);
  }

  #belongs(scope: Scope, c: string, does: boolean): void {
    const list = this.#of(scope);
    const at = list.indexOf(c);
    if (does) this.#readings[scope].told.add(c);
    else this.#readings[scope].told.delete(c);
    if (does && at < 0) list.push(c);
    else if (!does && at >= 0) list.splice(at, 1);
    else return;
    this.totals[scope] = Math.max(list.length, this.totals[scope] + (does ? 1 : -1));
  }

  #event(event: Numbered, cid: string | undefined): void {
    const conversation = this.conversations.get(event.c);
    if (!conversation) return;
    conversation.transcript.append(event, cid);
    if (event.op === 'msg') {
      conversation.activity = Math.max(conversation.activity, event.d.ts);
      conversation.row = { ...conversation.row, preview: event.d.body.slice(0, 160) };
    } else if (!conversation.transcript.isNews(event)) {
      return;
    } else if (event.op === 'status') {
      this.#place({ c: event.c, status: event.d.status, since: event.d.ts });
      this.closing.delete(event.c);
    } else if (event.op === 'agent') {
      this.#place({ c: event.c, status: 'open', owner: event.d.joined.id, since: event.d.ts });
    }
  }

  #remove(c: string): void {
    this.#belongs('queue', c, false);
    this.#belongs('mine', c, false);
    this.offers.delete(c);
  }

  /** Listens no longer to what is neither one's own nor on the screen. */
  #dropIfIdle(c: string): void {
    if (this.mine.includes(c) || this.selected === c || this.accepting.has(c)) return;
    this.client.unlisten(c);
    const conversation = this.conversations.get(c);
    if (!conversation) return;
    conversation.unheard = undefined;
    if (this.queue.includes(c)) conversation.transcript.reset(1);
    else this.conversations.delete(c);
  }
}
