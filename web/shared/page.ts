// What both pages start with.

import { webStore } from '../client';
import { maker, translateAll, type Make } from './dom';
import { I18n } from './i18n';

export const profileStore = webStore(() => window.localStorage);
export const tabStore = webStore(() => window.sessionStorage);

export const socketBase = (): string =>
  `${location.protocol === 'https:' ? 'wss:' : 'ws:'}//${location.host}`;

export interface Page {
  i18n: I18n;
  make: Make;
  languageButton: () => HTMLButtonElement;
}

export const startPage = (): Page => {
  const i18n = new I18n(profileStore, navigator.languages);
  const make = maker(i18n);
  document.documentElement.lang = i18n.lang;
  i18n.onChange(() => {
    translateAll(i18n);
  });
  return {
    i18n,
    make,
    languageButton: () => {
      const button = make('button', {
        class: 'quiet language',
        t: 'lang.other',
        attrs: { type: 'button' },
        on: {
          click: () => {
            i18n.toggle();
          },
        },
      });
      return button;
    },
  };
};
