// The conformance suite of MCP, directly and through `mcp-sse`, check by check:
// `conformance.mjs --program PATH [--revision R] [--part server|client] [--era E] [--client-revision R] [--route NAME]...
// [--only REGEX] [--details]`.
//
// What is asked of a route is no more than what passes without it: a check that is worse through the gateway fails, apart
// from those in known.mjs, and one of those that is not worse any more fails too. README.md says what the routes are.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { DIRECTLY, KNOWN } from './known.mjs';
import { end, gateway, start } from './programs.mjs';

const SUITE = 'node_modules/@modelcontextprotocol/conformance';
const LEGACY = '2025-11-25';
const MODERN = '2026-07-28';
const TOTAL_MS = 600_000;
/** Of a scenario. */
const SCENARIO_MS = 30_000;

const { values: options } = parseArgs({ options: {
  program: { type: 'string' },
  // What the suite speaks.
  revision: { type: 'string', default: LEGACY },
  part: { type: 'string' },
  // Of the server behind the gateway, when it is not that of the revision.
  era: { type: 'string' },
  // What the client before the gateway speaks in client scenarios, when it is not the suite's revision.
  'client-revision': { type: 'string' },
  route: { type: 'string', multiple: true },
  only: { type: 'string', default: '' },
  // Says what the suite saw too, where that differs.
  details: { type: 'boolean', default: false },
} });
const CHOICES = {
  revision: [LEGACY, MODERN],
  part: ['server', 'client'],
  era: ['legacy', 'modern', 'dual'],
  'client-revision': [LEGACY, MODERN],
  route: ['stdio', 'http', 'sse', 'connect'],
};
const isWrong = ([name, choices]) => [options[name] ?? []].flat().some(value => !choices.includes(value));
const [wrong] = Object.entries(CHOICES).find(isWrong) ?? [];
if (!options.program || wrong) {
  console.error(wrong ? `--${wrong} is one of ${CHOICES[wrong].join(', ')}` : '--program PATH is missing');
  process.exit(2);
}
const { program, revision } = options;
const only = new RegExp(options.only);
const eraOf = { [LEGACY]: 'legacy', [MODERN]: 'modern' };
const era = options.era ?? eraOf[revision];
const spoken = options['client-revision'] ?? revision;

/** Those of the suite that are about clients without OAuth, which the gateway is. */
const CLIENT_SCENARIOS = {
  [LEGACY]: ['initialize', 'tools_call', 'elicitation-sep1034-client-defaults', 'sse-retry', 'json-schema-2020-12-preservation'],
  [MODERN]: ['tools_call', 'request-metadata', 'sep-2322-client-request-state', 'http-standard-headers', 'http-custom-headers',
    'http-invalid-tool-headers', 'json-schema-ref-no-deref', 'json-schema-2020-12-preservation'],
};

const server = (transport, era) => ['server.mjs', transport, '--era', era];
const overHttp = era => start(process.execPath, server('http', era), line => /http:\S+/.exec(line)?.[0]);
const overStdio = async (...args) => gateway(program, ['--', ...args]);

/** Where the suite finds the server: the URL of its Streamable HTTP. */
const SERVER_ROUTES = {
  stdio: async () => (await overStdio(process.execPath, ...server('stdio', era))).http,
  http: async () => (await gateway(program, ['--upstream', await overHttp(era)])).http,
  sse: async () => {
    const first = await overStdio(process.execPath, ...server('stdio', era));
    return (await gateway(program, ['--upstream', first.sse, '--transport', 'sse'])).http;
  },
  connect: async () => (await overStdio(program, 'connect', '--log-level', 'warn', await overHttp(era))).http,
};
const CLIENT_ROUTES = ['http', 'sse', 'connect'];

/** How the suite names the folder of a scenario. */
const NAME = { server: /^server-(.*)-\d{4}-\d\d-\d\dT[\d-]+Z$/, client: /^(.*)-\d{4}-\d\d-\d\dT[\d-]+Z$/ };

/** What the client of a scenario has said on stderr, the last time. */
const said = new Map();

