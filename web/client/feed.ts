// What the server tells: counting, acknowledging, and the numbers of every conversation listened to.

import { Alarm } from './alarm';
import type { Link, Reply } from './link';
import {
  ACK_EVERY_EVENTS,
  ACK_EVERY_MS,
  MAX_SYNC_CURSORS,
  type ErrorCode,
  type HistoryLost,
  type Numbered,
  type SyncState,
  type WireError,
} from './protocol';
import { Stream } from './stream';

const SYNC_ANSWER_MS = 15_000;
const SYNC_PAUSE_MS = 500;
const SYNC_PAUSE_MAX_MS = 10_000;
/** Between two askings for what was refused for good: only somebody's closing or leaving makes room. */
const REFUSED_PAUSE_MS = 5_000;
const REFUSED_PAUSE_MAX_MS = 60_000;
/** Longer than a session can be resumed. */
const SEEN_AGAIN_MS = 150_000;
/** How long a number known only from a reply or a head may stay unseen before it is asked for. */
const HINT_MS = 250;
const FIRST_LIMIT = 100;
const RESUME_LIMIT = 500;

export interface FeedOwner {
  /** The outbox item that this event answers, if it is our own. */
  claim(event: Numbered): string | undefined;
  gone(c: string): void;
  /** The visitor is told of a conversation that he did not know: another tab began it. */
  begun(c: string): void;
}

export class Feed {
  readonly #link: Link;
  readonly #owner: FeedOwner;
  readonly #streams = new Map<string, Stream>();
  /** Durable events that this session was told since it began. */
  p = 0;
  #acked = 0;
  #ackDue = false;
  /** How many that were refused are asked for together, and whether some are just now. */
  #company = MAX_SYNC_CURSORS;
  #probing = false;
  readonly #ackAlarm: Alarm;
  readonly #syncAlarm: Alarm;

