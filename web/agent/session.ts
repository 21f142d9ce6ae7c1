// Logging in, and what of it stays for the life of the tab.

import type { Store } from '../client';

const KEY = 'ringdesk.agent.session';

export interface AgentSession {
  ticket: string;
  agent: { id: string; name: string };
}

export type LoginFailure = 'wrong' | 'tooOften' | 'unreachable';

export const login = async (email: string, password: string): Promise<AgentSession | LoginFailure> => {
  try {
    const response = await fetch('/api/v1/auth/login', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ email, password }),
      credentials: 'omit',
      cache: 'no-store',
    });
    if (response.ok) return (await response.json()) as AgentSession;
    if (response.status === 429) return 'tooOften';
    return response.status >= 400 && response.status < 500 ? 'wrong' : 'unreachable';
  } catch {
    return 'unreachable';
  }
};

export const keepSession = (store: Store, session: AgentSession | null): void => {
  if (session) store.set(KEY, JSON.stringify(session));
  else store.remove(KEY);
};

export const keptSession = (store: Store): AgentSession | null => {
  try {
    const session = JSON.parse(store.get(KEY) ?? 'null') as Partial<AgentSession> | null;
    return typeof session?.ticket === 'string' ? (session as AgentSession) : null;
  } catch {
    return null;
  }
};
