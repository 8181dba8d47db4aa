// The HTTP+SSE transport, on `fetch`, which can send a key where `EventSource` cannot.
//
// One GET opens the stream; its first event, `endpoint`, says where messages are posted. If the stream breaks, it is resumed
// once with `Last-Event-ID`; the session is over if that fails too.

import { createParser } from './vendor/eventsource-parser.js';

/** Characters of one event. The gateway's own bound is lower unless its operator raised it. */
const MAX_EVENT = 64 * 1024 * 1024;
const MAX_ERROR_TEXT = 20_000;
const POST_TIMEOUT_MS = 60_000;
const OPEN_TIMEOUT_MS = 60_000;
/** How long chunks are taken without letting the page do anything else. */
const SLICE_MS = 12;

/** A request that failed: by its status, or (status 0) without an answer. */
export class RequestFailure extends Error {
  constructor(what, status, statusText, text) {
    super(`${what}: ${status ? `${status} ${statusText}`.trim() : 'no answer'}${text ? ` – ${text}` : ''}`);
    Object.assign(this, { what, status, statusText, text });
  }
}

/** The text of an answer, which is worth reading, as far as it is not too long. */
async function textOf(response) {
  const reader = response.body?.getReader();
  if (!reader) return '';
  const decoder = new TextDecoder();
  let text = '';
  try {
    while (text.length < MAX_ERROR_TEXT) {
      const { value, done } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
    }
  } catch {
    // What came counts.
  }
  reader.cancel().catch(() => {});
  return text.slice(0, MAX_ERROR_TEXT).trim();
}

export function unreachable(what, error) {
  if (error instanceof RequestFailure) return error;
  const text = error.name === 'TimeoutError' ? 'There was no answer in time.'
    : `The gateway cannot be reached (${error.message}).`;
  return new RequestFailure(what, 0, '', text);
}

export async function failureOf(what, response) {
  if (response.type === 'opaqueredirect') {
    return new RequestFailure(what, 0, '',
      'The answer was a redirect, perhaps to a page to log in. Reload this page, and try again.');
  }
  return new RequestFailure(what, response.status, response.statusText, await textOf(response));
}

