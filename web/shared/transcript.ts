// What is known of one conversation, and the rows that show it. Pure: the view only draws them.

import type { HistoryPage, Numbered, OutboxItem, Person, Role, SyncState } from '../client';
import { dayNumber } from './i18n';

export type Tick = 'sending' | 'waiting' | 'sent' | 'delivered' | 'seen' | 'failed';

export type Row =
  | { kind: 'older'; key: 'older' }
  | { kind: 'day'; key: string; ts: number }
  | { kind: 'lost'; key: string; from: number; to: number }
  | { kind: 'line'; key: string; event: Numbered }
  | {
      kind: 'text';
      key: string;
      s: number | undefined;
      cid: string | undefined;
      note: boolean;
      /** On our side of the page. */
      ours: boolean;
      /** By this very person. */
      mine: boolean;
      from: Person;
      body: string;
      ts: number | undefined;
      /** Begins a group: shows who. */
      first: boolean;
      /** The next row says the same about when and how far. */
      quiet: boolean;
      tick: Tick | undefined;
    };

const LINES: ReadonlySet<string> = new Set(['agent', 'status']);
const GROUP_MS = 5 * 60_000;

export class Transcript {
  readonly role: Role;
  /** Numbered events without a gap, oldest first. */
  events: Numbered[] = [];
  /** There are older ones in the history. */
  more = false;
  status: SyncState['status'] = 'waiting';
  /** Events up to here are told again, and `status` knows of them already. */
  #head = 0;
  seen = { visitor: 0, agent: 0 };
  delivered = { visitor: 0, agent: 0 };
  readonly typing = new Map<string, Person['kind']>();
  readonly #cids = new Map<number, string>();
  /** Answered, while the event itself is still on its way. */
  readonly #answered = new Map<string, { item: OutboxItem; s: number; ts: number }>();
  #lost: { from: number; to: number }[] = [];

  constructor(role: Role) {
    this.role = role;
  }

  get last(): number {
    return this.events.at(-1)?.s ?? 0;
  }

  /** The last number that somebody on the other side (or the server) made. */
  get lastOfOthers(): number {
    return this.events.findLast((e) => !('from' in e.d) || e.d.from.kind !== this.role)?.s ?? 0;
  }

  /** Whether it changes how things stand: what a `sync` tells of earlier days does not. */
  isNews(event: Numbered): boolean {
    return event.s > this.#head;
  }

  append(event: Numbered, cid: string | undefined): void {
    this.events.push(event);
    if (cid !== undefined) this.#bind(cid, event.s);
    if (event.op === 'status' && this.isNews(event)) this.status = event.d.status;
    else if (event.op === 'agent' && this.isNews(event)) this.status = 'open';
    else if (event.op === 'msg') this.typing.delete(event.d.from.id);
  }

