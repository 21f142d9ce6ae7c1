// Section 7: what a close code asks of the client. Pure, so the whole table is one test.

export type AfterClose =
  | { do: 'now'; slot: number | undefined }
  | { do: 'backoff' }
  | { do: 'after'; ms: number }
  | { do: 'auth'; dropToken: boolean }
  | { do: 'stop' };

const SLOTS = 4096;

const slotIn = (reason: string): number | undefined => {
  const found = /^slot=(\d{1,4})$/.exec(reason.trim())?.[1];
  const slot = found === undefined ? NaN : Number(found);
  return slot < SLOTS ? slot : undefined;
};

/** `goawayMs` is what the last `goaway` on this socket said, if there was one. */
export const afterClose = (code: number, reason: string, goawayMs: number | undefined): AfterClose => {
  if (code >= 4000 && code <= 4099) return { do: 'now', slot: slotIn(reason) };
  if (code >= 4100 && code <= 4199) return { do: 'backoff' };
  // 4200 only says that `auth` came too late; the token itself was not refused.
  if (code >= 4200 && code <= 4299) return { do: 'auth', dropToken: code !== 4200 };
  if (code >= 4300 && code <= 4399) return { do: 'stop' };
  if (goawayMs !== undefined) return { do: 'after', ms: goawayMs };
  return { do: 'backoff' };
};

export const BACKOFF_MIN_MS = 500;
export const BACKOFF_MAX_MS = 20_000;

/** Full jitter: uniform between 0.5 s and a ceiling that doubles with every failed attempt up to 20 s. */
export const backoffMs = (attempt: number, random: () => number): number => {
  const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** Math.min(attempt + 1, 10));
  return BACKOFF_MIN_MS + random() * (ceiling - BACKOFF_MIN_MS);
};
