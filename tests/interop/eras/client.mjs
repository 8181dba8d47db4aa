// The SDKs for TypeScript, and other clients for Node, that do what the lines on their stdin say, one JSON object a line:
//
//   { "n": 1, "do": "open", "connection": "first", "offers": true }
//   { "n": 2, "do": "call", "connection": "first", "tool": "echo", "arguments": { "text": "hi" } }
//
// Each is done beside the others. What comes of it is a line on stdout, `{ "n": 1, "result": … }` or `{ "n": 1, "error": … }`.
// What the server says is a line too, `{ "event": "said", "connection", "method", "params" }`, and so is what it asks,
// `{ "event": "asked", "connection", "ask": 1, "method", "params" }`, until a line `{ "n", "do": "answer", "ask": 1, "result" }`
// says what the client answers. The first line has the version of the client. It ends with its stdin.
//
//   client.mjs --client sdk-1x|client-2x|inspector|chromium|claude-code --transport sse|http|stdio [--era legacy|auto|modern]
//     URL | COMMAND ARGUMENT…

import { execFile } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { StdioClientTransport as Stdio1x } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StdioClientTransport as Stdio2x } from '@modelcontextprotocol/client/stdio';
import { inspect } from './inspector-cli.mjs';
import { packageVersion } from './lib.mjs';
import { sdk1x, sdk2x } from './sdks.mjs';

const MODERN = '2026-07-28';
const META = 'io.modelcontextprotocol/';
const INFO = { name: 'eras-client', version: '1.2.3' };
const OFFERS = { sampling: {}, elicitation: { form: {}, url: {} }, roots: { listChanged: true } };
const ASKED = ['sampling/createMessage', 'elicitation/create', 'roots/list'];
const CLAUDE = fileURLToPath(new URL('../oauth/node_modules/@anthropic-ai/claude-code/cli-wrapper.cjs', import.meta.url));

const options = { era: 'legacy' };
const words = process.argv.slice(2);
while (words[0]?.startsWith('--')) options[words.shift().slice(2)] = words.shift();
const { client: kind, transport, era } = options;

const say = line => process.stdout.write(`${JSON.stringify(line)}\n`);

/** The member of an error's `data` in a result is wanted as it came. */
const errorOf = error => {
  if (typeof error?.code === 'number') return { code: error.code, message: error.message, data: error.data };
  const causes = [];
  for (let cause = error; cause; cause = cause.cause) causes.push(String(cause.message ?? cause));
  return { words: causes.join(': ').replace(/\s+/g, ' ').slice(0, 300) };
};

/** What the server asks the client, until a line says what the client answers. */
const asks = new Map();

function ask(connection, method, params, signal) {
  const n = asks.size + 1;
  say({ event: 'asked', connection, ask: n, method, params });
  signal?.addEventListener('abort', () => say({ event: 'unasked', connection, ask: n }));
  return new Promise((resolve, reject) => asks.set(n, { resolve, reject }));
}

function answer({ ask: n, result, error }) {
  const { resolve, reject } = asks.get(n);
  if (error) reject(Object.assign(new Error(error.message), error));
  else resolve(result);
}

/** One of the SDKs. */
class Sdk {
  #calls = new Map();

  constructor(name) {
    this.name = name;
    this.sdk = kind === 'sdk-1x' ? sdk1x : sdk2x;
  }

