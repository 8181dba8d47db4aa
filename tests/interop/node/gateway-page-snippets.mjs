// The lines that the page gives for other clients: all are parsed as what they are, and those of clients that are installed
// here are run against a gateway, with and without a key.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { Gateway, KEY, everything, folder, secretFile } from './gateway-page-lib.mjs';

const NAMES = ['', 'files', 'a b"c', 'ü', '漢字', '$(x)', "it's", '@scope/server', '`x`', '${HOME}', '\n', '-'.repeat(300),
  'x'.repeat(300), '../..'];
const NEEDS = [null, 'key', 'token', 'key or token'];
const MODULES = fileURLToPath(new URL('node_modules', import.meta.url));
/** A tool of server-everything that every client lists. */
const TOOL = 'get-tiny-image';

export async function snippetChecks(check, leftOut) {
  const open = await Gateway.start(['--', ...everything()]);
  const locked = await Gateway.start(['--bearer-token-file', secretFile(`alice ${KEY}\n`), '--', ...everything()]);
  const { snippets, slug } = await check('lines: their module has no imports', async () => {
    const text = await (await fetch(new URL('_page/snippets.js', open.page))).text();
    return import(`data:text/javascript,${encodeURIComponent(text)}`);
  }) ?? {};
  if (!snippets) return;
  await check('lines: names of any kind', async () => {
    for (const name of NAMES) assert.match(slug(name), /^[A-Za-z0-9]([A-Za-z0-9_-]{0,38}[A-Za-z0-9])?$/, JSON.stringify(name));
    assert.equal(slug('files'), 'files');
    assert.equal(slug('a b"c'), 'a-b-c');
    assert.equal(slug('ü'), 'u');
  });
  await check('lines: every one can be parsed', () => parseAll(snippets));
  await check('lines: without Streamable HTTP there are none for Rust', async () => {
    const ids = mcp => snippets({ name: 'x', sse: 'http://localhost/sse', mcp, needs: null }).map(({ id }) => id);
    assert.ok(ids('http://localhost/mcp').includes('rmcp'));
    assert.ok(!ids(null).includes('rmcp'));
  });
  await check('lines: only addresses of the web', async () => {
    assert.throws(() => snippets({ name: 'x', sse: 'javascript:alert(1)', mcp: null, needs: null }));
  });
  await check('lines: mcp-remote is told about plain HTTP where it has to be', async () => {
    const args = sse => config(snippets({ name: 'x', sse, mcp: null, needs: null }), 'claude-desktop-mcp-remote').args;
    assert.ok(args('http://192.0.2.1/sse').includes('--allow-http'));
    assert.ok(args('http://[::1]/sse').includes('--allow-http'));
    for (const sse of ['http://localhost:1/sse', 'http://127.0.0.1:1/sse',
      'https://192.0.2.1/sse']) assert.ok(!args(sse).includes('--allow-http'));
  });
  for (const [gateway, needs] of [[open, null], [locked, 'key']]) {
    const made = snippets({ name: 'My server', sse: `${gateway.page}sse`, mcp: `${gateway.page}mcp`, needs });
    await runAll(check, leftOut, made, needs ? 'with a key' : 'without a key', needs);
  }
  await open.stop();
  await locked.stop();
}

const text = (made, id) => made.find(one => one.id === id).text;
const config = (made, id) => Object.values(JSON.parse(text(made, id)).mcpServers)[0];

