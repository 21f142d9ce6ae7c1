// Lists longer than the rows the server tells: at most 200, and how many there are (docs/protocol.md, section 5).

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { World } from '../client/test/fake';
import type { Row, Scope } from '../client';
import { memoryStore } from '../client';
import { DICTIONARY } from '../shared/dictionary';
import { I18n } from '../shared/i18n';
import { Desk } from './desk';

const rows = (from: number, to: number, row: Partial<Row>): Row[] =>
  Array.from({ length: to - from + 1 }, (_, i) => ({ c: `C${from + i}`, status: 'waiting', since: 1, ...row }));

const list = (scope: Scope, convs: Row[], total: number): unknown => ({ op: 'list', d: { scope, convs, total } });

const conv = ({ c, ...d }: Row): unknown => ({ op: 'conv', c, d });

const desk = (): { w: World; desk: Desk } => {
  const w = new World('agent');
  const desk = new Desk(w.client, () => undefined);
  w.client.sub('queue');
  w.client.sub('mine');
  w.client.connect();
  w.admit({ me: 'A1' });
  w.socket.said();
  return { w, desk };
};

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe('who waits', () => {
  test('those beyond the rows are counted, and the person is told how many, in both languages', () => {
    const { w, desk: d } = desk();
    w.socket.tell(list('queue', rows(1, 200, {}), 341));
    expect([d.queue.length, d.totals.queue, d.beyond('queue')]).toEqual([200, 341, 141]);
    for (const lang of ['en', 'zh-CN'] as const) {
      const { t } = new I18n(memoryStore(), [lang]);
      for (const key of ['agent.moreWaiting', 'agent.moreMine'] as const) {
        const words = t(key, { n: 141, shown: 200 });
        expect(words).toContain('141');
        expect(words).toContain('200');
        expect(words).not.toContain('{');
        expect(DICTIONARY[lang][key]).not.toBe(DICTIONARY[lang === 'en' ? 'zh-CN' : 'en'][key]);
      }
    }
    w.socket.tell(list('queue', rows(1, 7, {}), 7));
    expect(d.beyond('queue')).toBe(0);
  });

  test('who comes anew is behind those that are not shown: he gets no row with a place he has not', () => {
    const { w, desk: d } = desk();
    w.socket.tell(list('queue', rows(1, 200, {}), 341));
    w.socket.tell(conv({ c: 'C999', status: 'waiting', since: 9 }));
    expect(d.queue).not.toContain('C999');
    w.socket.tell(list('queue', rows(1, 7, {}), 7), conv({ c: 'C999', status: 'waiting', since: 9 }));
    expect(d.queue.at(-1)).toBe('C999');
  });

  test('when rows leave, the list is asked for again, not for every row, and the others move up', () => {
    const { w, desk: d } = desk();
    w.socket.tell(list('queue', rows(1, 200, {}), 341));
    vi.advanceTimersByTime(60_000);
    expect(w.socket.said('sub')).toEqual([]);
    for (const row of rows(1, 50, { status: 'open', owner: 'A2' })) w.socket.tell(conv(row));
    expect([d.queue.length, d.beyond('queue')]).toEqual([150, 141]);
    expect(w.socket.said('sub')).toEqual([]);
    vi.advanceTimersByTime(5_000);
    expect(w.socket.the('sub').d).toEqual({ scope: 'queue' });
    w.socket.tell(list('queue', rows(51, 250, {}), 291));
    expect([d.queue[0], d.queue.at(-1), d.beyond('queue')]).toEqual(['C51', 'C250', 91]);
    vi.advanceTimersByTime(60_000);
    expect(w.socket.said('sub')).toEqual([]);
  });

  test('a list that holds all is not asked for again', () => {
    const { w } = desk();
    w.socket.tell(list('queue', rows(1, 20, {}), 20));
    for (const row of rows(1, 10, { status: 'open', owner: 'A2' })) w.socket.tell(conv(row));
    vi.advanceTimersByTime(60_000);
    expect(w.socket.said('sub')).toEqual([]);
  });
});

describe("one's own", () => {
  const own = { status: 'open', owner: 'A1' } as const;

  test('a list with fewer rows than there may be holds all: a total that counts offers hides nothing', () => {
    const { w, desk: d } = desk();
    w.socket.tell(list('mine', rows(1, 2, own), 3));
    expect([d.totals.mine, d.beyond('mine')]).toEqual([2, 0]);
  });

  test('are not let go because the rows leave them out', () => {
    const { w, desk: d } = desk();
    w.socket.tell(list('mine', rows(1, 200, own), 200));
    for (const row of rows(201, 210, own)) w.socket.tell(conv(row));
    expect([d.mine.length, d.beyond('mine')]).toEqual([210, 0]);
    w.socket.said();
    w.socket.tell(list('mine', rows(1, 200, own), 215));
    expect([d.mine.length, d.beyond('mine')]).toEqual([210, 5]);
    expect(w.socket.said('unsync')).toEqual([]);
    w.socket.tell(list('mine', rows(1, 9, own), 9));
    expect(d.mine.length).toBe(9);
    expect(w.socket.said('unsync')).toHaveLength(201);
  });
});
