"""The Python SDK's own SSE server, with the tools `echo` and `progress`."""

import argparse
import socket

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("bench", log_level="ERROR")


@server.tool()
def echo(message: str) -> str:
    """Returns the message as it came"""
    return message


@server.tool()
async def progress(steps: int, context: Context) -> str:
    """Tells its progress after each step"""
    for step in range(steps):
        await context.report_progress(step + 1)
    return "done"


parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=8000)
port = parser.parse_args().port
listener = socket.create_server(("0.0.0.0", port), backlog=1024)
print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}/sse", flush=True)
# The generator keeps its connections.
config = uvicorn.Config(server.sse_app(), log_level="error", access_log=False, timeout_keep_alive=120)
uvicorn.Server(config).run(sockets=[listener])
