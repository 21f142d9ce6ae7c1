import { describe, expect, test } from 'vitest';
import { World, msg, own, sync } from './fake';

const ok = (s: number, over: object = {}): object => ({ s, ts: 1_000 + s, level: 'disk', ...over });

describe('no reply means unknown', () => {
  test('a message is kept until it is answered, then shown once with its number', () => {
    const w = new World();
    w.talking(1);
    const cid = w.client.say('hi');
    expect(cid).toMatch(/^[0-9a-f]{32}$/);
    const send = w.socket.the('send');
    expect(send.d).toEqual({ c: 'C', cid, type: 'text', body: 'hi' });
    w.socket.reply(send, ok(2));
    expect(w.client.pending).toEqual([]);
    expect(w.of('event').at(-1)).toMatchObject({ cid, mine: true, event: { s: 2, d: { body: 'hi' } } });
    w.socket.tell(own(2, 'hi'));
    expect(w.shown()).toEqual([1, 2]);
  });

  test('when the push of our own words comes before the reply, it is known as ours', () => {
    const w = new World();
    w.talking(1);
    const cid = w.client.say('hi');
    const send = w.socket.the('send');
    w.socket.tell(own(2, 'hi'));
    expect(w.of('event').at(-1)).toMatchObject({ cid, mine: true });
    w.socket.reply(send, ok(2));
    expect(w.shown()).toEqual([1, 2]);
    expect(w.of('settled')).toMatchObject([{ s: 2, item: { cid } }]);
  });

  test('reply lost: said again with the same cid, shown once', () => {
    const w = new World();
    w.talking(1);
    const cid = w.client.say('hi');
    const first = w.socket.the('send');
    w.socket.drop();
    w.again();
    w.admit({ p: 1, resumed: true, replay: 1 });
    const second = w.socket.the('send');
    expect(second.d).toEqual(first.d);
    w.socket.tell(own(2, 'hi'));
    w.socket.reply(second, ok(2, { dup: true }));
    expect(w.shown()).toEqual([1, 2]);
    expect(w.of('event').filter((e) => e.cid === cid)).toHaveLength(1);
    expect(w.client.pending).toEqual([]);
  });

  test('reply lost and no push: the repeated reply shows it, once', () => {
    const w = new World();
    w.talking(1);
    w.client.say('hi');
    w.socket.drop();
    w.again();
    w.admit({ p: 1, resumed: false });
    w.socket.tell(sync(2, 2));
    w.socket.reply(w.socket.the('send'), ok(2, { dup: true }));
    w.socket.tell(own(2, 'hi'));
    expect(w.shown()).toEqual([1, 2]);
  });

  test('a connection that lives but never answers: said again with the same cid', () => {
    const w = new World();
    w.talking(1);
    w.client.say('hi');
    const first = w.socket.the('send');
    w.clock.pass(15_000);
    w.socket.raw('{}');
    w.clock.pass(5_000);
    const second = w.socket.the('send');
    expect(second.d).toEqual(first.d);
    expect(second.id).not.toBe(first.id);
  });

  test('a reply whose number is ahead of what was told waits for the push and keeps its cid', () => {
    const w = new World();
    w.talking(1);
    const cid = w.client.say('hi');
    w.socket.reply(w.socket.the('send'), ok(3));
    expect(w.shown()).toEqual([1]);
    w.socket.tell(msg(2), own(3, 'hi'));
    expect(w.shown()).toEqual([1, 2, 3]);
    expect(w.of('event').at(-1)?.cid).toBe(cid);
    w.clock.pass(5_000);
    expect(w.socket.said('sync')).toEqual([]);
  });

  test('a reply whose number never comes is followed by a sync', () => {
    const w = new World();
    w.talking(1);
    w.client.say('hi');
    w.socket.reply(w.socket.the('send'), ok(3));
    w.clock.pass(1_000);
    expect(w.socket.the('sync').d.cursors).toEqual([{ c: 'C', s: 1, e: 1 }]);
  });

  test('the same words said earlier are not mistaken for the ones under way', () => {
    const w = new World();
    w.talking(0);
    w.socket.tell(own(1, 'hi'), msg(2));
    w.client.say('hi');
    w.socket.tell(own(1, 'hi'));
    expect(w.of('event').filter((e) => e.cid !== undefined)).toEqual([]);
  });
});

