// The lines to copy for each client. Pure: absolute URLs in, text out; a test runs what it gives.
//
// Names of servers are strangers' text. They become slugs of letters, digits and hyphens, which every client takes and no
// format has to quote. URLs are quoted as each format does it.

/** The name of a server in a client's configuration. */
export function slug(name) {
  const plain = String(name).normalize('NFKD').replace(/\p{M}+/gu, '').replace(/[^A-Za-z0-9_-]+/g, '-').replace(/-{2,}/g, '-')
    .replace(/^[-_]+|[-_]+$/g, '').slice(0, 40).replace(/[-_]+$/, '');
  return plain || 'mcp-server';
}

/** A word of a POSIX shell. */
const shell = text => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
/** A string of JSON, which is also one of YAML, Python, JavaScript and Rust, since URLs are ASCII without quotes. */
const quoted = text => JSON.stringify(text);
const json = value => `${JSON.stringify(value, null, 2)}\n`;

function webUrl(text) {
  const url = new URL(text);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw new TypeError(`not a web address: ${url.protocol}`);
  return url;
}

/**
 * `needs` is what the server asks of its clients: null, "key", "token" or "key or token". `mcp` is null where Streamable HTTP is
 * not served. Each entry says with `language` what `text` is, and with `file` where it belongs.
 */
export function snippets({ name, sse, mcp, needs }) {
  const server = {
    name: slug(name),
    url: webUrl(sse).href,
    origin: webUrl(sse).origin,
    mcp: mcp ? webUrl(mcp).href : null,
    // A key goes into the configuration; for a token, clients that can log in do so by themselves.
    key: Boolean(needs) && needs !== 'token',
    login: Boolean(needs) && needs !== 'key',
    secret: needs === 'token' ? 'YOUR_TOKEN' : 'YOUR_KEY',
    needs: Boolean(needs),
  };
  return [
    claudeCode, connectDesktop, remoteDesktop, cursor, vsCode, libreChat, python, typescript, rust, curl,
  ].map(snippet => snippet(server)).filter(Boolean);
}

const logsIn = ({ key, login }, how) => (login && !key ? how : '');
const fromEnvironment = ({ needs, key }) =>
  (needs ? `${key ? 'The key' : 'The token'} is in the environment variable MCP_KEY.` : '');
const note = (...parts) => parts.filter(Boolean).join(' ') || undefined;

function claudeCode(server) {
  const header = server.key ? ` \\\n  --header ${shell(`Authorization: Bearer ${server.secret}`)}` : '';
  return {
    id: 'claude-code', client: 'Claude Code', language: 'shell',
    note: note(logsIn(server, 'Then log in: run /mcp in Claude Code and choose the server.')),
    text: `claude mcp add --transport sse ${server.name} ${shell(server.url)}${header}\n`,
  };
}

function connectDesktop(server) {
  const args = ['connect', server.url];
  if (server.needs) args.push('--header', 'Authorization: Bearer ${MCP_KEY}');
  return {
    id: 'claude-desktop', client: 'Claude Desktop', language: 'json', file: 'claude_desktop_config.json',
    note: note('With this program, mcp-sse, on your machine. If Claude Desktop does not find it, give its full path.',
      logsIn(server, 'It needs an access token of the authorization server; the way with mcp-remote logs in by itself.')),
    text: json({ mcpServers: { [server.name]: {
      command: 'mcp-sse', args, ...(server.needs && { env: { MCP_KEY: server.secret } }),
    } } }),
  };
}

function remoteDesktop(server) {
  const { protocol, hostname } = new URL(server.url);
  const args = ['-y', 'mcp-remote', server.url, '--transport', 'sse-only'];
  if (protocol === 'http:' && hostname !== 'localhost' && hostname !== '127.0.0.1') args.push('--allow-http');
  // Without a space: some clients on Windows split arguments at spaces.
  if (server.key) args.push('--header', 'Authorization:${AUTH_HEADER}');
  return {
    id: 'claude-desktop-mcp-remote', client: 'Claude Desktop, with mcp-remote', language: 'json',
    file: 'claude_desktop_config.json',
    note: note('Needs Node.js.', logsIn(server, 'Opens a browser to log in.'),
      args.includes('--allow-http') && 'Everything travels unencrypted: better give the gateway a certificate.'),
    text: json({ mcpServers: { [server.name]: {
      command: 'npx', args, ...(server.key && { env: { AUTH_HEADER: `Bearer ${server.secret}` } }),
    } } }),
  };
}

function cursor(server) {
  return {
    id: 'cursor', client: 'Cursor', language: 'json', file: '.cursor/mcp.json',
    note: note(server.key && 'The key comes from the environment variable MCP_KEY of the session that starts Cursor.',
      logsIn(server, 'Cursor asks you to log in.')),
    text: json({ mcpServers: { [server.name]: {
      url: server.url, ...(server.key && { headers: { Authorization: 'Bearer ${env:MCP_KEY}' } }),
    } } }),
  };
}

