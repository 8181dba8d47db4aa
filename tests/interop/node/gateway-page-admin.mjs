// The page for operators.

import assert from 'node:assert/strict';
import {
  Gateway, KEY, OTHER_KEY, STATUS, call, everything, open, openConsole, pill, secretFile, told,
} from './gateway-page-lib.mjs';

export async function adminChecks(check) {
  const gateway = await Gateway.start(['--metrics', '--', ...everything()], { admin: true });
  await check('admin: servers, sessions, tools, charts that move', async () => {
    const client = await openConsole(gateway.page);
    await client.getByRole('textbox', { name: 'message' }).fill('counted');
    await call(client);
    const page = await open(gateway.admin);
    const sessions = page.getByRole('region', { name: 'Table of sessions' });
    await sessions.getByRole('cell', { name: /^tools\// }).waitFor();
    await page.getByRole('row', { name: /echo root 1 0/ }).waitFor();
    await page.getByRole('heading', { name: 'at the root' }).waitFor();
    // Calls, until the line of calls leaves the ground.
    const moved = () => page.locator('.chart', { hasText: 'Calls' }).locator('polyline').evaluateAll(lines =>
      lines.some(line => new Set(line.getAttribute('points').split(' ').map(point => point.split(',')[1])).size > 1));
    for (;;) {
      await call(client);
      if (await moved()) break;
    }
    await page.locator('.chart', { hasText: 'Calls' }).getByText(/Last minute: 0 \/ s to [\d.]+ \/ s/).waitFor();
    await page.getByRole('button', { name: 'Probe all' }).click();
    await pill(page, 'well').waitFor();
    await page.getByRole('button', { name: /^Age/ }).click();
    assert.equal(await page.getByRole('columnheader', { name: 'Age' }).getAttribute('aria-sort'), 'descending');
    await page.getByLabel('Filter sessions').fill('nobody');
    await page.getByText('No session matches.').waitFor();
    await page.getByLabel('Filter sessions').fill('');
    await client.fine();
    await page.fine();
  });
  await check('admin: closes a session', async () => {
    const own = await Gateway.start(['--', ...everything()], { admin: true });
    const client = await openConsole(own.page, { allowed: [STATUS(404)] });
    const page = await open(own.admin, { allowed: [STATUS(404)] });
    const close = page.getByRole('button', { name: /^Close session/ });
    await close.click();
    const dialog = page.getByRole('dialog', { name: 'Close this session?' });
    await dialog.getByRole('button', { name: 'Cancel' }).click();
    await dialog.waitFor({ state: 'hidden' });
    await close.and(page.locator(':focus')).waitFor();
    await close.click();
    await dialog.getByRole('button', { name: 'Close the session' }).click();
    await told(page, 'The session is closed');
    await page.getByText('No client is connected.').waitFor();
    await pill(client, 'not connected').waitFor();
    await client.fine();
    await page.fine();
    await own.stop();
  });
  await check('admin: 360 pixels wide', async () => {
    const client = await openConsole(gateway.page);
    const page = await open(gateway.admin, { viewport: { width: 360, height: 740 } });
    await page.getByRole('cell', { name: '127.0.0.1' }).first().waitFor();
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
    await client.fine();
    await page.fine();
  });
  await check('admin: says so when the gateway is gone', async () => {
    const page = await open(gateway.admin, { allowed: [/ERR_/] });
    await page.getByRole('heading', { name: 'at the root' }).waitFor();
    await gateway.stop();
    await page.getByText('The gateway does not answer').waitFor();
    await page.getByRole('heading', { name: 'at the root' }).waitFor();
    await page.fine();
  });
  await check('admin: with a key, and without metrics', async () => {
    const locked = await Gateway.start(['--admin-token-file', secretFile(`operator ${KEY}\n`), '--', ...everything()],
      { admin: true });
    const page = await open(locked.admin, { allowed: [STATUS(401), STATUS(404)] });
    await page.getByText('This page needs a key').waitFor();
    await page.getByLabel('Key').fill(OTHER_KEY);
    await page.getByRole('button', { name: 'Open' }).click();
    await page.getByText('That key was refused.').waitFor();
    await page.getByLabel('Key').fill(KEY);
    await page.getByRole('button', { name: 'Open' }).click();
    await page.getByRole('heading', { name: 'at the root' }).waitFor();
    await page.getByText('Start the gateway with --metrics').waitFor();
    await page.getByText('No client is connected.').waitFor();
    await page.fine();
    await locked.stop();
  });
}