  #transport() {
    if (transport === 'stdio') {
      const Stdio = kind === 'sdk-1x' ? Stdio1x : Stdio2x;
      return new Stdio({ command: words[0], args: words.slice(1), env: process.env, stderr: 'inherit' });
    }
    const Http = transport === 'sse' ? this.sdk.SSEClientTransport : this.sdk.StreamableHTTPClientTransport;
    return new Http(new URL(words[0]));
  }

  async open({ offers }) {
    const negotiation = { auto: { mode: 'auto' }, modern: { mode: { pin: MODERN } } }[era];
    const client = new this.sdk.Client(INFO, {
      capabilities: offers ? OFFERS : {},
      ...(negotiation && { versionNegotiation: negotiation }),
    });
    for (const method of offers ? ASKED : []) {
      this.sdk.onRequest(client, method, ({ params }, extra) =>
        ask(this.name, method, params, extra?.signal ?? extra?.mcpReq?.signal));
    }
    const wire = this.#transport();
    // Taken from the transport, because the SDK's own callback misses progress that arrives in one read with the response.
    wire.onmessage = ({ id, method, params }) => {
      if (method !== undefined && id === undefined) say({ event: 'said', connection: this.name, method, params });
    };
    // 1.x keeps the revision only in the transport.
    const setVersion = wire.setProtocolVersion?.bind(wire);
    let version;
    wire.setProtocolVersion = value => { version = value; setVersion?.(value); };
    await client.connect(wire);
    this.client = client;
    version = client.getNegotiatedProtocolVersion?.() ?? version;
    this.era = version >= MODERN ? 'modern' : 'legacy';
    return {
      era: this.era, protocolVersion: version, serverInfo: client.getServerVersion(),
      capabilities: client.getServerCapabilities(), instructions: client.getInstructions(),
    };
  }

  close() { return this.client.close(); }
  ping() { return this.client.ping(); }

  list({ kind: what }) {
    const { client } = this;
    const fresh = [undefined, { cacheMode: 'refresh' }];
    return {
      tools: () => client.listTools(...fresh), prompts: () => client.listPrompts(...fresh),
      resources: () => client.listResources(...fresh), resourceTemplates: () => client.listResourceTemplates(...fresh),
    }[what]();
  }

  async call({ n, tool, arguments: args, progress, meta }) {
    const abort = new AbortController();
    this.#calls.set(n, abort);
    const level = this.level_ && this.era === 'modern' && { [`${META}logLevel`]: this.level_ };
    const params = { name: tool, arguments: args, ...((meta || level) && { _meta: { ...meta, ...level } }) };
    try {
      return await this.sdk.callTool(this.client, params,
        { signal: abort.signal, ...(progress && { onprogress: () => {} }) });
    } catch (error) {
      if (abort.signal.aborted) return { cancelled: true };
      throw error;
    }
  }

  async cancel({ call }) { this.#calls.get(call).abort(new Error('cancelled')); }
  read({ uri }) { return this.client.readResource({ uri }, { cacheMode: 'refresh' }); }
  prompt({ name, arguments: args }) { return this.client.getPrompt({ name, ...(args && { arguments: args }) }); }
  complete({ ref, argument }) { return this.client.complete({ ref, argument }); }

  async level({ level }) {
    this.level_ = level;
    // In the modern era it is said with each call.
    if (this.era === 'legacy') await this.client.setLoggingLevel(level);
  }

  subscribe({ uri }) { return this.client.subscribeResource({ uri }); }
  unsubscribe({ uri }) { return this.client.unsubscribeResource({ uri }); }

  async listen({ lists, uris }) {
    const filter = Object.fromEntries(lists.map(list => [`${list}ListChanged`, true]));
    this.heard = await this.client.listen({ ...filter, ...(uris.length && { resourceSubscriptions: uris }) });
    this.heard.closed.then(how => { if (how !== 'local') say({ event: 'heard out', connection: this.name }); });
    return this.heard.honoredFilter;
  }

  deafen() { return this.heard.close(); }
}

/** An error of the server, in the words of the command line. */
function inspectorError(error) {
  const text = String(error.message ?? error);
  try {
    const { code, message, data } = JSON.parse(text.slice(text.indexOf('{'))).error;
    return { ...(typeof code === 'number' ? { code } : {}), message, data, words: text.slice(0, 600) };
  } catch {
    return { words: text.replace(/\s+/g, ' ').slice(0, 600) };
  }
}

