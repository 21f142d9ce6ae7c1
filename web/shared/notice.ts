import { icon, type Make } from './dom';

/** An administrator's word to everybody; stays until it is put away or another one comes. */
export class Notice {
  readonly element: HTMLElement;
  readonly #text: HTMLElement;

  constructor(make: Make) {
    this.#text = make('span', { class: 'notice-text', attrs: { dir: 'auto' } });
    const dismiss = make('button', { class: 'quiet', attrs: { type: 'button' }, label: 'notice.dismiss' }, icon('close'));
    this.element = make('div', { class: 'notice', attrs: { role: 'status', hidden: '' } }, icon('bell'), this.#text, dismiss);
    dismiss.addEventListener('click', () => {
      this.element.hidden = true;
    });
  }

  show(text: string): void {
    this.#text.textContent = text;
    this.element.hidden = text === '';
  }
}
