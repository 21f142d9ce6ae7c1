// Where a person writes: Enter sends, Shift + Enter starts a new line, an input method's Enter does neither.

import { MAX_BODY_CHARS, charCount } from '../client';
import { icon, setKey, type Make } from './dom';
import type { Key } from './dictionary';
import type { I18n } from './i18n';

const WARN_BELOW = 500;

export interface ComposerActions {
  send(body: string): void;
  typing(): void;
  empty(): void;
}

export class Composer {
  readonly element: HTMLFormElement;
  readonly #i18n: I18n;
  readonly #text: HTMLTextAreaElement;
  readonly #send: HTMLButtonElement;
  readonly #sendLabel: HTMLElement;
  readonly #count: HTMLElement;
  readonly #actions: ComposerActions;

  constructor(make: Make, i18n: I18n, actions: ComposerActions, before: Node[] = []) {
    this.#i18n = i18n;
    this.#actions = actions;
    this.#text = make('textarea', {
      label: 'composer.message',
      placeholder: 'composer.write',
      attrs: { rows: '1', enterkeyhint: 'send', autocomplete: 'off', dir: 'auto' },
    });
    this.#text.removeAttribute('title');
    this.#sendLabel = make('span', { class: 'send-label', t: 'composer.send' });
    this.#send = make('button', { class: 'primary send', attrs: { type: 'submit' } }, icon('send'), this.#sendLabel);
    this.#count = make('span', { class: 'count', attrs: { role: 'status' } });
    const hint = make('span', { class: 'hint', t: 'composer.hint' });
    this.element = make(
      'form',
      { class: 'composer', attrs: { novalidate: '' } },
      ...before,
      make('div', { class: 'composer-line' }, this.#text, this.#send),
      make('div', { class: 'composer-foot' }, hint, this.#count),
    );
    this.element.addEventListener('submit', (ev) => {
      ev.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener('keydown', (ev) => {
      if (ev.key !== 'Enter' || ev.shiftKey || ev.isComposing) return;
      ev.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener('input', () => {
      this.#changed();
      if (this.#text.value.trim() === '') actions.empty();
      else actions.typing();
    });
    this.#changed();
  }

  get value(): string {
    return this.#text.value;
  }

  set value(text: string) {
    this.#text.value = text;
    this.#changed();
  }

  /** What the field and the button are for at the moment. */
  purpose(placeholder: Key, send: Key, label: Key): void {
    setKey(this.#text, 'tPlaceholder', placeholder, this.#i18n);
    setKey(this.#text, 'tLabel', label, this.#i18n);
    this.#text.removeAttribute('title');
    setKey(this.#sendLabel, 't', send, this.#i18n);
  }

  enable(on: boolean): void {
    this.#text.disabled = !on;
    this.#changed();
  }

  focus(): void {
    this.#text.focus({ preventScroll: true });
  }

  /** The counter speaks the language of the page. */
  translate(): void {
    this.#changed();
  }

  #submit(): void {
    const body = this.#text.value.trimEnd();
    if (this.#send.disabled || body.trim() === '') return;
    this.#text.value = '';
    this.#changed();
    this.#actions.empty();
    this.#actions.send(body);
    this.focus();
  }

  #changed(): void {
    const left = MAX_BODY_CHARS - charCount(this.#text.value.trimEnd());
    this.#send.disabled = this.#text.disabled || left < 0 || this.#text.value.trim() === '';
    this.#count.classList.toggle('over', left < 0);
    this.#count.textContent =
      left < 0
        ? this.#i18n.t('composer.over', { n: -left })
        : left <= WARN_BELOW
          ? this.#i18n.t('composer.left', { n: left })
          : '';
    this.#text.style.height = 'auto';
    // Off the page it has no height to measure.
    const height = this.#text.scrollHeight;
    if (height > 0) this.#text.style.height = `${height + 2}px`;
  }
}
