// The TypeScript SDK 2.x as a server of either era: `server.mjs stdio|http [--port N] --era modern|dual|legacy [--stateless]`.
//
// README.md says what each tool does. The same tools, with the same answers, are in server.py and legacy.py.
// A modern server over HTTP makes an McpServer for each request, so whatever outlives one stands in this module.

import { createServer } from 'node:http';
import { randomBytes, randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import { completable, createMcpHandler, createRequestStateCodec, inputRequired, inputResponse, isLegacyRequest, McpServer,
  ProtocolError, ResourceTemplate } from '@modelcontextprotocol/server';
import { serveStdio, StdioServerTransport } from '@modelcontextprotocol/server/stdio';
import { NodeStreamableHTTPServerTransport, toNodeHandler, toWebRequest } from '@modelcontextprotocol/node';
import { z } from 'zod';

const { values: options, positionals: [transport] } = parseArgs({ allowPositionals: true, options: {
  era: { type: 'string' },
  port: { type: 'string', default: '0' },
  // A dual server's legacy half without sessions, which is the SDK's default and cannot ask its client anything.
  stateless: { type: 'boolean', default: false },
} });
if (!['stdio', 'http'].includes(transport) || !['modern', 'dual', 'legacy'].includes(options.era)) {
  console.error('usage: server.mjs stdio|http [--port N] --era modern|dual|legacy [--stateless]');
  process.exit(2);
}

const INFO = { name: 'eras-typescript', version: '1.0.0' };
const INSTRUCTIONS = 'Call the tools in any order.';
const STATE = createRequestStateCodec({ key: randomBytes(32) });

/** How many calls of `slow` there are now, and how many have been cancelled. */
let running = 0;
let cancelled = 0;
/** What `change` has added. */
const added = { tools: false, prompts: false, resources: false };
/** The servers that live longer than a request, with what adds something to one, and with their subscriptions. */
const live = new Set();
/** The modern half over HTTP, by which those who listen are told. */
let handler;

const text = text => ({ content: [{ type: 'text', text }] });
const json = value => text(JSON.stringify(value));
const mcp = headers => Object.fromEntries([...headers].filter(([name]) => name.startsWith('mcp-')).sort());

const QUESTION = inputRequired.elicit({ message: 'What is your name?',
  requestedSchema: { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] } });
const sampling = prompt => inputRequired.createMessage({ maxTokens: 100,
  messages: [{ role: 'user', content: { type: 'text', text: prompt } }] });

const answer = (ctx, key) => inputResponse(ctx.mcpReq.inputResponses, key);
const elicited = ({ action, content }) => ({ action, ...(content && { content }) });
const sampled = ({ result }) => result.content.text;
const uris = ({ roots }) => roots.map(root => root.uri);

/** Calls `done` with what came, or asks for what has not come yet. */
function ask(ctx, requests, done) {
  const answers = Object.fromEntries(Object.keys(requests).map(key => [key, answer(ctx, key)]));
  if (Object.values(answers).some(answer => answer.kind === 'missing')) return inputRequired({ inputRequests: requests });
  return done(answers);
}

async function progress(ctx, from, to, total) {
  const progressToken = ctx.mcpReq._meta?.progressToken;
  if (progressToken === undefined) return;
  for (let step = from; step <= to; step++) {
    await ctx.mcpReq.notify({ method: 'notifications/progress',
      params: { progressToken, progress: step, total, message: `step ${step}` } });
    // A client that reads progress and the result at once may drop the progress.
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

function sleep(ms, signal) {
  running++;
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      running--;
      cancelled++;
      reject(new Error('cancelled'));
    };
    const timer = setTimeout(() => {
      running--;
      // Over HTTP the signal is raised after the answer too.
      signal.removeEventListener('abort', stop);
      resolve();
    }, ms);
    signal.addEventListener('abort', stop);
  });
}

const ON_PURPOSE = 'thrown on purpose';

/** The SDK answers whatever a tool throws with a result; this one lets one error through as an error of the protocol. */
class Throwing extends McpServer {
  createToolError(message) {
    if (message === ON_PURPOSE) throw new ProtocolError(-32050, ON_PURPOSE, { why: 'a test' });
    return super.createToolError(message);
  }
}

const EXTRA = {
  tools: server => server.registerTool('extra', {}, () => text('extra')),
  prompts: server => server.registerPrompt('extra', {}, () => ({ messages: [{ role: 'user', ...text('extra').content }] })),
  resources: server => server.registerResource('extra', 'test://extra', {}, uri =>
    ({ contents: [{ uri: uri.href, text: 'extra' }] })),
};

function change(what) {
  added[what] = !added[what];
  for (const { extras, server } of live) {
    if (added[what]) extras[what] = EXTRA[what](server);
    else extras[what].remove();
  }
  handler?.notify[`${what}Changed`]();
  return text(added[what] ? 'added' : 'removed');
}

