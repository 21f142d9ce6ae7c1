// What this side says: lanes of the outbox, one item of a lane under way at a time.

import { Alarm } from './alarm';
import { backoffMs } from './closing';
import type { Feed } from './feed';
import type { Link, Reply } from './link';
import { laneOf, type Outbox, type OutboxItem } from './outbox';
import type { Numbered } from './protocol';

export interface Intro {
  name?: string;
  page?: string;
  locale?: string;
}

export interface SenderOwner {
  /** The visitor's conversation, if he has one. */
  readonly conversation: string | null;
  begun(c: string): void;
  intro(): Intro;
}

export class Sender {
  readonly #link: Link;
  readonly #feed: Feed;
  readonly #owner: SenderOwner;
  readonly #outbox: Outbox;
  /** Items under way on the present socket. */
  readonly #flying = new Set<string>();
  /** Lanes that were asked to wait: until when, and how often in a row. */
  readonly #paused = new Map<string, { until: number; times: number }>();
  /** Number at which an item's own event was taken to be seen, before the reply said so. */
  readonly #claims = new Map<string, { c: string; s: number }>();
  /** Answered items whose event has not been told yet. */
  readonly #settled = new Map<string, string>();
  readonly #alarm: Alarm;

  constructor(link: Link, feed: Feed, owner: SenderOwner, outbox: Outbox) {
    this.#link = link;
    this.#feed = feed;
    this.#owner = owner;
    this.#outbox = outbox;
    this.#alarm = new Alarm(link.env.clock, () => {
      link.turn();
    });
  }

  add(item: Omit<OutboxItem, 'n' | 'cid'>): string {
    const added = this.#outbox.add({ cid: this.#link.env.randomHex(16), ...item });
    this.#link.emit('outbox', added);
    this.#link.turn();
    return added.cid;
  }

  retry(cid: string): void {
    const item = this.#outbox.find(cid);
    if (!item?.error) return;
    if (item.error.code === 'id_conflict') {
      // The first use of the id stays; these words need one of their own.
      this.#outbox.remove(item);
      const { op, c, body } = item;
      this.add(body === undefined ? { op, c } : { op, c, body });
      return;
    }
    this.#outbox.requeue(item);
    this.#link.emit('outbox', item);
    this.#link.turn();
  }

  discard(cid: string): void {
    const item = this.#outbox.find(cid);
    if (item?.error) this.#outbox.remove(item);
  }

  disconnected(): void {
    this.#flying.clear();
    this.#alarm.stop();
  }

  /** The visitor is somebody else now, or his conversation is gone: what he said goes into a new one. */
  forgetConversation(): void {
    for (const item of [...this.#outbox.items]) {
      if (item.op !== 'send') {
        this.#outbox.remove(item);
        continue;
      }
      item.c = null;
      delete item.start;
      delete item.after;
      this.#outbox.save(item);
    }
    this.#claims.clear();
    this.#settled.clear();
  }

  /** Before `ready`: a first message may travel in the frame of `auth`. */
  opening(): void {
    if (this.#link.role !== 'visitor' || this.#owner.conversation !== null) return;
    const head = this.#outbox.items.find((item) => !item.error);
    if (head?.op !== 'send' || head.c !== null) return;
    if (!this.#flying.has(head.cid) && !this.#waiting(head)) this.#transmit(head);
  }

  beforeFlush(): void {
    if (!this.#link.isReady) return;
    const lanes = new Set<string>();
    for (const item of this.#outbox.items) {
      const lane = this.#lane(item);
      if (item.error || lanes.has(lane)) continue;
      lanes.add(lane);
      if (!this.#flying.has(item.cid) && !this.#waiting(item)) this.#transmit(item);
    }
  }

  /** Whose event is this? Decided by the reply; until then by the words, said after what had been shown. */
  claim(event: Numbered): string | undefined {
    const key = `${event.c}#${event.s}`;
    const known = this.#settled.get(key);
    if (known !== undefined) {
      this.#settled.delete(key);
      return known;
    }
    if (event.op !== 'msg' && event.op !== 'note') return undefined;
    const { from, body } = event.d;
    if (from.kind !== this.#link.role || from.id !== this.#link.me) return undefined;
    const op = event.op === 'msg' ? 'send' : 'note';
    const item = this.#outbox.items.find(
      (i) =>
        i.op === op &&
        i.body === body &&
        i.after !== undefined &&
        event.s > i.after &&
        (i.c ?? event.c) === event.c &&
        !i.error &&
        !this.#claims.has(i.cid),
    );
    if (item) this.#claims.set(item.cid, { c: event.c, s: event.s });
    return item?.cid;
  }

  #lane(item: OutboxItem): string {
    return laneOf(item, this.#link.role === 'visitor');
  }

  #waiting(item: OutboxItem): boolean {
    const paused = this.#paused.get(this.#lane(item));
    const wait = (paused?.until ?? 0) - this.#link.env.clock.now();
    if (wait > 0) this.#alarm.within(wait);
    return wait > 0;
  }

  #transmit(item: OutboxItem): void {
    const c = item.c ?? this.#owner.conversation;
    const fresh = item.after === undefined;
    item.after ??= (c === null ? undefined : this.#feed.stream(c)?.last) ?? 0;
    if (this.#link.role === 'visitor' && item.op === 'send' && c === null && !item.start) {
      item.start = { cid: this.#link.env.randomHex(16), ...this.#owner.intro() };
    } else if (!item.start && item.c === null) {
      item.c = c;
    }
    if (fresh) this.#outbox.save(item);
    this.#flying.add(item.cid);
    const [op, d] = wording(item);
    this.#link.request(op, d, (reply) => {
      this.#flying.delete(item.cid);
      this.#replied(item, reply);
    });
  }

  #replied(item: OutboxItem, reply: Reply): void {
    const lane = this.#lane(item);
    if ('lost' in reply || !this.#outbox.find(item.cid)) return;
    if ('err' in reply) {
      const error = reply.err;
      // It overtook an `auth` that did not succeed: nothing was judged yet.
      if (error.code === 'auth') return;
      if (error.retry) {
        const times = (this.#paused.get(lane)?.times ?? 0) + 1;
        const ms = error.after_ms ?? backoffMs(times, () => this.#link.env.random());
        this.#paused.set(lane, { until: this.#link.env.clock.now() + ms, times });
        return;
      }
      this.#refused(item, error);
      return;
    }
    this.#paused.delete(lane);
    this.#settle(item, reply.d);
  }

  #refused(item: OutboxItem, error: NonNullable<OutboxItem['error']>): void {
    if (item.op === 'send' || item.op === 'note') {
      item.error = error;
      // Nothing was stored, so the next try may be worded anew.
      delete item.after;
      delete item.start;
      if (error.code === 'not_found' && this.#link.role === 'visitor') item.c = null;
      this.#outbox.save(item);
      this.#link.emit('outbox', item);
    } else {
      this.#outbox.remove(item);
    }
    this.#link.emit('refused', { item, error });
  }

  #settle(item: OutboxItem, d: Record<string, unknown>): void {
    const c = typeof d.c === 'string' ? d.c : item.c;
    const s = typeof d.s === 'number' ? d.s : 0;
    const ts = typeof d.ts === 'number' ? d.ts : 0;
    this.#outbox.remove(item);
    if (c === null) return;
    item.c = c;
    this.#claims.delete(item.cid);

    const isText = item.op === 'send' || item.op === 'note';
    const stream = this.#feed.stream(c);
    const verdict = stream && s > 0 ? stream.judge(s) : 'gap';
    if (item.start) this.#owner.begun(c);
    if (isText && s > 0 && verdict !== 'known') this.#settled.set(`${c}#${s}`, item.cid);
    this.#link.emit('settled', { item, c, s, ts });
    if (item.start || item.op === 'accept') {
      // Now there is a conversation to listen to.
      this.#feed.refresh(c);
    } else if (stream && isText && verdict === 'next') {
      this.#settled.delete(`${c}#${s}`);
      this.#feed.tell(stream, ownEvent(item, c, s, ts, this.#link), item.cid);
    } else {
      this.#feed.hint(c, s);
    }
  }
}

/** The operation and its content: the same for every retry of an item. */
const wording = (item: OutboxItem): [string, unknown] => {
  const { cid, c, body, offer } = item;
  switch (item.op) {
    case 'send':
      if (item.start) return ['start', { ...item.start, first: { cid, type: 'text', body } }];
      return ['send', { c, cid, type: 'text', body }];
    case 'note':
      return ['note', { c, cid, body }];
    case 'accept':
      return ['accept', offer === undefined ? { c, cid } : { c, cid, offer }];
    case 'close':
      return ['close', { c, cid }];
  }
};

const ownEvent = (item: OutboxItem, c: string, s: number, ts: number, link: Link): Numbered => {
  const from = { kind: link.role, id: link.me ?? '', ...(link.name === undefined ? {} : { name: link.name }) };
  const body = item.body ?? '';
  return item.op === 'note'
    ? { op: 'note', c, s, d: { from, body, ts } }
    : { op: 'msg', c, s, d: { from, type: 'text', body, ts } };
};
