import { describe, expect, test } from 'vitest';
import { HELLO, World, msg, msgs, ready, sync } from './fake';

const HB = HELLO.d.hb_ms;

describe('opening', () => {
  test('a visitor connects with inbox, sub-protocol and, once told, his slot', () => {
    const w = new World();
    w.client.connect();
    expect(w.socket.url.pathname).toBe('/ws/v1/visitor');
    expect(w.socket.url.searchParams.get('inbox')).toBe('INBOX');
    expect(w.socket.url.searchParams.has('s')).toBe(false);
    expect(w.socket.protocol).toBe('ringdesk.v1.json');
    w.admit({ slot: 77 });
    w.socket.drop();
    w.again();
    expect(w.socket.url.searchParams.get('s')).toBe('77');
  });

  test('an agent connects without inbox and shows his ticket', () => {
    const w = new World('agent');
    w.client.connect();
    expect(w.socket.url.pathname).toBe('/ws/v1/agent');
    expect(w.socket.url.searchParams.has('inbox')).toBe(false);
    expect(w.greet().d.token).toBe('ticket');
  });

  test('an agent without a ticket is asked to log in before any socket is opened', () => {
    const w = new World('agent', { ticket: undefined } as never);
    w.client.connect();
    expect(w.sockets).toHaveLength(0);
    expect(w.client.state.phase).toBe('login');
    w.client.authenticate('fresh');
    expect(w.greet().d.token).toBe('fresh');
  });

  test('nothing is said before hello', () => {
    const w = new World();
    w.client.connect();
    w.socket.onopen?.();
    expect(w.socket.frames).toEqual([]);
  });

  test('the first auth has a device but no token and no session', () => {
    const w = new World();
    w.client.connect();
    const { d } = w.greet();
    expect(d.device).toMatch(/^[0-9a-f]{32}$/);
    expect(d).not.toHaveProperty('token');
    expect(d).not.toHaveProperty('last');
  });

  test('token and device are kept for the next page load, the session is not', () => {
    const w = new World();
    w.client.connect();
    const first = w.admit({ token: 'v1.kept' });
    w.load().connect();
    const second = w.greet();
    expect(second.d.token).toBe('v1.kept');
    expect(second.d.device).toBe(first.d.device);
    expect(second.d).not.toHaveProperty('last');
  });

  test('auth and start with the first words travel in one frame', () => {
    const w = new World('visitor', { intro: () => ({ page: 'https://shop/', locale: 'en' }) });
    w.client.connect();
    const cid = w.client.say('hello');
    w.socket.onopen?.();
    w.socket.tell(HELLO);
    expect(w.socket.frames).toHaveLength(1);
    const [auth, start] = w.socket.two();
    expect(auth.op).toBe('auth');
    expect(start.op).toBe('start');
    expect(start.d).toMatchObject({
      page: 'https://shop/',
      locale: 'en',
      first: { cid, type: 'text', body: 'hello' },
    });
    expect(start.d.cid).toMatch(/^[0-9a-f]{32}$/);
    expect(start.d.cid).not.toBe(cid);
  });

  test('a start that overtook an auth which has to wait is sent again with the same ids', () => {
    const w = new World();
    w.client.connect();
    w.client.say('hello');
    w.socket.onopen?.();
    w.socket.tell(HELLO);
    const [auth, start] = w.socket.two();
    w.socket.refuse(auth, { code: 'unavailable', retry: true, after_ms: 300 });
    w.socket.refuse(start, { code: 'auth', retry: false });
    expect(w.of('refused')).toEqual([]);
    w.clock.pass(300);
    const [again, restart] = w.socket.two();
    expect(again.op).toBe('auth');
    expect(restart.d).toEqual(start.d);
    w.socket.reply(again, ready());
    w.socket.reply(restart, { c: 'C', s: 1, ts: 1, level: 'disk' });
    expect(w.client.conversation).toBe('C');
    expect(w.client.pending).toEqual([]);
  });

  test('several envelopes in one frame are read in order, and answers to them leave in one frame', () => {
    const w = new World('agent');
    w.client.connect();
    w.client.sub('queue');
    w.client.sub('mine');
    w.client.avail('online', 4);
    w.client.listen('C');
    w.admit();
    expect(w.socket.frames).toHaveLength(1);
    expect(w.socket.said().map((e) => e.op)).toEqual(['sub', 'sub', 'avail', 'sync']);
  });

  test('envelopes that would exceed max_frame are spread over frames', () => {
    const w = new World('agent');
    w.client.connect();
    w.client.send('C1', 'x'.repeat(9_999));
    w.client.send('C2', '漢'.repeat(9_999));
    w.client.send('C3', '漢'.repeat(9_999));
    w.client.send('C4', '"'.repeat(9_999));
    w.admit();
    expect(w.socket.frames.length).toBeGreaterThan(1);
    for (const frame of w.socket.frames) expect(new TextEncoder().encode(frame).length).toBeLessThanOrEqual(65_536);
    expect(w.socket.said('send')).toHaveLength(4);
  });

  test('a line that is not JSON is passed over, and the rest of the frame is read', () => {
    const w = new World();
    w.talking(1);
    w.socket.raw(`{"op":\n${JSON.stringify(msg(2))}\n\n7\nnull`);
    expect(w.shown()).toEqual([1, 2]);
  });
});