/** Each invocation is a connection of its own, and answers nothing that a server asks. */
class Inspector {
  async #run(method, ...args) {
    const text = await inspect(words[0], transport, method, '--protocol-era', era, ...args)
      .catch(error => { throw inspectorError(error); });
    return JSON.parse(text).result;
  }

  async open() {
    const found = await this.#run('initialize');
    this.era = found.protocolVersion >= MODERN ? 'modern' : 'legacy';
    return { ...found, era: this.era };
  }

  async close() {}
  list({ kind: what }) {
    return this.#run({ resourceTemplates: 'resources/templates/list' }[what] ?? `${what}/list`);
  }

  call({ tool, arguments: args, meta }) {
    const pairs = Object.entries(meta ?? {}).map(([name, value]) => `${name}=${value}`);
    return this.#run('tools/call', '--tool-name', tool, '--tool-args-json', JSON.stringify(args),
      ...(meta ? ['--metadata', ...pairs] : []));
  }

  read({ uri }) { return this.#run('resources/read', '--uri', uri); }

  prompt({ name, arguments: args }) {
    const pairs = Object.entries(args ?? {}).map(([key, value]) => `${key}=${value}`);
    return this.#run('prompts/get', '--prompt-name', name, ...(args ? ['--prompt-args', ...pairs] : []));
  }

  level({ level }) { return this.#run('logging/setLevel', '--log-level', level); }
}

/** Runs in the page. */
function openStream(path) {
  const source = new EventSource(path);
  let endpoint;
  source.addEventListener('endpoint', event => {
    endpoint = event.data;
    window.received('');
  });
  source.addEventListener('message', event => window.received(event.data));
  window.post = async body => {
    const response = await fetch(endpoint, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
    if (response.status !== 202) throw new Error(`POST: ${response.status} ${await response.text()}`);
  };
  window.close = () => source.close();
}

let browser;

/** A page with `EventSource` and `fetch`, and as little of a client as can be. */
class Page {
  #next = 1;
  #waiting = new Map();
  #ids = new Map();

  constructor(name) { this.name = name; }

  async open({ offers }) {
    this.page = await browser.newPage();
    // A page of the same origin.
    await this.page.goto(new URL('/healthz', words[0]).href);
    const connected = new Promise(resolve => { this.connected = resolve; });
    await this.page.exposeFunction('received', data => (data ? this.#received(JSON.parse(data)) : this.connected()));
    await this.page.evaluate(openStream, new URL(words[0]).pathname);
    await connected;
    const found = await this.#request('initialize', {
      protocolVersion: '2025-06-18', clientInfo: INFO,
      capabilities: offers ? { sampling: {}, elicitation: {}, roots: { listChanged: true } } : {},
    });
    await this.#post({ method: 'notifications/initialized' });
    return { ...found, era: 'legacy' };
  }

  #post(message) {
    return this.page.evaluate(body => window.post(body), JSON.stringify({ jsonrpc: '2.0', ...message }));
  }

  async #received({ id, method, params, result, error }) {
    if (method === undefined) {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) waiting?.reject(error);
      else waiting?.resolve(result);
    } else if (id === undefined) {
      say({ event: 'said', connection: this.name, method, params });
    } else {
      const answer = await ask(this.name, method, params).then(
        result => ({ result }), ({ code, message }) => ({ error: { code, message } }));
      await this.#post({ id, ...answer });
    }
  }

  async #request(method, params, id = this.#next++) {
    const answer = new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    // It may be here before its POST is answered, when nobody waits for it yet.
    answer.catch(() => {});
    await this.#post({ id, method, ...(params && { params }) });
    return answer;
  }

  close() { return this.page.close(); }
  ping() { return this.#request('ping'); }
  list({ kind: what }) {
    return this.#request({ resourceTemplates: 'resources/templates/list' }[what] ?? `${what}/list`);
  }

  call({ n, tool, arguments: args, progress, meta }) {
    const id = this.#next++;
    this.#ids.set(n, id);
    const _meta = { ...meta, ...(progress && { progressToken: id }) };
    return this.#request('tools/call', { name: tool, arguments: args, _meta }, id);
  }

  async cancel({ call }) {
    const id = this.#ids.get(call);
    await this.#post({ method: 'notifications/cancelled', params: { requestId: id } });
    this.#waiting.get(id)?.resolve({ cancelled: true });
    this.#waiting.delete(id);
  }

  read({ uri }) { return this.#request('resources/read', { uri }); }
  prompt({ name, arguments: args }) { return this.#request('prompts/get', { name, arguments: args }); }
  complete({ ref, argument }) { return this.#request('completion/complete', { ref, argument }); }
  level({ level }) { return this.#request('logging/setLevel', { level }); }
  subscribe({ uri }) { return this.#request('resources/subscribe', { uri }); }
  unsubscribe({ uri }) { return this.#request('resources/unsubscribe', { uri }); }
}

/** `claude mcp`, which connects to a server to tell whether it is well. */
class Claude {
  static async run(...args) {
    const here = process.cwd();
    const { stdout } = await promisify(execFile)(process.execPath, [CLAUDE, ...args], {
      // Nothing else of this machine's environment: it may hold settings of the same program.
      env: { HOME: here, TMPDIR: here, CLAUDE_CONFIG_DIR: `${here}/claude`, PATH: process.env.PATH, LANG: 'C.UTF-8',
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1', DISABLE_AUTOUPDATER: '1',
        MCP_SSE_ERAS: process.env.MCP_SSE_ERAS },
      timeout: 40_000,
    }).catch(error => { throw new Error(error.stderr || error.stdout || error.message); });
    return stdout;
  }

  constructor(name) { this.name = name; }

  async open() {
    await Claude.run('mcp', 'add', '--transport', transport, this.name, words[0]);
    const [, status] = /Status: (.*)/.exec(await Claude.run('mcp', 'get', this.name));
    return { status, era: 'legacy' };
  }

  async close() {}
}

const KINDS = {
  'sdk-1x': [Sdk, () => packageVersion('@modelcontextprotocol/sdk')],
  'client-2x': [Sdk, () => packageVersion('@modelcontextprotocol/client')],
  inspector: [Inspector, () => packageVersion('@modelcontextprotocol/inspector')],
  chromium: [Page, async () => {
    const { chromium } = await import('playwright-core');
    browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync'],
    });
    return browser.version();
  }],
  'claude-code': [Claude, async () => /^[\d.]+/.exec(await Claude.run('--version'))[0]],
};

const connections = new Map();

async function done({ n, do: what, connection, ...request }) {
  if (what === 'answer') return answer(request);
  if (what === 'open') {
    const opened = new KINDS[kind][0](connection);
    const result = await opened.open(request);
    connections.set(connection, opened);
    return result;
  }
  return connections.get(connection)[what]({ n, ...request });
}

// A connection that breaks must not end the others.
process.on('unhandledRejection', error => console.error(error));
say({ version: await KINDS[kind][1]() });
const lines = createInterface({ input: process.stdin });
lines.on('line', line => {
  const request = JSON.parse(line);
  done(request).then(
    result => say({ n: request.n, result: result ?? null }),
    error => say({ n: request.n, error: error?.words ? error : errorOf(error) }),
  );
});
lines.on('close', async () => {
  await browser?.close();
  process.exit();
});
