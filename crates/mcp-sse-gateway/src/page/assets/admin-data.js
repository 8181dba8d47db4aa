// What the admin page knows: it asks the gateway every two seconds, pauses in a hidden tab, and asks less often when it gets
// no answer.

import { Store } from './store.js';
import { failureOf, unreachable } from './stream.js';
import { tools } from './metrics.js';

const EVERY_MS = 2000;
const SLOWEST_MS = 30_000;
const METRICS_EVERY_MS = 10_000;
const TIMEOUT_MS = 15_000;
const MAX_METRICS = 8 * 1024 * 1024;
export const SPAN_MS = 5 * 60_000;

/** What the charts show; `of` gives a value of now, from two answers in a row. */
const SERIES = {
  calls: { of: (totals, before, seconds) => Math.max(0, totals.calls - before.calls) / seconds },
  errors: { of: (totals, before, seconds) => Math.max(0, totals.errors - before.errors) / seconds },
  bytes: { of: (totals, before, seconds) =>
    Math.max(0, totals.bytes_in + totals.bytes_out - before.bytes_in - before.bytes_out) / seconds },
};

export class AdminData extends Store {
  key;
  needsKey = false;
  status;
  sessions = [];
  sessionsTotal = 0;
  /** undefined before it is known, null where there are no metrics. */
  tools;
  failure;
  /** How many times in a row there was no answer. */
  failures = 0;
  isProbing = false;
  probeFailure;
  points = { calls: [], errors: [], bytes: [], sessions: [] };
  updated = 0;

  #base;
  #timer;
  #before;
  #calls = new Map();
  #metricsAt = -Infinity;
  #isAsking = false;
  /** What was closed here; ids are not used again. */
  #closed = new Set();

  constructor(base) {
    super();
    this.#base = base;
  }

  start() {
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.ask();
    });
    return this.ask();
  }

  giveKey(key) {
    this.key = key;
    this.#metricsAt = -Infinity;
    return this.ask();
  }

  async #fetch(path, options = {}) {
    const headers = this.key ? { authorization: `Bearer ${this.key}` } : {};
    return fetch(new URL(path, this.#base),
      { ...options, headers, cache: 'no-store', redirect: 'manual', signal: AbortSignal.timeout(options.timeout ?? TIMEOUT_MS) })
      .catch(error => { throw unreachable('Asking the gateway', error); });
  }

  async #json(path, options) {
    const response = await this.#fetch(path, options);
    if (response.status === 401) throw Object.assign(new Error('A key is needed'), { status: 401 });
    if (!response.ok) throw await failureOf('Asking the gateway', response);
    return response.json();
  }

  /** Asks once, and again after a while. */
  async ask() {
    if (this.#isAsking) return;
    clearTimeout(this.#timer);
    this.#isAsking = true;
    try {
      const [status, sessions] = await Promise.all([this.#json('./status'), this.#json('./sessions')]);
      this.#take(status, sessions);
      await this.#askMetrics();
      this.failure = undefined;
      this.failures = 0;
      this.needsKey = false;
    } catch (error) {
      this.needsKey = error.status === 401;
      this.failure = this.needsKey ? undefined : error;
      this.failures += 1;
      this.#before = undefined;
      this.#calls.clear();
    }
    this.#isAsking = false;
    this.changed();
    // A key that is missing does not come by itself.
    if (!this.needsKey && !document.hidden) this.#timer = setTimeout(() => this.ask(), this.pause);
  }

  get pause() {
    return Math.min(SLOWEST_MS, EVERY_MS * 2 ** Math.min(10, this.failures));
  }

  #take(status, { total, sessions }) {
    const now = performance.now();
    this.status = status;
    this.updated = now;
    const totals = status.totals ?? {};
    const seconds = this.#before && (now - this.#before.at) / 1000;
    // After a pause, and when the gateway was started anew, a rate would be of another time.
    const isFollowing = seconds > 0.2 && seconds < 15 && totals.calls >= this.#before.totals.calls
      && totals.bytes_in >= this.#before.totals.bytes_in;
    const count = (status.sessions?.sse ?? 0) + (status.sessions?.streamable_http ?? 0) + (status.sessions?.silent ?? 0);
    // There is a gap in the lines.
    if (!isFollowing) for (const points of Object.values(this.points)) points.push({ time: now, value: null });
    for (const [name, { of }] of Object.entries(SERIES)) {
      if (isFollowing) this.points[name].push({ time: now, value: of(totals, this.#before.totals, seconds) });
    }
    this.points.sessions.push({ time: now, value: count });
    for (const points of Object.values(this.points)) while (points.length
      && now - points[0].time > SPAN_MS + EVERY_MS) points.shift();
    this.#before = { at: now, totals };
    this.#takeSessions(Array.isArray(sessions) ? sessions : [], total, now);
  }

  /** Calls a minute are of what was added since the session was seen some seconds ago. */
  #takeSessions(sessions, total, now) {
    const calls = new Map();
    this.sessions = sessions.filter(({ id }) => !this.#closed.has(id)).map(session => {
      const seen = [...this.#calls.get(session.id) ?? [], { at: now, calls: session.calls }].filter(({ at }) =>
        now - at <= 15_000);
      calls.set(session.id, seen);
      const [first] = seen;
      const perMinute = seen.length > 1 ? (session.calls - first.calls) / (now - first.at) * 60_000
        : session.age_seconds > 0 ? session.calls / Math.max(session.age_seconds, 10) * 60 : 0;
      return { ...session, perMinute };
    });
    this.sessionsTotal = total;
    this.#calls = calls;
  }

  async #askMetrics() {
    // Metrics are turned on with a restart only.
    if (!this.status?.metrics) {
      this.tools = null;
      return;
    }
    if (performance.now() - this.#metricsAt < METRICS_EVERY_MS) return;
    const response = await this.#fetch('./metrics');
    this.#metricsAt = performance.now();
    if (response.status === 404) this.tools = null;
    else if (response.ok) {
      const text = await response.text();
      this.tools = text.length > MAX_METRICS ? this.tools : tools(text);
    }
    if (response.status !== 200) response.body?.cancel().catch(() => {});
  }

  /** Starts each server to see if it works. */
  async probe() {
    this.isProbing = true;
    this.changed();
    try {
      const status = await this.#json('./status?probe', { timeout: 180_000 });
      this.status = status;
      this.probeFailure = undefined;
    } catch (error) {
      this.probeFailure = error;
    }
    this.isProbing = false;
    this.changed();
    return this.probeFailure;
  }

  /** What to tell about closing a session. */
  async close(id) {
    const response = await this.#fetch(`./sessions/${encodeURIComponent(id)}`, { method: 'DELETE' });
    if (response.status === 401) {
      this.needsKey = true;
      this.changed();
    }
    if (!response.ok && response.status !== 404) throw await failureOf('Closing the session', response);
    response.body?.cancel().catch(() => {});
    // An answer that is on its way may still have it.
    this.#closed.add(id);
    this.sessions = this.sessions.filter(session => session.id !== id);
    this.changed();
    this.ask();
    return response.status === 404 ? 'The session was gone already' : 'The session is closed';
  }
}
