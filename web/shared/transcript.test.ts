import { describe, expect, test } from 'vitest';
import type { Numbered, OutboxItem } from '../client';
import { Transcript, type Row } from './transcript';

const DAY = 86_400_000;
const NOON = Date.UTC(2025, 5, 10, 12);

const msg = (s: number, who: 'visitor' | 'agent', body: string, ts = NOON + s): Numbered => ({
  op: 'msg',
  c: 'C',
  s,
  d: { from: { kind: who, id: who === 'visitor' ? 'V1' : 'A1' }, type: 'text', body, ts },
});

const item = (cid: string, body: string, over: Partial<OutboxItem> = {}): OutboxItem => ({
  cid,
  op: 'send',
  c: 'C',
  body,
  n: 1,
  ...over,
});

const texts = (rows: Row[]): Extract<Row, { kind: 'text' }>[] => rows.filter((r) => r.kind === 'text');

describe('a visitor sees each of his messages once', () => {
  test('while it is pending, when it is answered, and when its event is there', () => {
    const t = new Transcript('visitor');
    const hi = item('X', 'hi');
    expect(texts(t.rows([hi], 'V1', true))).toMatchObject([{ cid: 'X', tick: 'sending', s: undefined }]);
    expect(texts(t.rows([hi], 'V1', false))).toMatchObject([{ tick: 'waiting' }]);
    t.settle(hi, 1, NOON);
    expect(texts(t.rows([], 'V1', true))).toMatchObject([{ cid: 'X', tick: 'sent', s: 1 }]);
    t.append(msg(1, 'visitor', 'hi'), 'X');
    expect(texts(t.rows([], 'V1', true))).toMatchObject([{ cid: 'X', key: 'X', tick: 'sent', s: 1 }]);
  });

  test('when the event comes before the reply', () => {
    const t = new Transcript('visitor');
    const hi = item('X', 'hi');
    t.append(msg(1, 'visitor', 'hi'), 'X');
    expect(texts(t.rows([hi], 'V1', true))).toHaveLength(1);
    t.settle(hi, 1, NOON);
    expect(texts(t.rows([], 'V1', true))).toHaveLength(1);
  });

  test('when another event was taken for it, the reply puts that right', () => {
    const t = new Transcript('visitor');
    t.append(msg(1, 'visitor', 'hi'), 'X');
    t.append(msg(2, 'visitor', 'hi'), undefined);
    t.settle(item('X', 'hi'), 2, NOON);
    expect(texts(t.rows([], 'V1', true)).map((r) => r.cid)).toEqual([undefined, 'X']);
  });

  test('a refused one stays until it is decided', () => {
    const t = new Transcript('visitor');
    const rows = t.rows([item('X', 'hi', { error: { code: 'too_large' } })], 'V1', true);
    expect(texts(rows)).toMatchObject([{ tick: 'failed' }]);
  });
});

describe('ticks', () => {
  test('follow what the other side has got and seen, and never go back', () => {
    const t = new Transcript('visitor');
    t.append(msg(1, 'visitor', 'a'), undefined);
    t.append(msg(2, 'visitor', 'b'), undefined);
    t.receipt('delivered', 'agent', 2);
    t.receipt('seen', 'agent', 1);
    t.receipt('delivered', 'agent', 1);
    t.receipt('seen', 'visitor', 2);
    expect(texts(t.rows([], 'V1', true)).map((r) => r.tick)).toEqual(['seen', 'delivered']);
  });

  test('are shown on our own messages only', () => {
    const t = new Transcript('agent');
    t.append(msg(1, 'visitor', 'a'), undefined);
    t.append(msg(2, 'agent', 'b'), undefined);
    expect(texts(t.rows([], 'A2', true)).map((r) => r.tick)).toEqual([undefined, undefined]);
    expect(texts(t.rows([], 'A1', true)).map((r) => r.tick)).toEqual([undefined, 'sent']);
  });
});