  /** The lowest number that is known, or known to be gone: what stands before it is asked for next. */
  get first(): number | undefined {
    const first = Math.min(this.events[0]?.s ?? Infinity, ...this.#lost.map((lost) => lost.from));
    return first === Infinity ? undefined : first;
  }

  /** A page of history; what is there already is left out. */
  prepend(page: Pick<HistoryPage, 'events' | 'lost' | 'more'>): void {
    const first = this.events[0]?.s ?? Infinity;
    this.events = [...page.events.filter((e) => e.s < first), ...this.events];
    for (const { from, to } of page.lost) this.lost(from, to);
    this.more = page.more;
  }

  reset(from: number): void {
    this.events = [];
    this.#head = 0;
    this.#cids.clear();
    this.#lost = [];
    for (const [cid, { s }] of this.#answered) if (s < from) this.#answered.delete(cid);
    this.more = from > 1;
  }

  lost(from: number, to: number): void {
    if (!this.#lost.some((l) => l.from === from && l.to === to)) this.#lost.push({ from, to });
  }

  /** The server has what `item` says, as number `s`. */
  settle(item: OutboxItem, s: number, ts: number): void {
    if (item.op !== 'send' && item.op !== 'note') return;
    if (s > 0 && s <= this.last) this.#bind(item.cid, s);
    else this.#answered.set(item.cid, { item, s, ts });
  }

  sync(state: SyncState): void {
    this.status = state.status;
    this.#head = state.head;
    if (state.seen) this.seen = { ...state.seen };
    if (state.delivered) this.delivered = { ...state.delivered };
    if (this.events.length === 0) this.more = state.from > 1;
  }

  receipt(what: 'seen' | 'delivered', who: Role, s: number): void {
    this[what][who] = Math.max(this[what][who], s);
  }

  /** Messages of the other side above what this side has seen. */
  unread(): number {
    const seen = this.seen[this.role];
    return this.events.filter((e) => e.op === 'msg' && e.s > seen && e.d.from.kind !== this.role).length;
  }

  rows(pending: readonly OutboxItem[], me: string | undefined, online: boolean): Row[] {
    const rows: Row[] = [];
    if (this.more) rows.push({ kind: 'older', key: 'older' });
    const lost = [...this.#lost].sort((a, b) => a.from - b.from);
    let previous: { by: string; ts: number; day: number } | undefined;
    const pushLost = (before: number): void => {
      for (let l = lost[0]; l && l.from < before; l = lost[0]) {
        rows.push({ kind: 'lost', key: `lost${l.from}`, ...l });
        lost.shift();
        previous = undefined;
      }
    };
    let day: number | undefined;
    for (const event of this.events) {
      pushLost(event.s);
      const { ts } = event.d;
      if (dayNumber(ts) !== day) {
        day = dayNumber(ts);
        rows.push({ kind: 'day', key: `day${event.s}`, ts });
        previous = undefined;
      }
      if (event.op !== 'msg' && event.op !== 'note') {
        // A server newer than this page may tell what it has no words for.
        if (LINES.has(event.op)) rows.push({ kind: 'line', key: `s${event.s}`, event });
        previous = undefined;
        continue;
      }
      const { from, body } = event.d;
      const by = `${event.op} ${from.kind} ${from.id}`;
      const cid = this.#cids.get(event.s);
      const ours = from.kind === this.role;
      const mine = ours && from.id === me;
      rows.push({
        kind: 'text',
        key: cid ?? `s${event.s}`,
        s: event.s,
        cid,
        note: event.op === 'note',
        ours,
        mine,
        from,
        body,
        ts,
        first: previous?.by !== by || ts - previous.ts > GROUP_MS,
        quiet: false,
        tick: mine && event.op === 'msg' ? this.#tick(event.s) : undefined,
      });
      previous = { by, ts, day };
    }
    pushLost(Infinity);
    const told = new Set(this.#cids.values());
    for (const { item, s, ts } of this.#answered.values()) {
      rows.push(this.#unnumbered(item, me, 'sent', previous?.by, s, ts));
      previous = { by: byUs(item, this.role, me), ts, day: 0 };
    }
    for (const item of pending) {
      if ((item.op !== 'send' && item.op !== 'note') || told.has(item.cid)) continue;
      const tick = item.error ? 'failed' : online ? 'sending' : 'waiting';
      rows.push(this.#unnumbered(item, me, tick, previous?.by, undefined, undefined));
      previous = { by: byUs(item, this.role, me), ts: 0, day: 0 };
    }
    rows.forEach((row, i) => {
      const next = rows[i + 1];
      if (row.kind !== 'text' || next?.kind !== 'text' || next.first) return;
      row.quiet = row.tick !== 'failed' && row.tick === next.tick && minute(row.ts) === minute(next.ts);
    });
    return rows;
  }

  /** `cid` belongs to number `s` and to no other. */
  #bind(cid: string, s: number): void {
    for (const [other, its] of this.#cids) if (its === cid) this.#cids.delete(other);
    this.#cids.set(s, cid);
    this.#answered.delete(cid);
  }

  #tick(s: number): Tick {
    const other = this.role === 'visitor' ? 'agent' : 'visitor';
    if (this.seen[other] >= s) return 'seen';
    return this.delivered[other] >= s ? 'delivered' : 'sent';
  }

  #unnumbered(
    item: OutboxItem,
    me: string | undefined,
    tick: Tick,
    previousBy: string | undefined,
    s: number | undefined,
    ts: number | undefined,
  ): Row {
    return {
      kind: 'text',
      key: item.cid,
      s,
      cid: item.cid,
      note: item.op === 'note',
      ours: true,
      mine: true,
      from: { kind: this.role, id: me ?? '' },
      body: item.body ?? '',
      ts,
      first: previousBy !== byUs(item, this.role, me),
      quiet: false,
      tick,
    };
  }
}

const minute = (ts: number | undefined): number | undefined => (ts === undefined ? undefined : Math.floor(ts / 60_000));

const byUs = (item: OutboxItem, role: Role, me: string | undefined): string =>
  `${item.op === 'note' ? 'note' : 'msg'} ${role} ${me ?? ''}`;
