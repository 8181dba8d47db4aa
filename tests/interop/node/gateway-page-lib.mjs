// What the checks of the gateway's page share: gateways that are started for them, and a browser that takes note
// of everything that a page should not do.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { runChecks } from './lib.mjs';

const CHECK_MS = 60_000;
const TOTAL_MS = 10 * 60_000;

// Folders and gateways go with the process.
process.setMaxListeners(0);

export const KEY = 'page-key-0123456789abcdef';
export const OTHER_KEY = 'page-key-of-somebody-else';
export const HOSTILE = [process.execPath, fileURLToPath(new URL('gateway-page-server.mjs', import.meta.url))];

export const everything = () => {
  const { SERVERS } = process.env;
  assert.ok(SERVERS, 'SERVERS is not set: the folder with the servers in its node_modules');
  return [join(SERVERS, 'node_modules/.bin/mcp-server-everything')];
};

/** A folder that is gone afterwards. */
export function folder() {
  const path = mkdtempSync(join(tmpdir(), 'mcp-page-'));
  process.on('exit', () => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A file that only we can read, as keys must be. */
export function secretFile(text) {
  const path = join(folder(), 'keys');
  writeFileSync(path, text);
  chmodSync(path, 0o600);
  return path;
}

/** Runs `body(check, leftOut)` and ends the process; see `runChecks`. */
export const runPage = (name, only, body) => runChecks(name, body, { only, checkMs: CHECK_MS, totalMs: TOTAL_MS });

/** `mcp-sse serve`, which is ended with the process. */
export class Gateway {
  /** `args` are those of `serve`; a free port is taken for `--admin` too, if `admin` says so. */
  static async start(args, { admin = false, path = process.env.PATH } = {}) {
    const gateway = new Gateway();
    const { MCP_SSE } = process.env;
    assert.ok(MCP_SSE, 'MCP_SSE is not set: the path of the program');
    const places = ['--port', '0', ...(admin ? ['--admin', '127.0.0.1:0'] : [])];
    const child = spawn(MCP_SSE, ['serve', ...places, '--log-level', 'warn', ...args],
      { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, PATH: path } });
    gateway.child = child;
    process.on('exit', () => child.kill());
    let errors = '';
    child.stderr.on('data', data => { errors = (errors + data).slice(-2000); });
    let greeting = '';
    await Promise.race([
      once(child, 'exit').then(([code]) => { throw new Error(`the gateway ended with ${code}: ${errors}`); }),
      (async () => {
        for await (const data of child.stdout) {
          greeting += data;
          if (greeting.includes('Ctrl-C ends it')) return;
        }
      })(),
    ]);
    child.stdout.resume();
    const line = name => new RegExp(`^${name}\\s+(http\\S+)$`, 'm').exec(greeting)?.[1];
    gateway.page = line('The page');
    gateway.admin = line('Sessions');
    assert.ok(gateway.page, `no page in the greeting: ${greeting}`);
    return gateway;
  }

  async stop() {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, 'exit');
    this.child.kill();
    await ended;
  }
}

export let browser;

export async function launch() {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  });
}

/** A page in a context of its own. `allowed` are patterns of console messages that are meant to come. */
export async function open(url, { allowed = [], ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  const complaints = [];
  page.on('console', message => {
    if (['error', 'warning'].includes(message.type())) complaints.push(`console: ${message.text()} ${message.location().url}`);
  });
  page.on('pageerror', error => complaints.push(`error: ${error.stack}`));
  await page.exposeFunction('violated', text => complaints.push(`CSP: ${text}`));
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', event =>
      window.violated(`${event.violatedDirective} ${event.blockedURI}`));
  });
  const response = await page.goto(url);
  assert.equal(response.status(), 200);
  /** Nothing was amiss, and no markup of a stranger has run. Closes the page. */
  page.fine = async () => {
    assert.equal(await page.evaluate(() => globalThis.hacked), undefined, 'a stranger’s script has run');
    assert.deepEqual(complaints.filter(complaint => !allowed.some(pattern => pattern.test(complaint))), []);
    await context.close();
  };
  return page;
}

/** Chromium itself tells the console of every answer that is no success. */
export const STATUS = status => new RegExp(`^console: Failed to load resource: the server responded with a status of ${status}`);

/** The Console, connected. */
export async function openConsole(url, options) {
  const page = await open(url, options);
  await page.getByRole('button', { name: 'Try it in the console' }).first().click();
  await pill(page, 'connected').waitFor();
  await page.locator('.item').first().waitFor();
  return page;
}

/** How things are, in a word. */
export const pill = (page, text) => page.locator('.pill').getByText(text, { exact: true });
export const tool = (page, name) => page.getByRole('navigation', { name: 'tools' }).getByRole('button', { name, exact: true });
export const callButton = page => page.getByRole('button', { name: 'Call', exact: true });
export const outcome = page => page.getByRole('region', { name: 'Result' });

export const keyField = page => page.getByLabel('Key or token');
export const wire = page => page.getByRole('region', { name: 'Wire' });
export const rows = page => wire(page).locator('.wire-row');

/** What a page says to those who do not see it. */
export const told = (page, text) => page.locator('[role=status].unseen', { hasText: text }).waitFor({ state: 'attached' });

/** Calls the chosen tool, and gives the text of what came. */
export async function call(page) {
  await callButton(page).click();
  await outcome(page).locator('h4', { hasText: /^(Result|Error|Failed|Cancelled)$/ }).first().waitFor();
  return outcome(page).innerText();
}