describe('rows', () => {
  test('a new day and a new author are marked', () => {
    const t = new Transcript('agent');
    t.append(msg(1, 'visitor', 'a', NOON), undefined);
    t.append(msg(2, 'visitor', 'b', NOON + 60_000), undefined);
    t.append(msg(3, 'agent', 'c', NOON + 61_000), undefined);
    t.append(msg(4, 'agent', 'd', NOON + DAY), undefined);
    const rows = t.rows([], 'A1', true);
    expect(rows.map((r) => r.kind)).toEqual(['day', 'text', 'text', 'text', 'day', 'text']);
    expect(texts(rows).map((r) => r.first)).toEqual([true, false, true, true]);
  });

  test('time and tick are said once for a run of messages that share them', () => {
    const t = new Transcript('visitor');
    t.append(msg(1, 'visitor', 'a', NOON), undefined);
    t.append(msg(2, 'visitor', 'b', NOON + 1), undefined);
    t.append(msg(3, 'visitor', 'c', NOON + 60_000), undefined);
    expect(texts(t.rows([], 'V1', true)).map((r) => r.quiet)).toEqual([true, false, false]);
    t.receipt('seen', 'agent', 1);
    expect(texts(t.rows([], 'V1', true)).map((r) => r.quiet)).toEqual([false, false, false]);
  });

  test('an event without a word for it takes no row', () => {
    const t = new Transcript('agent');
    t.append({ op: 'rated', c: 'C', s: 1, d: { ts: NOON } } as never, undefined);
    expect(t.rows([], 'A1', true).map((r) => r.kind)).toEqual(['day']);
  });

  test('lost history is marked at its place, once', () => {
    const t = new Transcript('visitor');
    t.append(msg(1, 'agent', 'a'), undefined);
    t.lost(2, 4);
    t.lost(2, 4);
    t.append(msg(5, 'agent', 'b'), undefined);
    expect(t.rows([], 'V1', true).map((r) => r.kind)).toEqual(['day', 'text', 'lost', 'text']);
  });

  test('older ones are asked for below what is known to be gone, which is shown where it was', () => {
    const t = new Transcript('visitor');
    t.append(msg(9, 'agent', 'i'), undefined);
    t.prepend({ events: [msg(5, 'agent', 'e')], lost: [{ from: 6, to: 8, reason: 'damaged' }], more: true });
    expect(t.first).toBe(5);
    t.prepend({ events: [], lost: [{ from: 2, to: 4, reason: 'damaged' }], more: true });
    expect(t.first).toBe(2);
    const keys = t.rows([], undefined, true).map((row) => row.key);
    expect(keys.indexOf('lost2')).toBeLessThan(keys.indexOf('s5'));
    expect(keys.indexOf('s5')).toBeLessThan(keys.indexOf('lost6'));
    expect(keys.indexOf('lost6')).toBeLessThan(keys.indexOf('s9'));
  });

  test('history is put before what is shown, without doubles', () => {
    const t = new Transcript('visitor');
    t.reset(4);
    t.append(msg(4, 'agent', 'd'), undefined);
    expect(t.rows([], 'V1', true)[0]?.kind).toBe('older');
    t.prepend({ events: [msg(3, 'agent', 'c'), msg(4, 'agent', 'd')], lost: [], more: false });
    expect(texts(t.rows([], 'V1', true)).map((r) => r.s)).toEqual([3, 4]);
    expect(t.rows([], 'V1', true)[0]?.kind).toBe('day');
  });

  test('after a reset only what is still unanswered is kept', () => {
    const t = new Transcript('visitor');
    t.append(msg(1, 'agent', 'a'), undefined);
    t.settle(item('X', 'hi'), 2, NOON);
    t.reset(600);
    expect(texts(t.rows([item('Y', 'yo')], 'V1', true)).map((r) => r.cid)).toEqual(['Y']);
  });
});

test('what is told again does not change how things stand', () => {
  const t = new Transcript('agent');
  const status = (s: number, is: 'closed' | 'waiting'): Numbered => ({
    op: 'status',
    c: 'C',
    s,
    d: { status: is, by: { kind: 'visitor', id: 'V1' }, ts: NOON },
  });
  t.sync({ from: 1, head: 3, status: 'open' });
  t.append(status(1, 'closed'), undefined);
  t.append(status(2, 'waiting'), undefined);
  t.append(msg(3, 'visitor', 'a'), undefined);
  expect(t.status).toBe('open');
  t.append(status(4, 'closed'), undefined);
  expect(t.status).toBe('closed');
});

test('unread counts what the other side said above what was seen', () => {
  const t = new Transcript('agent');
  t.append(msg(1, 'visitor', 'a'), undefined);
  t.append(msg(2, 'agent', 'b'), undefined);
  t.append(msg(3, 'visitor', 'c'), undefined);
  t.append(msg(4, 'visitor', 'd'), undefined);
  expect(t.unread()).toBe(3);
  t.receipt('seen', 'agent', 3);
  expect(t.unread()).toBe(1);
  expect(t.lastOfOthers).toBe(4);
});
