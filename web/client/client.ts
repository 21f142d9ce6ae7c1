// RingdeskClient: the life of a session over many sockets. See docs/protocol.md; sections are named where they are obeyed.

import { Alarm } from './alarm';
import { afterClose, backoffMs } from './closing';
import { Connection } from './connection';
import { Emitter } from './emitter';
import type { Env } from './env';
import { Feed } from './feed';
import { ask, type ClientEvents, type ClientState, type Link, type Reply } from './link';
import { Outbox, type OutboxItem } from './outbox';
import {
  type Availability,
  type Envelope,
  type HistoryLost,
  type HistoryPage,
  type ListPage,
  type Numbered,
  type Pushes,
  type Ready,
  type Role,
  type Scope,
  MAX_BODY_CHARS,
  charCount,
} from './protocol';
import { Sender, type Intro, type SenderOwner } from './sender';
import { Typing } from './typing';

const REPLY_WITHIN_MS = 20_000;
/** "Moved" in a row before it is taken for a fault and slowed down. */
const MAX_MOVES = 4;

export interface ClientOptions {
  role: Role;
  /** `wss://host` or `ws://host`, without a path. */
  base: string;
  /** The visitor's inbox. */
  inbox?: string;
  env: Env;
  /** The agent's ticket, if there is one already. */
  ticket?: string;
  /** What `start` says about the visitor. Asked once for each new conversation. */
  intro?: () => Intro;
}

interface Session {
  sid: string;
  epoch: string;
}

export class RingdeskClient extends Emitter<ClientEvents> {
  readonly #options: ClientOptions;
  readonly #env: Env;
  readonly #keys: { token: string; slot: string; owner: string };
  readonly #device: string;
  readonly #link: Link;
  readonly #feed: Feed;
  readonly #sender: Sender;
  readonly #outbox: Outbox;
  readonly #typing: Typing;
  readonly #reconnect: Alarm;
  readonly #replyAlarm: Alarm;

  #state: ClientState = { phase: 'idle' };
  #connection: Connection | undefined;
  #token: string | null;
  #slot: number | undefined;
  #session: Session | undefined;
  #ready = false;
  #me: string | undefined;
  #name: string | undefined;
  #conversation: string | null = null;
  #attempt = 0;
  #moves = 0;
  #goaway: { ms: number; at: number } | undefined;
  #nextId = 1;
  readonly #requests = new Map<number, { onReply: (reply: Reply) => void; deadline: number }>();
  readonly #scopes = new Set<Scope>();
  #avail: { state: Availability; cap?: number } | undefined;

