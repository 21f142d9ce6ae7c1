// What this side said and nobody has confirmed yet. An item keeps its `cid` until it is answered: across reconnects,
// and, with a lasting store, across page loads.

import type { Store } from './env';
import type { WireError } from './protocol';

export type DurableOp = 'send' | 'note' | 'accept' | 'close';

export interface OutboxItem {
  readonly cid: string;
  readonly op: DurableOp;
  /** The conversation; null while the visitor has none. */
  c: string | null;
  readonly body?: string;
  readonly offer?: number;
  /** Place in the order of saying. */
  n: number;
  /** Set when a `send` went out as `start`: it stays one, with the same words, until it is answered. */
  start?: { cid: string; name?: string; page?: string; locale?: string };
  /** It has been sent at least once, when this many events had been shown: its own number must be higher. */
  after?: number;
  /** Refused for good; waits for the person to try again or give up. */
  error?: WireError;
}

/** Items of one lane go out one at a time, so a refusal that asks to wait cannot change their order. */
export const laneOf = (item: OutboxItem, oneLane: boolean): string => (oneLane ? '' : (item.c ?? ''));

export class Outbox {
  readonly #store: Store;
  readonly #prefix: string;
  #items: OutboxItem[] = [];
  #n = 0;

  constructor(store: Store, prefix: string) {
    this.#store = store;
    this.#prefix = prefix;
    for (const key of store.keys()) {
      if (!key.startsWith(prefix)) continue;
      const item = readItem(store.get(key));
      if (item) this.#items.push(item);
      else store.remove(key);
    }
    this.#items.sort((a, b) => a.n - b.n);
    this.#n = this.#items.at(-1)?.n ?? 0;
  }

  get items(): readonly OutboxItem[] {
    return this.#items;
  }

  find(cid: string): OutboxItem | undefined {
    return this.#items.find((item) => item.cid === cid);
  }

  add(item: Omit<OutboxItem, 'n'>): OutboxItem {
    const added = { ...item, n: ++this.#n };
    this.#items.push(added);
    this.save(added);
    return added;
  }

  /** After a person's "try again": last in the order, as it is said anew. */
  requeue(item: OutboxItem): void {
    delete item.error;
    item.n = ++this.#n;
    this.#items.sort((a, b) => a.n - b.n);
    this.save(item);
  }

  save(item: OutboxItem): void {
    this.#store.set(this.#prefix + item.cid, JSON.stringify(item));
  }

  remove(item: OutboxItem): void {
    this.#items = this.#items.filter((other) => other !== item);
    this.#store.remove(this.#prefix + item.cid);
  }

  clear(): void {
    for (const item of [...this.#items]) this.remove(item);
  }
}

const OPS: ReadonlySet<string> = new Set<DurableOp>(['send', 'note', 'accept', 'close']);

const readItem = (json: string | null): OutboxItem | undefined => {
  try {
    const item = JSON.parse(json ?? '') as Partial<OutboxItem> | null;
    if (item && typeof item.cid === 'string' && typeof item.n === 'number' && OPS.has(item.op ?? '')) {
      return item as OutboxItem;
    }
  } catch {
    // Not ours, or half written: it cannot be sent.
  }
  return undefined;
};
