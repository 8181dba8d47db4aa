// The checks that the two TypeScript SDKs have in common.

import { Queue, SECRET, TcpProxy, echo, longTask, run, same, standardChecks } from './lib.mjs';

/** `sdk` is one of sdks.mjs; `more(check, connect)` runs the checks that only this one has. */
export function runSdk(sdk, more) {
  return run(sdk.name, async (check, url) => {
    const connect = (to = url) => (onUpdated, options) => connectSdk(sdk, to, onUpdated, options);
    if (!await standardChecks(check, connect())) return;
    await more?.(check, connect());
    await check('reconnect', () => reconnect(url, connect));
  });
}

async function connectSdk(sdk, url, onUpdated, options) {
  const headers = { authorization: `Bearer ${SECRET}` };
  const transport = new sdk.SSEClientTransport(new URL(url), { requestInit: { headers } });
  const client = new sdk.Client({ name: 'interop', version: '0' }, options);
  sdk.onNotification(client, 'notifications/resources/updated', ({ params }) => onUpdated(params.uri));
  const progress = new Queue();
  // Taken from the transport, because the SDK's own callback misses what arrives in one read with the
  // response: notifications are dispatched a microtask later, when the response has removed the callback.
  transport.onmessage = ({ method, params }) => { if (method === 'notifications/progress') progress.push(params); };
  await client.connect(transport);
  return {
    progress,
    server: client.getServerVersion()?.name,
    tools: async () => (await client.listTools()).tools.map(tool => tool.name),
    call: async (name, args = {}, { onProgress, signal } = {}) => {
      const result = await sdk.callTool(client, { name, arguments: args }, { onprogress: onProgress, signal });
      return result.content[0].text;
    },
    read: async uri => (await client.readResource({ uri })).contents[0].text,
    subscribe: uri => client.subscribeResource({ uri }),
    prompt: async (name, args) => {
      const { messages: [message] } = await client.getPrompt({ name, arguments: args });
      same(message.role, 'user');
      return message.content.text;
    },
    close: () => client.close(),
    // Private, but the only place that tells when the transport has taken the new address.
    nextEndpoint: () => new Promise(resolve =>
      transport._eventSource.addEventListener('endpoint', event => resolve(event.data), { once: true })),
  };
}

/**
 * The connection is cut while idle. The transport reconnects by itself, without `Last-Event-ID`, and
 * the client goes on with calls, not with `initialize`: to the server this is a session that begins
 * in the middle.
 */
async function reconnect(url, connect) {
  const proxy = await TcpProxy.start(url);
  const client = await connect(proxy.url)(() => {});
  await echo(client, 'before');
  for (let cut = 1; cut <= 2; cut++) {
    const endpoint = client.nextEndpoint();
    proxy.cut();
    await endpoint;
    await echo(client, `after cut ${cut}`);
    await client.tools();
    await longTask(client, 3, 10);
  }
  await client.close();
}
