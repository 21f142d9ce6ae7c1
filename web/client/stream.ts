// The numbers of one conversation: which event is next, and when to ask. Pure.

import type { ErrorCode } from './protocol';

export type Verdict = 'next' | 'known' | 'gap';

export class Stream {
  readonly c: string;
  /** The last event that was shown. Everything up to it was shown, or told to be unreadable or left to `history`. */
  last = 0;
  /** History epoch of the numbers above; unknown before the first `sync`. */
  e: number | undefined;
  /** A `sync` must be sent. */
  wanted = true;
  /** A `sync` was sent and its push has not come. */
  asked = false;
  /** The highest number known to exist, from heads and replies. */
  head = 0;
  /** `sync`s since an event was last shown: repeated asking without progress slows down. */
  fruitless = 0;
  /** No `sync` before this time of the client's clock. */
  notBefore = 0;
  askedAt = 0;
  /** Why the last `sync` was refused for good; it is asked again all the same, seldom and in small company. */
  refused: ErrorCode | undefined;
  /** How often in a row. */
  refusals = 0;
  /** The person was told. */
  refusalTold = false;
  /** How far this side's person has read, as last said. */
  seen = 0;
  /** When that was. */
  seenAt = 0;

  constructor(c: string) {
    this.c = c;
  }

  judge(s: number): Verdict {
    if (s <= this.last) return 'known';
    return s === this.last + 1 ? 'next' : 'gap';
  }

  advance(s: number): void {
    if (s !== this.last + 1) throw new Error(`event ${s} after ${this.last}`);
    this.last = s;
    this.head = Math.max(this.head, s);
    this.fruitful();
  }

  /** A gap from here on is a new one: it is asked for at once. */
  fruitful(): void {
    this.fruitless = 0;
    this.notBefore = 0;
  }

  /**
   * A `sync` push says where the server's telling starts. True if what was shown before cannot be continued: numbers
   * were skipped, belong to another history epoch, or lie above what the server has.
   */
  answered(from: number, head: number, e: number | undefined): boolean {
    const otherEpoch = e !== undefined && this.e !== undefined && e !== this.e;
    const restart = otherEpoch || from > this.last + 1 || head < this.last;
    if (restart) this.last = Math.max(0, Math.min(from - 1, head));
    if (restart) this.seen = 0;
    if (e !== undefined) this.e = e;
    this.head = head;
    this.wanted = false;
    this.asked = false;
    this.#heard();
    if (this.last >= head) this.fruitful();
    return restart;
  }

  /** Events `from`…`to` are gone for good: the telling goes on behind them. True if `last` moved. */
  lost(from: number, to: number): boolean {
    if (this.last + 1 < from || this.last >= to) return false;
    this.last = to;
    this.head = Math.max(this.head, to);
    return true;
  }

  /** The numbers from `from` on were taken back and will be used again. */
  rewound(from: number): void {
    this.last = Math.max(0, Math.min(this.last, from - 1));
    this.head = this.last;
    this.seen = Math.min(this.seen, this.last);
    this.e = undefined;
    this.wanted = true;
  }

  /** A new socket: nothing that was asked on the old one will be answered. */
  reconnected(resumed: boolean): void {
    if (!resumed || this.asked) this.wanted = true;
    this.asked = false;
    this.fruitful();
    this.#heard();
  }

  #heard(): void {
    this.refused = undefined;
    this.refusals = 0;
    this.refusalTold = false;
  }
}
