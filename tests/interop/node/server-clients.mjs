// What the checks of real servers need of a client. Each `connect(url, values)` gives
//
// - `{ server, tools(), resources(), prompts(), prompt(name, args), read(uri), call(name, args, { onProgress,
//   signal }), close() }`: names and URIs for lists, the whole result for a call, the first content for a read;
// - unless it is the Inspector, also `progress` and `updates`, the queues of what came in, `subscribe(uri)`, and
//   `answered`, the ids of all responses;
// - for the SDKs, also `sdk`, which is the client itself, the queue `logs`, and `answers`, where a check puts
//   what the client answers to each request of the server.

import { inspect, inspectorName } from './inspector-cli.mjs';
import { Queue } from './lib.mjs';
import { PageClient, browserName, launch } from './page.mjs';
import { sdk1x, sdk2x } from './sdks.mjs';

export const CLIENTS = {
  'sdk-1x': { name: sdk1x.name, connect: (url, values) => connectSdk(sdk1x, url, values) },
  'client-2x': {
    name: sdk2x.name,
    connect: (url, values) => connectSdk(sdk2x, url, values),
    // It sends `server/discover` first, and speaks 2026-07-28 if the server does.
    connectAuto: (url, values) => connectSdk(sdk2x, url, values, { versionNegotiation: { mode: 'auto' } }),
  },
  // It answers nothing that a server asks: an invocation ends with the one answer that it was made for.
  inspector: { name: inspectorName, connect: connectInspector },
  // The page offers no capabilities. What a server would ask is a message like any other to `EventSource`.
  chromium: { name: browserName, connect: connectPage },
};

const OFFERS = { sampling: {}, elicitation: { form: {} }, roots: { listChanged: true } };

async function connectSdk(sdk, url, { transport: kind, server }, options) {
  const Transport = kind === 'sse' ? sdk.SSEClientTransport : sdk.StreamableHTTPClientTransport;
  const transport = new Transport(new URL(url));
  // Only to the one that uses them all: the filesystem server takes a client's roots for its directories.
  const capabilities = server === 'everything' ? OFFERS : {};
  const client = new sdk.Client({ name: 'interop', version: '0' }, { capabilities, ...options });
  const [progress, updates, logs, answered, answers] = [new Queue(), new Queue(), new Queue(), new Set(), {}];
  sdk.onNotification(client, 'notifications/resources/updated', ({ params }) => updates.push(params.uri));
  sdk.onNotification(client, 'notifications/message', ({ params }) => logs.push(params));
  if (server === 'everything') {
    for (const method of ['sampling/createMessage', 'elicitation/create', 'roots/list']) {
      sdk.onRequest(client, method, ({ params }) => answers[method](params));
    }
    answers['roots/list'] = () => ({ roots: [] });
  }
  // From the transport, because the SDK's callbacks miss progress (see sdk.mjs) and never show a late response.
  transport.onmessage = ({ id, method, params }) => {
    if (method === 'notifications/progress') progress.push(params);
    else if (method === undefined) answered.add(id);
  };
  await client.connect(transport);
  return {
    sdk: client, progress, updates, logs, answered, answers,
    server: client.getServerVersion()?.name,
    tools: async () => (await client.listTools()).tools.map(tool => tool.name),
    resources: async () => (await client.listResources()).resources.map(resource => resource.uri),
    prompts: async () => (await client.listPrompts()).prompts.map(prompt => prompt.name),
    prompt: async (name, args) => (await client.getPrompt({ name, arguments: args })).messages[0].content.text,
    read: async uri => (await client.readResource({ uri })).contents[0],
    call: (name, args = {}, { onProgress, signal } = {}) =>
      sdk.callTool(client, { name, arguments: args }, { onprogress: onProgress, signal }),
    subscribe: uri => client.subscribeResource({ uri }),
    close: async () => {
      await transport.terminateSession?.();
      await client.close();
    },
  };
}

async function connectInspector(url, { transport }) {
  const result = async (...args) => JSON.parse(await inspect(url, transport, ...args)).result;
  return {
    server: (await result('initialize')).serverInfo.name,
    tools: async () => (await result('tools/list')).tools.map(tool => tool.name),
    resources: async () => (await result('resources/list')).resources.map(resource => resource.uri),
    prompts: async () => (await result('prompts/list')).prompts.map(prompt => prompt.name),
    prompt: async (name, args) => {
      const pairs = Object.entries(args).map(([key, value]) => `${key}=${value}`);
      const { messages } = await result('prompts/get', '--prompt-name', name, '--prompt-args', ...pairs);
      return messages[0].content.text;
    },
    read: async uri => (await result('resources/read', '--uri', uri)).contents[0],
    call: (name, args = {}) =>
      result('tools/call', '--tool-name', name, '--tool-args-json', JSON.stringify(args)),
    close: async () => {},
  };
}

async function connectPage(url, { transport }) {
  if (transport !== 'sse') throw new Error('EventSource speaks no Streamable HTTP');
  await launch();
  const updates = new Queue();
  const page = await PageClient.connect(url, uri => updates.push(uri));
  return {
    updates,
    progress: page.progress,
    answered: page.replies,
    server: page.server,
    tools: () => page.tools(),
    resources: async () => (await page.request('resources/list')).resources.map(resource => resource.uri),
    prompts: async () => (await page.request('prompts/list')).prompts.map(prompt => prompt.name),
    prompt: (name, args) => page.prompt(name, args),
    read: async uri => (await page.request('resources/read', { uri })).contents[0],
    call: (name, args = {}, options) => page.request('tools/call', { name, arguments: args }, options),
    subscribe: uri => page.subscribe(uri),
    close: () => page.close(),
  };
}