describe('resuming', () => {
  test('last says sid, epoch and how many durable events were counted', () => {
    const w = new World();
    w.talking(3);
    w.socket.drop();
    w.again();
    expect(w.greet().d.last).toEqual({ sid: 'SID1', epoch: 'E1', p: 3 });
  });

  test('p counts every durable event that was told: shown, known already, or beyond a gap', () => {
    const w = new World();
    w.talking(2); // 2
    w.socket.tell(msg(2), msg(3), msg(3), msg(9)); // + 4
    w.socket.tell({ op: 'typing', c: 'C', d: { who: { kind: 'agent', id: 'A1' }, on: true } });
    w.socket.tell({ op: 'status', c: 'C', s: 10, d: { status: 'closed', by: { kind: 'agent', id: 'A1' }, ts: 1 } }); // + 1
    w.socket.drop();
    w.again();
    expect(w.greet().d.last).toMatchObject({ p: 7 });
  });

  test('ready says where counting stands', () => {
    const w = new World();
    w.talking(3);
    w.socket.drop();
    w.again();
    w.admit({ p: 3, resumed: true, replay: 1 });
    w.socket.tell(msg(4));
    w.socket.drop();
    w.again();
    expect(w.greet().d.last).toMatchObject({ p: 4 });
    w.socket.drop();
    w.again();
    w.admit({ sid: 'SID2', epoch: 'E2', p: 0 });
    w.socket.tell(msg(5));
    w.socket.drop();
    w.again();
    expect(w.greet().d.last).toEqual({ sid: 'SID2', epoch: 'E2', p: 1 });
  });

  test('resumed: the replay comes by itself and no sync is sent', () => {
    const w = new World();
    w.talking(3);
    w.socket.drop();
    w.again();
    w.admit({ p: 3, resumed: true, replay: 2, heads: [{ c: 'C', s: 5, status: 'open' }] });
    w.socket.tell(msg(4), msg(5));
    w.clock.pass(5_000);
    expect(w.socket.said('sync')).toEqual([]);
    expect(w.shown()).toEqual([1, 2, 3, 4, 5]);
  });

  test('resumed, but a head is never reached: it is asked for', () => {
    const w = new World();
    w.talking(3);
    w.socket.drop();
    w.again();
    w.admit({ p: 3, resumed: true, replay: 0, heads: [{ c: 'C', s: 4, status: 'open' }] });
    expect(w.socket.said('sync')).toEqual([]);
    w.clock.pass(1_000);
    expect(w.socket.the('sync').d.cursors).toEqual([{ c: 'C', s: 3, e: 1 }]);
  });

  test('not resumed: sync with the cursors, and only what is new is shown', () => {
    const w = new World();
    w.talking(3);
    w.socket.drop();
    w.again();
    w.admit({ resumed: false, sid: 'SID2' });
    expect(w.socket.the('sync').d.cursors).toEqual([{ c: 'C', s: 3, e: 1 }]);
    w.socket.tell(sync(4, 5), msg(4), msg(5));
    expect(w.shown()).toEqual([1, 2, 3, 4, 5]);
    expect(w.of('reset')).toEqual([]);
  });

  test('a sync that was under way when the socket ended is sent again even after a resume', () => {
    const w = new World();
    w.talking(1);
    w.socket.tell(msg(4));
    w.socket.the('sync');
    w.socket.drop();
    w.again();
    w.admit({ p: 2, resumed: true });
    expect(w.socket.the('sync').d.cursors).toEqual([{ c: 'C', s: 1, e: 1 }]);
  });

  test('an agent says his wish again only to a server that has forgotten it, and asks for lists on every socket', () => {
    const w = new World('agent');
    w.client.sub('mine');
    w.client.avail('busy', 3);
    w.client.connect();
    w.admit({ me: 'A1' });
    w.socket.said();
    w.socket.drop();
    w.again();
    w.admit({ me: 'A1', resumed: true });
    expect(w.socket.said().map((e) => e.op)).toEqual(['sub']);
    w.socket.drop();
    w.again();
    w.admit({ me: 'A1', resumed: false });
    expect(w.socket.said().map((e) => e.op)).toEqual(['sub', 'avail']);
  });
});

