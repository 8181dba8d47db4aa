"""The official Python SDK (`mcp`, 1.x or 2.x) as a client that does what the lines on its stdin say.

The lines in both directions are those of node/driven.mjs; it never opens a stream again by itself.
"""

import argparse
import json
import os
import sys
import traceback

import anyio
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from sdk import NAME, connect

TRANSPORTS = {"sse": sse_client, "http": streamable_http_client}


def say(**line):
    print(json.dumps(line), flush=True)


def words_of(error):
    while isinstance(error, BaseExceptionGroup):  # say the cause, not "unhandled errors in a TaskGroup"
        error = error.exceptions[0]
    return " ".join(f"{type(error).__name__} {error}".split())[:300]


class Client:
    def __init__(self, options, tasks):
        self.options, self.tasks, self.connections = options, tasks, {}

    async def answer(self, n, request):
        try:
            text = await getattr(self, request.pop("do"))(**request)
        except Exception as error:
            say(n=n, ok=False, text=words_of(error))
        else:
            say(n=n, ok=True, text=text)

    async def open(self, connection):
        await self.tasks.start(self.hold, connection)

    async def hold(self, name, *, task_status):
        """Keeps a connection open, in a task of its own: what breaks it breaks nothing else."""
        try:
            async with connect(TRANSPORTS[self.options.transport](self.options.url)) as (client, _):
                self.connections[name] = client
                task_status.started()
                await anyio.sleep_forever()
        except Exception:
            if name not in self.connections:
                raise
            traceback.print_exc()

    async def call(self, connection, tool, arguments):
        result = await self.connections[connection].call_tool(tool, arguments)
        return result.content[0].text


async def main(options):
    async with anyio.create_task_group() as tasks:
        client = Client(options, tasks)
        say(name=NAME)
        while line := await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            request = json.loads(line)
            tasks.start_soon(client.answer, request.pop("n"), request)
        # Not by the end of the tasks: that would wait for whatever a broken connection left behind.
        os._exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="http://HOST:PORT/PATH")
    parser.add_argument("--transport", required=True, choices=TRANSPORTS)
    anyio.run(main, parser.parse_args())
