// The gateway's pages in a real browser: Connect, the Console and the page for operators; then the lines that it gives for
// other clients, which are run.
//
//   MCP_SSE=… SERVERS=… node gateway-page.mjs                    all checks
//   MCP_SSE=… SERVERS=… node gateway-page.mjs --screenshots DIR  only the pictures for the documentation
//
// With --only PATTERN, of the checks only those whose titles match.
//
// MCP_SSE is the gateway's program and SERVERS a folder whose node_modules has server-everything. May be set: CHROMIUM, and for
// the lines CLAUDE (Claude Code's program), MCP_REMOTE (mcp-remote's script) and PYTHON (with the package mcp).

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  Gateway, KEY, OTHER_KEY, STATUS, browser, call, everything, folder, keyField, launch, open, pill, runPage,
  secretFile, told,
} from './gateway-page-lib.mjs';
import { adminChecks } from './gateway-page-admin.mjs';
import { consoleChecks } from './gateway-page-console.mjs';
import { hostileChecks } from './gateway-page-hostile.mjs';
import { screenshots } from './gateway-page-screenshots.mjs';
import { snippetChecks } from './gateway-page-snippets.mjs';

async function connectChecks(check, gateway) {
  await check('connect: lines to copy', async () => {
    const page = await open(gateway.page, { permissions: ['clipboard-read', 'clipboard-write'] });
    await page.getByRole('button', { name: 'Cursor' }).click();
    await page.getByRole('button', { name: 'Copy: lines for Cursor' }).click();
    await told(page, 'Copied');
    const { mcpServers } = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
    assert.deepEqual(Object.values(mcpServers), [{ url: `${gateway.page}sse` }]);
    await page.fine();
  });
  await check('connect: behind a prefix', async () => {
    const prefixed = await prefixProxy(gateway.page, '/some/prefix');
    const page = await open(`${prefixed}/`);
    await page.getByText(`${prefixed}/sse`, { exact: true }).waitFor();
    await page.fine();
  });
  await check('a foreign Host gets 421', async () => {
    for (const path of ['/', '/_page/servers.json', '/_page/app.js']) {
      assert.equal(await statusOf(new URL(path, gateway.page), { host: 'evil.example' }), 421, path);
    }
  });
}

/** Takes a prefix off the path, as a proxy in front does. */
async function prefixProxy(target, prefix) {
  const { hostname, port, host } = new URL(target);
  const server = http.createServer((request, response) => {
    if (!request.url.startsWith(`${prefix}/`)) return response.writeHead(404).end();
    const { method, headers } = request;
    const upstream = http.request({ host: hostname, port, method, path: request.url.slice(prefix.length),
      headers: { ...headers, host } });
    request.pipe(upstream);
    return upstream.on('response', incoming => {
      response.writeHead(incoming.statusCode, incoming.headers);
      incoming.pipe(response);
    });
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  server.unref();
  return `http://127.0.0.1:${server.address().port}${prefix}`;
}

const statusOf = (url, headers) => new Promise((resolve, reject) => {
  http.get(url, { headers }, response => {
    response.resume();
    resolve(response.statusCode);
  }).on('error', reject);
});

async function keyChecks(check) {
  const keys = secretFile(`alice ${KEY}\nbob ${OTHER_KEY}\n`);
  const gateway = await Gateway.start(['--bearer-token-file', keys, '--', ...everything()]);
  const allowed = [STATUS(401)];
  await check('key: asked for, refused, taken', async () => {
    const page = await open(gateway.page, { allowed });
    await page.getByText('This gateway needs a key').waitFor();
    await keyField(page).fill('a-wrong-key-0123456789');
    await page.getByRole('button', { name: 'Show them' }).click();
    await page.getByText('opens nothing').waitFor();
    await keyField(page).fill(KEY);
    await page.getByRole('button', { name: 'Show them' }).click();
    await page.getByText('needs a key', { exact: true }).waitFor();
    await page.getByRole('button', { name: 'Try it in the console' }).click();
    await page.getByRole('textbox', { name: 'message' }).fill('with a key');
    assert.match(await call(page), /Echo: with a key/);
    assert.equal(await page.evaluate(key =>
      JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href]).includes(key), KEY), false);
    assert.equal(await page.evaluate(key => document.documentElement.innerHTML.includes(key), KEY), false);
    await page.fine();
  });
  await check('key: forgotten', async () => {
    const page = await open(gateway.page, { allowed });
    await keyField(page).fill(KEY);
    await page.getByRole('button', { name: 'Show them' }).click();
    await page.getByRole('button', { name: 'Forget it' }).click();
    await page.getByText('This gateway needs a key').waitFor();
    await page.fine();
  });
  await check('key: taken out while the session is open', async () => {
    const page = await open(gateway.page, { allowed: [...allowed, STATUS(404), /ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_NETWORK/] });
    await keyField(page).fill(OTHER_KEY);
    await page.getByRole('button', { name: 'Show them' }).click();
    await page.getByRole('button', { name: 'Try it in the console' }).click();
    await page.locator('.item').first().waitFor();
    writeFileSync(keys, `alice ${KEY}\n`);
    gateway.child.kill('SIGHUP');
    await pill(page, 'not connected').waitFor();
    await page.getByRole('heading', { name: 'This server needs a key' }).waitFor();
    await page.getByText('That one was refused').waitFor();
    await page.fine();
  });
  await gateway.stop();
  await check('key: some servers open, others not', async () => {
    const config = join(folder(), 'mcp.json');
    const [command] = everything();
    writeFileSync(config, JSON.stringify({ mcpServers: {
      open: { command },
      'Ünï "c" $(x)': { command, auth: { bearerTokenFile: keys } },
    } }));
    const mixed = await Gateway.start(['--config', config]);
    const page = await open(mixed.page, { allowed });
    await page.getByRole('heading', { name: 'open' }).waitFor();
    assert.equal(await page.getByRole('heading', { name: /Ünï/ }).count(), 0);
    await keyField(page).fill(KEY);
    await page.getByRole('button', { name: 'Show them' }).click();
    const card = page.getByRole('region', { name: 'Ünï "c" $(x)' });
    await card.getByRole('button', { name: 'Try it in the console' }).click();
    await page.getByRole('textbox', { name: 'message' }).fill('odd name');
    assert.match(await call(page), /Echo: odd name/);
    assert.equal(decodeURIComponent(new URL(page.url()).hash), '#console/Ünï "c" $(x)');
    await page.fine();
    await mixed.stop();
  });
}