  constructor(options: ClientOptions) {
    super();
    this.#options = options;
    this.#env = options.env;
    const scope = `ringdesk.${options.role}.${options.inbox ?? ''}`;
    this.#keys = { token: `${scope}.token`, slot: `${scope}.slot`, owner: `${scope}.owner` };
    this.#device = this.#lasting('ringdesk.device', () => this.#env.randomHex(16));
    this.#token = options.role === 'agent' ? (options.ticket ?? null) : this.#env.store.get(this.#keys.token);
    const slot = Number(this.#env.store.get(this.#keys.slot) ?? NaN);
    this.#slot = Number.isInteger(slot) ? slot : undefined;
    this.#outbox = new Outbox(this.#env.outbox, `${scope}.outbox.`);
    this.#link = this.#makeLink();
    this.#feed = new Feed(this.#link, {
      claim: (event) => this.#sender.claim(event),
      gone: (c) => {
        this.#gone(c);
      },
      begun: (c) => {
        this.#setConversation(c);
      },
    });
    this.#sender = new Sender(this.#link, this.#feed, this.#senderOwner(), this.#outbox);
    this.#typing = new Typing(this.#link);
    this.#reconnect = new Alarm(this.#env.clock, () => {
      this.#open();
    });
    this.#replyAlarm = new Alarm(this.#env.clock, () => {
      this.#expireRequests();
    });
  }

  get state(): ClientState {
    return this.#state;
  }

  /** The id by which the server knows us; unknown before the first `ready`. */
  get me(): string | undefined {
    return this.#me;
  }

  get name(): string | undefined {
    return this.#name;
  }

  /** The visitor's conversation. */
  get conversation(): string | null {
    return this.#conversation;
  }

  /** What was said and is not confirmed, in the order of saying. */
  get pending(): readonly OutboxItem[] {
    return this.#outbox.items;
  }

  connect(): void {
    if (this.#connection) return;
    if (this.#options.role === 'agent' && this.#token === null) {
      this.#enter({ phase: 'login', code: undefined });
      return;
    }
    if (this.#state.phase === 'stopped') this.#session = undefined;
    this.#attempt = this.#moves = 0;
    this.#open();
  }

  /** Ends the connection and stays away until `connect`. */
  disconnect(): void {
    this.#reconnect.stop();
    this.#enter({ phase: 'idle' });
    this.#connection?.end(1000, '');
  }

  /** The page was shown or the network came back: do not wait out a pause. */
  nudge(): void {
    if (this.#state.phase !== 'waiting' || this.#goaway) return;
    this.#open();
  }

  /** A fresh ticket after a login. */
  authenticate(ticket: string): void {
    this.#token = ticket;
    this.#session = undefined;
    if (this.#connection) this.#connection.end(1000, '');
    this.connect();
  }

  /** Forgets the person: ticket, session, what is not sent. */
  logout(): void {
    this.disconnect();
    this.#dropIdentity();
    this.#outbox.clear();
    this.#env.outbox.remove(this.#keys.owner);
    this.#enter({ phase: 'login', code: undefined });
  }

  /** The visitor speaks. The first words make the conversation. Returns the `cid`. */
  say(body: string): string {
    return this.#sender.add({ op: 'send', c: this.#conversation, body: checked(body) });
  }

  send(c: string, body: string): string {
    return this.#sender.add({ op: 'send', c, body: checked(body) });
  }

  note(c: string, body: string): string {
    return this.#sender.add({ op: 'note', c, body: checked(body) });
  }

  accept(c: string, offer?: number): string {
    return this.#sender.add(offer === undefined ? { op: 'accept', c } : { op: 'accept', c, offer });
  }

  close(c: string): string {
    return this.#sender.add({ op: 'close', c });
  }

  /** Once more what was refused. */
  retry(cid: string): void {
    this.#sender.retry(cid);
  }

  /** Gives up what was refused. */
  discard(cid: string): void {
    this.#sender.discard(cid);
  }

  decline(c: string, offer: number): void {
    if (this.#ready) this.#link.request('decline', { c, offer }, () => undefined);
  }

  /** An agent starts to listen to a conversation, from its beginning or as far back as one `sync` reaches. */
  listen(c: string): void {
    this.#link.turn(() => this.#feed.listen(c));
  }

  unlisten(c: string): void {
    if (!this.#feed.stream(c)) return;
    this.#link.turn(() => {
      this.#feed.forget(c);
      if (this.#ready) this.#link.request('unsync', { c }, () => undefined);
    });
  }

  history(c: string, before: number, limit = 50): Promise<HistoryPage> {
    return ask<object>(this.#link, 'history', { c, before, limit }).then(historyPage);
  }

  /** The person has read up to `s`. */
  seen(c: string, s: number): void {
    this.#link.turn(() => {
      this.#feed.seen(c, s);
    });
  }

  /** A key was pressed in the composer of `c`. Call it as often as that happens. */
  typing(c: string): void {
    this.#typing.pressed(c);
  }

  /** The composer is empty again. */
  typingEnded(c: string): void {
    this.#typing.ended(c);
  }

  /** The agent's wish; said again whenever the server has forgotten it. */
  avail(state: Availability, cap: number | undefined): void {
    this.#avail = cap === undefined ? { state } : { state, cap };
    if (this.#ready) this.#sayAvail();
  }

  /** A live list; asked for again on every socket. */
  sub(scope: Scope): void {
    this.#scopes.add(scope);
    if (this.#ready) this.#link.request('sub', { scope }, () => undefined);
  }

  /** More rows of a list: those behind the `next` of what was told. The next `list` push makes every `next` before it void. */
  rows(scope: Scope, after: string): Promise<ListPage> {
    return ask(this.#link, 'list', { scope, after });
  }

  unsub(scope: Scope): void {
    this.#scopes.delete(scope);
    if (this.#ready) this.#link.request('unsub', { scope }, () => undefined);
  }

  // ---- one socket

  #open(): void {
    this.#reconnect.stop();
    this.#goaway = undefined;
    this.#enter({ phase: 'connecting', attempt: this.#attempt });
    const { role, base, inbox } = this.#options;
    const query = new URLSearchParams();
    if (inbox !== undefined) query.set('inbox', inbox);
    if (this.#slot !== undefined) query.set('s', String(this.#slot));
    const asked = query.toString();
    const connection = new Connection(this.#env, `${base}/ws/v1/${role}${asked === '' ? '' : '?'}${asked}`, {
      received: (envelope) => {
        this.#received(envelope);
      },
      beforeFlush: () => {
        this.#feed.beforeFlush();
        this.#sender.beforeFlush();
      },
      closed: (code, reason) => {
        this.#closed(code, reason);
      },
    });
    this.#connection = connection;
  }

  /** Section 7. */
  #closed(code: number, reason: string): void {
    this.#connection = undefined;
    this.#ready = false;
    this.#replyAlarm.stop();
    this.#feed.disconnected();
    this.#sender.disconnected();
    this.#typing.disconnected();
    const unanswered = [...this.#requests.values()];
    this.#requests.clear();
    for (const { onReply } of unanswered) onReply({ lost: true });
    if (this.#state.phase === 'idle' || this.#state.phase === 'login') return;

    const goaway = this.#goaway && Math.max(0, this.#goaway.ms - (this.#env.clock.now() - this.#goaway.at));
    const next = afterClose(code, reason, goaway);
    switch (next.do) {
      case 'now':
        this.#setSlot(next.slot);
        this.#moves += 1;
        if (this.#moves <= MAX_MOVES) this.#open();
        else this.#wait(code, this.#backoff());
        return;
      case 'after':
        this.#wait(code, next.ms);
        return;
      case 'backoff':
        this.#wait(code, this.#backoff());
        return;
      case 'auth':
        if (next.dropToken) this.#dropIdentity();
        if (this.#token === null && this.#options.role === 'agent') this.#enter({ phase: 'login', code });
        else this.#wait(code, this.#backoff());
        return;
      case 'stop':
        this.#enter({ phase: 'stopped', code });
    }
  }

  #backoff(): number {
    const ms = backoffMs(this.#attempt, () => this.#env.random());
    this.#attempt += 1;
    return ms;
  }

  #wait(code: number, ms: number): void {
    this.#enter({ phase: 'waiting', attempt: this.#attempt, until: this.#env.clock.now() + ms, code });
    this.#reconnect.within(ms);
  }

  #received(envelope: Envelope): void {
    const { re, op, c, s, d, err } = envelope;
    if (typeof re === 'number') {
      const request = this.#requests.get(re);
      this.#requests.delete(re);
      if (request) request.onReply(err ? { err } : { d: (d ?? {}) as Record<string, unknown> });
    } else if (typeof op === 'string') {
      if (typeof c === 'string' && typeof s === 'number') {
        // A number makes it an event, even one that this client has no word for.
        if (Number.isSafeInteger(s) && s > 0 && isRecord(d)) this.#feed.numbered({ op, c, s, d } as unknown as Numbered);
      } else {
        this.#push(op, c ?? '', isRecord(d) ? d : {}, envelope);
      }
    }
  }

  /** Section 5, the pushes without a number. */
  #push(op: string, c: string, d: Record<string, unknown>, envelope: Envelope): void {
    const push = { op, d } as unknown as { [K in keyof Pushes]: { op: K; d: Pushes[K] } }[keyof Pushes];
    switch (push.op) {
      case 'hello':
        this.#connection?.greeted(push.d.hb_ms, push.d.max_frame);
        this.#authenticate();
        return;
      case 'sync':
        this.#feed.answered(c, envelope.err ? undefined : (push.d), envelope.err);
        return;
      case 'typing':
        this.#typing.heard(c, push.d.who, push.d.on);
        return;
      case 'seen':
      case 'delivered':
        this.emit(push.op, { c, ...push.d });
        return;
      case 'presence':
        this.emit('presence', { c, online: push.d.visitor === 'online' });
        return;
      case 'queue':
        this.emit('queue', { c, ...push.d });
        return;
      case 'offer':
        this.emit('offer', { c, ...push.d });
        return;
      case 'offer_gone':
        this.emit('offer_gone', { c, ...push.d });
        return;
      case 'list':
        this.emit('list', push.d);
        return;
      case 'conv':
        this.emit('conv', { c, ...push.d });
        return;
      case 'avail':
        this.#avail = { state: push.d.state, cap: push.d.cap };
        this.emit('avail', push.d);
        return;
      case 'notice':
        this.emit('notice', push.d);
        return;
      case 'lag':
        this.#feed.ackNow();
        return;
      case 'history_lost':
        this.#feed.lost(c, push.d);
        return;
      case 'goaway':
        this.#goaway = { ms: push.d.after_ms, at: this.#env.clock.now() };
        this.emit('goaway', push.d);
    }
  }

  /** Section 3. */
  #authenticate(): void {
    const d = {
      ...(this.#token === null ? {} : { token: this.#token }),
      device: this.#device,
      ...(this.#session ? { last: { ...this.#session, p: this.#feed.p } } : {}),
    };
    const connection = this.#connection;
    this.#link.request('auth', d, (reply) => {
      if ('d' in reply) this.#onReady(reply.d as unknown as Ready);
      else if ('err' in reply && reply.err.retry) {
        this.#env.clock.setTimeout(() => {
          if (connection === this.#connection && !this.#ready) this.#authenticate();
        }, reply.err.after_ms ?? backoffMs(0, () => this.#env.random()));
      } else if ('err' in reply) {
        const refusedTicket = reply.err.code === 'auth' || reply.err.code === 'forbidden';
        this.#session = undefined;
        connection?.end(refusedTicket && this.#options.role === 'agent' ? 4201 : 1006, 'auth');
      } else if (connection === this.#connection) connection?.end(1006, 'auth');
    });
    this.#sender.opening();
  }

  #onReady(ready: Ready): void {
    if (this.#me !== undefined && this.#me !== ready.me) this.#setConversation(null);
    this.#me = ready.me;
    this.#own(ready.me);
    this.#name = ready.name === '' ? undefined : ready.name;
    this.#session = { sid: ready.sid, epoch: ready.epoch };
    this.#setSlot(ready.slot);
    if (this.#options.role === 'visitor' && ready.token !== undefined) {
      this.#token = ready.token;
      this.#env.store.set(this.#keys.token, ready.token);
    }
    this.#attempt = this.#moves = 0;
    this.#ready = true;
    this.#feed.reconnected(ready.resumed, ready.p);
    for (const head of ready.heads ?? []) {
      this.#setConversation(head.c);
      this.#feed.listen(head.c);
      this.#feed.hint(head.c, head.s);
    }
    this.emit('ready', ready);
    for (const scope of this.#scopes) this.#link.request('sub', { scope }, () => undefined);
    if (!ready.resumed && this.#avail) this.#sayAvail();
    this.#enter({ phase: 'ready' });
  }

  /** An agent's words are said by him or not at all: another one may have logged in meanwhile, in this tab. */
  #own(me: string): void {
    if (this.#options.role !== 'agent') return;
    const owner = this.#env.outbox.get(this.#keys.owner);
    if (owner !== null && owner !== me) this.#outbox.clear();
    if (owner !== me) this.#env.outbox.set(this.#keys.owner, me);
  }

  #sayAvail(): void {
    if (!this.#avail) return;
    this.#link.request('avail', this.#avail, (reply) => {
      if ('d' in reply && typeof reply.d.state === 'string') this.emit('avail', reply.d as unknown as Pushes['avail']);
    });
  }

  #gone(c: string): void {
    if (this.#conversation === c) this.#setConversation(null);
    this.emit('gone', { c });
  }

  #setConversation(c: string | null): void {
    if (c === this.#conversation) return;
    if (this.#conversation !== null) {
      this.#feed.forget(this.#conversation);
      if (this.#options.role === 'visitor') this.#sender.forgetConversation();
    }
    this.#conversation = c;
    this.emit('conversation', c);
  }

  #dropIdentity(): void {
    this.#token = null;
    this.#session = undefined;
    this.#me = this.#name = undefined;
    this.#env.store.remove(this.#keys.token);
    this.#setSlot(undefined);
    this.#feed.forgetAll();
    if (this.#options.role === 'visitor') {
      this.#sender.forgetConversation();
      this.#setConversation(null);
    }
  }

  #setSlot(slot: number | undefined): void {
    if (slot === this.#slot) return;
    this.#slot = slot;
    if (slot === undefined) this.#env.store.remove(this.#keys.slot);
    else this.#env.store.set(this.#keys.slot, String(slot));
  }

  #expireRequests(): void {
    const now = this.#env.clock.now();
    const late = [...this.#requests].filter(([, { deadline }]) => deadline <= now);
    for (const [id] of late) this.#requests.delete(id);
    this.#link.turn(() => {
      for (const [, { onReply }] of late) onReply({ lost: true });
    });
    this.#watchRequests(now);
  }

  #watchRequests(now: number): void {
    const [first] = this.#requests.values();
    if (first) this.#replyAlarm.within(Math.max(1, first.deadline - now));
  }

  #enter(state: ClientState): void {
    this.#state = state;
    this.emit('state', state);
  }

  #lasting(key: string, make: () => string): string {
    const kept = this.#env.store.get(key);
    if (kept !== null && kept.length >= 16 && kept.length <= 64) return kept;
    const made = make();
    this.#env.store.set(key, made);
    return made;
  }

  #makeLink(): Link {
    const self = (): this => this;
    return {
      env: this.#env,
      role: this.#options.role,
      get me() {
        return self().#me;
      },
      get name() {
        return self().#name;
      },
      get isReady() {
        return self().#ready;
      },
      post: (op, d) => this.#connection?.post({ op, d }),
      request: (op, d, onReply) => {
        if (!this.#connection) {
          onReply({ lost: true });
          return;
        }
        const id = this.#nextId;
        this.#nextId = id >= 0xffff_ffff ? 1 : id + 1;
        const now = this.#env.clock.now();
        this.#requests.set(id, { onReply, deadline: now + REPLY_WITHIN_MS });
        this.#watchRequests(now);
        this.#connection.post({ id, op, d });
      },
      turn: (fn) => {
        if (this.#connection) this.#connection.cork(fn ?? (() => undefined));
        else fn?.();
      },
      emit: (type, value) => {
        this.emit(type, value);
      },
    };
  }

  #senderOwner(): SenderOwner {
    const self = (): this => this;
    return {
      get conversation() {
        return self().#conversation;
      },
      begun: (c) => {
        this.#setConversation(c);
      },
      intro: () => this.#options.intro?.() ?? {},
    };
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

/** What is gone stands among the events; the pages want it apart. */
const historyPage = (d: object): HistoryPage => {
  const { c, events, more } = d as { c: string; more: boolean; events: (Numbered | { op: 'history_lost'; d: HistoryLost })[] };
  const page: HistoryPage = { c, events: [], lost: [], more };
  for (const event of events) {
    if (event.op === 'history_lost') page.lost.push(event.d);
    else page.events.push(event);
  }
  return page;
};

const checked = (body: string): string => {
  const n = charCount(body);
  if (n < 1 || n > MAX_BODY_CHARS) throw new RangeError(`a text has 1 to ${MAX_BODY_CHARS} characters, not ${n}`);
  return body;
};
