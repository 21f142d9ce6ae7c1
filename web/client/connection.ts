// One socket from its first byte to its last: frames, batching, heartbeat, the dead peer. Knows no operation.

import type { Clock, Env, Socket } from './env';
import { DEAD_GRACE_MS, type Envelope } from './protocol';

export const PROTOCOL = 'ringdesk.v1.json';
const HELLO_WITHIN_MS = 15_000;
const DEFAULT_HB_MS = 25_000;
const DEFAULT_MAX_FRAME = 65_536;

export interface ConnectionOwner {
  received(envelope: Envelope): void;
  /** After every frame and every public call: the time to add what should travel together. */
  beforeFlush(): void;
  /** Once, whoever ended it. `code` 1006 is an end without a closing frame, a dead peer included. */
  closed(code: number, reason: string): void;
}

export class Connection {
  readonly #clock: Clock;
  readonly #owner: ConnectionOwner;
  readonly #socket: Socket;
  #open = false;
  #over = false;
  #corked = 0;
  #queue: string[] = [];
  #hbMs = DEFAULT_HB_MS;
  #maxFrame = DEFAULT_MAX_FRAME;
  #greeted = false;
  #heardAt: number;
  #saidAt: number;
  #timer: number | undefined;

  constructor(env: Env, url: string, owner: ConnectionOwner) {
    this.#clock = env.clock;
    this.#owner = owner;
    this.#heardAt = this.#saidAt = env.clock.now();
    this.#socket = env.open(url, PROTOCOL);
    this.#socket.onopen = () => {
      this.#open = true;
      this.cork(() => undefined);
    };
    this.#socket.onmessage = (ev) => {
      this.#frame(ev.data);
    };
    this.#socket.onclose = (ev) => {
      this.#end(ev.code, ev.reason);
    };
    this.#watch();
  }

  /** What `hello` promised. */
  greeted(hbMs: number, maxFrame: number): void {
    this.#greeted = true;
    if (hbMs > 0) this.#hbMs = hbMs;
    if (maxFrame > 0) this.#maxFrame = maxFrame;
    this.#watch();
  }

  /** Adds an envelope to the frame that leaves at the end of the outermost `cork`. */
  post(envelope: Envelope): void {
    if (this.#over) return;
    this.#queue.push(JSON.stringify(envelope));
    if (this.#corked === 0) this.#flush();
  }

  /** Everything posted inside `fn` travels in as few frames as the limit allows. */
  cork(fn: () => void): void {
    this.#corked += 1;
    try {
      fn();
      if (this.#corked === 1) this.#owner.beforeFlush();
    } finally {
      this.#corked -= 1;
      if (this.#corked === 0) this.#flush();
    }
  }

  /** Ends it from this side; the owner hears of it at once, not when the peer agrees. */
  end(code: number, reason: string): void {
    if (this.#over) return;
    this.#socket.close(1000, reason);
    this.#end(code, reason);
  }

  #frame(data: unknown): void {
    if (this.#over) return;
    this.#heardAt = this.#clock.now();
    if (typeof data !== 'string') return;
    this.cork(() => {
      for (const line of data.split('\n')) {
        if (this.#over) return;
        if (line === '') continue;
        let envelope: unknown;
        try {
          envelope = JSON.parse(line);
        } catch {
          continue; // The server's fault; if it held an event, its number will be missed and asked for.
        }
        if (typeof envelope !== 'object' || envelope === null) continue;
        if (Object.keys(envelope).length === 0) this.post({});
        else this.#owner.received(envelope);
      }
    });
  }

  #flush(): void {
    if (!this.#open || this.#over || this.#queue.length === 0) return;
    let frame = '';
    let bytes = 0;
    for (const line of this.#queue) {
      const size = utf8Length(line) + 1;
      if (frame !== '' && bytes + size > this.#maxFrame) {
        this.#socket.send(frame);
        frame = '';
        bytes = 0;
      }
      frame = frame === '' ? line : `${frame}\n${line}`;
      bytes += size;
    }
    this.#queue = [];
    this.#socket.send(frame);
    this.#saidAt = this.#clock.now();
  }

  /** One timer for both duties: to notice a silent peer, and not to be one. */
  #watch(): void {
    if (this.#timer !== undefined) this.#clock.clearTimeout(this.#timer);
    if (this.#over) return;
    const now = this.#clock.now();
    const deadAt = this.#heardAt + (this.#greeted ? this.#hbMs + DEAD_GRACE_MS : HELLO_WITHIN_MS);
    if (now >= deadAt) {
      this.end(1006, 'silent');
      return;
    }
    if (this.#greeted && now >= this.#saidAt + this.#hbMs) this.post({});
    const next = this.#greeted ? Math.min(deadAt, this.#saidAt + this.#hbMs) : deadAt;
    this.#timer = this.#clock.setTimeout(() => {
      this.#watch();
    }, Math.max(1, next - now));
  }

  #end(code: number, reason: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    if (this.#timer !== undefined) this.#clock.clearTimeout(this.#timer);
    this.#owner.closed(code, reason);
  }
}

const encoder = new TextEncoder();
// Three bytes a unit is the most UTF-8 takes, so short lines need no counting.
const utf8Length = (text: string): number => (text.length < 1_024 ? text.length * 3 : encoder.encode(text).length);
