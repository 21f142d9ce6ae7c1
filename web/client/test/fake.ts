// A world for the client in which nothing happens by itself: the test moves the clock and speaks for the server.

import { expect } from 'vitest';
import { RingdeskClient, type ClientOptions } from '../client';
import { memoryStore, type Env, type Socket } from '../env';
import type { ClientEvents } from '../link';
import type { Envelope, Ready, Role } from '../protocol';

export class FakeClock {
  #now = 1_000;
  #next = 1;
  #timers = new Map<number, { at: number; fn: () => void }>();

  now = (): number => this.#now;

  setTimeout = (fn: () => void, ms: number): number => {
    const id = this.#next++;
    this.#timers.set(id, { at: this.#now + ms, fn });
    return id;
  };

  clearTimeout = (id: number): void => void this.#timers.delete(id);

  pass(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, t]) => t.at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.#now = Math.max(this.#now, due[1].at);
      due[1].fn();
    }
    this.#now = end;
  }
}

export class FakeSocket implements Socket {
  readonly url: URL;
  readonly protocol: string;
  /** Frames that the client sent and the test has not read. */
  frames: string[] = [];
  closedByClient = false;
  onopen: (() => void) | null = null;
  onmessage: ((ev: { data: unknown }) => void) | null = null;
  onclose: ((ev: { code: number; reason: string }) => void) | null = null;

  constructor(url: string, protocol: string) {
    this.url = new URL(url);
    this.protocol = protocol;
  }

  send(data: string): void {
    this.frames.push(data);
  }

  close(): void {
    this.closedByClient = true;
  }

  // The server's side.

  tell(...envelopes: unknown[]): void {
    this.onmessage?.({ data: envelopes.map((e) => JSON.stringify(e)).join('\n') });
  }

  raw(data: unknown): void {
    this.onmessage?.({ data });
  }

  drop(code = 1006, reason = ''): void {
    this.onclose?.({ code, reason });
  }

  /** Envelopes sent since the last call. */
  said(op?: string): Said[] {
    const all = this.frames.flatMap((f) => f.split('\n').map((line) => JSON.parse(line) as Said));
    this.frames = [];
    return op === undefined ? all : all.filter((e) => e.op === op);
  }

  /** The two envelopes sent since the last call. */
  two(): [Said, Said] {
    const [a, b, ...more] = this.said();
    expect(more).toEqual([]);
    return [a ?? expect.unreachable(), b ?? expect.unreachable()];
  }

  /** The one envelope with this operation sent since the last call. */
  the(op: string): Said {
    const found = this.said(op);
    expect(found, `exactly one ${op}`).toHaveLength(1);
    return found[0] ?? expect.unreachable();
  }

  reply(to: Said, d: unknown): void {
    this.tell({ re: to.id, d });
  }

  refuse(to: Said, err: unknown): void {
    this.tell({ re: to.id, err });
  }
}

export type Said = Envelope & { d: Record<string, unknown> };

export const HELLO = {
  op: 'hello',
  d: { v: 1, server: 'ringdesk/0', epoch: 'E1', hb_ms: 25_000, max_frame: 65_536, max_inflight: 256, level: 'disk' },
};

export const ready = (over: Partial<Ready> = {}): Ready => ({
  sid: 'SID1',
  me: 'V1',
  name: 'Vera',
  token: 'v1.tok',
  slot: 1234,
  epoch: 'E1',
  ts: 0,
  p: 0,
  resume_ttl_ms: 120_000,
  resumed: false,
  heads: [],
  ...over,
});

type Heard = { [K in keyof ClientEvents]: { type: K; value: ClientEvents[K] } }[keyof ClientEvents];

const EVENTS: (keyof ClientEvents)[] = [
  'state',
  'ready',
  'conversation',
  'event',
  'reset',
  'sync',
  'unheard',
  'gone',
  'history_lost',
  'outbox',
  'settled',
  'refused',
  'typing',
  'seen',
  'delivered',
  'presence',
  'queue',
  'offer',
  'offer_gone',
  'list',
  'conv',
  'avail',
  'notice',
  'goaway',
];

