// What the parts of a client share: the way to the server and the events for the page.

import type { Env } from './env';
import type {
  ErrorCode,
  HistoryLost,
  ListPage,
  Numbered,
  Offer,
  Person,
  Pushes,
  Ready,
  Role,
  Row,
  SyncState,
  WireError,
} from './protocol';
import type { OutboxItem } from './outbox';

export type ClientState =
  | { phase: 'idle' }
  /** Opening a socket, or waiting for `ready` on it; `attempt` counts failures since the last `ready`. */
  | { phase: 'connecting'; attempt: number }
  | { phase: 'ready' }
  /** Between sockets; `until` is on the client's clock, `code` is why the last one closed. */
  | { phase: 'waiting'; attempt: number; until: number; code: number }
  /** An agent must log in (again). */
  | { phase: 'login'; code: number | undefined }
  /** Will not reconnect by itself. */
  | { phase: 'stopped'; code: number };

export interface ClientEvents {
  state: ClientState;
  ready: Ready;
  /** The visitor's conversation became known, or (null) is no more. */
  conversation: string | null;
  /** The next event of a conversation, once and in order. `cid` names the outbox item that it answers. */
  event: { event: Numbered; mine: boolean; cid?: string };
  /** What was shown of `c` can't be continued: forget it. The telling starts anew at `from`; older is in `history`. */
  reset: { c: string; from: number };
  sync: { c: string; state: SyncState };
  /** For now the server does not tell what is said in `c`. It is asked again by itself; a `sync` says that it is over. */
  unheard: { c: string; code: ErrorCode };
  /** No such conversation, or not for us. */
  gone: { c: string };
  history_lost: { c: string } & HistoryLost;
  /** An item is new, was refused, or is to be tried again. */
  outbox: OutboxItem;
  /** The server has it. `s` is its number (0 where the operation has none). */
  settled: { item: OutboxItem; c: string; s: number; ts: number };
  /** An operation was refused for good. Messages and notes stay in the outbox, for the person to decide. */
  refused: { item: OutboxItem; error: WireError };
  typing: { c: string; who: { kind: Person['kind']; id: string }; on: boolean };
  seen: { c: string; who: Role; s: number };
  delivered: { c: string; who: Role; s: number };
  presence: { c: string; online: boolean };
  queue: { c: string; pos: number };
  offer: { c: string } & Offer;
  offer_gone: { c: string; offer: number };
  list: ListPage;
  conv: Row;
  avail: Pushes['avail'];
  notice: Pushes['notice'];
  goaway: { after_ms: number };
}

export type Reply = { d: Record<string, unknown> } | { err: WireError } | { lost: true };

export interface Link {
  readonly env: Env;
  readonly role: Role;
  readonly me: string | undefined;
  readonly name: string | undefined;
  /** Authenticated on the present socket. */
  readonly isReady: boolean;
  post(op: string, d: unknown): void;
  /** `onReply` is called once: with the answer, or `lost` when the socket ends or nothing came in time. */
  request(op: string, d: unknown, onReply: (reply: Reply) => void): void;
  /** Runs `fn` so that all it posts leaves together, then whatever became due. */
  turn(fn?: () => void): void;
  emit<K extends keyof ClientEvents>(type: K, value: ClientEvents[K]): void;
}

/** The request failed or its answer was lost; asking again is safe. */
export class RequestFailed extends Error {
  readonly code: string;

  constructor(code: string, message?: string) {
    super(message ?? code);
    this.code = code;
  }
}

/** Asks for something to read. */
export const ask = <T>(link: Link, op: string, d: unknown): Promise<T> =>
  new Promise((resolve, reject) => {
    if (!link.isReady) {
      reject(new RequestFailed('offline'));
      return;
    }
    link.request(op, d, (reply) => {
      if ('d' in reply) resolve(reply.d as T);
      else reject('err' in reply ? new RequestFailed(reply.err.code, reply.err.msg) : new RequestFailed('offline'));
    });
  });
