// Making elements. Text goes in as text, whoever wrote it.

import type { Key } from './dictionary';
import type { I18n } from './i18n';

type Child = Node | string | null | undefined | false;

interface Props {
  class?: string;
  /** Text from the dictionary, followed when the language changes. */
  t?: Key;
  /** The same for the accessible name, and for the placeholder. */
  label?: Key;
  placeholder?: Key;
  on?: Partial<{ [K in keyof HTMLElementEventMap]: (ev: HTMLElementEventMap[K]) => void }>;
  attrs?: Record<string, string>;
}

export type Make = <K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props?: Props,
  ...children: Child[]
) => HTMLElementTagNameMap[K];

export const maker =
  (i18n: I18n): Make =>
  (tag, props = {}, ...children) => {
    const node = document.createElement(tag);
    if (props.class !== undefined) node.className = props.class;
    for (const [name, value] of Object.entries(props.attrs ?? {})) node.setAttribute(name, value);
    for (const [type, fn] of Object.entries(props.on ?? {})) node.addEventListener(type, fn as EventListener);
    if (props.t !== undefined) node.dataset.t = props.t;
    if (props.label !== undefined) node.dataset.tLabel = props.label;
    if (props.placeholder !== undefined) node.dataset.tPlaceholder = props.placeholder;
    translate(node, i18n);
    for (const child of children) if (child !== null && child !== undefined && child !== false) node.append(child);
    return node;
  };

const translate = (node: HTMLElement, i18n: I18n): void => {
  const { t, tLabel, tPlaceholder } = node.dataset;
  if (t !== undefined) node.textContent = i18n.t(t as Key);
  if (tLabel !== undefined) {
    node.setAttribute('aria-label', i18n.t(tLabel as Key));
    node.title = i18n.t(tLabel as Key);
  }
  if (tPlaceholder !== undefined) node.setAttribute('placeholder', i18n.t(tPlaceholder as Key));
};

/** Changes which words an element has. */
export const setKey = (node: HTMLElement, kind: 't' | 'tLabel' | 'tPlaceholder', key: Key, i18n: I18n): void => {
  if (node.dataset[kind] === key) return;
  node.dataset[kind] = key;
  translate(node, i18n);
};

/** All words of the page in the present language. */
export const translateAll = (i18n: I18n): void => {
  document.documentElement.lang = i18n.lang;
  for (const node of document.querySelectorAll<HTMLElement>('[data-t],[data-t-label],[data-t-placeholder]')) {
    translate(node, i18n);
  }
};

const ICONS = {
  clock: ['M8 4v4l2.6 1.6', 'M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8Z'],
  sent: ['M3 8.5 6.2 12 13 4.5'],
  double: ['M1 8.5 4.2 12 11 4.5', 'M7.6 11 8.7 12 15.2 4.5'],
  failed: ['M8 4.5v4.2', 'M8 11.4v.1', 'M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8Z'],
  send: ['M2.5 8 13.5 2.8 9.8 13.6 7.6 8.9 2.5 8Z', 'M7.6 8.9 13.5 2.8'],
  back: ['M10 3 5 8l5 5'],
  close: ['M4 4l8 8', 'M12 4l-8 8'],
  down: ['M8 3v10', 'M3.8 8.8 8 13l4.2-4.2'],
  note: ['M3 2.5h10v7.6l-3.4 3.4H3Z', 'M13 10.1H9.6v3.4', 'M5.4 5.6h5.2', 'M5.4 8.2h3'],
  bell: ['M4 11.5V7a4 4 0 0 1 8 0v4.5l1 1H3Z', 'M6.8 14h2.4'],
} as const;

export type Icon = keyof typeof ICONS;

const SVG = 'http://www.w3.org/2000/svg';

export const icon = (name: Icon): SVGSVGElement => {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('aria-hidden', 'true');
  svg.setAttribute('class', `icon icon-${name}`);
  for (const d of ICONS[name]) {
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('d', d);
    svg.append(path);
  }
  return svg;
};
