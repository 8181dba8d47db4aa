// What the server scenarios of the conformance suite want a server to have, with the TypeScript SDK 2.x:
// `server.mjs stdio|http [--port N] --era modern|dual|legacy`.
//
// The names of tools, prompts and resources, and what they do, are the suite's; `conformance server --help` and the
// descriptions of its scenarios say why. What asks the client is written once: the SDK sends requests to a legacy one.

import { randomBytes, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { localhostHostValidation, localhostOriginValidation, NodeStreamableHTTPServerTransport, toNodeHandler,
  toWebRequest } from '@modelcontextprotocol/node';
import { completable, createMcpHandler, createRequestStateCodec, fromJsonSchema, inputRequired, inputResponse,
  isLegacyRequest, McpServer, ResourceTemplate } from '@modelcontextprotocol/server';
import { serveStdio, StdioServerTransport } from '@modelcontextprotocol/server/stdio';
import { z } from 'zod';

const { values: options, positionals: [transport] } = parseArgs({ allowPositionals: true, options: {
  era: { type: 'string' },
  port: { type: 'string', default: '0' },
} });
if (!['stdio', 'http'].includes(transport) || !['modern', 'dual', 'legacy'].includes(options.era)) {
  console.error('usage: server.mjs stdio|http [--port N] --era modern|dual|legacy');
  process.exit(2);
}

const INFO = { name: 'conformance-everything', version: '1.0.0' };
const STATE = createRequestStateCodec({ key: randomBytes(32) });
const RETRY_MS = 500;
/** One red pixel. */
const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC';
/** No samples. */
const WAV = Buffer.concat([Buffer.from('RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0', 'latin1'),
  Buffer.from([0x40, 0x1f, 0, 0, 0x80, 0x3e, 0, 0, 2, 0, 16, 0]), Buffer.from('data\0\0\0\0', 'latin1')]).toString('base64');

/** The servers that live longer than a request. */
const live = new Set();
/** Of the modern half over HTTP: tells those who listen. */
let notify;

const textOf = text => ({ type: 'text', text });
const text = text => ({ content: [textOf(text)] });
const image = { type: 'image', data: PNG, mimeType: 'image/png' };
const embedded = (uri, mimeType, text) => ({ type: 'resource', resource: { uri, mimeType, text } });
const user = content => ({ role: 'user', content });

const form = (message, properties, required = Object.keys(properties)) =>
  inputRequired.elicit({ message, requestedSchema: { type: 'object', properties, required } });
const string = { type: 'string' };
const sampling = (prompt, maxTokens) =>
  inputRequired.createMessage({ messages: [user(textOf(prompt))], maxTokens });
const NAME = form('What is your name?', { name: string });

const answer = (ctx, key) => inputResponse(ctx.mcpReq.inputResponses, key);

/** Calls `done` with what came, or asks again for all of it if something has not come. */
async function ask(ctx, inputRequests, done, state) {
  const answers = Object.fromEntries(Object.keys(inputRequests).map(key => [key, answer(ctx, key)]));
  if (Object.values(answers).every(({ kind }) => kind !== 'missing')) return done(answers);
  return inputRequired({ inputRequests, ...(state && { requestState: await STATE.mint(state, ctx) }) });
}

const elicited = ({ action, content }) => `action=${action}, content=${JSON.stringify(content ?? {})}`;
const sampled = ({ result }) => result.content.text;

const PRIMITIVES = {
  name: { ...string, default: 'John Doe' },
  age: { type: 'integer', default: 30 },
  score: { type: 'number', default: 95.5 },
  status: { ...string, enum: ['active', 'inactive', 'pending'], default: 'active' },
  verified: { type: 'boolean', default: true },
};

const titled = word => ['First', 'Second', 'Third'].map((title, i) => ({ const: `value${i + 1}`, title: `${title} ${word}` }));
const untitled = ['option1', 'option2', 'option3'];
const ENUMS = {
  untitledSingle: { ...string, enum: untitled },
  titledSingle: { ...string, oneOf: titled('Option') },
  legacyEnum: { ...string, enum: ['opt1', 'opt2', 'opt3'], enumNames: ['Option One', 'Option Two', 'Option Three'] },
  untitledMulti: { type: 'array', items: { ...string, enum: untitled } },
  titledMulti: { type: 'array', items: { anyOf: titled('Choice') } },
};

const SCHEMA_2020_12 = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  $defs: { address: { $anchor: 'addressDef', type: 'object', properties: { street: string, city: string } } },
  properties: {
    name: string,
    address: { $ref: '#/$defs/address' },
    contactMethod: { ...string, enum: ['phone', 'email'] },
    phone: string,
    email: string,
  },
  allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
  if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
  then: { required: ['phone'] },
  else: { required: ['email'] },
  additionalProperties: false,
};

