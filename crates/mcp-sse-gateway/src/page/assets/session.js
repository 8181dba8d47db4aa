// One connection of the Console to a server: what is known of it, what is going on, and what it asks. Without elements: the
// components look at it as at any store.

import { Cancelled, Client, ServerError, isObject } from './client.js';
import { Store } from './store.js';
import { RequestFailure, SseStream } from './stream.js';
import { compact, cut, detached, plain, plural } from './text.js';
import { WireLog } from './wire.js';

const PROTOCOL = '2025-11-25';
const MAX_PAGES = 100;
const MAX_ITEMS = 5000;
const MAX_LIST_SIZE = 32 * 1024 * 1024;
const MAX_ASKED = 20;
const MAX_LOGS = 500;
const MAX_LOG_TEXT = 20_000;
const MAX_NOTES = 50;
const MAX_CALLS = 30;
const MAX_CALLS_SIZE = 64 * 1024 * 1024;
const MAX_SUBSCRIPTIONS = 200;
/** A server that announces changes all the time is asked again this often at most. */
const REFRESH_MS = 1000;

export const LEVELS = ['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency'];

const LISTS = {
  tools: { method: 'tools/list', key: 'tools', id: 'name', capability: 'tools' },
  resources: { method: 'resources/list', key: 'resources', id: 'uri', capability: 'resources' },
  templates: { method: 'resources/templates/list', key: 'resourceTemplates', id: 'uriTemplate', capability: 'resources' },
  prompts: { method: 'prompts/list', key: 'prompts', id: 'name', capability: 'prompts' },
};

export class Session extends Store {
  /** 'connecting', 'open', 'broken' (it did not work, or broke) or 'closed' (by the visitor). */
  state = 'connecting';
  failure;
  info = {};
  capabilities = {};
  protocol = '';
  instructions = '';
  lists = Object.fromEntries(Object.keys(LISTS).map(name => [name, { items: [], state: 'empty' }]));
  /** What was called last, by what it is and its name; the newest at the end. */
  calls = new Map();
  /** What the server asks and the visitor has not answered, first come first. */
  asked = [];
  logs = [];
  logsDropped = 0;
  level = '';
  notes = [];
  subscriptions = new Map();
  roots = [];
  askForRoots = false;
  /** The resource that a result linked to and the visitor wants to see. */
  linked;
  /** What stands in forms, while other things are shown. */
  drafts = new Map();

  #stream;
  #client;
  #refreshes = new Map();
  #nextLog = 1;

  constructor({ server, url, token }, wire = new WireLog()) {
    super();
    Object.assign(this, { server, url, token, wire });
  }

  /** Goes on with what an earlier session with the same server has shown, until it is known anew. */
  inherit({ drafts, roots, askForRoots, info, capabilities, protocol, instructions, lists, calls }) {
    const known = Object.fromEntries(Object.entries(lists).map(([name, list]) =>
      [name, { ...list, state: list.state === 'loading' ? 'loaded' : list.state }]));
    const over = new Map([...calls].filter(([, call]) => call.state !== 'running'));
    Object.assign(this, { drafts, roots, askForRoots, info, capabilities, protocol, instructions, lists: known, calls: over });
  }