/** Runs the suite; what it says matters only when it leaves nothing to read. */
async function suite(args, env) {
  const folder = mkdtempSync(join(tmpdir(), 'conformance-'));
  try {
    const child = spawn(process.execPath, ['--import', './older-node.mjs', join(SUITE, 'dist/index.js'), ...args, '-o', folder],
      { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', data => { output += data; });
    await new Promise((resolve, reject) => child.once('close', resolve).once('error', reject));
    const scenarios = new Map();
    for (const name of readdirSync(folder)) {
      const [, scenario] = NAME[args[0]].exec(name);
      const file = join(folder, name, 'checks.json');
      // One that could not be run leaves an empty folder.
      scenarios.set(scenario, existsSync(file) ? checks(JSON.parse(readFileSync(file))) : new Map());
      const stderr = join(folder, name, 'stderr.txt');
      if (existsSync(stderr)) said.set(scenario, readFileSync(stderr, 'utf8'));
    }
    if (!scenarios.size) throw new Error(`the suite left nothing to read: ${output.slice(-600)}`);
    return scenarios;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const SEVERITY = { SUCCESS: 0, INFO: 1, SKIPPED: 1, absent: 1, WARNING: 2, FAILURE: 3 };

/** The worst of each check, by its id and name: scenarios repeat some, and share ids among others. */
function checks(list) {
  const worst = new Map();
  for (const { id, name, status, errorMessage, details } of list) {
    const key = `${id} (${name})`;
    if (SEVERITY[status] >= (SEVERITY[worst.get(key)?.status] ?? 0)) {
      worst.set(key, { status, why: errorMessage ?? '', details });
    }
  }
  return worst;
}

async function serverScenarios(url) {
  return suite(['server', '--url', url, '--requirements', revision, '--timeout', String(SCENARIO_MS)]);
}

async function clientScenarios(route) {
  const all = new Map();
  for (const scenario of CLIENT_SCENARIOS[revision].filter(name => only.test(name))) {
    const args = ['client', '--command', 'node client.mjs', '--scenario', scenario, '--spec-version', revision];
    const env = { MCP_SSE_ROUTE: route, MCP_SSE_PROGRAM: program, MCP_SSE_REVISION: spoken };
    for (const [name, found] of await suite([...args, '--timeout', String(SCENARIO_MS)], env)) all.set(name, found);
  }
  return all;
}

let passed = 0;
let failed = 0;
const pass = line => { passed += 1; if (line) console.log(`ok ${line}`); };
const fail = line => { failed += 1; console.log(`FAIL ${line}`); };
const brief = text => text.replace(/\s+/g, ' ').slice(0, 400);

const matches = (pattern, value) => pattern === undefined || pattern === value || (pattern instanceof RegExp && pattern.test(value));

/** What the file knows about a difference. */
function expected(known, about) {
  return known.find(entry => ['part', 'revision', 'era', 'spoken', 'route', 'scenario', 'check'].every(key =>
    matches(entry[key], about[key])));
}

/** Whether all passes without the gateway that should: else there would be little to compare with. */
function judgeDirect(part, scenarios) {
  if (!scenarios.size) fail(`directly, ${part}: no scenario has run`);
  for (const [scenario, found] of scenarios) {
    if (![...found.values()].some(({ status }) => status === 'SUCCESS') && !expected(DIRECTLY, { part, revision, scenario })) {
      fail(`directly, ${scenario}: nothing has passed`);
    }
    for (const [check, { status, why }] of found) {
      const known = expected(DIRECTLY, { part, revision, scenario, check });
      if (SEVERITY[status] < SEVERITY.WARNING || known) continue;
      fail(`directly, ${scenario}, ${check}: ${status}: ${brief(why)}`);
    }
  }
}

function compare(part, route, direct, through) {
  const used = new Set();
  const worse = new Set();
  let same = 0;
  for (const [scenario, found] of direct) {
    const other = through.get(scenario) ?? new Map();
    for (const check of new Set([...found.keys(), ...other.keys()])) {
      const { status: before, details } = found.get(check) ?? { status: 'absent' };
      const { status: after, why = '', details: afterwards } = other.get(check) ?? { status: 'absent' };
      if (options.details && JSON.stringify(details) !== JSON.stringify(afterwards)) {
        console.log(`details of ${part}, ${route}, ${scenario}, ${check}:\n  ${JSON.stringify(details)}\n  ${JSON.stringify(afterwards)}`);
      }
      const known = expected(KNOWN, { part, revision, era, spoken, route, scenario, check });
      const title = `${part}, ${route}, ${scenario}, ${check}: ${before} directly, ${after} through the gateway`;
      const isWorse = SEVERITY[after] > SEVERITY[before];
      if (isWorse && known) {
        used.add(known);
        console.log(`known ${title}: ${known.reason}`);
      } else if (isWorse) {
        worse.add(scenario);
        fail(`${title}: ${brief(why)}`);
      } else if (SEVERITY[after] < SEVERITY[before]) {
        console.log(`better ${title}`);
      } else {
        same += 1;
      }
    }
  }
  for (const scenario of worse) {
    if (said.get(scenario)) console.log(`${part}, ${route}, ${scenario}: the client said: ${brief(said.get(scenario))}`);
  }
  for (const entry of KNOWN) {
    const about = { part, revision, era, spoken, route };
    const applies = Object.entries(about).every(([key, value]) => matches(entry[key], value)) && direct.has(entry.scenario);
    if (applies && !used.has(entry)) fail(`${part}, ${route}, ${entry.scenario}: known.mjs says that it is worse, but it is not`);
  }
  pass(`${part}, ${route}: ${direct.size} scenarios, ${same} checks as they are directly`);
  passed += same - 1;
}

const chosen = all => all.filter(route => !options.route || options.route.includes(route));
const kept = scenarios => new Map([...scenarios].filter(([name]) => only.test(name)));

async function main() {
  if (options.part !== 'client') {
    const direct = kept(await serverScenarios(await overHttp(eraOf[revision])));
    judgeDirect('server', direct);
    for (const route of chosen(Object.keys(SERVER_ROUTES))) {
      const through = await serverScenarios(await SERVER_ROUTES[route]());
      compare('server', route, direct, through);
      await end();
    }
  }
  if (options.part !== 'server') {
    const direct = await clientScenarios('direct');
    judgeDirect('client', direct);
    for (const route of chosen(CLIENT_ROUTES)) compare('client', route, direct, await clientScenarios(route));
  }
}

setTimeout(() => {
  fail(`overall: not done after ${TOTAL_MS / 1000} s`);
  finish();
}, TOTAL_MS);

async function finish() {
  await end();
  if (!passed && !failed) fail('nothing was compared');
  const { version } = JSON.parse(readFileSync(join(SUITE, 'package.json')));
  console.log(`conformance ${version}, ${revision}: ${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}

await main().catch(error => fail(`overall: ${brief(error?.stack ?? String(error))}`));
await finish();