describe('acknowledging', () => {
  test('within a second of the first event', () => {
    const w = new World();
    w.talking(0);
    w.socket.tell(msg(1));
    w.clock.pass(600);
    w.socket.tell(msg(2));
    expect(w.socket.said('ack')).toEqual([]);
    w.clock.pass(400);
    expect(w.socket.the('ack')).toEqual({ op: 'ack', d: { p: 2 } });
    w.clock.pass(10_000);
    expect(w.socket.said('ack')).toEqual([]);
  });

  test('at once after 32 events, without asking for a reply', () => {
    const w = new World();
    w.talking(0);
    w.socket.tell(...msgs(1, 31));
    expect(w.socket.said('ack')).toEqual([]);
    w.socket.tell(msg(32));
    expect(w.socket.said('ack')).toEqual([{ op: 'ack', d: { p: 32 } }]);
    w.clock.pass(5_000);
    expect(w.socket.said('ack')).toEqual([]);
  });

  test('at once when the server waits', () => {
    const w = new World();
    w.talking(0);
    w.socket.tell(msg(1), { op: 'lag', d: { p: 1 } });
    expect(w.socket.the('ack').d).toEqual({ p: 1 });
  });

  test('the same number is not said twice', () => {
    const w = new World();
    w.talking(0);
    w.socket.tell(msg(1));
    w.clock.pass(1_000);
    w.socket.said();
    w.socket.tell({ op: 'lag', d: { p: 1 } });
    expect(w.socket.said('ack')).toEqual([]);
  });
});

