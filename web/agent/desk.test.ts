// Lists longer than a page of 200 rows (docs/protocol.md, sections 4 and 5).

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { World, msg, sync } from '../client/test/fake';
import type { Row, Scope } from '../client';
import { memoryStore } from '../client';
import { DICTIONARY } from '../shared/dictionary';
import { I18n } from '../shared/i18n';
import { Desk } from './desk';

const rows = (from: number, to: number, row: Partial<Row>): Row[] =>
  Array.from({ length: to - from + 1 }, (_, i) => ({ c: `C${from + i}`, status: 'waiting', since: 1, ...row }));

/** A full page has others behind it if there are any. */
const page = (scope: Scope, convs: Row[], total: number, isLast = convs.length < 200 || total <= 200): object => ({
  scope,
  convs,
  total,
  ...(isLast ? {} : { next: `behind ${convs.at(-1)?.c}` }),
});

const list = (scope: Scope, convs: Row[], total: number): unknown => ({ op: 'list', d: page(scope, convs, total) });

/** Lets what a reply set in motion happen. */
const settled = async (): Promise<void> => {
  await vi.advanceTimersByTimeAsync(0);
};

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
      expect(t('agent.showMore')).toBe(DICTIONARY[lang]['agent.showMore']);
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

  test('the person asks for more, page by page, and keeps it when the list is told anew', async () => {
    const { w, desk: d } = desk();
    w.socket.tell(list('queue', rows(1, 200, {}), 450));
    d.showMore();
    d.showMore();
    const first = w.socket.the('list');
    expect(first.d).toEqual({ scope: 'queue', after: 'behind C200' });
    w.socket.reply(first, page('queue', rows(201, 400, {}), 450));
    await settled();
    expect([d.queue.length, d.queue[399], d.beyond('queue')]).toEqual([400, 'C400', 50]);
    expect(w.socket.said('list')).toEqual([]);
    // Told anew: nobody vanishes meanwhile, and the second page is read by itself.
    w.socket.tell(list('queue', rows(3, 202, {}), 448));
    expect(d.queue.length).toBe(400);
    const second = w.socket.the('list');
    expect(second.d).toEqual({ scope: 'queue', after: 'behind C202' });
    w.socket.reply(second, page('queue', rows(203, 402, {}), 448));
    await settled();
    expect([d.queue.length, d.queue[0], d.queue.at(-1)]).toEqual([400, 'C3', 'C402']);
    d.showMore();
    w.socket.reply(w.socket.the('list'), page('queue', rows(403, 450, {}), 448, true));
    await settled();
    expect([d.queue.length, d.beyond('queue')]).toEqual([448, 0]);
    w.socket.tell(conv({ c: 'C999', status: 'waiting', since: 9 }));
    expect(d.queue.at(-1)).toBe('C999');
  });

  test('a page of a list that was told anew meanwhile means nothing', async () => {
    const { w, desk: d } = desk();
    w.socket.tell(list('queue', rows(1, 200, {}), 450));
    d.showMore();
    const late = w.socket.the('list');
    w.socket.tell(list('queue', rows(1, 7, {}), 7));
    w.socket.reply(late, page('queue', rows(201, 400, {}), 450));
    await settled();
    expect([d.queue.length, d.totals.queue]).toEqual([7, 7]);
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

  test('are read to the end by themselves, and what is said in the last of them is heard', async () => {
    const { w, desk: d } = desk();
    w.socket.tell(list('mine', rows(1, 200, own), 405));
    const heard = new Set<unknown>();
    const listen = (): void => {
      for (const { d } of w.socket.said('sync')) for (const { c } of d.cursors as { c: string }[]) heard.add(c);
    };
    for (const [from, to] of [[201, 400], [401, 405]] as const) {
      const [asked, ...others] = w.socket.said().filter(({ op, d }) => {
        if (op === 'sync') for (const { c } of d.cursors as { c: string }[]) heard.add(c);
        return op === 'list';
      });
      expect(others).toEqual([]);
      if (!asked) return expect.unreachable(`no page from ${from}`);
      expect(asked.d).toEqual({ scope: 'mine', after: `behind C${from - 1}` });
      // One of those that were told ends, and another begins, while the page is on its way.
      w.socket.tell(conv({ c: `C${from - 1}`, status: 'closed' }), conv({ c: `N${from}`, ...own }));
      w.socket.reply(asked, page('mine', rows(from, to, own), 405, to === 405));
      await settled();
    }
    listen();
    expect([d.mine.length, d.beyond('mine')]).toEqual([405, 0]);
    expect(d.mine.includes('C200') || d.mine.includes('C400')).toBe(false);
    for (const c of d.mine) expect(heard.has(c), c).toBe(true);
    w.socket.tell(sync(1, 0, { status: 'open', owner: 'A1' }, 'C405'), msg(1, 'hello', { kind: 'visitor', id: 'V9' }, 'C405'));
    expect(d.unread()).toBe(1);
  });

  test('a page that is refused is read again a while later', async () => {
    const { w, desk: d } = desk();
    w.socket.tell(list('mine', rows(1, 200, own), 201));
    const asked = w.socket.the('list');
    w.socket.said();
    w.socket.refuse(asked, { code: 'overloaded', retry: true, after_ms: 200 });
    await settled();
    expect(w.socket.said('sub')).toEqual([]);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(w.socket.the('sub').d).toEqual({ scope: 'mine' });
    w.socket.tell(list('mine', rows(1, 200, own), 201));
    w.socket.reply(w.socket.the('list'), page('mine', rows(201, 201, own), 201));
    await settled();
    expect([d.mine.length, d.beyond('mine')]).toEqual([201, 0]);
  });
});
