// A client for the client scenarios of the conformance suite, with the TypeScript SDK 2.x: `client.mjs URL`, as the suite
// starts it. It uses all that the server of the scenario offers, which is more than any one of them asks for.
//
// With MCP_SSE_ROUTE it does not go to the URL itself, so what the server meets is `mcp-sse` as its client: `http` and
// `sse` put a gateway in front of it, `connect` is `mcp-sse connect`. MCP_SSE_PROGRAM is the program, MCP_SSE_REVISION
// the revision that this client speaks then.

import { Client, SSEClientTransport, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { end, gateway } from './programs.mjs';

const MODERN = '2026-07-28';
const TOTAL_MS = 20_000;
const { MCP_SSE_ROUTE: route = 'direct', MCP_SSE_PROGRAM: program, MCP_SSE_REVISION: revision,
  MCP_CONFORMANCE_PROTOCOL_VERSION: wanted, MCP_CONFORMANCE_CONTEXT: context } = process.env;
const server = process.argv.at(-1);

const TRANSPORTS = {
  direct: () => new StreamableHTTPClientTransport(new URL(server)),
  http: async () => new StreamableHTTPClientTransport(new URL((await gateway(program, ['--upstream', server])).http)),
  sse: async () => new SSEClientTransport(new URL((await gateway(program, ['--upstream', server])).sse)),
  connect: () => new StdioClientTransport({ command: program, args: ['connect', '--log-level', 'warn', server] }),
};

const client = new Client({ name: 'conformance-client', version: '1.0.0' }, {
  capabilities: { elicitation: { form: { applyDefaults: true } }, sampling: {}, roots: {} },
  versionNegotiation: (route === 'direct' ? wanted : revision) === MODERN ? { mode: { pin: MODERN } } : undefined,
});
client.setRequestHandler('elicitation/create', async () => {
  // Another call while one waits for its answer must not get anything of that one.
  if (names.has('test_mrtr_unrelated')) await client.callTool({ name: 'test_mrtr_unrelated', arguments: {} });
  return { action: 'accept', content: {} };
});

/** What fails is for the scenario to see; the rest of it goes on. */
async function attempt(what, action) {
  try {
    return await action();
  } catch (error) {
    console.error(`${what}: ${error?.message ?? error}`);
    return undefined;
  }
}

const names = new Set();

// The suite kills only the shell that it has started this with, when it has lost patience.
setTimeout(() => { console.error('not done'); end().finally(() => process.exit(1)); }, TOTAL_MS).unref();

async function use() {
  const offered = client.getServerCapabilities() ?? {};
  // Scenarios whose server says nothing about tools count the request too.
  const { tools = [] } = await attempt('tools/list', () => client.listTools()) ?? {};
  for (const { name } of tools) names.add(name);
  const schema = tools.find(({ name }) => name === 'json_schema_2020_12_tool')?.inputSchema;
  const given = context && JSON.parse(context).toolCalls;
  const calls = given ?? tools.map(({ name }) => ({ name, arguments: name === 'json_schema_echo' ? { schema } : { a: 2, b: 3 } }));
  for (const call of calls) await attempt(call.name, () => client.callTool(call));
  if (offered.resources) {
    const { resources = [] } = await attempt('resources/list', () => client.listResources()) ?? {};
    for (const { uri } of resources) await attempt(uri, () => client.readResource({ uri }));
  }
  if (offered.prompts) {
    const { prompts = [] } = await attempt('prompts/list', () => client.listPrompts()) ?? {};
    for (const { name } of prompts) await attempt(name, () => client.getPrompt({ name }));
  }
}

try {
  await client.connect(await TRANSPORTS[route]());
  await use();
  await attempt('close', () => client.close());
} catch (error) {
  console.error(error?.stack ?? error);
  process.exitCode = 1;
} finally {
  await end();
}
process.exit();
