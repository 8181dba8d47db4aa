// What the Node clients share: the runner, the checks that every full client passes, and a TCP proxy.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { parseArgs } from 'node:util';

const CHECK_MS = 30_000;
const TOTAL_MS = 120_000;

export const STATS = 'demo://stats';
export const SECRET = 'interop-secret-0123456789';
export const TOOLS = ['add', 'echo', 'long_task', 'request_headers'];

export const ECHOES = {
  plain: 'hello',
  unicode: 'emoji 😀👩‍👩‍👧, CJK 漢字かな한글, combining e\u0301 n\u0303, right to left שלום',
  'line ends': 'a\nb\r\nc\rd\n\ne\r\r\nf\n',
  'unicode line ends': 'a\u2028b\u2029c\u0085d',
  // Numbered, so that a lost, doubled or displaced piece shows.
  '100 KB': Array.from({ length: 10_240 }, (_, i) => `${String(i).padStart(9, '0')},`).join(''),
};

/** The version of an installed package (its `exports` may hide its package.json from `import`). */
export function packageVersion(name) {
  return JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;
}

/**
 * Runs `body(check, url, values)` and ends the process, whatever the client under test left open.
 * `name(values)` is asked for at the end, when the client's version is known.
 * `options` are those of `parseArgs` that the script takes besides `--url`; one that has neither a default nor
 * `optional` must be given.
 */
export async function run(name, body, options = {}) {
  const values = parseOptions({ url: { type: 'string' }, ...options });
  await runChecks(() => name(values), check => body(check, values.url, values));
}

/**
 * Runs `body(check, leftOut)` and ends the process. `check(title, action)` prints the verdict on one check and returns
 * what the action gave, or undefined when it failed. Of them, `only` those that it matches are run.
 */
