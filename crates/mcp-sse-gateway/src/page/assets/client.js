// JSON-RPC, as MCP speaks it: requests that wait for their answers, with progress and cancelling, and what the server asks.

const MAX_PENDING = 256;

/** The server's answer was an error. */
export class ServerError extends Error {
  constructor({ code, message, data } = {}) {
    super(typeof message === 'string' ? message : 'The server gave no message.');
    Object.assign(this, { code, data });
  }
}

export class Cancelled extends Error {}

export class Client {
  #nextId = 1;
  #pending = new Map();
  /** The methods of what the server asked and has no answer yet, by id. */
  #asked = new Map();

  /**
   * `send(text)` posts a message. `onRequest({ id, method, params })` has to lead to one call of `respond` or `refuse`;
   * `onWire({ out, text, message, of })` sees every message, with `of`, the request that one answers.
   */
  constructor({ send, onNotification, onRequest, onWire }) {
    Object.assign(this, { send, onNotification, onRequest, onWire });
  }

  /** Resolves to `{ result, size }`, the size being the characters of the answer. */
  async request(method, params, { onProgress, signal } = {}) {
    if (this.#pending.size >= MAX_PENDING) throw new Error(`${MAX_PENDING} requests are waiting for answers already.`);
    signal?.throwIfAborted();
    const id = this.#nextId++;
    const answer = new Promise((resolve, reject) => this.#pending.set(id, { method, resolve, reject, onProgress }));
    const cancel = () => {
      const reason = signal.reason instanceof Cancelled ? signal.reason.message : 'The visitor cancelled it';
      this.#settle(id)?.reject(new Cancelled('Cancelled.'));
      this.notify('notifications/cancelled', { requestId: id, reason }).catch(() => {});
    };
    signal?.addEventListener('abort', cancel, { once: true });
    const meta = onProgress && { _meta: { progressToken: id } };
    this.#post({ id, method, params: { ...params, ...meta } }).catch(error => this.#settle(id)?.reject(error));
    try {
      return await answer;
    } finally {
      signal?.removeEventListener('abort', cancel);
    }
  }

  notify(method, params) {
    return this.#post({ method, ...(params && { params }) });
  }

  respond(id, result) {
    return this.#post({ id, result });
  }

  refuse(id, code, message) {
    return this.#post({ id, error: { code, message } });
  }

  #post(message) {
    const text = JSON.stringify({ jsonrpc: '2.0', ...message });
    const of = message.method === undefined ? this.#asked.get(message.id) : undefined;
    if (of !== undefined) this.#asked.delete(message.id);
    this.onWire({ out: true, text, message, of });
    return this.send(text);
  }

  #settle(id) {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    return pending;
  }

  /** Takes what the stream brought. */
  receive(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      this.onWire({ out: false, text, message: undefined });
      return;
    }
    // Revision 2025-03-26 has batches.
    if (Array.isArray(message)) {
      this.onWire({ out: false, text, message });
      for (const part of message) this.#take(part, text.length);
    } else {
      const isAnswer = message !== null && typeof message === 'object' && message.method === undefined;
      this.onWire({ out: false, text, message, of: isAnswer ? this.#pending.get(message.id)?.method : undefined });
      this.#take(message, text.length);
    }
  }

  #take(message, size) {
    if (message === null || typeof message !== 'object') return;
    const { id, method, params, result, error } = message;
    if (typeof method === 'string' && id !== undefined && id !== null) {
      if (this.#asked.size < MAX_PENDING) this.#asked.set(id, method);
      this.onRequest({ id, method, params: isObject(params) ? params : {} });
    } else if (typeof method === 'string') {
      const known = isObject(params) ? params : {};
      if (method === 'notifications/progress') this.#pending.get(known.progressToken)?.onProgress?.(known);
      this.onNotification(method, known);
    } else {
      const pending = this.#settle(id);
      if (error !== undefined) pending?.reject(new ServerError(isObject(error) ? error : {}));
      else pending?.resolve({ result: isObject(result) ? result : {}, size });
    }
  }

  /** Nothing will be answered any more. */
  end(error) {
    for (const id of [...this.#pending.keys()]) this.#settle(id).reject(error);
  }
}

export const isObject = value => value !== null && typeof value === 'object' && !Array.isArray(value);