async function touch(uri) {
  for (const { server, subscriptions } of live) {
    if (!subscriptions || subscriptions.has(uri)) await server.server.sendResourceUpdated({ uri });
  }
  handler?.notify.resourceUpdated(uri);
  return text('touched');
}

/** The SDK ends subscriptions only together with the handler that has them, so a new one takes its place. */
function hangUp() {
  if (!handler) return { ...text('nobody can be hung up on'), isError: true };
  const old = handler;
  handler = makeHandler();
  // It would end this call too.
  setTimeout(() => old.close(), 50);
  return text('hung up');
}

function registerTools(server) {
  const tool = (name, properties, call, rest) => server.registerTool(name, { description: `The tool ${name}.`,
    inputSchema: z.object(properties), ...rest }, call);

  tool('echo', { text: z.string() }, args => text(args.text));
  tool('add', { a: z.number(), b: z.number() }, ({ a, b }) => ({ ...text(String(a + b)), structuredContent: { sum: a + b } }),
    { outputSchema: z.object({ sum: z.number() }) });
  tool('fails', {}, () => ({ ...text('failed on purpose'), isError: true }));
  tool('throws', {}, () => { throw new Error(ON_PURPOSE); });
  tool('grüße', {}, () => text('grüße'));

  tool('ask', {}, (_, ctx) => ask(ctx, { ask: QUESTION }, answers => json(elicited(answers.ask))));
  tool('visit', {}, (_, ctx) => ask(ctx, { visit: inputRequired.elicitUrl({ message: 'Please sign in.',
    url: 'https://example.com/sign-in' }) }, answers => json(elicited(answers.visit))));
  tool('sample', { prompt: z.string() }, ({ prompt }, ctx) =>
    ask(ctx, { sample: sampling(prompt) }, answers => text(sampled(answers.sample))));
  tool('roots', {}, (_, ctx) => ask(ctx, { roots: inputRequired.listRoots() }, answers => json(uris(answers.roots))));
  tool('all', {}, (_, ctx) => ask(ctx, { ask: QUESTION, sample: sampling('all'), roots: inputRequired.listRoots() }, answers =>
    json({ ask: elicited(answers.ask), sample: sampled(answers.sample), roots: uris(answers.roots) })));
  tool('rounds', { n: z.int() }, async ({ n }, ctx) => {
    const answers = ctx.mcpReq.requestState()?.answers ?? [];
    const { kind, action, content } = answer(ctx, `round${answers.length}`);
    if (kind !== 'missing') answers.push(content?.name ?? action);
    if (answers.length >= n) return json(answers);
    return inputRequired({ inputRequests: { [`round${answers.length}`]: QUESTION },
      requestState: await STATE.mint({ answers }, ctx) });
  });
  tool('state', {}, async (_, ctx) => {
    if (ctx.mcpReq.requestState()?.once) return text('state came back');
    return inputRequired({ requestState: await STATE.mint({ once: true }, ctx) });
  });

  tool('progress', { steps: z.int() }, async ({ steps }, ctx) => {
    await progress(ctx, 1, steps, steps);
    return text(`made ${steps} steps`);
  });
  // The second round counts from the beginning again, as a server without state does.
  tool('progress_rounds', {}, async (_, ctx) => {
    await progress(ctx, 1, answer(ctx, 'ask').kind === 'missing' ? 2 : 4, 4);
    return ask(ctx, { ask: QUESTION }, answers => json(elicited(answers.ask)));
  });
  tool('log', { level: z.string(), text: z.string() }, async (args, ctx) => {
    await ctx.mcpReq.log(args.level, args.text, 'eras');
    return text('logged');
  });
  tool('slow', { ms: z.int() }, async ({ ms }, ctx) => {
    await sleep(ms, ctx.mcpReq.signal);
    return text(`slept ${ms} ms`);
  });
  tool('running', {}, () => text(String(running)));
  tool('was_cancelled', {}, () => text(String(cancelled)));

  tool('region', { region: z.string().meta({ 'x-mcp-header': 'Region' }), query: z.string() }, ({ region, query }) =>
    json({ region, query }));
  // No header can have this name, so a client has to leave the tool out.
  tool('bad_header', { value: z.string().meta({ 'x-mcp-header': 'not a token' }) }, ({ value }) => text(value));
  tool('headers', {}, (_, ctx) => json(ctx.http?.req ? mcp(ctx.http.req.headers) : null));
  tool('meta', {}, (_, ctx) => json({ ...ctx.mcpReq._meta, ...ctx.mcpReq.envelope }));

  tool('change', { what: z.enum(['tools', 'prompts', 'resources']) }, ({ what }) => change(what));
  tool('touch', { uri: z.string() }, ({ uri }) => touch(uri));
  tool('hang_up', {}, hangUp);
  tool('die', {}, () => process.kill(process.pid, 'SIGKILL'));
}

