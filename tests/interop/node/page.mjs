// An MCP client whose transport is Chromium's own `EventSource`, in a page that does what browser clients do:
// it opens the stream, reads the `endpoint` event and posts with `fetch`. The page only passes events on; what
// they mean is decided here.
//
// A small reverse proxy serves the page and stands in front of the server, on one origin for both. It can
// cut the stream, and hold the reconnect back until something has happened on the server.

import { once } from 'node:events';
import http from 'node:http';
import { chromium } from 'playwright-core';
import { Queue, SECRET } from './lib.mjs';

let browser;

export async function launch() {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  });
}

export const browserName = () => `chromium-eventsource ${browser?.version() ?? '(did not start)'}`;

/** Serves the page at `/`, forwards the rest, and has power over the one stream that passes through. */
class PageProxy {
  reconnects = new Queue();
  #stream;
  #held;
  #pattern;

  static async start(url) {
    const proxy = new PageProxy();
    const target = new URL(url);
    const server = http.createServer((request, response) => {
      if (request.url === '/') {
        response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>interop</title>');
      } else {
        proxy.#forward(target, request, response);
      }
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    proxy.origin = `http://127.0.0.1:${server.address().port}`;
    return proxy;
  }

  async #forward(target, request, response) {
    const isStream = request.url === target.pathname;
    if (isStream && this.#held) {
      this.reconnects.push(request.headers['last-event-id']);
      await this.#held;
    }
    const { method, url: path } = request;
    const headers = { ...request.headers, host: target.host };
    const upstream = http.request({ host: target.hostname, port: target.port, path, method, headers });
    request.pipe(upstream);
    response.on('close', () => upstream.destroy());
    upstream.on('error', () => response.destroy());
    upstream.on('response', incoming => {
      response.writeHead(incoming.statusCode, incoming.headers).flushHeaders();
      // What breaks there breaks here.
      incoming.on('error', () => response.destroy());
      if (isStream) {
        this.#stream = response;
        incoming.on('data', chunk => this.#pass(incoming, response, chunk)).on('end', () => response.end());
      } else {
        incoming.pipe(response);
      }
    });
  }

  #pass(incoming, response, chunk) {
    const at = this.#pattern ? chunk.toString('latin1').search(this.#pattern) : -1;
    if (at < 0) {
      response.write(chunk);
    } else {
      this.#pattern = undefined;
      // Nothing may follow the half event: the cut comes only once that half is written.
      incoming.pause();
      response.write(chunk.subarray(0, at), () => this.cut());
    }
  }

  /** Breaks the stream, and holds the reconnect until `release`. */
  cut() {
    this.#held = new Promise(resolve => { this.release = resolve; }).then(() => { this.#held = undefined; });
    this.#stream.destroy();
    this.onCut?.();
  }

  /** Breaks the stream at the first place that matches. */
  cutBefore(pattern) {
    this.#pattern = pattern;
    this.wasCut = new Promise(resolve => { this.onCut = resolve; });
  }
}

/** Runs in the page. */
function openStream(path) {
  const source = new EventSource(path);
  let endpoint;
  source.addEventListener('endpoint', event => {
    endpoint = event.data;
    window.received('endpoint', event.data);
  });
  source.addEventListener('message', event => window.received('message', event.data));
  window.post = async body => {
    const response = await fetch(endpoint, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
    if (response.status !== 202) throw new Error(`POST: ${response.status} ${await response.text()}`);
  };
}

/** An MCP client whose transport is a page. */
export class PageClient {
  progress = new Queue();
  endpoints = [];
  /** How often each request was answered, by its id. */
  replies = new Map();
  #nextId = 1;
  #pending = new Map();

  static async connect(url, onUpdated) {
    const client = new PageClient();
    client.onUpdated = onUpdated;
    client.proxy = await PageProxy.start(url);
    client.context = await browser.newContext();
    await client.context.addCookies([{ name: 'session', value: SECRET, url: client.proxy.origin }]);
    client.page = await client.context.newPage();
    await client.page.goto(client.proxy.origin);
    const connected = new Promise(resolve => { client.onEndpoint = resolve; });
    await client.page.exposeFunction('received', (type, data) => client.#received(type, data));
    await client.page.evaluate(openStream, new URL(url).pathname);
    await connected;
    const { serverInfo } = await client.request('initialize', {
      protocolVersion: '2024-11-05', capabilities: {}, clientInfo: { name: 'interop-page', version: '0' },
    });
    await client.#post({ method: 'notifications/initialized' });
    client.server = serverInfo.name;
    return client;
  }

  #post(message) {
    return this.page.evaluate(body => window.post(body), JSON.stringify({ jsonrpc: '2.0', ...message }));
  }

  #received(type, data) {
    if (type === 'endpoint') {
      this.endpoints.push(data);
      this.onEndpoint();
      return;
    }
    const { id, method, params, result, error } = JSON.parse(data);
    if (method === 'notifications/progress') {
      this.progress.push(params);
      this.#pending.get(params.progressToken)?.onProgress?.(params);
    } else if (method === 'notifications/resources/updated') {
      this.onUpdated(params.uri);
    } else if (method === undefined) {
      this.replies.set(id, (this.replies.get(id) ?? 0) + 1);
      const pending = this.#pending.get(id);
      this.#pending.delete(id);
      if (error) pending?.reject(new Error(error.message));
      else pending?.resolve(result);
    }
  }

  async request(method, params, { onProgress, signal } = {}) {
    const id = this.#nextId++;
    const answer = new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject, onProgress }));
    // It may be here before its POST is answered, when nobody waits for it yet.
    answer.catch(() => {});
    signal?.addEventListener('abort', () => {
      this.#post({ method: 'notifications/cancelled', params: { requestId: id } });
      this.#pending.get(id)?.reject(signal.reason);
      this.#pending.delete(id);
    });
    const meta = onProgress && { _meta: { progressToken: id } };
    await this.#post({ id, method, params: { ...params, ...meta } });
    return answer;
  }

  async tools() {
    return (await this.request('tools/list')).tools.map(tool => tool.name);
  }

  async call(name, args = {}, options) {
    return (await this.request('tools/call', { name, arguments: args }, options)).content[0].text;
  }

  async read(uri) {
    return (await this.request('resources/read', { uri })).contents[0].text;
  }

  subscribe(uri) {
    return this.request('resources/subscribe', { uri });
  }

  async prompt(name, args) {
    return (await this.request('prompts/get', { name, arguments: args })).messages[0].content.text;
  }

  close() {
    return this.context.close();
  }
}
