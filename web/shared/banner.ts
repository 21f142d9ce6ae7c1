// One line about the connection, shown only when there is something to say.

import type { ClientState, RingdeskClient } from '../client';
import type { Make } from './dom';
import type { Key } from './dictionary';
import type { I18n } from './i18n';

/** Short drops pass without a word. */
const PATIENCE_MS = 1_000;

export class Banner {
  readonly element: HTMLElement;
  readonly #client: RingdeskClient;
  readonly #i18n: I18n;
  readonly #text: HTMLElement;
  readonly #button: HTMLButtonElement;
  #since = performance.now();
  #stopping = false;
  #timer = 0;

  constructor(make: Make, i18n: I18n, client: RingdeskClient) {
    this.#client = client;
    this.#i18n = i18n;
    this.#text = make('span');
    this.#button = make('button', { class: 'link', attrs: { type: 'button' } });
    this.element = make('div', { class: 'banner', attrs: { role: 'status', hidden: '' } }, this.#text, this.#button);
    this.#button.addEventListener('click', () => {
      if (client.state.phase === 'stopped') client.connect();
      else client.nudge();
    });
    let before: ClientState['phase'] = client.state.phase;
    client.on('state', ({ phase }) => {
      if (before === 'ready') this.#since = performance.now();
      if (phase === 'ready') this.#stopping = false;
      before = phase;
      this.show();
    });
    client.on('goaway', () => {
      this.#stopping = true;
      this.show();
    });
    for (const type of ['online', 'offline']) {
      window.addEventListener(type, () => {
        if (type === 'online') client.nudge();
        this.show();
      });
    }
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') client.nudge();
    });
    i18n.onChange(() => {
      this.show();
    });
    this.show();
  }

  show(): void {
    window.clearTimeout(this.#timer);
    const { state } = this.#client;
    const [text, button] = this.#words(state);
    if (text === undefined) {
      this.element.hidden = true;
      return;
    }
    const early = PATIENCE_MS - (performance.now() - this.#since);
    const again = (ms: number): void => {
      this.#timer = window.setTimeout(() => {
        this.show();
      }, ms);
    };
    if (state.phase !== 'stopped' && early > 0) {
      this.element.hidden = true;
      again(early);
      return;
    }
    this.element.hidden = false;
    this.element.dataset.phase = state.phase;
    if (this.#text.textContent !== text) this.#text.textContent = text;
    this.#button.hidden = button === undefined;
    if (button !== undefined) this.#button.textContent = this.#i18n.t(button);
    if (state.phase === 'waiting') again(500);
  }

  #words(state: ClientState): [string?, Key?] {
    const { t } = this.#i18n;
    switch (state.phase) {
      case 'idle':
      case 'login':
      case 'ready':
        return [];
      case 'stopped':
        return [t(state.code === 4301 ? 'net.replaced' : 'net.stopped'), 'net.useHere'];
      case 'connecting':
        if (!navigator.onLine) return [t('net.offline')];
        if (this.#stopping) return [t('net.stopping')];
        return [t(state.attempt === 0 ? 'net.connecting' : 'net.lost')];
      case 'waiting': {
        if (!navigator.onLine) return [t('net.offline')];
        if (this.#stopping) return [t('net.stopping')];
        const n = Math.max(1, Math.ceil((state.until - performance.now()) / 1_000));
        return n > 2 ? [t('net.retryIn', { n }), 'net.now'] : [t('net.lost')];
      }
    }
  }
}
