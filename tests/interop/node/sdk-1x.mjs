// The TypeScript SDK 1.x: `@modelcontextprotocol/sdk`.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { ResourceUpdatedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { packageVersion } from './lib.mjs';
import { runSdk } from './sdk.mjs';

runSdk({
  name: () => `typescript-sdk ${packageVersion('@modelcontextprotocol/sdk')}`,
  Client,
  SSEClientTransport,
  callTool: (client, params, options) => client.callTool(params, undefined, options),
  onUpdated: (client, handler) => client.setNotificationHandler(ResourceUpdatedNotificationSchema, handler),
});
