// An MCP server over stdio that does what no server should: markup and characters that reorder in names, schemas that
// refer to themselves, 10,000 tools, a description of a megabyte, floods. It is written by hand, because an SDK would refuse.

import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const IMG = '<img src=x onerror="globalThis.hacked=1">';
export const BIDI = 'safe\u202Etxt.exe\u2066\u200B';

const send = message => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
const text = (...texts) => ({ content: texts.map(text => ({ type: 'text', text })) });
let nextId = 1;
/** What waits for the client's answers, by id. */
const waiting = new Map();

function ask(method, params) {
  const id = nextId++;
  send({ id, method, params });
  return new Promise(resolve => waiting.set(id, resolve));
}

function nested(depth) {
  let schema = { type: 'string' };
  for (let i = 0; i < depth; i++) schema = { type: 'object', properties: { [`level${depth - i}`]: schema },
    required: [`level${depth - i}`] };
  return schema;
}

/** Each refers to the next one 20 times. */
function fanOut(levels) {
  const parts = Array.from({ length: levels }, (_, i) => [`d${i}`, { allOf: Array(20).fill({ $ref: `#/$defs/d${i + 1}` }) }]);
  return { ...Object.fromEntries(parts), [`d${levels}`]: { type: 'string' } };
}

const object = (properties = {}, required = []) => ({ type: 'object', properties, required });

