// The two TypeScript SDKs: the same names in other packages, and in a few places other arguments.

import { Client as Client1x } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport as Sse1x } from '@modelcontextprotocol/sdk/client/sse.js';
import { StreamableHTTPClientTransport as Http1x } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import * as schemas from '@modelcontextprotocol/sdk/types.js';
import * as client2x from '@modelcontextprotocol/client';
import { packageVersion } from './lib.mjs';

/** What 1.x wants in place of the name of a method. */
const SCHEMAS = {
  'notifications/message': schemas.LoggingMessageNotificationSchema,
  'notifications/resources/updated': schemas.ResourceUpdatedNotificationSchema,
  'elicitation/create': schemas.ElicitRequestSchema,
  'roots/list': schemas.ListRootsRequestSchema,
  'sampling/createMessage': schemas.CreateMessageRequestSchema,
};

/** `@modelcontextprotocol/sdk`. */
export const sdk1x = {
  name: () => `typescript-sdk ${packageVersion('@modelcontextprotocol/sdk')}`,
  Client: Client1x,
  SSEClientTransport: Sse1x,
  StreamableHTTPClientTransport: Http1x,
  callTool: (client, params, options) => client.callTool(params, undefined, options),
  onNotification: (client, method, handler) => client.setNotificationHandler(SCHEMAS[method], handler),
  onRequest: (client, method, handler) => client.setRequestHandler(SCHEMAS[method], handler),
};

/** `@modelcontextprotocol/client`. */
export const sdk2x = {
  name: () => `typescript-client ${packageVersion('@modelcontextprotocol/client')}`,
  Client: client2x.Client,
  SSEClientTransport: client2x.SSEClientTransport,
  StreamableHTTPClientTransport: client2x.StreamableHTTPClientTransport,
  callTool: (client, params, options) => client.callTool(params, options),
  onNotification: (client, method, handler) => client.setNotificationHandler(method, handler),
  onRequest: (client, method, handler) => client.setRequestHandler(method, handler),
};
