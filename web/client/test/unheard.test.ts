// A `sync` that is refused for good: the person hears of it, and it is asked again, seldom and for fewer.

import { describe, expect, test } from 'vitest';
import { World, msg, sync } from './fake';

const QUOTA = { code: 'quota', retry: false };

const names = (n: number): string[] => Array.from({ length: n }, (_, i) => `C${i}`);

const listening = (cs: string[]): World => {
  const w = new World('agent');
  w.client.connect();
  w.admit({ me: 'A1' });
  for (const c of cs) w.client.listen(c);
  return w;
};

const cursors = (said: { d: Record<string, unknown> }): string[] =>
  (said.d.cursors as { c: string }[]).map(({ c }) => c);

describe('refused by a push', () => {
  test('the conversation stays, the person is told once, and a sync ends it', () => {
    const w = listening(['C', 'D']);
    w.socket.said();
    w.socket.tell(sync(1, 0, {}, 'C'), { op: 'sync', c: 'D', err: QUOTA });
    expect(w.of('gone')).toEqual([]);
    expect(w.of('unheard')).toEqual([{ c: 'D', code: 'quota' }]);

    w.clock.pass(4_999);
    expect(w.socket.said('sync')).toEqual([]);
    w.clock.pass(1);
    const again = w.socket.the('sync');
    expect(cursors(again)).toEqual(['D']);
    w.socket.reply(again, { n: 1 });
    w.socket.tell({ op: 'sync', c: 'D', err: QUOTA });
    expect(w.of('unheard')).toHaveLength(1);

    w.clock.pass(9_999);
    expect(w.socket.said('sync')).toEqual([]);
    w.clock.pass(1);
    w.socket.reply(w.socket.the('sync'), { n: 1 });
    w.socket.tell(sync(1, 1, {}, 'D'), msg(1, 'hello', { kind: 'visitor', id: 'V1' }, 'D'));
    expect(w.of('sync').map(({ c }) => c)).toEqual(['C', 'D']);
    expect(w.shown()).toEqual([1]);
    w.clock.pass(120_000);
    expect(w.socket.said('sync')).toEqual([]);
  });

  test('the pauses grow to a minute and no further', () => {
    const w = listening(['D']);
    w.socket.said();
    w.socket.tell({ op: 'sync', c: 'D', err: QUOTA });
    const pauses: number[] = [];
    for (let i = 0; i < 6; i++) {
      const from = w.clock.now();
      let asked = w.socket.said('sync');
      while (asked.length === 0) {
        w.clock.pass(100);
        w.socket.tell({});
        asked = w.socket.said('sync');
      }
      pauses.push(w.clock.now() - from);
      for (const one of asked) w.socket.reply(one, { n: 1 });
      w.socket.tell({ op: 'sync', c: 'D', err: QUOTA });
    }
    expect(pauses).toEqual([5_000, 10_000, 20_000, 40_000, 60_000, 60_000]);
  });

  test('listening to one conversation fewer makes room: it is asked at once, behind the unsync', () => {
    const w = listening(['C', 'D']);
    w.socket.said();
    w.socket.tell(sync(1, 0, {}, 'C'), { op: 'sync', c: 'D', err: QUOTA });
    w.client.unlisten('C');
    const [unsync, again] = w.socket.two();
    expect([unsync.op, again.op]).toEqual(['unsync', 'sync']);
    expect(cursors(again)).toEqual(['D']);
  });

  test('not_found is no quota: it is gone', () => {
    const w = listening(['D']);
    w.socket.said();
    w.socket.tell({ op: 'sync', c: 'D', err: { code: 'not_found', retry: false } });
    expect(w.of('gone')).toEqual([{ c: 'D' }]);
    expect(w.of('unheard')).toEqual([]);
  });
});

describe('refused by the reply', () => {
  test('those that were taken are told; the others are asked again in halves, one sync at a time', () => {
    const cs = names(8);
    const w = new World('agent');
    w.client.connect();
    for (const c of cs) w.client.listen(c);
    w.admit({ me: 'A1' });
    const all = w.socket.the('sync');
    expect(cursors(all)).toEqual(cs);
    w.socket.refuse(all, QUOTA);
    w.socket.tell(sync(1, 0, {}, 'C0'), sync(1, 0, {}, 'C1'));
    // Nobody is troubled for what is put right in a moment.
    expect(w.of('unheard')).toEqual([]);

    w.clock.pass(5_000);
    expect(w.of('unheard').map(({ c }) => c)).toEqual(['C2', 'C3', 'C4', 'C5', 'C6', 'C7']);
    const four = w.socket.the('sync');
    expect(cursors(four)).toEqual(['C2', 'C3', 'C4', 'C5']);
    w.socket.refuse(four, QUOTA);
    const two = w.socket.the('sync');
    expect(cursors(two)).toEqual(['C6', 'C7']);
    w.socket.refuse(two, QUOTA);
    expect(w.socket.said('sync')).toEqual([]);

    w.clock.pass(10_000);
    const one = w.socket.the('sync');
    expect(cursors(one)).toEqual(['C2']);
    w.socket.reply(one, { n: 1 });
    w.socket.tell(sync(1, 0, {}, 'C2'));
    expect(w.of('sync').map(({ c }) => c)).toEqual(['C0', 'C1', 'C2']);
    // Granted: the next may be more.
    expect(w.socket.said('sync').map(cursors)).toEqual([['C3', 'C4']]);
  });

  test('a new session is asked for all of them together', () => {
    const w = listening(['C', 'D']);
    for (const one of w.socket.said('sync')) w.socket.refuse(one, QUOTA);
    w.socket.drop();
    w.again();
    w.admit({ me: 'A1', sid: 'SID2' });
    expect(cursors(w.socket.the('sync'))).toEqual(['C', 'D']);
  });
});