function registerOthers(server) {
  const contents = (uri, text) => ({ contents: [{ uri: uri.href, mimeType: 'text/plain', text }] });
  const message = text => ({ messages: [{ role: 'user', content: { type: 'text', text } }] });
  const startingWith = (value, all) => all.filter(one => one.startsWith(value));

  server.registerResource('one', 'test://static/one', { mimeType: 'text/plain' }, uri => contents(uri, 'one'));
  server.registerResource('asks', 'test://asks', { mimeType: 'text/plain' }, (uri, ctx) =>
    ask(ctx, { ask: QUESTION }, answers => contents(uri, JSON.stringify(elicited(answers.ask)))));
  server.registerResource('item', new ResourceTemplate('test://item/{id}', { list: undefined,
    complete: { id: value => startingWith(value, ['1', '10', '2']) } }), { mimeType: 'text/plain' }, (uri, { id }) =>
    contents(uri, `item ${id}`));
  server.registerPrompt('greet', { description: 'The prompt greet.', argsSchema: z.object({
    name: completable(z.string(), value => startingWith(value, ['Ada', 'Alan', 'Grace'])),
  }) }, ({ name }) => message(`Hello, ${name}!`));
  server.registerPrompt('asks', { description: 'The prompt asks.' }, ctx =>
    ask(ctx, { ask: QUESTION }, answers => message(JSON.stringify(elicited(answers.ask)))));
}

function make({ era }, outlives) {
  const server = new Throwing(INFO, { instructions: INSTRUCTIONS, requestState: { verify: STATE.verify },
    cacheHints: { 'tools/list': { ttlMs: 60_000, cacheScope: 'public' } },
    capabilities: { logging: {}, tools: { listChanged: true }, prompts: { listChanged: true },
      resources: { listChanged: true, subscribe: true } } });
  registerTools(server);
  registerOthers(server);
  const extras = {};
  for (const what of Object.keys(added)) if (added[what]) extras[what] = EXTRA[what](server);
  if (!outlives) return server;

  const one = { server, extras };
  if (era === 'legacy') {
    one.subscriptions = new Set();
    server.server.setRequestHandler('resources/subscribe', ({ params }) => {
      one.subscriptions.add(params.uri);
      return {};
    });
    server.server.setRequestHandler('resources/unsubscribe', ({ params }) => {
      one.subscriptions.delete(params.uri);
      return {};
    });
  }
  live.add(one);
  server.server.onclose = () => live.delete(one);
  return server;
}

async function stdio() {
  if (options.era === 'legacy') return make({ era: 'legacy' }, true).connect(new StdioServerTransport());
  serveStdio(ctx => make(ctx, true), { legacy: options.era === 'modern' ? 'reject' : 'serve' });
}

/** A handler of the handshake era with sessions, whose servers can ask their clients. */
function sessions() {
  const transports = new Map();
  return async (req, res) => {
    const id = req.headers['mcp-session-id'];
    if (id && !transports.has(id)) return res.writeHead(404).end();
    let transport = transports.get(id);
    if (!transport) {
      transport = new NodeStreamableHTTPServerTransport({ sessionIdGenerator: randomUUID,
        onsessioninitialized: id => transports.set(id, transport), onsessionclosed: id => transports.delete(id) });
      await make({ era: 'legacy' }, true).connect(transport);
    }
    await transport.handleRequest(req, res, req.body);
    // It was asked for something else than a new session, and has refused.
    if (!transport.sessionId) await transport.close();
  };
}

function makeHandler() {
  return createMcpHandler(ctx => make(ctx, false), { legacy: options.stateless ? 'stateless' : 'reject' });
}

function http() {
  if (options.era !== 'legacy') handler = makeHandler();
  const modern = toNodeHandler({ fetch: (...args) => handler.fetch(...args) });
  const legacy = sessions();

  const server = createServer(async (req, res) => {
    if (options.era === 'legacy') return legacy(req, res);
    if (options.era === 'modern' || options.stateless) return modern(req, res);
    const chunks = [];
    for await (const chunk of req) chunks.push(chunk);
    try {
      req.body = JSON.parse(Buffer.concat(chunks));
    } catch {
      req.body = undefined;
    }
    const request = await toWebRequest(req, req.body);
    await (await isLegacyRequest(request, req.body) ? legacy(req, res) : modern(req, res, req.body));
  });
  server.listen(Number(options.port), '127.0.0.1', () =>
    console.log(`listening on http://127.0.0.1:${server.address().port}/mcp`));
}

await (transport === 'stdio' ? stdio() : http());
