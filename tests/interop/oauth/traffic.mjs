// A `fetch` for the SDKs that keeps a record of what was asked, and on which connections.

import { Agent, fetch, install } from 'undici';

// The SDKs look at errors only in responses of the global class.
install();

/** Longer than any silence here: connections stay until they are dropped. */
const KEEP_ALIVE_MS = 100_000;

export class Traffic {
  /** `{ method, url, status, onNewConnection, challenge }` per response, in the order that they came. */
  responses = [];
  #connections = 0;
  /** The last one is in use. */
  #agents = [this.#newAgent()];

  #newAgent() {
    const agent = new Agent({ keepAliveTimeout: KEEP_ALIVE_MS, keepAliveMaxTimeout: KEEP_ALIVE_MS, bodyTimeout: 0 });
    agent.on('connect', () => { this.#connections += 1; });
    return agent;
  }

  /** What is sent from now on goes over new connections; streams that are open stay open. */
  useNewConnections() {
    this.#agents.push(this.#newAgent());
  }

  /** All connections break, streams too. */
  async cut() {
    const agents = this.#agents;
    this.#agents = [this.#newAgent()];
    await Promise.all(agents.map(agent => agent.destroy(new Error('cut by the check'))));
  }

  /** Forgets what came so far. */
  clear() {
    this.responses.length = 0;
  }

  /** What came so far to requests of one kind. */
  to(method, path) {
    return this.responses.filter(response => response.method === method && response.url.pathname === path);
  }

  fetch = async (url, init) => {
    const before = this.#connections;
    const response = await fetch(url, { ...init, dispatcher: this.#agents.at(-1) });
    this.responses.push({
      method: init?.method ?? 'GET',
      url: new URL(url),
      status: response.status,
      onNewConnection: this.#connections > before,
      challenge: response.headers.get('www-authenticate'),
    });
    return response;
  };
}