describe('order', () => {
  test('one message is under way at a time; the rest follow in the order of saying', () => {
    const w = new World();
    w.talking(0);
    for (const body of ['a', 'b', 'c']) w.client.say(body);
    const sent: unknown[] = [];
    for (let s = 1; s <= 3; s++) {
      const send = w.socket.the('send');
      sent.push(send.d.body);
      w.socket.reply(send, ok(s));
    }
    expect(sent).toEqual(['a', 'b', 'c']);
    expect(w.shown()).toEqual([1, 2, 3]);
  });

  test('retry:true waits after_ms, and nothing overtakes meanwhile', () => {
    const w = new World();
    w.talking(0);
    w.client.say('a');
    w.client.say('b');
    const first = w.socket.the('send');
    w.socket.refuse(first, { code: 'rate_limited', retry: true, after_ms: 800 });
    w.client.say('c');
    w.clock.pass(799);
    expect(w.socket.said('send')).toEqual([]);
    w.clock.pass(1);
    expect(w.socket.the('send').d).toEqual(first.d);
    expect(w.of('refused')).toEqual([]);
  });

  test('retry:true without after_ms waits with back-off', () => {
    const w = new World();
    w.talking(0);
    w.client.say('a');
    for (let i = 0; i < 4; i++) {
      w.socket.refuse(w.socket.the('send'), { code: 'overloaded', retry: true });
      expect(w.socket.said('send')).toEqual([]);
      w.clock.pass(20_000);
      w.socket.raw('{}');
    }
    expect(w.socket.said('send')).toHaveLength(1);
  });

  test('one conversation does not wait for another', () => {
    const w = new World('agent');
    w.client.connect();
    w.client.listen('C');
    w.client.listen('D');
    w.admit({ me: 'A1' });
    w.socket.said();
    w.client.send('C', 'one');
    w.client.send('D', 'two');
    w.client.note('D', 'three');
    expect(w.socket.said().map((e) => e.d.body)).toEqual(['one', 'two']);
  });
});

describe('a refusal means not stored', () => {
  test('the message is marked, the next ones go on, and it can be tried again', () => {
    const w = new World();
    w.talking(0);
    const cid = w.client.say('a');
    w.client.say('b');
    w.socket.refuse(w.socket.the('send'), { code: 'forbidden', retry: false });
    expect(w.of('refused')).toMatchObject([{ item: { cid }, error: { code: 'forbidden' } }]);
    const b = w.socket.the('send');
    expect(b.d.body).toBe('b');
    w.socket.reply(b, ok(1));
    expect(w.client.pending.map((i) => i.error?.code)).toEqual(['forbidden']);
    w.client.retry(cid);
    expect(w.socket.the('send').d).toMatchObject({ cid, body: 'a' });
  });

  test('after id_conflict the words get another cid', () => {
    const w = new World();
    w.talking(0);
    const cid = w.client.say('a');
    w.socket.refuse(w.socket.the('send'), { code: 'id_conflict', retry: false });
    w.client.retry(cid);
    const again = w.socket.the('send');
    expect(again.d.body).toBe('a');
    expect(again.d.cid).not.toBe(cid);
    expect(w.client.pending).toHaveLength(1);
  });

  test('it can be given up', () => {
    const w = new World();
    w.talking(0);
    const cid = w.client.say('a');
    w.client.discard(cid);
    expect(w.client.pending).toHaveLength(1);
    w.socket.refuse(w.socket.the('send'), { code: 'closed', retry: false });
    w.client.discard(cid);
    expect(w.client.pending).toEqual([]);
    expect(w.outbox.keys()).toEqual([]);
  });

  test('an accept that came too late is told and not repeated', () => {
    const w = new World('agent');
    w.client.connect();
    w.admit({ me: 'A1' });
    w.client.accept('C', 8);
    const accept = w.socket.the('accept');
    expect(accept.d).toMatchObject({ c: 'C', offer: 8 });
    w.socket.refuse(accept, { code: 'stale', retry: false });
    expect(w.of('refused')).toMatchObject([{ error: { code: 'stale' } }]);
    expect(w.client.pending).toEqual([]);
  });

  test('a text of 10,001 characters never leaves; 10,000 of two units each do', () => {
    const w = new World();
    w.talking(0);
    expect(() => w.client.say('x'.repeat(10_001))).toThrow(RangeError);
    expect(() => w.client.say('')).toThrow(RangeError);
    w.client.say('😀'.repeat(10_000));
    expect(w.client.pending).toHaveLength(1);
  });
});

