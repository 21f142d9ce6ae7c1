export { RingdeskClient, type ClientOptions } from './client';
export { RequestFailed } from './link';
export type { ClientEvents, ClientState } from './link';
export type { OutboxItem } from './outbox';
export { browserEnv, memoryStore, webStore, type Env, type Store } from './env';
export * from './protocol';