/** What is behind a gateway is a stranger, who gets no key that is for the gateway. */
async function strangerChecks(check) {
  await check('key: not sent to a server that needs none', async () => {
    const seen = [];
    const stranger = http.createServer((request, response) => {
      seen.push(request.headers);
      request.resume();
      // It asks for one.
      response.writeHead(401, { 'www-authenticate': 'Bearer' }).end('give me your key');
    });
    await new Promise(resolve => stranger.listen(0, '127.0.0.1', resolve));
    const [command] = everything();
    const auth = { bearerTokenFile: secretFile(`alice ${KEY}\n`) };
    const config = join(folder(), 'mcp.json');
    writeFileSync(config, JSON.stringify({ mcpServers: {
      alpha: { command, auth },
      beta: { type: 'http', url: `http://127.0.0.1:${stranger.address().port}/mcp`, headersFromClient: ['Authorization'] },
    } }));
    const gateway = await Gateway.start(['--config', config]);
    const page = await open(gateway.page, { allowed: [STATUS('\\d+')] });
    await keyField(page).fill(KEY);
    await page.getByRole('button', { name: 'Show them' }).click();
    const card = name => page.getByRole('region', { name, exact: true });
    await card('alpha').waitFor();
    await card('beta').getByRole('button', { name: 'Try it in the console' }).click();
    await pill(page, 'not connected').waitFor();
    await page.getByRole('alert').getByText('Connecting did not work').waitFor();
    assert.equal(await page.getByRole('tabpanel', { name: 'Console' }).getByLabel('Key or token').count(), 0);
    assert.ok(seen.length > 0, 'the stranger was not asked');
    assert.ok(!JSON.stringify(seen).includes(KEY), 'the stranger has the key');
    assert.deepEqual(seen.filter(headers => 'authorization' in headers), []);
    // Where it is needed, it is sent.
    await page.getByLabel('Server', { exact: true }).selectOption('alpha');
    await page.getByRole('button', { name: 'Connect', exact: true }).click();
    await pill(page, 'connected').waitFor();
    await page.fine();
    await gateway.stop();
    stranger.close();
  });
}

const { values } = parseArgs({ options: { screenshots: { type: 'string' }, only: { type: 'string' } } });
const only = values.only && new RegExp(values.only);

runPage(() => `gateway page, chromium ${browser?.version() ?? '(did not start)'}`, only, async (check, leftOut) => {
  await launch();
  if (values.screenshots) {
    await check('screenshots', () => screenshots(values.screenshots));
    return;
  }
  const gateway = await Gateway.start(['--', ...everything()]);
  await connectChecks(check, gateway);
  await consoleChecks(check, gateway);
  await gateway.stop();
  await keyChecks(check);
  await strangerChecks(check);
  await hostileChecks(check);
  await adminChecks(check);
  await snippetChecks(check, leftOut);
});
