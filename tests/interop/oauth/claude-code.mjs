// Claude Code's `claude mcp`, which needs no account: it connects to a server to tell whether it is well, and logs in
// at its authorization server.
//
// With `--expiry` tokens should live a few seconds. Where the program cannot run, the exit code is 77 and the last line
// says why.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { run, same } from '../node/lib.mjs';
import { Desktop } from './desktop.mjs';
import { loggedIn } from './login.mjs';

const LAUNCHER = fileURLToPath(new URL('node_modules/@anthropic-ai/claude-code/cli-wrapper.cjs', import.meta.url));
const LEFT_OUT = 77;

/** Longer than the tokens live. */
const SILENCE_MS = 5_000;

const desktop = new Desktop();

/** The output of a command, which must succeed. */
async function output(program, args) {
  const { stdout } = await promisify(execFile)(program, args, {
    cwd: desktop.home,
    env: {
      ...desktop.env,
      CLAUDE_CONFIG_DIR: join(desktop.home, 'claude'),
      // Nothing but the servers here can be reached, and nothing else is wanted.
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
      DISABLE_AUTOUPDATER: '1',
    },
    timeout: 25_000,
  }).catch(error => { throw new Error(error.stderr || error.stdout || error.message); });
  return stdout;
}

const claude = (...args) => output(process.execPath, [LAUNCHER, ...args]);
const add = (name, url, ...others) => claude('mcp', 'add', '--transport', 'sse', name, url, ...others);
const status = async name => /Status: (.*)/.exec(await claude('mcp', 'get', name))[1];
const withToken = token => ['--header', `Authorization: Bearer ${token}`];

/** It wants a terminal for this, though the browser does it all: `script` lends it one. */
function login(name) {
  const command = [process.execPath, LAUNCHER, 'mcp', 'login', name].map(part => `'${part}'`).join(' ');
  return output('script', ['--quiet', '--return', '--command', command, '/dev/null']);
}

async function version() {
  if (!existsSync(LAUNCHER)) throw new Error('the package is not installed');
  return /^[\d.]+/.exec(await claude('--version'))[0];
}

const installed = await version().catch(error => {
  console.log(`claude-code left out: ${String(error.message).trim().split('\n').at(-1)}`);
  process.exit(LEFT_OUT);
});

run(() => `claude-code ${installed}`, async (check, url, { expiry }) => {
  await check('without a token', async () => {
    await add('interop', url);
    assert.match(await status('interop'), /Needs authentication/);
    same(desktop.visits.length, 0);
  });
  await check('with a token', async () => {
    const { accessToken } = await loggedIn(url, 'alice');
    await add('token', url, ...withToken(accessToken));
    assert.match(await status('token'), /Connected/);
  });
  await check('with a bad token', async () => {
    await add('bad', url, ...withToken('bad'));
    assert.doesNotMatch(await status('bad'), /Connected/);
  });
  const loggedInNow = await check('login', async () => {
    assert.match(await login('interop'), /Authenticated with "interop"/);
    same(desktop.visits.length, 1);
    same(new URL(desktop.visits[0]).searchParams.get('resource'), url);
    assert.match(await status('interop'), /Connected/);
  });
  if (loggedInNow && expiry) {
    for (const title of ['once', 'twice']) {
      await check(`expired ${title}`, async () => {
        await sleep(SILENCE_MS);
        assert.match(await status('interop'), /Connected/);
        same(desktop.visits.length, 1);
      });
    }
  }
  await check('list', async () => {
    assert.match(await claude('mcp', 'list'), /^interop: .*Connected$/m);
  });
  await check('logout', async () => {
    await claude('mcp', 'logout', 'interop');
    assert.match(await status('interop'), /Needs authentication/);
  });
}, { expiry: { type: 'boolean', default: false } });