describe('start', () => {
  test('the first words make the conversation; the next wait for it and then are ordinary messages', () => {
    const w = new World();
    w.client.connect();
    w.admit();
    w.client.say('a');
    w.client.say('b');
    const start = w.socket.the('start');
    w.socket.reply(start, { c: 'C', ...ok(1) });
    expect(w.client.conversation).toBe('C');
    const [sync1, send] = w.socket.two();
    expect(sync1.op).toBe('sync');
    expect(sync1.d.cursors).toEqual([{ c: 'C', s: 0 }]);
    expect(send.d).toMatchObject({ c: 'C', body: 'b' });
    w.socket.tell(sync(1, 1), own(1, 'a'));
    expect(w.of('event')).toMatchObject([{ mine: true, cid: (start.d.first as { cid: string }).cid }]);
  });

  test('reply lost: the same start with the same two cids, one conversation, one message', () => {
    let n = 0;
    const w = new World('visitor', { intro: () => ({ page: `page ${(n += 1)}` }) });
    w.client.connect();
    w.admit();
    w.client.say('a');
    const first = w.socket.the('start');
    w.socket.drop();
    w.again();
    // The server had stored it: ready names the conversation, and the events are told before the repeated reply.
    w.admit({ heads: [{ c: 'C', s: 1, status: 'waiting' }] });
    w.socket.tell(sync(1, 1), own(1, 'a'));
    const second = w.socket.the('start');
    expect(second.d).toEqual(first.d);
    w.socket.reply(second, { c: 'C', ...ok(1, { dup: true }) });
    expect(w.shown()).toEqual([1]);
    expect(w.client.pending).toEqual([]);
  });

  test('a conversation begun in another tab is taken over', () => {
    const w = new World();
    w.client.connect();
    w.admit();
    w.socket.tell(own(1, 'from the other tab'));
    expect(w.client.conversation).toBe('C');
    w.client.say('here too');
    expect(w.socket.the('send').d.c).toBe('C');
  });

  test('a conversation the server no longer has: the refused words begin a new one when tried again', () => {
    const w = new World();
    w.talking(1);
    const cid = w.client.say('a');
    w.socket.refuse(w.socket.the('send'), { code: 'not_found', retry: false });
    w.socket.tell({ op: 'status', c: 'C', s: 9, d: {} });
    w.socket.tell({ op: 'sync', c: 'C', err: { code: 'not_found' } });
    expect(w.client.conversation).toBeNull();
    w.client.retry(cid);
    expect(w.socket.the('start').d.first).toMatchObject({ cid, body: 'a' });
  });
});

describe('the outbox survives a page load', () => {
  test('unanswered messages are said again in order with the same cids', () => {
    const w = new World();
    w.talking(1);
    const a = w.client.say('a');
    const b = w.client.say('b');
    w.socket.the('send');
    w.load();
    expect(w.client.pending.map((i) => i.cid)).toEqual([a, b]);
    w.client.connect();
    w.admit({ heads: [{ c: 'C', s: 2, status: 'open' }] });
    const send = w.socket.the('send');
    expect(send.d).toEqual({ c: 'C', cid: a, type: 'text', body: 'a' });
    w.socket.tell(sync(1, 2), msg(1), own(2, 'a'));
    w.socket.reply(send, ok(2, { dup: true }));
    expect(w.socket.the('send').d.cid).toBe(b);
    expect(w.shown()).toEqual([1, 2]);
    expect(w.of('event').at(-1)?.cid).toBe(a);
  });

  test('a start under way stays the same start', () => {
    let n = 0;
    const w = new World('visitor', { intro: () => ({ page: `page ${(n += 1)}` }) });
    w.client.connect();
    w.admit();
    w.client.say('a');
    const first = w.socket.the('start');
    w.clock.pass(1_234);
    w.load().connect();
    w.admit();
    const second = w.socket.the('start');
    expect(second.d).toEqual(first.d);
  });

  test('answered ones are gone, refused ones wait for the person', () => {
    const w = new World();
    w.talking(0);
    w.client.say('a');
    w.socket.reply(w.socket.the('send'), ok(1));
    w.client.say('b');
    w.socket.refuse(w.socket.the('send'), { code: 'too_large', retry: false });
    w.load().connect();
    w.admit({ heads: [{ c: 'C', s: 1, status: 'open' }] });
    expect(w.socket.said('send')).toEqual([]);
    expect(w.client.pending).toMatchObject([{ body: 'b', error: { code: 'too_large' } }]);
  });

  test('what is not readable in the store is thrown away', () => {
    const w = new World();
    w.outbox.set('ringdesk.visitor.INBOX.outbox.x', '{"cid":');
    w.outbox.set('somebody.else', 'stays');
    w.load();
    expect(w.client.pending).toEqual([]);
    expect(w.outbox.keys()).toEqual(['somebody.else']);
  });
});
