// Real MCP servers behind a gateway, driven by a real client. What is checked is what came back from the server
// through the gateway, and, where files are written, the files themselves.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, readdirSync, realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as everything from './everything.mjs';
import { ECHOES, run, same, textOf } from './lib.mjs';
import { CLIENTS } from './server-clients.mjs';

/** Tools report errors in the result, so that a model reads them. */
function isError(result, text) {
  assert.ok(result.isError, 'no error');
  assert.match(result.content[0].text, text);
}

const time = {
  name: 'mcp-time',
  tools: ['get_current_time', 'convert_time'],
  async quick(client) {
    same(JSON.parse(textOf(await client.call('get_current_time', { timezone: 'UTC' }))).timezone, 'UTC');
  },
  async checks(check, client) {
    await check('current time', async () => {
      const result = await client.call('get_current_time', { timezone: 'Asia/Tokyo' });
      const { datetime, timezone } = JSON.parse(textOf(result));
      same(timezone, 'Asia/Tokyo');
      assert.match(datetime, /\+09:00$/);
      assert.ok(Math.abs(new Date(datetime) - Date.now()) < 60_000, datetime);
      same(result.structuredContent.datetime, datetime);
    });
    await check('convert time', async () => {
      const args = { source_timezone: 'Asia/Tokyo', time: '12:00', target_timezone: 'Asia/Kathmandu' };
      const { target, time_difference: difference } = JSON.parse(textOf(await client.call('convert_time', args)));
      assert.match(target.datetime, /T08:45:00\+05:45$/);
      same(difference, '-3.25h');
    });
    await check('error for a bad timezone', async () =>
      isError(await client.call('get_current_time', { timezone: 'Nowhere/None' }), /Invalid timezone/));
  },
};

const filesystem = {
  name: 'secure-filesystem-server',
  tools: ['read_text_file', 'write_file', 'edit_file', 'list_directory', 'list_allowed_directories'],
  async quick(client, root) {
    // The real path is what it checks against.
    same(textOf(await client.call('list_allowed_directories')), `Allowed directories:\n${realpathSync(root)}`);
  },
  async checks(check, client, root) {
    const folder = join(realpathSync(root), `interop-${process.pid}-${Date.now()}`);
    mkdirSync(folder);
    const path = name => join(folder, name);
    await check('list allowed directories', () => filesystem.quick(client, root));
    for (const [name, content] of Object.entries(ECHOES)) {
      await check(`write and read ${name}`, async () => {
        textOf(await client.call('write_file', { path: path(name), content }));
        same(readFileSync(path(name), 'utf8'), content);
        same(textOf(await client.call('read_text_file', { path: path(name) })), content);
      });
    }
    await check('edit', async () => {
      writeFileSync(path('edited'), 'one\n漢字 😀\nthree\n');
      const edits = [{ oldText: '漢字 😀', newText: 'zwei\u2028かな' }];
      const diff = textOf(await client.call('edit_file', { path: path('edited'), edits }));
      assert.ok(diff.includes('-漢字 😀\n+zwei\u2028かな\n'), diff);
      same(readFileSync(path('edited'), 'utf8'), 'one\nzwei\u2028かな\nthree\n');
    });
    await check('list', async () => {
      const lines = textOf(await client.call('list_directory', { path: folder })).split('\n').sort();
      assert.deepEqual(lines, readdirSync(folder).map(name => `[FILE] ${name}`).sort());
    });
    await check('error for a path outside', async () =>
      isError(await client.call('read_text_file', { path: '/etc/hostname' }), /Access denied/));
  },
};

const git = {
  name: 'mcp-git',
  tools: ['git_status', 'git_log', 'git_add', 'git_commit', 'git_diff'],
  async quick(client, root) {
    assert.match(textOf(await client.call('git_status', { repo_path: root })), /^Repository status:\nOn branch /);
  },
  async checks(check, client, root) {
    const stamp = `${process.pid}-${Date.now()}`;
    const file = `interop-${stamp}.txt`;
    const message = `Add ${file}: emoji 😀, CJK 漢字`;
    const call = async (tool, args) => textOf(await client.call(tool, { repo_path: root, ...args }));
    await check('status', () => git.quick(client, root));
    await check('add', async () => {
      writeFileSync(join(root, file), 'one\n');
      assert.match(await call('git_add', { files: [file] }), /staged/);
      assert.ok((await call('git_status')).includes(`new file:   ${file}`));
    });
    const hash = await check('commit', async () =>
      /hash ([0-9a-f]{40})/.exec(await call('git_commit', { message }))[1]);
    await check('log', async () => {
      const log = await call('git_log', { max_count: 1 });
      assert.ok(log.includes(hash) && log.includes(message), log);
    });
    await check('diff', async () => {
      writeFileSync(join(root, file), 'one\nשלום\u2028😀\n');
      assert.ok((await call('git_diff', { target: 'HEAD' })).includes('\n+שלום\u2028😀'));
    });
    await check('error for a path that is no repository', async () => {
      const repo_path = join(root, `no-repository-${stamp}`);
      mkdirSync(repo_path);
      isError(await client.call('git_status', { repo_path }), new RegExp(stamp));
    });
  },
};

/** The demo server, which is killed when it is asked to echo a certain text; another one takes its place. */
const crashing = {
  name: 'mcp-sse demo',
  tools: ['add', 'echo', 'long_task'],
  async quick(client) {
    same(textOf(await client.call('echo', { message: 'hello' })), 'hello');
  },
  async checks(check, client) {
    const dies = action => assert.rejects(action, /the server ended \(exit status: 3/);
    const crash = () => dies(client.call('echo', { message: 'crash-now' }));
    await check('a call', () => crashing.quick(client));
    for (const time of ['once', 'twice', 'three times']) {
      await check(`an error for the call that kills it, ${time}`, crash);
      await check(`a call after that, ${time}`, () => crashing.quick(client));
    }
    // An invocation of the Inspector is a session with one call.
    if (!client.progress) return;
    await check('an error for all calls that it had', async () => {
      const long = dies(client.call('long_task', { steps: 1000, step_ms: 10 }));
      await Promise.all([long, crash()]);
      await crashing.quick(client);
    });
  },
};

const SERVERS = { everything, filesystem, time, git, crashing };

run(
  ({ client, server }) => `${CLIENTS[client].name()}, ${server}`,
  async (check, url, values) => {
    const { connect, connectAuto } = CLIENTS[values.client];
    const { name, tools, quick, checks } = SERVERS[values.server];
    if (['filesystem', 'git'].includes(values.server)) assert.ok(values.root, '--root DIR is missing');
    const client = await check('initialize', async () => {
      const client = await connect(url, values);
      same(client.server, name);
      return client;
    });
    if (!client) return;
    await check('list tools', async () => {
      const names = await client.tools();
      assert.deepEqual(tools.filter(tool => !names.includes(tool)), [], 'missing tools');
    });
    await checks(check, client, values.root);
    await check('close', () => client.close());
    await check('connect again', async () => {
      const again = await connect(url, values);
      await quick(again, values.root);
      await again.close();
    });
    if (connectAuto) {
      await check('connect in mode auto', async () => {
        const auto = await connectAuto(url, values);
        await quick(auto, values.root);
        await auto.close();
      });
    }
  },
  {
    transport: { type: 'string', choices: ['sse', 'http'] },
    server: { type: 'string', choices: Object.keys(SERVERS) },
    client: { type: 'string', choices: Object.keys(CLIENTS) },
    root: { type: 'string', optional: true },
  },
);