const TOOLS = {
  [IMG]: { description: `${IMG}<script>globalThis.hacked=1</script>`,
    inputSchema: object({ [IMG]: { type: 'string', title: IMG, description: IMG, default: IMG } }), call: args =>
    text(JSON.stringify(args)) },
  [BIDI]: { description: 'Names that read otherwise than they are: \u202Egnp.exe', call: () =>
    text('\u202Ereversed\u202C \u0007bell') },
  megabyte: { description: 'x'.repeat(1 << 20), call: () => text('y'.repeat(3 << 20)) },
  recursive: {
    inputSchema: { ...object({ tree: { $ref: '#/$defs/node' } }),
      $defs: { node: object({ name: { type: 'string' }, child: { $ref: '#/$defs/node' },
      list: { type: 'array', items: { $ref: '#/$defs/node' } } }) } },
    call: args => text(JSON.stringify(args)),
  },
  deep: { inputSchema: nested(1000), call: args => text(JSON.stringify(args)) },
  wide: { inputSchema: object(Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`p${i}`, { type: 'string' }]))),
    call: args => text(String(Object.keys(args).length)) },
  'fan-out': { inputSchema: { ...object({ fan: { $ref: '#/$defs/d0' } }), $defs: fanOut(8) }, call: () => text('fanned') },
  'deep-default': { inputSchema: object({
    // 200,000 fields.
    nested: { type: 'array', items: { type: 'array', items: { type: 'array', items: { type: 'string' } } },
      default: Array(20).fill(Array(100).fill(Array(100).fill('a'))) },
    many: { type: 'array', items: { enum: Array.from({ length: 50 }, (_, i) => ({ of: 'x'.repeat(20_000), i })) },
      default: Array(20_000).fill({ none: 1 }) },
    types: { type: Array(300_000).fill('string'), ...Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`k${i}`, 1])) },
  }), call: args => text(JSON.stringify(args)) },
  'log-odd': { call: () => {
    send({ method: 'notifications/message', params: { level: { toString: 1, valueOf: 1 }, logger: {}, data: { toString: 1 } } });
    send({ method: 'notifications/progress', params: { progress: { toString: 1 }, total: { valueOf: 1 }, message: {} } });
    send({ method: { toString: 1 }, params: 1 });
    return { content: [{ type: 'resource_link', name: { toString: 1 }, uri: { toString: 1 } },
      { type: 'audio', mimeType: 'constructor', data: 'YQ==' }] };
  } },
  'log-large': { call: async () => {
    const data = Object.fromEntries(Array.from({ length: 30_000 }, (_, i) => [`k${i}`, 'v'.repeat(20)]));
    for (let i = 0; i < 60; i++) {
      send({ method: 'notifications/message', params: { level: 'info', data } });
      await new Promise(resolve => setTimeout(resolve));
    }
    return text('logged');
  } },
  odd: { inputSchema: { type: 'string', properties: 7, required: 'no' }, description: { not: 'text' }, annotations: 3,
    call: () => ({ content: 'not a list', isError: 'yes', structuredContent: null }) },
  html: {
    call: () => ({
      content: [
        { type: 'text', text: `<b>bold</b>${IMG}<a href="javascript:alert(1)">link</a>` },
        { type: 'image', mimeType: 'image/svg+xml',
          data: Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>`).toString('base64') },
        // It says that it has 100,000 × 100,000 pixels.
        { type: 'image', mimeType: 'image/png',
          data: Buffer.from('89504e470d0a1a0a0000000d49484452000186a0000186a00806000000', 'hex').toString('base64') },
        { type: 'audio', mimeType: 'audio/wav', data: '%%%' },
        { type: 'resource_link', name: IMG, uri: 'javascript:alert(1)' },
        { type: 'resource', resource: { uri: 'javascript:alert(2)', mimeType: 'text/html',
          text: `<script>globalThis.hacked=1</script>` } },
        { type: IMG, surprise: true }, null, 7,
      ],
      structuredContent: JSON.parse('{"__proto__": {"polluted": true}, "constructor": 1}'),
    }),
  },
  nested_result: { call: () => raw =>
    `{"jsonrpc":"2.0","id":${JSON.stringify(raw)},"result":{"content":[],"structuredContent":${'{"a":'.repeat(3000)}1${'}'.repeat(3000)}}}` },
  flood: {
    inputSchema: object({ count: { type: 'integer', default: 5000 } }),
    call: async ({ count = 5000 }, token) => {
      for (let i = 1; i <= count; i++) {
        send({ method: 'notifications/message', params: { level: 'info', data: `flood ${i}` } });
        if (token !== undefined) send({ method: 'notifications/progress',
          params: { progressToken: token, progress: i, total: count, message: IMG } });
        // Reads what came in between, so that a cancellation is seen.
        if (i % 50 === 0) await new Promise(resolve => setImmediate(resolve));
      }
      return text('flooded');
    },
  },
  questions: {
    call: async () => {
      const answers = await Promise.all(Array.from({ length: 30 }, (_, i) =>
        ask('sampling/createMessage',
        { maxTokens: i, messages: [{ role: 'user', content: { type: 'text', text: `question ${i} ${IMG}` } }] })));
      return text(`refused ${answers.filter(answer => answer.error).length}`);
    },
  },
  'bad-url': { call: async () =>
    text(JSON.stringify((await ask('elicitation/create',
    { mode: 'url', elicitationId: '1', message: IMG, url: 'javascript:alert(1)' })).result)) },
  'good-url': { call: async () =>
    text(JSON.stringify((await ask('elicitation/create',
    { mode: 'url', elicitationId: '2', message: 'Please log in.', url: 'https://example.com/login?a=1' })).result)) },
  pattern: {
    inputSchema: object({ slow: { type: 'string', pattern: '^(a+)+$' },
      maybes: { type: 'string', pattern: `^${'a?'.repeat(34)}b$` },
      choices: { type: 'string', pattern: `${'(a|a)'.repeat(23)}b` }, simple: { type: 'string', pattern: '^[a-z]+$' } }),
    call: args => text(JSON.stringify(args)),
  },
  form: {
    inputSchema: {
      ...object({
        text: { type: 'string', minLength: 2 }, whole: { type: 'integer', minimum: 1, maximum: 5 },
          maybe: { type: ['number', 'null'] },
        yes: { type: 'boolean', default: true }, colour: { enum: ['red', 'green'] }, fixed: { const: 'v1' },
        place: object({ city: { type: 'string' }, zip: { type: 'integer' } }, ['city']),
        tags: { type: 'array', items: { type: 'string' }, minItems: 1 },
          either: { anyOf: [{ type: 'string' }, { type: 'integer' }] },
        anything: {},
      }, ['text', 'whole', 'fixed', 'tags', 'maybe']),
    },
    call: args => text(JSON.stringify(args)),
  },
  grow: { call: () => { TOOLS.grown = { description: 'It was not there before.', call: () =>
    text('new') }; send({ method: 'notifications/tools/list_changed' }); return text('grown'); } },
  die: { call: () => { process.stderr.write('last words\n'); process.exit(3); } },
};

const PAGE = 2500;
const many = process.argv.includes('--many')
  ? Array.from({ length: 10_000 }, (_, i) => ({ name: `tool-${String(i).padStart(5, '0')}`, inputSchema: object() })) : [];

const only = process.argv.includes('--only') && process.argv.at(-1);

function list(cursor = '0') {
  const tools = [...Object.entries(TOOLS).map(([name, { call, inputSchema = object(), ...tool }]) => ({ name, inputSchema,
    ...tool })), { noName: true }, ...many].filter(tool => !only || tool.name === only);
  const from = Number(cursor);
  return { tools: tools.slice(from, from + PAGE), ...(from + PAGE < tools.length && { nextCursor: String(from + PAGE) }) };
}

const METHODS = {
  initialize: ({ protocolVersion }) => ({ protocolVersion, serverInfo: { name: `hostile ${IMG}`, version: BIDI },
    instructions: IMG, capabilities: { tools: { listChanged: true }, logging: {}, resources: {}, prompts: {} } }),
  ping: () => ({}),
  'tools/list': ({ cursor }) => list(cursor),
  'resources/list': () => ({ resources: [{ uri: `data:text/html,${IMG}`, name: IMG }] }),
  'resources/templates/list': () => ({ resourceTemplates: 'none' }),
  'resources/read': ({ uri }) => ({ contents: [{ uri, mimeType: 'text/html', text: IMG }] }),
  'prompts/list': () => ({ prompts: [{ name: IMG, description: IMG, arguments: [{ name: '__proto__' }, null] }] }),
  'prompts/get': () => ({ messages: [{ role: IMG, content: { type: 'text', text: IMG } }, 'nonsense'] }),
  'logging/setLevel': () => ({}),
  'tools/call': ({ name, arguments: args = {}, _meta }) => TOOLS[name].call(args, _meta?.progressToken),
};

function serve() {
  createInterface({ input: process.stdin }).on('line', async line => {
    const { id, method, params = {}, ...answer } = JSON.parse(line);
    if (method === undefined) {
      waiting.get(id)?.(answer);
      waiting.delete(id);
    } else if (id !== undefined) {
      if (!Object.hasOwn(METHODS, method)) return send({ id, error: { code: -32601, message: `${IMG} is unknown: ${method}` } });
      const result = await METHODS[method](params);
      if (typeof result === 'function') process.stdout.write(`${result(id)}\n`);
      else send({ id, result });
    }
  }).on('close', () => process.exit());
}

// The checks take only the names from here.
if (process.argv[1] === fileURLToPath(import.meta.url)) serve();
