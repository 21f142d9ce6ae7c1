// The first view: who are you?

import type { Make } from '../shared/dom';
import { setKey } from '../shared/dom';
import type { I18n } from '../shared/i18n';
import { login, type AgentSession } from './session';

export class Login {
  readonly element: HTMLElement;
  readonly #i18n: I18n;
  readonly #email: HTMLInputElement;
  readonly #password: HTMLInputElement;
  readonly #button: HTMLButtonElement;
  readonly #error: HTMLElement;

  constructor(make: Make, i18n: I18n, languageButton: HTMLElement, done: (session: AgentSession) => void) {
    this.#i18n = i18n;
    this.#email = make('input', {
      attrs: { type: 'email', name: 'email', autocomplete: 'username', required: '', id: 'email' },
    });
    this.#password = make('input', {
      attrs: { type: 'password', name: 'password', autocomplete: 'current-password', required: '', id: 'password' },
    });
    this.#button = make('button', { class: 'primary', t: 'agent.login', attrs: { type: 'submit' } });
    this.#error = make('p', { class: 'login-error', attrs: { role: 'alert', hidden: '' } });
    const form = make(
      'form',
      { class: 'login-form' },
      make('div', { class: 'login-head' }, make('h1', { t: 'agent.loginTitle' }), languageButton),
      make('label', { t: 'agent.email', attrs: { for: 'email' } }),
      this.#email,
      make('label', { t: 'agent.password', attrs: { for: 'password' } }),
      this.#password,
      this.#error,
      this.#button,
    );
    this.element = make('main', { class: 'login', attrs: { hidden: '' } }, form);
    form.addEventListener('submit', (ev) => {
      ev.preventDefault();
      void this.#submit(done);
    });
  }

  /** `expired`: the person was logged in, and is not any more. */
  show(expired: boolean): void {
    const was = this.element.hidden;
    this.element.hidden = false;
    this.#error.hidden = !expired;
    if (expired) setKey(this.#error, 't', 'agent.expired', this.#i18n);
    if (was) (this.#email.value === '' ? this.#email : this.#password).focus();
  }

  hide(): void {
    this.element.hidden = true;
  }

  async #submit(done: (session: AgentSession) => void): Promise<void> {
    if (this.#button.disabled) return;
    this.#button.disabled = true;
    setKey(this.#button, 't', 'agent.loginBusy', this.#i18n);
    const answer = await login(this.#email.value.trim(), this.#password.value);
    this.#button.disabled = false;
    setKey(this.#button, 't', 'agent.login', this.#i18n);
    if (typeof answer === 'string') {
      setKey(this.#error, 't', `agent.${answer}`, this.#i18n);
      this.#error.hidden = false;
      this.#password.select();
      return;
    }
    this.#password.value = '';
    this.#error.hidden = true;
    done(answer);
  }
}