/** All names, needs and some odd addresses, in as few runs of the parsers as there can be. */
async function parseAll(snippets) {
  const at = folder();
  const files = { shell: [], python: [], typescript: [] };
  for (const base of ['http://127.0.0.1:8000', 'https://mcp.example.com/it%27s/$(x);&b']) {
    for (const name of NAMES) {
      for (const needs of NEEDS) {
        const path = `/${name.split('/').map(encodeURIComponent).join('/')}`;
        const made = snippets({ name, sse: `${base}${path}/sse`, mcp: `${base}${path}/mcp`, needs });
        assert.equal(new Set(made.map(({ id }) => id)).size, made.length);
        for (const { id, language, text } of made) {
          assert.ok(text.endsWith('\n') && !text.includes('undefined'), `${id}: ${text}`);
          // Only what knows of logins has no place for a key or a token.
          if (needs === 'key') assert.match(text, /YOUR_KEY|MCP_KEY|input:/, id);
          if (needs === null) assert.doesNotMatch(text, /KEY|TOKEN|Authorization|Bearer/, id);
          if (language === 'json') JSON.parse(text);
          else if (language === 'yaml') await parseYaml(text);
          else if (language === 'rust') assert.match(text,
            /^use rmcp::ServiceExt;\n[^]*(from_uri\("https?:[^"\\]+"\)|with_uri\("https?:[^"\\]+"\))/);
          else files[language].push(text);
        }
      }
    }
  }
  const run = promisify(execFile);
  const texts = kind => [...new Set(files[kind])];
  const script = join(at, 'all.sh');
  writeFileSync(script, texts('shell').join('\n'));
  await run('bash', ['-n', script]);
  await run('sh', ['-n', script]);
  // Nothing of a name or an address is run, or taken apart, by the shell: what `claude` is called with is what was meant.
  const words = texts('shell').filter(text => text.startsWith('claude'));
  writeFileSync(script, `claude() { printf '%s\\n' "$#" "$@"; }\n${words.join('\n')}`);
  const { stdout } = await run('bash', [script]);
  const lines = stdout.trim().split('\n');
  for (let i = 0; i < lines.length; i += Number(lines[i]) + 1) {
    const [count, ...args] = lines.slice(i, i + Number(lines[i]) + 1);
    assert.ok(['6', '8'].includes(count), args.join(' '));
    assert.ok(URL.canParse(args[5]), args[5]);
    if (count === '8') assert.deepEqual(args.slice(6), ['--header', 'Authorization: Bearer YOUR_KEY']);
  }
  const modules = texts('typescript').map((text, i) => {
    const file = join(at, `${i}.mjs`);
    writeFileSync(file, text);
    return file;
  });
  for (let i = 0; i < modules.length; i += 16) await Promise.all(modules.slice(i, i + 16).map(file =>
    run(process.execPath, ['--check', file])));
  const sources = join(at, 'sources.json');
  writeFileSync(sources, JSON.stringify(texts('python')));
  await run('python3', ['-c', 'import ast, json, sys\nfor text in json.load(open(sys.argv[1])): ast.parse(text)', sources]);
}

/** By a real parser where one is installed, else by what these lines may look like. */
async function parseYaml(text) {
  const { parse } = await import('yaml').catch(() => ({}));
  if (!parse) {
    assert.match(text, /^mcpServers:\n {2}[\w-]+:\n {4}type: sse\n {4}url: "https?:[^"\\]+"\n( {4}headers:\n {6}Authorization: "Bearer \$\{MCP_KEY\}"\n)?$/);
    return;
  }
  const [server] = Object.values(parse(text).mcpServers);
  assert.equal(server.type, 'sse');
  assert.ok(URL.canParse(server.url));
}

