"""The official Python SDK (`mcp`, 1.x or 2.x) against an MCP server over HTTP+SSE.

One file serves both major versions: what differs between them is in sdk.py and in the `subscribed` that the
version at hand selects; the checks know only what both have in common.
"""

import argparse
import json
from contextlib import asynccontextmanager

import anyio
from mcp.client.sse import sse_client

from checks import ECHOES, HeldOpen, expect, run
from sdk import NAME, VERSION, cancel_request, connect

STATS = "demo://stats"
SECRET = "Bearer interop-secret-0123456789"
HEADERS = {"authorization": SECRET}


class Connection(HeldOpen):
    """A connected client, and the resource updates that it was sent."""

    def __init__(self, url):
        # The default mode of 2.x: it sends `server/discover` first, and speaks 2026-07-28 if the server does.
        super().__init__(connect(sse_client(url, headers=HEADERS), message_handler=self._on_message))
        self._updated, self.updates = anyio.create_memory_object_stream(float("inf"))

    async def open(self, tasks):
        self.client, self.server_name = await super().open(tasks)

    async def _on_message(self, message):
        notification = getattr(message, "root", message)
        if getattr(notification, "method", None) == "notifications/resources/updated":
            self._updated.send_nowait(str(notification.params.uri))

    async def call(self, tool, arguments=None, on_progress=None):
        result = await self.client.call_tool(tool, arguments or {}, progress_callback=on_progress)
        return result.content[0].text


if VERSION.startswith("1."):

    @asynccontextmanager
    async def subscribed(connection):
        """Yields how to wait for the next update of the stats."""
        await connection.client.subscribe_resource(STATS)
        yield connection.updates.receive
        await connection.client.unsubscribe_resource(STATS)

else:

    @asynccontextmanager
    async def subscribed(connection):
        """Yields how to wait for the next update of the stats."""
        async with connection.client.listen(resource_subscriptions=[STATS]) as events:

            async def next_update():
                return (await anext(events)).uri

            yield next_update

    async def handshake(url):
        """The other mode: `initialize`, as with servers that speak no newer revision."""
        async with connect(sse_client(url, headers=HEADERS), mode="legacy") as (client, _):
            result = await client.call_tool("echo", {"message": "after initialize"})
            expect("echo", result.content[0].text, "after initialize")


async def list_tools(connection):
    names = {tool.name for tool in (await connection.client.list_tools()).tools}
    missing = {"echo", "add", "long_task", "request_headers"} - names
    expect("missing tools", missing, set())


async def echo(connection, text):
    expect("echo", await connection.call("echo", {"message": text}), text)


async def calls_at_once(connection):
    async with anyio.create_task_group() as tasks:
        for i in range(20):
            tasks.start_soon(echo, connection, f"call {i}")


async def add(connection):
    expect("sum", await connection.call("add", {"a": 1, "b": 2}), "3")


async def progress(connection):
    steps, seen, complete = 5, [], anyio.Event()

    async def on_progress(step, total, _message):
        seen.append((step, total))
        if len(seen) == steps:
            complete.set()

    result = await connection.call("long_task", {"steps": steps, "step_ms": 20}, on_progress)
    await complete.wait()
    expect("result", result, f"done {steps} steps")
    expect("progress", seen, [(i, steps) for i in range(1, steps + 1)])


async def notification(connection):
    async with subscribed(connection) as next_update:
        await connection.call("echo", {"message": "touch the stats"})
        expect("updated", await next_update(), STATS)


async def running_and_cancelled(connection):
    stats = json.loads((await connection.client.read_resource(STATS)).contents[0].text)
    return stats["running"], stats["cancelled"]


async def cancel(connection):
    async with subscribed(connection) as next_update:
        before = await running_and_cancelled(connection)
        await cancel_a_call(connection)
        # Every change of the stats is announced, so reading again after each update meets the right one.
        while await running_and_cancelled(connection) != (before[0], before[1] + 1):
            await next_update()


async def cancel_a_call(connection):
    # Only 1.x needs the id, and only its session tells the next one.
    request_id = getattr(connection.client, "_request_id", None)
    with anyio.CancelScope() as scope:

        async def on_progress(*_):  # the first step shows that the task runs
            scope.cancel()

        await connection.call("long_task", {"steps": 1000, "step_ms": 20}, on_progress)
    expect("call cancelled", scope.cancelled_caught, True)
    await cancel_request(connection.client, request_id)


async def prompt(connection):
    result = await connection.client.get_prompt("greeting", {"name": "Ada"})
    message = result.messages[0]
    expect("prompt", (message.role, message.content.text), ("user", "Hello, Ada!"))


async def request_headers(connection):
    text = await connection.call("request_headers")
    headers = json.loads(text)
    expect("content-type", headers.get("content-type"), "application/json")
    expect("a user agent of httpx", "httpx" in headers.get("user-agent", ""), True)
    expect("secret headers", [name for name in ("authorization", "cookie") if name in headers], [])
    expect("secret in the text", SECRET in text, False)


async def checks_of(url, check):
    async with anyio.create_task_group() as tasks:

        async def initialize(connection):
            await connection.open(tasks)
            expect("server has a name", bool(connection.server_name), True)

        first = Connection(url)
        if not await check("initialize", initialize, first):
            return
        await check("list tools", list_tools, first)
        for name, text in ECHOES.items():
            await check(f"echo {name}", echo, first, text)
        await check("20 calls at once", calls_at_once, first)
        await check("add", add, first)
        await check("progress", progress, first)
        await check("server notification", notification, first)
        await check("cancel", cancel, first)
        await check("prompt", prompt, first)
        await check("request headers", request_headers, first)
        await check("close", first.close)

        async def connect_again():
            second = Connection(url)
            await initialize(second)
            await echo(second, "again")
            await second.close()

        await check("connect again", connect_again)
        if not VERSION.startswith("1."):
            await check("connect with initialize", handshake, url)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="http://HOST:PORT/sse")
    run(NAME, checks_of, parser.parse_args().url)