/** What makes clients list again: something that is added and removed by turns. */
const changed = { tools: false, prompts: false };
const EXTRA = {
  tools: server => server.registerTool('test_extra_tool', { description: 'Comes and goes.' }, () => text('extra')),
  prompts: server => server.registerPrompt('test_extra_prompt', { description: 'Comes and goes.' }, () =>
    ({ messages: [user(textOf('extra'))] })),
};

function change(what) {
  changed[what] = !changed[what];
  for (const { extras, server } of live) {
    if (changed[what]) extras[what] = EXTRA[what](server);
    else extras[what].remove();
  }
  notify?.[`${what}Changed`]();
  return text(`${what} changed`);
}

function registerTools(server) {
  const tool = (name, call, inputSchema) => server.registerTool(name, { description: `The suite's ${name}.`,
    inputSchema: inputSchema ?? z.object({}) }, call);

  tool('test_simple_text', () => text('This is a simple text response for testing.'));
  tool('test_image_content', () => ({ content: [image] }));
  tool('test_audio_content', () => ({ content: [{ type: 'audio', data: WAV, mimeType: 'audio/wav' }] }));
  tool('test_embedded_resource', () =>
    ({ content: [embedded('test://embedded-resource', 'text/plain', 'This is an embedded resource content.')] }));
  tool('test_multiple_content_types', () => ({ content: [textOf('Multiple content types test:'), image,
    embedded('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}')] }));
  tool('test_error_handling', () => { throw new Error('This tool intentionally returns an error for testing'); });
  tool('json_schema_2020_12_tool', args => text(JSON.stringify(args)), fromJsonSchema(SCHEMA_2020_12));

  const logging = async (_, ctx) => {
    await ctx.mcpReq.log('info', 'Tool execution started');
    await sleep(50);
    await ctx.mcpReq.log('info', 'Tool processing data');
    await sleep(50);
    await ctx.mcpReq.log('info', 'Tool execution completed');
    return text('Tool with logging executed successfully');
  };
  tool('test_tool_with_logging', logging);
  tool('test_logging_tool', logging);
  tool('test_tool_with_progress', async (_, ctx) => {
    const progressToken = ctx.mcpReq._meta?.progressToken;
    for (const progress of [0, 50, 100]) {
      if (progress) await sleep(50);
      if (progressToken === undefined) continue;
      await ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: 100 } });
    }
    return text('Tool with progress executed successfully');
  });
  tool('test_reconnection', async (_, ctx) => {
    // Not over stdio, nor in the modern era.
    ctx.http?.closeSSE?.();
    await sleep(100);
    return text('The stream was closed before this came.');
  });

  tool('test_sampling', ({ prompt }, ctx) => ask(ctx, { prompt: sampling(prompt, 100) }, answers =>
    text(`LLM response: ${sampled(answers.prompt)}`)), z.object({ prompt: z.string() }));
  tool('test_elicitation', ({ message }, ctx) => ask(ctx, { user: form(message, { username: string, email: string }) },
    answers => text(`User response: ${elicited(answers.user)}`)), z.object({ message: z.string() }));
  const elicitation = (name, message, properties) => tool(name, (_, ctx) =>
    ask(ctx, { values: form(message, properties, []) }, answers => text(`Elicitation completed: ${elicited(answers.values)}`)));
  elicitation('test_elicitation_sep1034_defaults', 'Please review the values', PRIMITIVES);
  elicitation('test_elicitation_sep1330_enums', 'Please choose', ENUMS);

  const required = (name, inputRequests, done, state) => tool(`test_input_required_result_${name}`, (_, ctx) =>
    ask(ctx, inputRequests, answers => text(done(answers)), state));
  const confirm = { confirm: form('Please confirm', { ok: { type: 'boolean' } }) };
  required('elicitation', { user_name: NAME }, ({ user_name: { content } }) => `Hello, ${content?.name}!`);
  required('sampling', { capital_question: sampling('What is the capital of France?', 100) },
    ({ capital_question: answer }) => sampled(answer));
  required('list_roots', { client_roots: inputRequired.listRoots() }, ({ client_roots: { roots } }) => JSON.stringify(roots));
  required('request_state', confirm, () => 'state-ok', { tool: 'request_state' });
  required('tampered_state', confirm, () => 'The state was as it had been sent.', { tool: 'tampered_state' });
  required('multiple_inputs', { user_name: NAME, greeting: sampling('Generate a greeting', 50),
    client_roots: inputRequired.listRoots() }, answers => JSON.stringify(answers), { tool: 'multiple_inputs' });
  tool('test_input_required_result_multi_round', async (_, ctx) => {
    const name = ctx.mcpReq.requestState()?.name ?? answer(ctx, 'step1').content?.name;
    if (name === undefined) {
      return inputRequired({ inputRequests: { step1: form('Step 1: What is your name?', { name: string }) },
        requestState: await STATE.mint({ step: 1 }, ctx) });
    }
    const color = answer(ctx, 'step2').content?.color;
    if (color === undefined) {
      return inputRequired({ inputRequests: { step2: form('Step 2: What is your favorite color?', { color: string }) },
        requestState: await STATE.mint({ name }, ctx) });
    }
    return text(`${name} likes ${color}.`);
  });
  tool('test_input_required_result_capabilities', (_, ctx) => {
    const declared = capabilities(server, ctx);
    return ask(ctx, { ...(declared.sampling && { greeting: sampling('Generate a greeting', 50) }),
      ...(declared.elicitation && { user_name: NAME }) }, answers => text(JSON.stringify(answers)));
  });
  tool('test_streaming_elicitation', (_, ctx) => ask(ctx, { user_name: NAME }, answers => text(elicited(answers.user_name))));
  // The SDK refuses to ask clients that have not said that they can sample.
  tool('test_missing_capability', (_, ctx) => ask(ctx, { prompt: sampling('Anything', 10) }, answers =>
    text(sampled(answers.prompt))));
  tool('test_custom_header', ({ region }) => text(region),
    z.object({ region: z.string().meta({ 'x-mcp-header': 'Region' }) }));
  tool('test_trigger_tool_change', () => change('tools'));
  tool('test_trigger_prompt_change', () => change('prompts'));
}