async function runAll(check, leftOut, made, how, needs) {
  const { MCP_SSE, CLAUDE, MCP_REMOTE, PYTHON } = process.env;
  const env = { ...process.env, ...(needs && { MCP_KEY: KEY }) };
  const withKey = text => text.replaceAll('YOUR_KEY', KEY);

  await check(`lines, ${how}: curl`, async () => {
    const stdout = await output('bash', ['-c', withKey(text(made, 'curl'))]);
    assert.ok(stdout.includes(`"name":"${TOOL}"`), stdout.slice(0, 500));
  });
  await check(`lines, ${how}: TypeScript SDK`, async () => {
    const at = folder();
    symlinkSync(MODULES, join(at, 'node_modules'));
    writeFileSync(join(at, 'main.mjs'), text(made, 'typescript'));
    assert.ok((await output(process.execPath, [join(at, 'main.mjs')], { env })).includes(TOOL));
  });
  await check(`lines, ${how}: mcp-sse connect`, () => {
    const { command, args, env: own } = JSON.parse(withKey(JSON.stringify(config(made, 'claude-desktop'))));
    assert.equal(command, 'mcp-sse');
    return overStdio(MCP_SSE, args, own);
  });
  if (MCP_REMOTE && existsSync(MCP_REMOTE)) {
    await check(`lines, ${how}: mcp-remote`, () => {
      const { command, args, env: own } = JSON.parse(withKey(JSON.stringify(config(made, 'claude-desktop-mcp-remote'))));
      assert.deepEqual([command, ...args.slice(0, 2)], ['npx', '-y', 'mcp-remote']);
      return overStdio(process.execPath, [MCP_REMOTE, ...args.slice(2)], { ...own, MCP_REMOTE_CONFIG_DIR: folder() });
    });
  } else leftOut(`lines, ${how}: mcp-remote`, 'MCP_REMOTE is not set');
  if (PYTHON) {
    await check(`lines, ${how}: Python SDK`, async () => {
      assert.ok((await output(PYTHON, ['-c', text(made, 'python')], { env })).includes(TOOL));
    });
  } else leftOut(`lines, ${how}: Python SDK`, 'PYTHON is not set');
  const why = await whyNoClaude(CLAUDE);
  if (why) return leftOut(`lines, ${how}: Claude Code`, why);
  await check(`lines, ${how}: Claude Code`, async () => {
    const shell = claudeShell(CLAUDE);
    await shell(withKey(text(made, 'claude-code')));
    assert.match(await shell('claude mcp get My-server'), /Status: .*Connected/);
  });
  return undefined;
}

/** What a program prints, which has to succeed. */
async function output(program, args, options = {}) {
  const { stdout } = await promisify(execFile)(program, args, { timeout: 50_000, ...options })
    .catch(error => { throw new Error(`${error.message} ${error.stderr} ${error.stdout}`); });
  return stdout;
}

/** The tools that a stdio server lists. */
async function overStdio(command, args, env = {}) {
  const at = folder();
  const transport = new StdioClientTransport({ command, args, env: { PATH: process.env.PATH, HOME: at, ...env },
    stderr: 'pipe' });
  let log = '';
  transport.stderr.on('data', data => { log += data; });
  const client = new Client({ name: 'lines', version: '0' });
  await client.connect(transport).catch(error => { throw new Error(`${error.message}: ${log.slice(-400)}`); });
  const { tools } = await client.listTools();
  assert.ok(tools.some(({ name }) => name === TOOL));
  await client.close();
}

async function whyNoClaude(program) {
  if (!program) return 'CLAUDE is not set';
  if (!existsSync(program)) return 'the program is not there';
  return claudeShell(program)('claude --version').then(() => undefined, error => String(error.message).trim().split('\n').at(-1));
}

/** Runs lines in a shell in which `claude` is that program, with a home of its own. */
function claudeShell(program) {
  const home = folder();
  const bin = join(home, 'bin');
  mkdirSync(bin);
  const start = /\.[cm]?js$/.test(program) ? `'${process.execPath}' '${program}'` : `'${program}'`;
  writeFileSync(join(bin, 'claude'), `#!/bin/sh\nexec ${start} "$@"\n`, { mode: 0o755 });
  return lines => output('bash', ['-c', lines], {
    cwd: home,
    env: {
      HOME: home, TMPDIR: home, PATH: `${bin}:${process.env.PATH}`, LANG: 'C.UTF-8', CLAUDE_CONFIG_DIR: join(home, 'claude'),
      // Nothing but the gateway is to be reached.
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1', DISABLE_AUTOUPDATER: '1',
    },
  });
}