export class World {
  readonly clock = new FakeClock();
  readonly sockets: FakeSocket[] = [];
  readonly store = memoryStore();
  readonly outbox = memoryStore();
  random = 0.5;
  #hex = 0;
  client: RingdeskClient;
  heard: Heard[] = [];
  readonly #options: Partial<ClientOptions>;
  readonly #role: Role;

  constructor(role: Role = 'visitor', options: Partial<ClientOptions> = {}) {
    this.#role = role;
    this.#options = options;
    this.client = this.load();
  }

  /** A page load: a new client on the same storage. */
  load(): RingdeskClient {
    const env: Env = {
      open: (url, protocol) => {
        const socket = new FakeSocket(url, protocol);
        this.sockets.push(socket);
        return socket;
      },
      clock: this.clock,
      random: () => this.random,
      randomHex: (n) => (++this.#hex).toString(16).padStart(2 * n, '0'),
      store: this.store,
      outbox: this.outbox,
    };
    this.client = new RingdeskClient({
      role: this.#role,
      base: 'ws://desk',
      env,
      ...(this.#role === 'visitor' ? { inbox: 'INBOX' } : { ticket: 'ticket' }),
      ...this.#options,
    });
    this.heard = [];
    for (const type of EVENTS) {
      this.client.on(type, (value) => {
        this.heard.push({ type, value } as Heard);
      });
    }
    return this.client;
  }

  get socket(): FakeSocket {
    return this.sockets.at(-1) ?? expect.unreachable('no socket');
  }

  /** Opens the newest socket as far as `auth`. */
  greet(): Said {
    this.socket.onopen?.();
    this.socket.tell(HELLO);
    const [auth, ...others] = this.socket.said();
    this.socket.frames = others.map((e) => JSON.stringify(e));
    if (auth?.op !== 'auth') return expect.unreachable('auth comes first');
    return auth;
  }

  /** Opens the newest socket as far as `ready`; what the client says then is left to be read. */
  admit(over: Partial<Ready> = {}): Said {
    const auth = this.greet();
    this.socket.reply(auth, ready(over));
    return auth;
  }

  /** Waits out the pause before the next socket, to the millisecond. */
  again(): void {
    const { state } = this.client;
    if (state.phase !== 'waiting') return expect.unreachable(state.phase);
    this.clock.pass(state.until - this.clock.now());
    expect(this.client.state.phase).toBe('connecting');
  }

  /** A visitor who is connected and has shown `last` messages of conversation C. */
  talking(last: number): void {
    this.client.connect();
    this.admit({ heads: [{ c: 'C', s: last, status: 'open' }] });
    this.socket.tell(sync(1, last), ...msgs(1, last));
    this.socket.said();
  }

  /** Numbers shown, in the order of showing. */
  shown(): number[] {
    return this.heard.flatMap((h) => (h.type === 'event' ? [h.value.event.s] : []));
  }

  of<K extends keyof ClientEvents>(type: K): ClientEvents[K][] {
    return this.heard.flatMap((h) => (h.type === type ? [h.value as ClientEvents[K]] : []));
  }
}

export const msg = (s: number, body = `m${s}`, from = { kind: 'agent', id: 'A1' }, c = 'C'): unknown => ({
  op: 'msg',
  c,
  s,
  d: { from, type: 'text', body, ts: s },
});

export const own = (s: number, body: string): unknown => msg(s, body, { kind: 'visitor', id: 'V1' });

export const msgs = (from: number, to: number): unknown[] =>
  Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => msg(from + i));

export const sync = (from: number, head: number, over: object = {}, c = 'C'): unknown => ({
  op: 'sync',
  c,
  d: {
    from,
    head,
    e: 1,
    limited: false,
    status: 'open',
    visitor: { id: 'V1', online: true },
    seen: { visitor: 0, agent: 0 },
    delivered: { visitor: 0, agent: 0 },
    ...over,
  },
});