describe('heartbeat', () => {
  test('an empty envelope is answered with one', () => {
    const w = new World();
    w.talking(0);
    w.socket.raw('{}');
    expect(w.socket.frames).toEqual(['{}']);
  });

  test('one who only listens to traffic still says something every hb_ms', () => {
    const w = new World();
    w.talking(0);
    for (let i = 0; i < 6; i++) {
      w.clock.pass(10_000);
      w.socket.tell({ op: 'queue', c: 'C', d: { pos: 1 } });
    }
    expect(w.socket.said().filter((e) => e.op === undefined)).toHaveLength(2);
  });

  test('a server silent for hb_ms + 10 s is gone, and the client connects again', () => {
    const w = new World();
    w.talking(0);
    w.clock.pass(HB + 9_999);
    expect(w.client.state.phase).toBe('ready');
    w.clock.pass(1);
    expect(w.sockets[0]?.closedByClient).toBe(true);
    w.again();
    expect(w.sockets).toHaveLength(2);
  });

  test('any traffic counts as life', () => {
    const w = new World();
    w.talking(0);
    for (let i = 0; i < 5; i++) {
      w.clock.pass(30_000);
      w.socket.tell({ op: 'queue', c: 'C', d: { pos: 1 } });
    }
    expect(w.client.state.phase).toBe('ready');
  });

  test('a server that accepts and never says hello is left', () => {
    const w = new World();
    w.client.connect();
    w.socket.onopen?.();
    w.clock.pass(15_000);
    expect(w.client.state.phase).toBe('waiting');
  });

  test('what an abandoned socket says later is not heard', () => {
    const w = new World();
    w.talking(1);
    const old = w.socket;
    w.clock.pass(HB + 10_000);
    old.tell(msg(2));
    old.drop(4301);
    expect(w.shown()).toEqual([1]);
    expect(w.client.state.phase).toBe('waiting');
  });
});

