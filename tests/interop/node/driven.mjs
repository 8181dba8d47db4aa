// A Node client that does what the lines on its stdin say, one JSON object a line:
//
//   { "n": 1, "do": "open", "connection": "first" }
//   { "n": 2, "do": "call", "connection": "first", "tool": "echo", "arguments": { "message": "hi" } }
//
// Each is done beside the others. What comes of it is a line on stdout, `{ "n": 1, "ok": true, "text": … }`, whenever
// that is: nothing here waits for less or longer than the client itself does. A stream that the client has opened again
// by itself is a line too, `{ "reopened": "first" }`, and so is its name, at the beginning. It ends with its stdin.

import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { inspect } from './inspector-cli.mjs';
import { PageClient, launch } from './page.mjs';
import { CLIENTS } from './server-clients.mjs';

const { values } = parseArgs({
  options: { url: { type: 'string' }, client: { type: 'string' }, transport: { type: 'string' } },
});
const { url, client: kind, transport } = values;

const say = line => process.stdout.write(`${JSON.stringify(line)}\n`);
const textOf = result => result.content[0].text;
const wordsOf = error => {
  const causes = [];
  for (let cause = error; cause; cause = cause.cause) causes.push(String(cause.message ?? cause));
  return causes.join(': ').replace(/\s+/g, ' ').slice(0, 300);
};

// Each gives `call(tool, args)`, and calls `reopened` when the client has come back by itself.

async function openSdk(connect, reopened) {
  const client = await connect(url, { transport });
  // Private, but the only place that tells when the transport has a new address.
  client.sdk.transport._eventSource?.addEventListener('endpoint', reopened);
  return async (tool, args) => textOf(await client.call(tool, args));
}

async function openPage(reopened) {
  const page = await PageClient.connect(url, () => {});
  page.onEndpoint = reopened;
  return (tool, args) => page.call(tool, args);
}

/** Each invocation is a connection of its own; a first one shows that there can be one. */
async function openInspector() {
  await inspect(url, transport, 'initialize');
  return async (tool, args) => {
    const options = ['--tool-name', tool, '--tool-args-json', JSON.stringify(args)];
    return textOf(JSON.parse(await inspect(url, transport, 'tools/call', ...options)).result);
  };
}

const open = {
  'sdk-1x': reopened => openSdk(CLIENTS['sdk-1x'].connect, reopened),
  'client-2x': reopened => openSdk(CLIENTS['client-2x'].connect, reopened),
  inspector: openInspector,
  chromium: openPage,
}[kind];

const calls = new Map();

async function answer({ do: what, connection, tool, arguments: args }) {
  if (what === 'call') return calls.get(connection)(tool, args);
  calls.set(connection, await open(() => say({ reopened: connection })));
  return '';
}

// A connection that breaks must not end the others.
process.on('unhandledRejection', error => console.error(error));
if (kind === 'chromium') await launch();
say({ name: CLIENTS[kind].name() });
const lines = createInterface({ input: process.stdin });
lines.on('line', line => {
  const { n, ...request } = JSON.parse(line);
  answer(request).then(text => say({ n, ok: true, text }), error => say({ n, ok: false, text: wordsOf(error) }));
});
lines.on('close', () => process.exit());
