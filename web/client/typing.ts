// "Is typing" in both directions: said seldom, believed briefly.

import { Alarm } from './alarm';
import type { Link } from './link';
import type { Person } from './protocol';

const SAY_EVERY_MS = 3_000;
const SILENT_AFTER_MS = 5_000;
const BELIEVE_MS = 8_000;

interface Who {
  kind: Person['kind'];
  id: string;
}

export class Typing {
  readonly #link: Link;
  readonly #said = new Map<string, { at: number; pressedAt: number; quiet: Alarm }>();
  readonly #heard = new Map<string, Alarm>();

  constructor(link: Link) {
    this.#link = link;
  }

  pressed(c: string): void {
    if (!this.#link.isReady) return;
    const now = this.#link.env.clock.now();
    const said = this.#said.get(c);
    if (said) {
      said.pressedAt = now;
      if (now - said.at < SAY_EVERY_MS) return;
      said.at = now;
    } else {
      const quiet = new Alarm(this.#link.env.clock, () => {
        this.#perhapsQuiet(c);
      });
      quiet.within(SILENT_AFTER_MS);
      this.#said.set(c, { at: now, pressedAt: now, quiet });
    }
    this.#link.post('typing', { c, on: true });
  }

  ended(c: string): void {
    const said = this.#said.get(c);
    if (!said) return;
    said.quiet.stop();
    this.#said.delete(c);
    if (this.#link.isReady) this.#link.post('typing', { c, on: false });
  }

  heard(c: string, who: Who, on: boolean): void {
    if (who.kind === this.#link.role && who.id === this.#link.me) return;
    const key = `${c} ${who.kind} ${who.id}`;
    this.#heard.get(key)?.stop();
    this.#heard.delete(key);
    if (on) {
      const doubt = new Alarm(this.#link.env.clock, () => {
        this.#heard.delete(key);
        this.#link.emit('typing', { c, who, on: false });
      });
      doubt.within(BELIEVE_MS);
      this.#heard.set(key, doubt);
    }
    this.#link.emit('typing', { c, who, on });
  }

  disconnected(): void {
    for (const { quiet } of this.#said.values()) quiet.stop();
    this.#said.clear();
  }

  #perhapsQuiet(c: string): void {
    const said = this.#said.get(c);
    if (!said) return;
    const left = said.pressedAt + SILENT_AFTER_MS - this.#link.env.clock.now();
    if (left > 0) said.quiet.within(left);
    else this.ended(c);
  }
}