  async connect() {
    this.#stream = new SseStream({
      url: this.url,
      token: this.token,
      onMessage: text => this.#receive(text),
      onEnd: failure => this.#break(failure),
      onNote: text => this.#note(text),
    });
    this.#client = new Client({
      send: text => this.#stream.post(text),
      onNotification: (method, params) => this.#notified(method, params),
      onRequest: request => this.#asks(request),
      onWire: message => this.wire.add(message),
    });
    try {
      await this.#stream.open();
      const { result } = await this.#client.request('initialize', {
        protocolVersion: PROTOCOL,
        capabilities: { roots: { listChanged: true }, sampling: {}, elicitation: { form: {}, url: {} } },
        clientInfo: { name: 'mcp-sse-console', title: 'mcp-sse console', version: '1.0.0' },
      });
      this.protocol = typeof result.protocolVersion === 'string' ? result.protocolVersion : '';
      this.info = isObject(result.serverInfo) ? result.serverInfo : {};
      this.capabilities = isObject(result.capabilities) ? result.capabilities : {};
      this.instructions = typeof result.instructions === 'string' ? result.instructions : '';
      await this.#client.notify('notifications/initialized');
    } catch (error) {
      if (this.state === 'connecting') this.#break(error);
      return;
    }
    if (this.state !== 'connecting') return;
    this.state = 'open';
    this.changed();
    for (const [name, { capability }] of Object.entries(LISTS)) {
      if (!this.can(capability)) this.lists[name] = { items: [], state: 'empty' };
      this.list(name);
    }
  }

  /** What is wrong with one message is no reason to read no more of them. */
  #receive(text) {
    try {
      this.#client.receive(text);
    } catch (error) {
      this.#note(`A message could not be read: ${error.message}`);
    }
  }

  #break(failure) {
    if (this.state === 'closed' || this.state === 'broken') return;
    this.#over('broken', failure);
  }

  /** The visitor ends it. */
  disconnect() {
    if (this.state !== 'closed') this.#over('closed', undefined);
  }

  #over(state, failure) {
    this.state = state;
    this.failure = failure;
    this.asked = [];
    this.subscriptions.clear();
    this.#stream.close();
    this.#client.end(new Error(state === 'closed' ? 'You disconnected.' : 'The connection broke.'));
    for (const timer of this.#refreshes.values()) clearTimeout(timer);
    this.changed();
  }

  get name() {
    const { title, name } = this.info;
    return [title, name].find(text => typeof text === 'string' && text) ?? '';
  }

  can(capability) {
    return isObject(this.capabilities[capability]);
  }

  #note(text) {
    this.notes.push({ time: new Date(), text: detached(cut(text, 1000)) });
    if (this.notes.length > MAX_NOTES) this.notes.shift();
    this.changed();
  }

  // Lists.

  /** Reads a list anew, all its pages. */
  async list(name) {
    const { method, key, id, capability } = LISTS[name];
    const list = this.lists[name];
    if (this.state !== 'open' || !this.can(capability) || list.state === 'loading') {
      list.isStale = list.state === 'loading';
      return;
    }
    list.state = 'loading';
    this.changed();
    const items = [];
    const known = new Set();
    const cursors = new Set();
    let unreadable = 0;
    let left = '';
    try {
      let cursor;
      let size = 0;
      do {
        const page = await this.#client.request(method, cursor === undefined ? {} : { cursor });
        size += page.size;
        for (const item of Array.isArray(page.result[key]) ? page.result[key] : []) {
          if (!isObject(item) || typeof item[id] !== 'string' || known.has(item[id])) unreadable += 1;
          else if (items.length < MAX_ITEMS) {
            known.add(item[id]);
            items.push(item);
          } else left = `Only the first ${MAX_ITEMS.toLocaleString('en')} are shown.`;
        }
        cursor = page.result.nextCursor;
        if (typeof cursor !== 'string' || cursors.has(cursor)) cursor = undefined;
        cursors.add(cursor);
        if (cursor !== undefined && (left || cursors.size > MAX_PAGES || size > MAX_LIST_SIZE)) {
          left ||= 'There is more, which is not shown.';
          break;
        }
      } while (cursor !== undefined);
      Object.assign(list, { items, state: 'loaded', error: undefined });
    } catch (error) {
      // Some servers say that they have resources, and do not know templates.
      const isUnknown = error instanceof ServerError && error.code === -32601;
      Object.assign(list, { items, state: 'loaded', error: isUnknown ? undefined : error });
    }
    list.notes = [left, unreadable
      && `${plural(unreadable, 'entry',
      'entries')} left out: without a name, or with one that was there already.`].filter(Boolean);
    this.changed();
    if (list.isStale) this.#refreshSoon(name);
  }

  #refreshSoon(name) {
    if (this.#refreshes.has(name)) return;
    this.#refreshes.set(name, setTimeout(() => {
      this.#refreshes.delete(name);
      this.lists[name].isStale = false;
      this.list(name);
    }, REFRESH_MS));
  }

  // Calls.

  callTool(name, args) {
    return this.#call(`tool:${name}`, 'tools/call', { name, arguments: args });
  }

  getPrompt(name, args) {
    return this.#call(`prompt:${name}`, 'prompts/get', { name, arguments: args });
  }

  readResource(uri, key = uri) {
    return this.#call(`resource:${key}`, 'resources/read', { uri });
  }

  /** Does it, and keeps how it goes under `key`. */
  async #call(key, method, params) {
    const call = { method, params, state: 'running', begun: performance.now(), at: new Date(), progress: undefined,
      abort: new AbortController() };
    this.calls.delete(key);
    this.calls.set(key, call);
    this.changed();
    const onProgress = progress => {
      call.progress = progress;
      this.changed();
    };
    try {
      const { result, size } = await this.#client.request(method, params, { signal: call.abort.signal, onProgress });
      Object.assign(call, { state: 'done', result, size });
    } catch (error) {
      Object.assign(call, { state: error instanceof Cancelled ? 'cancelled' : 'failed', error });
    }
    call.milliseconds = performance.now() - call.begun;
    this.#forgetCalls();
    this.changed();
    return call;
  }

  cancel(call) {
    call.abort.abort(new Cancelled('The visitor cancelled it'));
  }

  /** Of old results, those are dropped that there are too many of. */
  #forgetCalls() {
    let size = 0;
    let count = 0;
    for (const [key, call] of [...this.calls].reverse()) {
      if (call.state === 'running') continue;
      count += 1;
      size += call.size ?? 0;
      if (count > MAX_CALLS || (size > MAX_CALLS_SIZE && count > 1)) this.calls.delete(key);
    }
  }

  async ping() {
    const begun = performance.now();
    await this.#client.request('ping', {});
    return performance.now() - begun;
  }

  async setLevel(level) {
    await this.#client.request('logging/setLevel', { level });
    this.level = level;
    this.changed();
  }

  /** Values that the server suggests for an argument of a prompt or a template. */
  async complete(ref, name, value, others) {
    if (!this.can('completions') || this.state !== 'open') return [];
    const params = { ref, argument: { name, value }, ...(Object.keys(others).length && { context: { arguments: others } }) };
    const { result } = await this.#client.request('completion/complete', params);
    const values = result.completion?.values;
    return Array.isArray(values) ? values.filter(one => typeof one === 'string' && one.length <= 1000).slice(0, 100) : [];
  }

  async subscribeTo(uri) {
    if (this.subscriptions.size >= MAX_SUBSCRIPTIONS) throw new Error(`There are ${MAX_SUBSCRIPTIONS} subscriptions already.`);
    await this.#client.request('resources/subscribe', { uri });
    this.subscriptions.set(uri, { updates: 0 });
    this.changed();
  }

  async unsubscribeFrom(uri) {
    await this.#client.request('resources/unsubscribe', { uri });
    this.subscriptions.delete(uri);
    this.changed();
  }

  /** What the server gets when it asks for roots. */
  async setRoots(roots, askForRoots) {
    this.roots = roots;
    this.askForRoots = askForRoots;
    this.changed();
    if (this.state === 'open') await this.#client.notify('notifications/roots/list_changed');
  }

  clearLogs() {
    this.logs = [];
    this.logsDropped = 0;
    this.changed();
  }

  // What comes of the server.

  #notified(method, params) {
    switch (method) {
      case 'notifications/tools/list_changed': return this.#refreshSoon('tools');
      case 'notifications/prompts/list_changed': return this.#refreshSoon('prompts');
      case 'notifications/resources/list_changed':
        this.#refreshSoon('resources');
        return this.#refreshSoon('templates');
      case 'notifications/resources/updated': {
        const subscription = this.subscriptions.get(params.uri);
        if (!subscription) return undefined;
        subscription.updates += 1;
        subscription.at = new Date();
        return this.changed();
      }
      case 'notifications/message': {
        const { level, logger, data } = params;
        this.logs.push({
          n: this.#nextLog++, time: new Date(), level: detached(plain(level, 20)),
          logger: typeof logger === 'string' ? detached(cut(logger, 100)) : '',
          data: detached(typeof data === 'string' ? cut(data, MAX_LOG_TEXT) : compact(data, MAX_LOG_TEXT)),
        });
        if (this.logs.length > MAX_LOGS + 100) {
          this.logsDropped += this.logs.length - MAX_LOGS;
          this.logs.splice(0, this.logs.length - MAX_LOGS);
        }
        return this.changed();
      }
      case 'notifications/cancelled':
        this.asked = this.asked.filter(({ id }) => id !== params.requestId);
        return this.changed();
      default: return undefined;
    }
  }

  #asks({ id, method, params }) {
    const quietly = promise => promise.catch(error => this.#note(`An answer did not get through: ${error.message}`));
    if (method === 'ping') return quietly(this.#client.respond(id, {}));
    if (method === 'roots/list' && !this.askForRoots) {
      this.#note(`The server asked for the roots, and got ${this.roots.length || 'none'}.`);
      return quietly(this.#client.respond(id, { roots: this.roots }));
    }
    if (!['sampling/createMessage', 'elicitation/create', 'roots/list'].includes(method)) {
      return quietly(this.#client.refuse(id, -32601, `This client does not know ${cut(method, 100)}`));
    }
    if (this.asked.length >= MAX_ASKED) {
      return quietly(this.#client.refuse(id, -32000, `${MAX_ASKED} requests are waiting for the visitor already`));
    }
    this.asked.push({ id, method, params, at: new Date() });
    return this.changed();
  }

  /** The visitor's answer to what the server asked, which counts once. */
  answer(asked, result) {
    if (this.asked.includes(asked)) this.#answered(asked, this.#client.respond(asked.id, result));
  }

  refuse(asked, code, message) {
    if (this.asked.includes(asked)) this.#answered(asked, this.#client.refuse(asked.id, code, message));
  }

  #answered(asked, sent) {
    this.asked = this.asked.filter(other => other !== asked);
    sent.catch(error => this.#note(`The answer did not get through: ${error.message}`));
    this.changed();
  }
}

/** Whether a key would help. */
export const isUnauthorized = failure => failure instanceof RequestFailure && failure.status === 401;
