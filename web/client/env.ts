// Everything the client takes from the world, so that a test can give it another one.

/** The part of a WebSocket that is used. Handlers are set once, right after `open`. */
export interface Socket {
  send(data: string): void;
  close(code?: number, reason?: string): void;
  onopen: (() => void) | null;
  onmessage: ((ev: { data: unknown }) => void) | null;
  onclose: ((ev: { code: number; reason: string }) => void) | null;
}

export type OpenSocket = (url: string, protocol: string) => Socket;

export interface Clock {
  /** Milliseconds that never go back. */
  now(): number;
  setTimeout(fn: () => void, ms: number): number;
  clearTimeout(id: number): void;
}

/** Where things stay between page loads. Never throws. */
export interface Store {
  get(key: string): string | null;
  set(key: string, value: string): void;
  remove(key: string): void;
  keys(): string[];
}

export interface Env {
  open: OpenSocket;
  clock: Clock;
  /** Uniform in [0, 1). */
  random(): number;
  /** `n` random bytes as 2n lower-case hex characters. */
  randomHex(n: number): string;
  /** Profile-wide: device, token, slot. */
  store: Store;
  /** Where what is not yet acknowledged waits. */
  outbox: Store;
}

/** Keeps things for the life of the page only. */
export const memoryStore = (): Store => {
  const map = new Map<string, string>();
  return {
    get: (key) => map.get(key) ?? null,
    set: (key, value) => void map.set(key, value),
    remove: (key) => void map.delete(key),
    keys: () => [...map.keys()],
  };
};

/**
 * Local or session storage. Where it is forbidden or full the value is kept in memory instead: the page still works,
 * it only forgets at the next load.
 */
export const webStore = (pick: () => Storage): Store => {
  const spare = memoryStore();
  const attempt = <T>(fn: (s: Storage) => T, otherwise: T): T => {
    try {
      return fn(pick());
    } catch {
      return otherwise;
    }
  };
  return {
    get: (key) => spare.get(key) ?? attempt((s) => s.getItem(key), null),
    set: (key, value) => {
      const kept = attempt((s) => {
        s.setItem(key, value);
        return true;
      }, false);
      if (kept) spare.remove(key);
      else spare.set(key, value);
    },
    remove: (key) => {
      spare.remove(key);
      attempt((s) => {
        s.removeItem(key);
      }, undefined);
    },
    keys: () => [
      ...new Set([...attempt((s) => Array.from({ length: s.length }, (_, i) => s.key(i) ?? ''), []), ...spare.keys()]),
    ],
  };
};

/** The world of a browser page. */
export const browserEnv = (stores: { store: Store; outbox: Store }): Env => ({
  open: (url, protocol) => new WebSocket(url, protocol) as unknown as Socket,
  clock: {
    now: () => performance.now(),
    setTimeout: (fn, ms) => window.setTimeout(fn, ms),
    clearTimeout: (id) => {
      window.clearTimeout(id);
    },
  },
  random: () => Math.random(),
  randomHex: (n) =>
    Array.from(crypto.getRandomValues(new Uint8Array(n)), (b) => b.toString(16).padStart(2, '0')).join(''),
  ...stores,
});