describe('after a close', () => {
  test('4000 slot=N connects at once with that slot', () => {
    const w = new World();
    w.talking(0);
    w.socket.drop(4000, 'slot=99');
    expect(w.sockets).toHaveLength(2);
    expect(w.socket.url.searchParams.get('s')).toBe('99');
  });

  test('moved in a circle, the client slows down', () => {
    const w = new World();
    w.talking(0);
    for (let i = 0; i < 5; i++) w.socket.drop(4000, `slot=${i}`);
    expect(w.sockets).toHaveLength(5);
    expect(w.client.state.phase).toBe('waiting');
  });

  test('41xx waits with growing jittered pauses, which ready forgets', () => {
    const w = new World();
    w.random = 1;
    w.talking(0);
    const pauses: number[] = [];
    const measure = (): void => {
      const state = w.client.state;
      if (state.phase !== 'waiting') throw new Error(state.phase);
      const pause = state.until - w.clock.now();
      pauses.push(pause);
      const before = w.sockets.length;
      w.clock.pass(pause - 1);
      expect(w.sockets).toHaveLength(before);
      w.clock.pass(1);
      expect(w.sockets).toHaveLength(before + 1);
    };
    for (let i = 0; i < 7; i++) {
      w.socket.drop(4100);
      measure();
    }
    expect(pauses).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000]);
    w.admit();
    w.socket.drop(4110);
    measure();
    expect(pauses.at(-1)).toBe(1_000);
  });

  test('the pause is over at once when the person comes back', () => {
    const w = new World();
    w.talking(0);
    w.socket.drop(1006);
    w.client.nudge();
    expect(w.sockets).toHaveLength(2);
    w.clock.pass(60_000);
    expect(w.sockets.length).toBeGreaterThanOrEqual(2);
  });

  test('goaway is obeyed: come back after_ms from then', () => {
    const w = new World();
    w.talking(0);
    w.socket.tell({ op: 'goaway', d: { after_ms: 3_000 } });
    w.clock.pass(1_000);
    w.socket.drop(1001);
    w.client.nudge();
    w.clock.pass(1_999);
    expect(w.sockets).toHaveLength(1);
    w.clock.pass(1);
    expect(w.sockets).toHaveLength(2);
  });

  test('4200 keeps the token and authenticates again', () => {
    const w = new World();
    w.talking(0);
    w.socket.drop(4200);
    w.again();
    expect(w.greet().d.token).toBe('v1.tok');
  });

  test('4201 makes the visitor a new one; what he had not got through is said in a new conversation', () => {
    const w = new World();
    w.talking(2);
    const cid = w.client.say('still here');
    w.socket.said();
    w.socket.drop(4201);
    expect(w.of('conversation').at(-1)).toBeNull();
    w.again();
    w.socket.onopen?.();
    w.socket.tell(HELLO);
    const [auth, start] = w.socket.two();
    expect(auth.d).not.toHaveProperty('token');
    expect(auth.d).not.toHaveProperty('last');
    expect(start.d.first).toEqual({ cid, type: 'text', body: 'still here' });
    expect(w.socket.url.searchParams.has('s')).toBe(false);
  });

  test.each([4201, 4202])('%i asks the agent to log in, and no socket is opened before he has', (code) => {
    const w = new World('agent');
    w.client.connect();
    w.admit({ me: 'A1' });
    w.socket.drop(code);
    w.clock.pass(60_000);
    expect(w.sockets).toHaveLength(1);
    expect(w.client.state).toEqual({ phase: 'login', code });
    w.client.authenticate('new ticket');
    expect(w.greet().d.token).toBe('new ticket');
  });

  test('what an agent had not got through is not said by another one who logs in after him', () => {
    const w = new World('agent');
    w.client.connect();
    w.admit({ me: 'A1' });
    w.socket.drop();
    w.client.note('C', 'half said');
    w.again();
    w.socket.drop(4202);
    w.client.authenticate('the ticket of somebody else');
    w.admit({ me: 'A2' });
    expect(w.socket.said('note')).toEqual([]);
    expect(w.outbox.keys().filter((key) => key.includes('.outbox.'))).toEqual([]);
  });

  test.each([4300, 4301])('%i ends it until the person asks', (code) => {
    const w = new World();
    w.talking(1);
    w.socket.drop(code);
    w.clock.pass(600_000);
    expect(w.sockets).toHaveLength(1);
    expect(w.client.state).toEqual({ phase: 'stopped', code });
    w.client.connect();
    expect(w.greet().d).not.toHaveProperty('last');
  });

  test('an agent who logs out leaves nothing behind', () => {
    const w = new World('agent');
    w.client.connect();
    w.admit({ me: 'A1' });
    w.client.send('C', 'half said');
    w.client.logout();
    expect(w.client.state.phase).toBe('login');
    expect(w.outbox.keys()).toEqual([]);
    w.clock.pass(60_000);
    expect(w.sockets).toHaveLength(1);
  });

  test('a page of history keeps what is gone apart from the events', async () => {
    const w = new World();
    w.talking(3);
    const page = w.client.history('C', 9);
    const gone = { from: 1, to: 2, reason: 'damaged' };
    const { id } = w.socket.the('history');
    w.socket.tell({ re: id, d: { c: 'C', events: [{ op: 'history_lost', c: 'C', d: gone }, msg(3)], more: false } });
    await expect(page).resolves.toEqual({ c: 'C', events: [msg(3)], lost: [gone], more: false });
  });

  test('a request whose answer the socket took along fails; asking again is up to the page', async () => {
    const w = new World();
    w.talking(3);
    const page = w.client.history('C', 3);
    w.socket.drop();
    await expect(page).rejects.toMatchObject({ code: 'offline' });
    await expect(w.client.history('C', 3)).rejects.toMatchObject({ code: 'offline' });
  });
});

describe('typing', () => {
  test('is said at most every 3 s while keys are pressed, and taken back after 5 s of rest', () => {
    const w = new World();
    w.talking(1);
    for (let i = 0; i < 40; i++) {
      w.client.typing('C');
      w.clock.pass(100);
    }
    expect(w.socket.said('typing').map((e) => e.d.on)).toEqual([true, true]);
    w.clock.pass(5_000);
    expect(w.socket.said('typing').map((e) => e.d.on)).toEqual([false]);
  });

  test('of another is believed for 8 s, and our own from another tab is not shown', () => {
    const w = new World();
    w.talking(1);
    w.socket.tell({ op: 'typing', c: 'C', d: { who: { kind: 'visitor', id: 'V1' }, on: true } });
    expect(w.of('typing')).toEqual([]);
    w.socket.tell({ op: 'typing', c: 'C', d: { who: { kind: 'agent', id: 'A1' }, on: true } });
    w.clock.pass(8_000);
    expect(w.of('typing').map((t) => t.on)).toEqual([true, false]);
  });
});
