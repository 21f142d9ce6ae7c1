// The words of docs/protocol.md as types. Nothing here runs.

export type Role = 'visitor' | 'agent';
export type ConversationStatus = 'waiting' | 'open' | 'closed';
export type Availability = 'online' | 'busy' | 'away';
export type Scope = 'queue' | 'mine';
export type Level = 'disk' | 'memory';

export type ErrorCode =
  | 'bad_request'
  | 'auth'
  | 'forbidden'
  | 'not_found'
  | 'id_conflict'
  | 'stale'
  | 'closed'
  | 'not_owner'
  | 'quota'
  | 'too_large'
  | 'rate_limited'
  | 'overloaded'
  | 'storage_full'
  | 'unavailable'
  | 'internal';

export interface WireError {
  code: ErrorCode;
  msg?: string;
  retry?: boolean;
  after_ms?: number;
}

export interface Person {
  kind: 'visitor' | 'agent' | 'system';
  id: string;
  name?: string;
}

export interface Hello {
  v: number;
  server: string;
  epoch: string;
  hb_ms: number;
  max_frame: number;
  max_inflight: number;
  level: Level;
}

export interface Head {
  c: string;
  s: number;
  e?: number;
  status: ConversationStatus;
}

export interface Ready {
  sid: string;
  me: string;
  name?: string;
  token?: string;
  slot: number;
  epoch: string;
  ts: number;
  p: number;
  resume_ttl_ms: number;
  resumed: boolean;
  replay?: number;
  heads?: Head[];
}

/** Numbered, durable events: they have a place `s` in their conversation. */
export type Numbered =
  | { op: 'msg'; c: string; s: number; d: { from: Person; type: string; body: string; ts: number } }
  | { op: 'note'; c: string; s: number; d: { from: Person; body: string; ts: number } }
  | { op: 'agent'; c: string; s: number; d: { joined: { id: string; name?: string }; ts: number } }
  | { op: 'status'; c: string; s: number; d: { status: 'closed' | 'waiting'; by: Person; ts: number } };

export const NUMBERED: ReadonlySet<string> = new Set(['msg', 'note', 'agent', 'status']);

export interface Cursors {
  visitor: number;
  agent: number;
}

export interface SyncState {
  from: number;
  head: number;
  e?: number;
  limited?: boolean;
  status: ConversationStatus;
  owner?: string;
  visitor?: { id: string; name?: string; online: boolean };
  seen?: Cursors;
  delivered?: Cursors;
}

export interface Row {
  c: string;
  status: ConversationStatus;
  /** The agent's id. */
  owner?: string;
  name?: string;
  preview?: string;
  since?: number;
  pos?: number;
}

export interface Offer {
  offer: number;
  ttl_ms: number;
  name?: string;
  preview?: string;
}

export interface HistoryLost {
  from: number;
  to: number;
  reason: 'damaged' | 'retention' | 'erased' | 'rewound';
}

export interface HistoryPage {
  c: string;
  events: Numbered[];
  /** Numbers between them that are gone. On the wire they stand among the events. */
  lost: HistoryLost[];
  more: boolean;
}

/** Rows of a list: its beginning, which a push tells, or those behind a `next`. */
export interface ListPage {
  scope: Scope;
  convs: Row[];
  /** Of the whole list. */
  total: number;
  /** Behind which row more are left; a text without meaning. */
  next?: string;
}

/** What a push without a number may be, by operation; see section 5. */
export interface Pushes {
  hello: Hello;
  sync: SyncState;
  typing: { who: { kind: Person['kind']; id: string }; on: boolean };
  seen: { who: Role; s: number };
  delivered: { who: Role; s: number };
  presence: { visitor: 'online' | 'offline' };
  queue: { pos: number };
  offer: Offer;
  offer_gone: { offer: number };
  list: ListPage;
  conv: Omit<Row, 'c'>;
  avail: { state: Availability; cap: number; load?: number };
  notice: { text: string; ts: number };
  lag: { p: number };
  history_lost: HistoryLost;
  goaway: { after_ms: number };
}

/** One envelope as it was read: any field may be missing, whoever sent it. */
export interface Envelope {
  id?: number;
  re?: number;
  op?: string;
  c?: string;
  s?: number;
  d?: unknown;
  err?: WireError;
}

/** Rows of a page of a list, at most. */
export const MAX_LIST_ROWS = 200;
/** Bounds of section 2 and 4 that the client keeps by itself. */
export const MAX_BODY_CHARS = 10_000;
export const MAX_SYNC_CURSORS = 512;
export const ACK_EVERY_EVENTS = 32;
export const ACK_EVERY_MS = 1_000;
export const DEAD_GRACE_MS = 10_000;

/** Length of a text in characters, as the server counts them (code points, not UTF-16 units). */
export const charCount = (text: string): number => Array.from(text).length;
