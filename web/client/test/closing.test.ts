import { describe, expect, test } from 'vitest';
import { afterClose, backoffMs } from '../closing';

describe('every close code of the table', () => {
  const table: [number, string, ReturnType<typeof afterClose>][] = [
    [1000, '', { do: 'backoff' }],
    [1001, '', { do: 'backoff' }],
    [1002, '', { do: 'backoff' }],
    [1003, '', { do: 'backoff' }],
    [1006, '', { do: 'backoff' }],
    [1007, '', { do: 'backoff' }],
    [1009, '', { do: 'backoff' }],
    [1011, '', { do: 'backoff' }],
    [4000, 'slot=17', { do: 'now', slot: 17 }],
    [4000, 'slot=4095', { do: 'now', slot: 4095 }],
    [4000, 'slot=4096', { do: 'now', slot: undefined }],
    [4000, 'nonsense', { do: 'now', slot: undefined }],
    [4099, '', { do: 'now', slot: undefined }],
    [4100, '', { do: 'backoff' }],
    [4101, '', { do: 'backoff' }],
    [4110, '', { do: 'backoff' }],
    [4111, '', { do: 'backoff' }],
    [4199, '', { do: 'backoff' }],
    [4200, '', { do: 'auth', dropToken: false }],
    [4201, '', { do: 'auth', dropToken: true }],
    [4202, '', { do: 'auth', dropToken: true }],
    [4300, '', { do: 'stop' }],
    [4301, '', { do: 'stop' }],
    [4399, '', { do: 'stop' }],
  ];
  test.each(table)('%i %s', (code, reason, what) => {
    expect(afterClose(code, reason, undefined)).toEqual(what);
  });

  test('after goaway the server is given the time it asked for', () => {
    expect(afterClose(1001, '', 1_500)).toEqual({ do: 'after', ms: 1_500 });
    expect(afterClose(1006, '', 1_500)).toEqual({ do: 'after', ms: 1_500 });
    expect(afterClose(4300, '', 1_500)).toEqual({ do: 'stop' });
  });
});

test('back-off is full jitter between 0.5 s and a ceiling that doubles to 20 s', () => {
  expect(backoffMs(0, () => 0)).toBe(500);
  expect(backoffMs(0, () => 0.5)).toBe(750);
  expect(backoffMs(3, () => 1)).toBe(8_000);
  expect(backoffMs(4, () => 1)).toBe(16_000);
  for (const attempt of [5, 6, 60, 6_000]) {
    expect(backoffMs(attempt, () => 0)).toBe(500);
    expect(backoffMs(attempt, () => 1)).toBe(20_000);
  }
});