  constructor(link: Link, owner: FeedOwner) {
    this.#link = link;
    this.#owner = owner;
    this.#ackAlarm = new Alarm(link.env.clock, () => {
      this.#ackDue = true;
      link.turn();
    });
    this.#syncAlarm = new Alarm(link.env.clock, () => {
      this.#lookAround();
      link.turn();
    });
  }

  stream(c: string): Stream | undefined {
    return this.#streams.get(c);
  }

  /** From now on `c` is told to us, from `since` on (0: as much as one `sync` brings). */
  listen(c: string): Stream {
    let stream = this.#streams.get(c);
    if (!stream) this.#streams.set(c, (stream = new Stream(c)));
    return stream;
  }

  /** Asks for whatever is missing, even if nothing is known to be. */
  refresh(c: string): void {
    this.listen(c).wanted = true;
  }

  forget(c: string): void {
    const gone = this.#streams.get(c);
    this.#streams.delete(c);
    if (!gone || gone.refused !== undefined) return;
    // One conversation fewer: there may be room for another.
    for (const stream of this.#streams.values()) if (stream.refused !== undefined) stream.notBefore = 0;
  }

  forgetAll(): void {
    this.#streams.clear();
  }

  /** `c` is known to reach `s`. If that does not come by itself, it is asked for. */
  hint(c: string, s: number): void {
    const stream = this.#streams.get(c);
    if (!stream || s <= stream.head) return;
    stream.head = s;
    if (s > stream.last) this.#syncAlarm.within(HINT_MS);
  }

  /** `ready` says where counting stands. */
  reconnected(resumed: boolean, p: number): void {
    this.p = this.#acked = p;
    this.#ackDue = false;
    this.#ackAlarm.stop();
    for (const stream of this.#streams.values()) {
      stream.reconnected(resumed);
      if (resumed && stream.last < stream.head) this.#syncAlarm.within(HINT_MS);
      // No `sync` will tell what the server has of it: what was said lately may not have arrived, or not have been sent.
      if (resumed && stream.seen > 0 && this.#link.env.clock.now() - stream.seenAt < SEEN_AGAIN_MS) {
        this.#link.post('seen', { c: stream.c, s: stream.seen });
      }
    }
  }

  disconnected(): void {
    this.#ackAlarm.stop();
    this.#syncAlarm.stop();
  }

  /** A push that counts in `p`, as one or as the numbers it stands for. */
  #count(numbers = 1): void {
    this.p += numbers;
    if (this.p - this.#acked >= ACK_EVERY_EVENTS) this.#ackDue = true;
    else this.#ackAlarm.within(ACK_EVERY_MS);
  }

  /** A push with a number. Counted first: what is not shown was told all the same. */
  numbered(event: Numbered): void {
    this.#count();

    let stream = this.#streams.get(event.c);
    if (!stream) {
      if (this.#link.role !== 'visitor') return;
      stream = this.listen(event.c);
      this.#owner.begun(event.c);
    }
    switch (stream.judge(event.s)) {
      case 'known':
        return;
      case 'gap':
        stream.head = Math.max(stream.head, event.s);
        stream.wanted = true;
        return;
      case 'next':
        this.tell(stream, event, this.#owner.claim(event));
    }
  }

  /** Shows the next event, told by a push or known from the reply to our own words. */
  tell(stream: Stream, event: Numbered, cid: string | undefined): void {
    stream.advance(event.s);
    const from = 'from' in event.d ? event.d.from : undefined;
    const mine = cid !== undefined || (from?.kind === this.#link.role && from.id === this.#link.me);
    this.#link.emit('event', cid === undefined ? { event, mine } : { event, mine, cid });
  }

  answered(c: string, state: SyncState | undefined, err: WireError | undefined): void {
    const stream = this.#streams.get(c);
    if (!stream) return;
    if (!state) {
      if (err?.retry) {
        this.#later(stream, err.after_ms);
      } else if (err?.code === 'quota') {
        // It is there and perhaps our own; there are only too many of them.
        this.#refuse(stream, err.code);
        this.#tellRefusal(stream);
      } else {
        this.forget(c);
        this.#owner.gone(c);
      }
      return;
    }
    const restart = stream.answered(state.from, state.head, state.e);
    if (restart) this.#link.emit('reset', { c, from: stream.last + 1 });
    this.#link.emit('sync', { c, state });
    const told = state.seen?.[this.#link.role] ?? 0;
    if (stream.seen > told) this.#link.post('seen', { c, s: stream.seen });
    else stream.seen = told;
  }

  lost(c: string, what: HistoryLost): void {
    const stream = this.#streams.get(c);
    if (stream && what.reason === 'rewound') {
      const asked = stream.asked;
      stream.rewound(what.from);
      // An answer is already on its way with the new epoch; asking again with none would bring this push again.
      if (asked) stream.wanted = false;
      this.#link.emit('reset', { c, from: stream.last + 1 });
    } else {
      // It stands where events would have stood, and counts like all of them.
      this.#count(what.to - what.from + 1);
      stream?.lost(what.from, what.to);
    }
    this.#link.emit('history_lost', { c, ...what });
  }

  /** `lag`: the server waits for us. */
  ackNow(): void {
    this.#ackDue = true;
  }

  seen(c: string, s: number): void {
    const stream = this.#streams.get(c);
    if (!stream || s <= stream.seen || s > stream.last) return;
    stream.seen = s;
    stream.seenAt = this.#link.env.clock.now();
    if (this.#link.isReady) this.#link.post('seen', { c, s });
  }

  beforeFlush(): void {
    if (!this.#link.isReady) return;
    this.#sendSyncs();
    if (this.#ackDue && this.p > this.#acked) {
      this.#link.post('ack', { p: this.p });
      this.#acked = this.p;
      this.#ackAlarm.stop();
    }
    this.#ackDue = false;
  }

  #sendSyncs(): void {
    const now = this.#link.env.clock.now();
    const fresh: Stream[] = [];
    const resumed: Stream[] = [];
    const refused: Stream[] = [];
    for (const stream of this.#streams.values()) {
      if (!stream.wanted || stream.asked) continue;
      const wait = stream.notBefore - now;
      if (wait > 0) this.#syncAlarm.within(wait);
      else if (stream.refused !== undefined) refused.push(stream);
      else (stream.last === 0 ? fresh : resumed).push(stream);
    }
    this.#sync(fresh, FIRST_LIMIT, now, () => undefined);
    this.#sync(resumed, RESUME_LIMIT, now, () => undefined);
    this.#probe(refused, now);
  }

  /** Asks again for some that were refused: one `sync` at a time, of fewer and fewer until one is granted. */
  #probe(streams: Stream[], now: number): void {
    for (const stream of streams) this.#tellRefusal(stream);
    const [first] = streams;
    if (this.#probing || !first) return;
    const isFresh = (stream: Stream): boolean => stream.last === 0;
    const some = streams.filter((stream) => isFresh(stream) === isFresh(first)).slice(0, this.#company);
    this.#probing = true;
    this.#sync(some, isFresh(first) ? FIRST_LIMIT : RESUME_LIMIT, now, (reply) => {
      this.#probing = false;
      if ('d' in reply) this.#company = Math.min(MAX_SYNC_CURSORS, this.#company * 2);
    });
  }

  #sync(streams: Stream[], limit: number, now: number, answered: (reply: Reply) => void): void {
    for (let i = 0; i < streams.length; i += MAX_SYNC_CURSORS) {
      const some = streams.slice(i, i + MAX_SYNC_CURSORS);
      for (const stream of some) {
        stream.wanted = false;
        stream.asked = true;
        stream.askedAt = now;
        stream.fruitless += 1;
        stream.notBefore = now + Math.min(SYNC_PAUSE_MAX_MS, SYNC_PAUSE_MS * 2 ** Math.min(stream.fruitless - 1, 8));
      }
      this.#syncAlarm.within(SYNC_ANSWER_MS);
      const cursors = some.map(({ c, last, e }) => (e === undefined ? { c, s: last } : { c, s: last, e }));
      this.#link.request('sync', { cursors, limit }, (reply) => {
        answered(reply);
        if (!('err' in reply)) return;
        const { code, retry, after_ms } = reply.err;
        if (!retry) this.#company = Math.max(1, some.length >> 1);
        for (const stream of some) {
          if (retry) this.#later(stream, after_ms);
          // Which of them it was is not said: those that were taken are told in a moment, and are refused no longer.
          else if (stream.asked) this.#refuse(stream, code);
        }
      });
    }
  }

  #later(stream: Stream, afterMs: number | undefined): void {
    stream.asked = false;
    stream.wanted = true;
    const ms = afterMs ?? SYNC_PAUSE_MAX_MS / 10;
    stream.notBefore = this.#link.env.clock.now() + ms;
    this.#syncAlarm.within(ms);
  }

  #refuse(stream: Stream, code: ErrorCode): void {
    const ms = Math.min(REFUSED_PAUSE_MAX_MS, REFUSED_PAUSE_MS * 2 ** Math.min(stream.refusals, 8));
    stream.refused = code;
    stream.refusals += 1;
    this.#later(stream, ms);
  }

  #tellRefusal(stream: Stream): void {
    if (stream.refusalTold || stream.refused === undefined) return;
    stream.refusalTold = true;
    this.#link.emit('unheard', { c: stream.c, code: stream.refused });
  }

  /** Time has passed: unanswered `sync`s and numbers that never came. */
  #lookAround(): void {
    for (const stream of this.#streams.values()) {
      if (stream.asked) {
        const left = stream.askedAt + SYNC_ANSWER_MS - this.#link.env.clock.now();
        if (left <= 0) this.#later(stream, 0);
        else this.#syncAlarm.within(left);
      } else if (stream.last < stream.head) {
        stream.wanted = true;
      }
    }
  }
}
