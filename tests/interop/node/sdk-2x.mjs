// The TypeScript SDK 2.x: `@modelcontextprotocol/client`.

import { Client, SSEClientTransport } from '@modelcontextprotocol/client';
import { echo, packageVersion } from './lib.mjs';
import { runSdk } from './sdk.mjs';

runSdk({
  name: () => `typescript-client ${packageVersion('@modelcontextprotocol/client')}`,
  Client,
  SSEClientTransport,
  callTool: (client, params, options) => client.callTool(params, options),
  onUpdated: (client, handler) => client.setNotificationHandler('notifications/resources/updated', handler),
  // Without this option it sends `initialize` at once; with it, `server/discover` first.
  more: (check, connect) => check('connect in mode auto', async () => {
    const client = await connect(() => {}, { versionNegotiation: { mode: 'auto' } });
    await echo(client, 'auto');
    await client.close();
  }),
});
