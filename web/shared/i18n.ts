// The language of the page: the browser's, unless the person chose.

import type { Store } from '../client';
import { DICTIONARY, type Key, type Lang } from './dictionary';

const KEY = 'ringdesk.lang';

export type Params = Record<string, string | number>;

export class I18n {
  #lang: Lang;
  readonly #store: Store;
  readonly #listeners = new Set<() => void>();

  constructor(store: Store, browser: readonly string[]) {
    this.#store = store;
    const chosen = store.get(KEY);
    this.#lang = chosen === 'en' || chosen === 'zh-CN' ? chosen : pick(browser);
  }

  get lang(): Lang {
    return this.#lang;
  }

  t = (key: Key, params?: Params): string => {
    const text = DICTIONARY[this.#lang][key];
    return params ? text.replace(/\{(\w+)\}/g, (whole, name: string) => String(params[name] ?? whole)) : text;
  };

  onChange(fn: () => void): void {
    this.#listeners.add(fn);
  }

  toggle(): void {
    this.#lang = this.#lang === 'en' ? 'zh-CN' : 'en';
    this.#store.set(KEY, this.#lang);
    for (const fn of this.#listeners) fn();
  }

  time(ts: number): string {
    return new Intl.DateTimeFormat(this.#lang, { hour: '2-digit', minute: '2-digit' }).format(ts);
  }

  day(ts: number, now: number): string {
    const days = dayNumber(now) - dayNumber(ts);
    if (days === 0) return this.t('log.today');
    if (days === 1) return this.t('log.yesterday');
    return new Intl.DateTimeFormat(this.#lang, { dateStyle: 'long' }).format(ts);
  }

  ago(ms: number): string {
    const minutes = Math.floor(ms / 60_000);
    if (minutes < 1) return this.t('ago.now');
    if (minutes < 60) return this.t('ago.min', { n: minutes });
    const hours = Math.floor(minutes / 60);
    return hours < 24 ? this.t('ago.hour', { n: hours }) : this.t('ago.day', { n: Math.floor(hours / 24) });
  }
}

/** Days since 1970 by the calendar of this machine. */
export const dayNumber = (ts: number): number => {
  const d = new Date(ts);
  return Math.floor(Date.UTC(d.getFullYear(), d.getMonth(), d.getDate()) / 86_400_000);
};

const pick = (browser: readonly string[]): Lang => {
  for (const tag of browser) {
    if (/^zh\b/i.test(tag)) return 'zh-CN';
    if (/^en\b/i.test(tag)) return 'en';
  }
  return 'en';
};
