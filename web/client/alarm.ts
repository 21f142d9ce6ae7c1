import type { Clock } from './env';

/** One timer that can only be set earlier, until it rings or is stopped. */
export class Alarm {
  readonly #clock: Clock;
  readonly #ring: () => void;
  #timer: number | undefined;
  #at = Infinity;

  constructor(clock: Clock, ring: () => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  within(ms: number): void {
    const at = this.#clock.now() + ms;
    if (at >= this.#at) return;
    this.stop();
    this.#at = at;
    this.#timer = this.#clock.setTimeout(() => {
      this.stop();
      this.#ring();
    }, ms);
  }

  stop(): void {
    if (this.#timer !== undefined) this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#at = Infinity;
  }
}