export async function runChecks(name, body, { only, checkMs = CHECK_MS, totalMs = TOTAL_MS } = {}) {
  let passed = 0;
  let failed = 0;
  const fail = (title, error) => {
    failed += 1;
    console.log(`FAIL ${title}: ${String(error?.message ?? error).replace(/\s+/g, ' ').slice(0, 600)}`);
  };
  const finish = () => {
    console.log(`${name()}: ${passed} passed, ${failed} failed`);
    process.exit(failed ? 1 : 0);
  };
  const check = async (title, action) => {
    if (only && !only.test(title)) return undefined;
    let timer;
    const timeout = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not done after ${checkMs / 1000} s`)), checkMs);
    });
    try {
      const result = await Promise.race([action(), timeout]);
      passed += 1;
      console.log(`ok ${title}`);
      return result ?? true;
    } catch (error) {
      return fail(title, error);
    } finally {
      clearTimeout(timer);
    }
  };
  const leftOut = (title, why) => console.log(`${title} left out: ${why}`);
  setTimeout(() => {
    fail('overall', new Error(`not done after ${totalMs / 1000} s`));
    finish();
  }, totalMs);
  process.on('unhandledRejection', error => fail('unhandled rejection', error));
  await body(check, leftOut).catch(error => fail('overall', error));
  finish();
}

function parseOptions(options) {
  const { values } = parseArgs({ options });
  for (const [name, { choices, optional }] of Object.entries(options)) {
    const value = values[name];
    if (value === undefined ? !optional : choices && !choices.includes(value)) {
      throw new Error(`--${name} ${choices?.join('|') ?? 'VALUE'} is missing or wrong`);
    }
  }
  return values;
}

/** Values that one side pushes and the other awaits, in order. */
export class Queue {
  #values = [];
  #waiting = [];

  push(value) {
    const waiter = this.#waiting.shift();
    if (waiter) waiter(value);
    else this.#values.push(value);
  }

  next() {
    if (this.#values.length) return Promise.resolve(this.#values.shift());
    return new Promise(resolve => this.#waiting.push(resolve));
  }

  /** The next value that `matches`; those before it are dropped. */
  async find(matches) {
    for (;;) {
      const value = await this.next();
      if (matches(value)) return value;
    }
  }
}

/** Like `assert.equal`, but quick and brief with long strings. */
export function same(actual, expected) {
  assert.ok(actual === expected, `got ${brief(actual)}, expected ${brief(expected)}`);
}

const brief = value => JSON.stringify(value)?.slice(0, 100);

/** The text of a tool's result that is no error. */
export function textOf(result) {
  assert.ok(!result.isError, result.content[0].text);
  return result.content[0].text;
}

export async function echo(client, message) {
  same(await client.call('echo', { message }), message);
}

/** Calls `long_task` and checks that every step was reported, in order, once. */
export async function longTask(client, steps, stepMs) {
  const result = await client.call('long_task', { steps, step_ms: stepMs }, { onProgress: () => {} });
  for (let i = 1; i <= steps; i++) {
    const { progress, total } = await client.progress.next();
    assert.deepEqual({ progress, total }, { progress: i, total: steps });
  }
  same(result, `done ${steps} steps`);
}

export async function stats(client) {
  return JSON.parse(await client.read(STATS));
}

/**
 * Resolves when the stats hold `expected`. Every change of them is announced to subscribers, so
 * reading again after each update meets the right one.
 */
export async function statsBecome(client, updates, expected) {
  const matches = now => Object.entries(expected).every(([key, value]) => now[key] === value);
  while (!matches(await stats(client))) await updates.next();
}

/** The headers that the tool `request_headers` shows, which must not hold the secrets we sent. */
export function checkHeaders(text) {
  const headers = JSON.parse(text);
  same(headers['content-type'], 'application/json');
  assert.ok(headers['user-agent'], 'no user-agent');
  assert.ok(!('authorization' in headers) && !('cookie' in headers) && !text.includes(SECRET), 'secrets are shown');
  return headers;
}

/**
 * The checks for a client that can do everything. `connect(onUpdated)` opens a connection and gives
 * `{ server, progress, tools(), call(name, args, { onProgress, signal }), read(uri), subscribe(uri),
 * prompt(name, args), close() }`: `progress` is the queue of all progress notifications that came in,
 * calls, reads and prompts give the text of the result. False when there was no connecting.
 */
export async function standardChecks(check, connect) {
  const updates = new Queue();
  const client = await check('initialize', async () => {
    const client = await connect(uri => updates.push(uri));
    assert.ok(client.server, 'the server has no name');
    return client;
  });
  if (!client) return false;
  await check('list tools', async () => {
    const names = await client.tools();
    assert.deepEqual(TOOLS.filter(name => !names.includes(name)), [], 'missing tools');
  });
  for (const [name, text] of Object.entries(ECHOES)) {
    await check(`echo ${name}`, () => echo(client, text));
  }
  await check('20 calls at once', () =>
    Promise.all(Array.from({ length: 20 }, (_, i) => echo(client, `call ${i}`))));
  await check('add', async () => same(await client.call('add', { a: 1, b: 2 }), '3'));
  await check('progress', () => longTask(client, 5, 20));
  await check('server notification', async () => {
    await client.subscribe(STATS);
    await echo(client, 'touch the stats');
    same(await updates.next(), STATS);
  });
  await check('cancel', async () => {
    const { running, cancelled } = await stats(client);
    const abort = new AbortController();
    // The first step shows that the task runs.
    const options = { signal: abort.signal, onProgress: () => abort.abort(new Error('cancelled by the check')) };
    await assert.rejects(client.call('long_task', { steps: 1000, step_ms: 20 }, options), /cancelled by the check/);
    await statsBecome(client, updates, { running, cancelled: cancelled + 1 });
  });
  await check('prompt', async () => same(await client.prompt('greeting', { name: 'Ada' }), 'Hello, Ada!'));
  await check('request headers', async () => { checkHeaders(await client.call('request_headers')); });
  await check('close', () => client.close());
  await check('connect again', async () => {
    const again = await connect(() => {});
    await echo(again, 'again');
    await again.close();
  });
  return true;
}

/** Forwards TCP connections to the server of `url`, and can cut all of them. */
export class TcpProxy {
  #sockets = new Set();

  static async start(url) {
    const proxy = new TcpProxy();
    const { hostname, port } = new URL(url);
    const server = net.createServer(client => {
      const upstream = net.connect(Number(port), hostname);
      for (const [from, to] of [[client, upstream], [upstream, client]]) {
        proxy.#sockets.add(from);
        from.setNoDelay(true);
        from.pipe(to);
        from.on('error', () => to.destroy());
        from.on('close', () => { proxy.#sockets.delete(from); to.destroy(); });
      }
    });
    await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
    proxy.url = url.replace(/\/\/[^/]+/, `//127.0.0.1:${server.address().port}`);
    return proxy;
  }

  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }
}
