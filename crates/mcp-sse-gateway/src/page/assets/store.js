// Something that is looked at: it tells those who look that it has changed, once a frame at most, and less often when showing
// it takes long, so that a flood of changes leaves the page usable.

import { useEffect, useReducer } from './vendor/preact-hooks.js';

export class Store {
  #listeners = new Set();
  #waiting = false;
  #notBefore = 0;

  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  changed() {
    if (this.#waiting || !this.#listeners.size) return;
    this.#waiting = true;
    const wait = this.#notBefore - performance.now();
    if (wait > 0) setTimeout(() => requestAnimationFrame(() => this.#tell()), wait);
    else requestAnimationFrame(() => this.#tell());
  }

  #tell() {
    this.#waiting = false;
    const begun = performance.now();
    for (const listener of [...this.#listeners]) listener();
    // The new elements are there once what is scheduled now runs. Of the time, at most a quarter goes into showing.
    setTimeout(() => {
      const now = performance.now();
      this.#notBefore = now + Math.min(2000, 3 * (now - begun));
    });
  }
}

/** Shows the component again whenever `store` changes. */
export function useStore(store) {
  const [, again] = useReducer(n => n + 1, 0);
  useEffect(() => {
    // What changed between showing and looking.
    again();
    return store.subscribe(again);
  }, [store]);
  return store;
}
