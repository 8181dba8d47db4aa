// The TypeScript SDK's own SSE server, with the tools `echo` and `progress`, on Node's HTTP server.

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { SSEServerTransport } from "@modelcontextprotocol/sdk/server/sse.js";
import { CallToolRequestSchema } from "@modelcontextprotocol/sdk/types.js";

const { values } = parseArgs({ options: { port: { type: "string", default: "8000" } } });
const transports = new Map();

async function connect(response) {
  const transport = new SSEServerTransport("/messages/", response);
  transports.set(transport.sessionId, transport);
  transport.onclose = () => transports.delete(transport.sessionId);
  const server = new Server({ name: "bench", version: "1" }, { capabilities: { tools: {} } });
  server.setRequestHandler(CallToolRequestSchema, async ({ params }, extra) => {
    for (let step = 1; step <= (params.arguments.steps ?? 0); step += 1) {
      const progress = { progressToken: params._meta.progressToken, progress: step };
      await extra.sendNotification({ method: "notifications/progress", params: progress });
    }
    return { content: [{ type: "text", text: params.arguments.message ?? "done" }] };
  });
  await server.connect(transport);
}

const http = createServer((request, response) => {
  const url = new URL(request.url, "http://localhost");
  const transport = transports.get(url.searchParams.get("sessionId"));
  if (request.method === "GET" && url.pathname === "/sse") {
    connect(response).catch(() => response.destroy());
  } else if (transport) {
    transport.handlePostMessage(request, response).catch(() => response.destroy());
  } else {
    response.writeHead(404).end();
  }
});
// The generator keeps its connections.
http.keepAliveTimeout = 120_000;
http.listen(Number(values.port), "0.0.0.0", () => {
  console.log(`listening on http://127.0.0.1:${http.address().port}/sse`);
});
