// The pictures of the pages that the documentation shows, each with something in it.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { Gateway, call, everything, folder, open, openConsole, outcome, tool } from './gateway-page-lib.mjs';

/** How long the charts are fed before their picture is taken. */
const FEED_MS = 45_000;

export async function screenshots(folderPath) {
  mkdirSync(folderPath, { recursive: true });
  const save = (page, name, options) =>
    page.screenshot({ path: join(folderPath, `${name}.png`), animations: 'disabled', caret: 'hide', ...options });
  const gateway = await start();
  const feeding = feed(gateway);
  for (const colorScheme of ['light', 'dark']) {
    const connect = await open(gateway.page, { colorScheme, viewport: { width: 1280, height: 820 } });
    await connect.getByRole('button', { name: 'VS Code' }).first().click();
    await save(connect, `connect-${colorScheme}`);
    await connect.fine();
    const page = await openConsole(gateway.page, { colorScheme, viewport: { width: 1280, height: 900 } });
    await inUse(page);
    await save(page, `console-${colorScheme}`);
    await page.fine();
  }
  const phone = await openConsole(gateway.page, { viewport: { width: 390, height: 1240 }, isMobile: true, hasTouch: true });
  await inUse(phone);
  await phone.evaluate(() => scrollTo(0, 0));
  await save(phone, 'console-phone');
  await phone.fine();
  const admins = await Promise.all(['light', 'dark'].map(async colorScheme =>
    [colorScheme, await open(gateway.admin, { colorScheme, viewport: { width: 1280, height: 900 } })]));
  await feeding.fed(FEED_MS);
  for (const [colorScheme, page] of admins) {
    await page.getByRole('button', { name: 'Probe all' }).click();
    await page.getByText('well', { exact: true }).nth(1).waitFor();
    await page.mouse.move(0, 0);
    await page.evaluate(() => document.activeElement.blur());
    await save(page, `sessions-${colorScheme}`);
    await page.fine();
  }
  await feeding.stop();
  await gateway.stop();
}

/** Two servers, under names that one meets. */
async function start() {
  const at = folder();
  // As others would start them, and without a path of this machine.
  writeFileSync(join(at, 'npx'), `#!/bin/sh\nexec '${everything()[0]}'\n`, { mode: 0o755 });
  const config = join(at, 'mcp.json');
  const server = { command: 'npx', args: ['-y', '@modelcontextprotocol/server-everything'] };
  writeFileSync(config, JSON.stringify({ mcpServers: { everything: server, sandbox: server } }));
  return Gateway.start(['--config', config, '--metrics'], { admin: true, path: `${at}:${process.env.PATH}` });
}

async function inUse(page) {
  await tool(page, 'get-structured-content').click();
  await page.getByRole('combobox', { name: 'location' }).selectOption('Chicago');
  await call(page);
  await outcome(page).getByText('Structured content').waitFor();
  await page.mouse.move(0, 0);
  await page.evaluate(() => document.activeElement.blur());
}

/** Clients that call tools, one of them more than the others. */
function feed(gateway) {
  let isOver = false;
  const begun = Date.now();
  const one = async (server, pause) => {
    const client = new Client({ name: 'feed', version: '0' });
    await client.connect(new SSEClientTransport(new URL(`${server}/sse`, gateway.page)));
    while (!isOver) {
      const seconds = (Date.now() - begun) / 1000;
      await client.callTool({ name: 'echo', arguments: { message: 'x'.repeat(200) } });
      if (Math.random() < 0.3) await client.callTool({ name: 'get-sum', arguments: { a: 1, b: 2 } });
      if (Math.random() < 0.05) await client.callTool({ name: 'trigger-long-running-operation',
        arguments: { duration: 0.3, steps: 1 } });
      if (Math.random() < 0.1) await client.callTool({ name: 'get-sum', arguments: { a: 'no' } }).catch(() => {});
      await new Promise(resolve => setTimeout(resolve, pause * (1.2 + Math.sin(seconds / 6))));
    }
    await client.close();
  };
  const all = Promise.all([one('everything', 120), one('everything', 700), one('sandbox', 900), one('sandbox', 2500)]);
  return {
    fed: ms => new Promise(resolve => setTimeout(resolve, Math.max(0, ms - (Date.now() - begun)))),
    stop: () => {
      isOver = true;
      return all;
    },
  };
}
