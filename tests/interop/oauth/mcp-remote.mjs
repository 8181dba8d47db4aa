// `mcp-remote`, which clients that only know stdio start in front of a server that wants tokens.
//
// With `--expiry` tokens should live a few seconds.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { TOOLS, run, same, textOf } from '../node/lib.mjs';
import { Desktop } from './desktop.mjs';

const PACKAGE = new URL('node_modules/mcp-remote/', import.meta.url);
const PROXY = fileURLToPath(new URL('dist/proxy.js', PACKAGE));
const { version } = JSON.parse(readFileSync(new URL('package.json', PACKAGE)));

/** Longer than the tokens live. */
const SILENCE_MS = 5_000;

/** Starts it, as such a client does. */
async function start(url, desktop) {
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [PROXY, url, '--transport', 'sse-only'],
    env: { ...desktop.env, MCP_REMOTE_CONFIG_DIR: join(desktop.home, 'mcp-remote') },
    stderr: 'pipe',
  });
  let log = '';
  transport.stderr.on('data', data => { log += data; });
  const client = new Client({ name: 'interop', version: '0' });
  await client.connect(transport).catch(error => { throw new Error(`${error.message}: ${log.slice(-250)}`); });
  return client;
}

async function echo(client, message) {
  same(textOf(await client.callTool({ name: 'echo', arguments: { message } })), message);
}

run(() => `mcp-remote ${version}`, async (check, url, { expiry }) => {
  const desktop = new Desktop();
  const client = await check('initialize', async () => {
    const client = await start(url, desktop);
    assert.ok(client.getServerVersion()?.name, 'the server has no name');
    same(desktop.visits.length, 1);
    same(new URL(desktop.visits[0]).searchParams.get('resource'), url);
    return client;
  });
  if (!client) return;
  await check('list tools', async () => {
    const names = (await client.listTools()).tools.map(tool => tool.name);
    assert.deepEqual(TOOLS.filter(tool => !names.includes(tool)), [], 'missing tools');
  });
  await check('echo', () => echo(client, 'through mcp-remote'));
  await check('10 calls at once', () =>
    Promise.all(Array.from({ length: 10 }, (_, i) => echo(client, `call ${i}`))));
  if (expiry) {
    for (const title of ['once', 'twice']) {
      await check(`expired ${title}`, async () => {
        await sleep(SILENCE_MS);
        await echo(client, `expired ${title}`);
      });
    }
  }
  await check('close', () => client.close());
  await check('start again without a browser', async () => {
    const again = await start(url, desktop);
    await echo(again, 'again');
    await again.close();
    same(desktop.visits.length, 1);
  });
}, { expiry: { type: 'boolean', default: false } });