/** Those of a modern request are in its envelope. */
const capabilities = (server, ctx) =>
  ctx.mcpReq.envelope?.['io.modelcontextprotocol/clientCapabilities'] ?? server.server.getClientCapabilities() ?? {};

function registerOthers(server) {
  const prompt = (name, get, arguments_) => server.registerPrompt(name, { description: `The suite's ${name}.`,
    ...(arguments_ && { argsSchema: z.object(arguments_) }) }, get);
  prompt('test_simple_prompt', () => ({ messages: [user(textOf('This is a simple prompt for testing.'))] }));
  const completed = completable(z.string(), value => ['testing', 'test', 'other'].filter(one => one.startsWith(value)));
  prompt('test_prompt_with_arguments', ({ arg1, arg2 }) =>
    ({ messages: [user(textOf(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`))] }), { arg1: completed, arg2: z.string() });
  prompt('test_prompt_with_embedded_resource', ({ resourceUri }) => ({ messages: [
    user(embedded(resourceUri, 'text/plain', 'Embedded resource content for testing.')),
    user(textOf('Please process the embedded resource above.'))] }), { resourceUri: z.string() });
  prompt('test_prompt_with_image', () => ({ messages: [user(image), user(textOf('Please analyze the image above.'))] }));
  prompt('test_input_required_result_prompt', ctx =>
    ask(ctx, { user_context: form('What context should the prompt use?', { context: string }) }, ({ user_context: { content } }) =>
      ({ messages: [user(textOf(`In this context: ${content?.context}`))] })));

  const resource = (name, uri, mimeType, rest) => server.registerResource(name, uri, { description: `The suite's ${name}.`,
    mimeType }, (uri, values) => ({ contents: [{ uri: uri.href, mimeType, ...rest(values) }] }));
  resource('static-text', 'test://static-text', 'text/plain', () =>
    ({ text: 'This is the content of the static text resource.' }));
  resource('static-binary', 'test://static-binary', 'image/png', () => ({ blob: PNG }));
  resource('watched-resource', 'test://watched-resource', 'text/plain', () => ({ text: 'Watched resource content' }));
  resource('template', new ResourceTemplate('test://template/{id}/data', { list: undefined }), 'application/json', ({ id }) =>
    ({ text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }) }));
}

function make({ era }, outlives) {
  const server = new McpServer(INFO, { requestState: { verify: STATE.verify },
    capabilities: { logging: {}, tools: { listChanged: true }, prompts: { listChanged: true }, resources: { subscribe: true } } });
  registerTools(server);
  registerOthers(server);
  const extras = {};
  for (const what of Object.keys(changed)) if (changed[what]) extras[what] = EXTRA[what](server);
  if (!outlives) return server;
  if (era === 'legacy') {
    for (const method of ['resources/subscribe', 'resources/unsubscribe']) server.server.setRequestHandler(method, () => ({}));
  }
  const one = { server, extras };
  live.add(one);
  server.server.onclose = () => live.delete(one);
  return server;
}

async function stdio() {
  if (options.era === 'legacy') return make({ era: 'legacy' }, true).connect(new StdioServerTransport());
  serveStdio(ctx => make(ctx, true), { legacy: options.era === 'modern' ? 'reject' : 'serve' });
}

/** What a client gets that comes back with the id of the last event. */
class Events {
  #events = [];

  async storeEvent(stream, message) {
    this.#events.push({ stream, message });
    return String(this.#events.length - 1);
  }

  async replayEventsAfter(last, { send }) {
    const { stream } = this.#events[Number(last)];
    for (const [id, event] of this.#events.entries()) {
      // Those without a message are there to have an id.
      if (id > Number(last) && event.stream === stream && 'jsonrpc' in event.message) {
        await send(String(id), event.message);
      }
    }
    return stream;
  }
}

/** A handler of the handshake era with sessions. */
function sessions() {
  const transports = new Map();
  return async (req, res) => {
    const id = req.headers['mcp-session-id'];
    if (id && !transports.has(id)) return res.writeHead(404).end();
    let transport = transports.get(id);
    if (!transport) {
      transport = new NodeStreamableHTTPServerTransport({ sessionIdGenerator: randomUUID, eventStore: new Events(),
        retryInterval: RETRY_MS, onsessioninitialized: id => transports.set(id, transport),
        onsessionclosed: id => transports.delete(id) });
      await make({ era: 'legacy' }, true).connect(transport);
    }
    await transport.handleRequest(req, res, req.body);
    // It was asked for something else than a new session, and has refused.
    if (!transport.sessionId) await transport.close();
  };
}

function http() {
  const handler = createMcpHandler(ctx => make(ctx, false), { legacy: 'reject' });
  const modern = toNodeHandler(handler);
  const legacy = sessions();
  const guards = [localhostHostValidation(), localhostOriginValidation()];
  if (options.era !== 'legacy') notify = handler.notify;

  const server = createServer(async (req, res) => {
    if (!guards.every(guard => guard(req, res))) return;
    if (options.era === 'legacy') return legacy(req, res);
    if (options.era === 'modern') return modern(req, res);
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