function vsCode(server) {
  const id = `${server.name}-key`;
  return {
    id: 'vs-code', client: 'VS Code', language: 'json', file: '.vscode/mcp.json',
    note: note(server.key && 'VS Code asks for the key once and keeps it safe.', logsIn(server, 'VS Code asks you to log in.')),
    text: json({
      ...(server.key && { inputs: [
        { type: 'promptString', id, description: `Key for ${server.name}`, password: true },
      ] }),
      servers: { [server.name]: {
        type: 'sse', url: server.url, ...(server.key && { headers: { Authorization: `Bearer \${input:${id}}` } }),
      } },
    }),
  };
}

function libreChat(server) {
  const headers = server.key ? '    headers:\n      Authorization: "Bearer ${MCP_KEY}"\n' : '';
  const { hostname } = new URL(server.url);
  const local = ['localhost', '127.0.0.1', '[::1]'].includes(hostname);
  return {
    id: 'librechat', client: 'LibreChat', language: 'yaml', file: 'librechat.yaml',
    note: note(server.key && 'The key is MCP_KEY in .env.', logsIn(server, 'Users are asked to log in.'),
      local && 'In a container, this machine has another name, such as host.docker.internal; name it in '
        + 'mcpSettings.allowedDomains, and to the gateway with --allowed-host.'),
    text: `mcpServers:\n  ${server.name}:\n    type: sse\n    url: ${quoted(server.url)}\n${headers}`,
  };
}

function python(server) {
  const headers = server.needs ? ', headers=HEADERS' : '';
  return {
    id: 'python', client: 'Python', language: 'python',
    note: note('The official SDK: pip install mcp.', fromEnvironment(server)),
    text: `import asyncio
${server.needs ? 'import os\n' : ''}
from mcp import ClientSession
from mcp.client.sse import sse_client

URL = ${quoted(server.url)}
${server.needs ? 'HEADERS = {"Authorization": "Bearer " + os.environ["MCP_KEY"]}\n' : ''}

async def main():
    async with sse_client(URL${headers}) as (read, write):
        async with ClientSession(read, write) as session:
            await session.initialize()
            for tool in (await session.list_tools()).tools:
                print(tool.name)


asyncio.run(main())
`,
  };
}

function typescript(server) {
  const options = server.needs
    ? `, {
  requestInit: { headers: { Authorization: \`Bearer \${process.env.MCP_KEY}\` } },
}` : '';
  return {
    id: 'typescript', client: 'TypeScript', language: 'typescript',
    note: note('The official SDK: npm install @modelcontextprotocol/sdk@1.',
      fromEnvironment(server),
      server.needs && 'Versions before 1.17 send it only when they post; they need eventSourceInit with a fetch of your own, too.'),
    text: `import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';

const transport = new SSEClientTransport(new URL(${quoted(server.url)})${options});
const client = new Client({ name: 'my-client', version: '1.0.0' });
await client.connect(transport);
const { tools } = await client.listTools();
console.log(tools.map(tool => tool.name));
await client.close();
`,
  };
}

/** rmcp has no client for SSE any more. */
function rust(server) {
  if (!server.mcp) return null;
  const config = server.needs
    ? `    let config = StreamableHttpClientTransportConfig::with_uri(${quoted(server.mcp)})
        .auth_header(std::env::var("MCP_KEY")?);
    let transport = StreamableHttpClientTransport::from_config(config);`
    : `    let transport = StreamableHttpClientTransport::from_uri(${quoted(server.mcp)});`;
  const imports = server.needs
    ? `use rmcp::transport::{
    StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
};`
    : 'use rmcp::transport::StreamableHttpClientTransport;';
  return {
    id: 'rmcp', client: 'Rust', language: 'rust',
    note: note('rmcp has no client for SSE since 0.11, so this speaks Streamable HTTP. It needs tokio, and rmcp with the '
      + 'features client and transport-streamable-http-client-reqwest.', fromEnvironment(server)),
    text: `use rmcp::ServiceExt;
${imports}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
${config}
    let client = ().serve(transport).await?;
    for tool in client.list_all_tools().await? {
        println!("{}", tool.name);
    }
    client.cancel().await?;
    Ok(())
}
`,
  };
}

function curl(server) {
  const header = server.needs ? ' -H "Authorization: Bearer $MCP_KEY"' : '';
  const initialize = JSON.stringify({
    jsonrpc: '2.0', id: 1, method: 'initialize',
    params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'curl', version: '1' } },
  });
  return {
    id: 'curl', client: 'curl', language: 'shell',
    note: 'A whole session: the stream stays open in the background and gets the answers to what is posted.',
    text: `(
${server.needs ? `MCP_KEY=${server.secret}\n` : ''}stream=$(mktemp)
curl -fsSN${header} ${shell(server.url)} > "$stream" &
alive() { kill -0 $! 2> /dev/null; }
until grep -q '^data:' "$stream" || ! alive; do sleep 0.1; done
endpoint=$(sed -n 's/^data: *//p' "$stream" | head -n 1)
post() {
  alive && curl -fsS -o /dev/null${header} \\
    -H 'Content-Type: application/json' -d "$1" ${shell(server.origin)}"$endpoint"
}
post ${shell(initialize)}
post '{"jsonrpc":"2.0","method":"notifications/initialized"}'
post '{"jsonrpc":"2.0","id":2,"method":"tools/list"}'
until grep -Eq '"id": ?2[,}]' "$stream" || ! alive; do sleep 0.1; done
cat "$stream"
kill $! 2> /dev/null
rm "$stream"
)
`,
  };
}