/** Lets the page work; unlike a timer, also at full speed in a tab that is hidden. */
function breathe() {
  return new Promise(resolve => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

export class SseStream {
  #abort = new AbortController();
  #endpoint;
  #lastEventId;
  #posts = Promise.resolve();
  #isOver = false;

  /**
   * `onMessage(text)` gets each message, `onEnd(failure)` is told once that the stream broke for good, not when `close` ended
   * it; `onNote(text)` what else happened.
   */
  constructor({ url, token, onMessage, onEnd, onNote }) {
    Object.assign(this, { url, token, onMessage, onEnd, onNote });
  }

  /** Resolves once it is known where to post. */
  async open() {
    const timer = setTimeout(() =>
      this.#abort.abort(new RequestFailure('Opening the stream', 0, '', 'There was nothing for a minute.')), OPEN_TIMEOUT_MS);
    try {
      const response = await this.#get();
      await new Promise((resolve, reject) => {
        this.#onEndpoint = resolve;
        this.#read(response).then(() =>
          reject(new RequestFailure('Opening the stream', 0, '', 'It ended before it said where to post messages.')), reject);
      });
      this.#onEndpoint = undefined;
      this.#isOpen = true;
    } catch (error) {
      this.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  #onEndpoint;
  #isOpen = false;

  get #headers() {
    return this.token ? { authorization: `Bearer ${this.token}` } : {};
  }

  async #get() {
    const what = this.#lastEventId === undefined ? 'Opening the stream' : 'Resuming the stream';
    const headers = { ...this.#headers, accept: 'text/event-stream' };
    if (this.#lastEventId !== undefined) headers['last-event-id'] = this.#lastEventId;
    const options = { headers, cache: 'no-store', redirect: 'manual', signal: this.#abort.signal };
    const response = await fetch(this.url, options).catch(error => {
      throw unreachable(what, error);
    });
    if (!response.ok) throw await failureOf(what, response);
    if (!/^text\/event-stream\b/i.test(response.headers.get('content-type') ?? '')) {
      this.#abort.abort();
      throw new RequestFailure(what, response.status, '',
        `The answer is not an event stream but ${response.headers.get('content-type') ?? 'of no type'}.`);
    }
    return response;
  }

  /** Reads until the end. The session is over then, unless it can be resumed. */
  async #read(response) {
    let ended = await this.#readOnce(response);
    while (!this.#isOver) {
      const failure = new RequestFailure('The stream ended', 0, '', ended);
      if (!this.#isOpen || this.#lastEventId === undefined) return this.#end(failure);
      this.onNote?.(`${ended} Resuming it.`);
      try {
        response = await this.#get();
        this.onNote?.('The stream goes on.');
      } catch (error) {
        return this.#end(error.status === 404 || error.status === 410
          ? new RequestFailure('The session is over', 0, '', `${ended} It cannot be resumed: ${error.status} ${error.text}`)
            : error);
      }
      const before = performance.now();
      ended = await this.#readOnce(response);
      // One that breaks at once would be resumed for ever.
      if (performance.now() - before < 1000) return this.#end(new RequestFailure('The stream ended again', 0, '', ended));
    }
  }

  #end(failure) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#abort.abort();
    if (this.#isOpen) this.onEnd(failure);
  }

  async #readOnce(response) {
    const decoder = new TextDecoder();
    const parser = createParser({
      maxBufferSize: MAX_EVENT,
      onEvent: ({ event, data }) => this.#event(event, data),
      onId: id => { this.#lastEventId = id || undefined; },
      onError: error => {
        if (error.type === 'max-buffer-size-exceeded') isTooLong = true;
      },
    });
    let isTooLong = false;
    const reader = response.body.getReader();
    let since = performance.now();
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return 'The gateway ended the stream.';
        parser.feed(decoder.decode(value, { stream: true }));
        if (isTooLong) {
          isTooLong = false;
          // The rest of that line is no field, so it is passed over up to the next event.
          parser.reset();
          this.onNote?.('An event of more than 64 MB was left out.');
        }
        if (performance.now() - since > SLICE_MS) {
          await breathe();
          since = performance.now();
        }
      }
    } catch (error) {
      return `The connection was lost (${error.message}).`;
    }
  }

  #event(type, data) {
    if (type === 'endpoint') this.#takeEndpoint(data);
    else if (type === undefined || type === 'message') this.onMessage(data);
    else this.onNote?.(`An event of the unknown type “${type.slice(0, 100)}” was left out.`);
  }

  #takeEndpoint(data) {
    const url = URL.canParse(data, this.url) ? new URL(data, this.url) : undefined;
    if (url?.origin !== new URL(this.url).origin) {
      this.onNote?.(`Messages are not posted to ${data.slice(0, 200)}, which is not of this origin.`);
      return;
    }
    this.#endpoint = url.href;
    this.#onEndpoint?.();
  }

  /** Posts a message after those before it. */
  post(text) {
    const mine = this.#posts.then(() => this.#post(text));
    this.#posts = mine.catch(() => {});
    return mine;
  }

  async #post(text) {
    if (this.#isOver) throw new RequestFailure('Posting the message', 0, '', 'The stream is closed.');
    const signal = AbortSignal.any([this.#abort.signal, AbortSignal.timeout(POST_TIMEOUT_MS)]);
    const headers = { ...this.#headers, 'content-type': 'application/json' };
    const options = { method: 'POST', headers, body: text, cache: 'no-store', redirect: 'manual', signal };
    const response = await fetch(this.#endpoint, options).catch(error => {
      throw unreachable('Posting the message', error);
    });
    if (!response.ok) throw await failureOf('Posting the message', response);
    response.body?.cancel().catch(() => {});
  }

  /** Ends the stream, and with it the session. */
  close() {
    this.#isOver = true;
    this.#abort.abort();
  }
}
