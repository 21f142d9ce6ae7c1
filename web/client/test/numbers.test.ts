import { describe, expect, test } from 'vitest';
import { World, msg, msgs, sync } from './fake';

describe('numbers have no gaps', () => {
  test('an event above last + 1 is not shown; a sync says how far we are', () => {
    const w = new World();
    w.talking(2);
    w.socket.tell(msg(4));
    expect(w.shown()).toEqual([1, 2]);
    expect(w.socket.the('sync').d).toMatchObject({ cursors: [{ c: 'C', s: 2, e: 1 }] });
    w.socket.tell(sync(3, 4), msg(3), msg(4));
    expect(w.shown()).toEqual([1, 2, 3, 4]);
  });

  test('while a sync is under way further events beyond the gap bring no other', () => {
    const w = new World();
    w.talking(2);
    w.socket.tell(msg(4));
    w.socket.tell(msg(5), msg(6));
    expect(w.socket.said('sync')).toHaveLength(1);
  });

  test('a storm of duplicates shows each number once', () => {
    const w = new World();
    w.talking(5);
    for (let round = 0; round < 50; round++) w.socket.tell(...msgs(1, 8));
    expect(w.shown()).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(w.socket.said('sync')).toEqual([]);
  });

  test('a server whose syncs never close the gap is asked ever more slowly', () => {
    const w = new World();
    w.talking(2);
    let asked = 0;
    for (let second = 0; second < 60; second++) {
      w.socket.tell(msg(9));
      asked += w.socket.said('sync').length;
      w.socket.tell(sync(3, 9));
      w.clock.pass(1_000);
      asked += w.socket.said('sync').length;
    }
    expect(asked).toBeGreaterThan(3);
    expect(asked).toBeLessThan(15);
    expect(w.shown()).toEqual([1, 2]);
  });

  test('a sync that is never answered is sent again', () => {
    const w = new World();
    w.talking(2);
    w.socket.tell(msg(4));
    w.socket.the('sync');
    w.clock.pass(10_000);
    w.socket.raw('{}');
    w.clock.pass(10_000);
    expect(w.socket.said('sync')).toHaveLength(1);
  });

  test('a sync refused with retry is sent again after after_ms', () => {
    const w = new World();
    w.talking(2);
    w.socket.tell(msg(4));
    w.socket.refuse(w.socket.the('sync'), { code: 'overloaded', retry: true, after_ms: 700 });
    w.clock.pass(699);
    expect(w.socket.said('sync')).toEqual([]);
    w.clock.pass(1);
    expect(w.socket.said('sync')).toHaveLength(1);
  });

  test('limited: what was shown is put away and the telling starts at from', () => {
    const w = new World();
    w.talking(2);
    w.socket.drop();
    w.again();
    w.admit({ resumed: false });
    w.socket.tell(sync(601, 602, { limited: true }), msg(601), msg(602));
    expect(w.of('reset')).toEqual([{ c: 'C', from: 601 }]);
    expect(w.shown()).toEqual([1, 2, 601, 602]);
  });

  test('another history epoch: the old numbers mean nothing any more', () => {
    const w = new World();
    w.talking(3);
    w.socket.drop();
    w.again();
    w.admit({ resumed: false });
    w.socket.tell(sync(1, 2, { e: 2 }), msg(1, 'other'), msg(2, 'other'));
    expect(w.of('reset')).toEqual([{ c: 'C', from: 1 }]);
    expect(w.shown()).toEqual([1, 2, 3, 1, 2]);
  });

  test('lost history is told and the numbers behind it are shown', () => {
    const w = new World();
    w.talking(2);
    w.socket.tell({ op: 'history_lost', c: 'C', d: { from: 3, to: 5, reason: 'damaged' } }, msg(6));
    expect(w.of('history_lost')).toEqual([{ c: 'C', from: 3, to: 5, reason: 'damaged' }]);
    expect(w.shown()).toEqual([1, 2, 6]);
    expect(w.socket.said('sync')).toEqual([]);
  });

  test('the word that history is lost counts like the events it stands for, as the server counts', () => {
    const w = new World();
    w.talking(2);
    for (let s = 3; s <= 40; s += 2) {
      w.socket.tell({ op: 'history_lost', c: 'C', d: { from: s, to: s + 1, reason: 'damaged' } });
    }
    expect(w.socket.said('ack').map((ack) => ack.d)).toEqual([{ p: 32 }]);
  });

  test('rewound history takes numbers back, and one sync settles it', () => {
    const w = new World();
    w.talking(4);
    w.socket.drop();
    w.again();
    w.admit({ resumed: false });
    w.socket.the('sync');
    w.socket.tell(
      { op: 'history_lost', c: 'C', d: { from: 3, to: 4, reason: 'rewound' } },
      sync(3, 3, { e: 2 }),
      msg(3, 'new 3'),
    );
    expect(w.shown()).toEqual([1, 2, 3, 4, 3]);
    expect(w.of('reset')).toEqual([{ c: 'C', from: 3 }]);
    expect(w.socket.said('sync')).toEqual([]);
  });

  test('an event this client has no word for still takes its number', () => {
    const w = new World();
    w.talking(1);
    w.socket.tell({ op: 'rated', c: 'C', s: 2, d: { score: 5 } }, msg(3));
    expect(w.shown()).toEqual([1, 2, 3]);
  });

  test('a conversation that is not ours is forgotten', () => {
    const w = new World('agent');
    w.client.connect();
    w.client.listen('C');
    w.admit();
    w.socket.tell({ op: 'sync', c: 'C', err: { code: 'not_found' } });
    expect(w.of('gone')).toEqual([{ c: 'C' }]);
    expect(w.socket.said('sync')).toHaveLength(1);
    w.clock.pass(20_000);
    expect(w.socket.said('sync')).toEqual([]);
  });

  test('many conversations are asked for in few syncs of at most 512 cursors', () => {
    const w = new World('agent');
    for (let i = 0; i < 600; i++) w.client.listen(`C${i}`);
    w.client.connect();
    w.admit();
    const sizes = w.socket.said('sync').map((e) => (e.d.cursors as unknown[]).length);
    expect(sizes).toEqual([512, 88]);
  });

  test('an agent is not told of conversations he stopped listening to', () => {
    const w = new World('agent');
    w.client.connect();
    w.client.listen('C');
    w.admit();
    w.socket.tell(sync(1, 1), msg(1));
    w.client.unlisten('C');
    expect(w.socket.said('unsync')).toHaveLength(1);
    w.socket.tell(msg(2));
    expect(w.shown()).toEqual([1]);
  });
});

describe('seen', () => {
  test('only grows, never passes what was shown, and wants no reply', () => {
    const w = new World();
    w.talking(3);
    w.client.seen('C', 2);
    w.client.seen('C', 1);
    w.client.seen('C', 2);
    w.client.seen('C', 9);
    w.client.seen('C', 3);
    expect(w.socket.said()).toEqual([
      { op: 'seen', d: { c: 'C', s: 2 } },
      { op: 'seen', d: { c: 'C', s: 3 } },
    ]);
  });

  test('is said when a dropped socket is back, though the session went on', () => {
    const w = new World();
    w.talking(3);
    w.socket.drop();
    w.client.seen('C', 3);
    w.again();
    w.admit({ resumed: true });
    expect(w.socket.the('seen').d).toEqual({ c: 'C', s: 3 });
  });

  test('is said again to a server that has not kept it', () => {
    const w = new World();
    w.talking(3);
    w.client.seen('C', 3);
    w.socket.drop();
    w.again();
    w.admit({ resumed: false });
    w.socket.tell(sync(4, 3, { seen: { visitor: 1, agent: 0 } }));
    expect(w.socket.the('seen').d).toEqual({ c: 'C', s: 3 });
  });
});
