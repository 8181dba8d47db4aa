"""The official Python SDK (`mcp`, 1.x or 2.x) against an MCP server over HTTP+SSE.

One file serves both major versions: everything that differs between them is in the `connect` and
`cancel_request` that the version at hand selects; the checks know only what both have in common.
"""

import argparse
import json
import os
import threading
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version

import anyio
from mcp.client.sse import sse_client

VERSION = version("mcp")
NAME = f"python-mcp {VERSION}"
CHECK_SECONDS = 30
TOTAL_SECONDS = 120

STATS = "demo://stats"
SECRET = "Bearer interop-secret"
HEADERS = {"authorization": SECRET}

ECHOES = {
    "plain": "hello",
    "unicode": "emoji 😀👩‍👩‍👧, CJK 漢字かな한글, combining e\u0301 n\u0303, right to left שלום",
    "line ends": "a\nb\r\nc\rd\n\ne\r\r\nf\n",
    "unicode line ends": "a\u2028b\u2029c\u0085d",
    # Numbered, so that a lost, doubled or displaced piece shows.
    "100 KB": "".join(f"{i:09d}," for i in range(10_240)),
}


class Checks:
    """Runs named checks, prints a line for each, and counts."""

    def __init__(self):
        self.passed = self.failed = 0

    async def __call__(self, name, check, *args):
        try:
            with anyio.fail_after(CHECK_SECONDS):
                await check(*args)
        except Exception as error:  # also the groups that anyio makes of them
            self.fail(name, error)
            return False
        self.passed += 1
        print("ok", name, flush=True)
        return True

    def fail(self, name, error):
        self.failed += 1
        while isinstance(error, BaseExceptionGroup):  # say the cause, not "unhandled errors in a TaskGroup"
            error = error.exceptions[0]
        reason = " ".join(f"{type(error).__name__} {error}".split())
        print(f"FAIL {name}: {reason[:300]}", flush=True)

    def finish(self):
        print(f"{NAME}: {self.passed} passed, {self.failed} failed", flush=True)
        # Not sys.exit: that would wait for whatever a broken connection left behind.
        os._exit(1 if self.failed else 0)


def expect(what, actual, expected):
    if actual != expected:
        raise AssertionError(f"{what}: got {actual!r:.100}, expected {expected!r:.100}")


class Connection:
    """A connected client, and the resource updates that it was sent."""

    def __init__(self):
        self.closing = anyio.Event()
        self.closed = anyio.Event()
        self._updated, self.updates = anyio.create_memory_object_stream(float("inf"))

    async def run(self, url, *, task_status):
        """Holds the connection open in a task of its own, so that no check's timeout scope encloses it."""
        try:
            async with connect(url, self._on_message) as (self.client, self.server_name):
                task_status.started()
                await self.closing.wait()
        finally:
            self.closed.set()

    async def _on_message(self, message):
        notification = getattr(message, "root", message)
        if getattr(notification, "method", None) == "notifications/resources/updated":
            self._updated.send_nowait(str(notification.params.uri))

    async def call(self, tool, arguments=None, on_progress=None):
        result = await self.client.call_tool(tool, arguments or {}, progress_callback=on_progress)
        return result.content[0].text

    async def close(self):
        self.closing.set()
        await self.closed.wait()


if VERSION.startswith("1."):
    from mcp import ClientSession, types

    @asynccontextmanager
    async def connect(url, on_message):
        async with AsyncExitStack() as stack:
            streams = await stack.enter_async_context(sse_client(url, headers=HEADERS))
            session = await stack.enter_async_context(ClientSession(*streams, message_handler=on_message))
            yield session, (await session.initialize()).serverInfo.name

    @asynccontextmanager
    async def subscribed(connection):
        """Yields how to wait for the next update of the stats."""
        await connection.client.subscribe_resource(STATS)
        yield connection.updates.receive
        await connection.client.unsubscribe_resource(STATS)

    async def cancel_request(session, request_id):
        """1.x tells the server nothing about an abandoned call; its users send the notification themselves."""
        params = types.CancelledNotificationParams(requestId=request_id)
        await session.send_notification(types.ClientNotification(types.CancelledNotification(params=params)))

else:
    from mcp import Client

    @asynccontextmanager
    async def connect(url, on_message):
        # The default mode: it sends `server/discover` first, and speaks 2026-07-28 if the server does.
        async with Client(sse_client(url, headers=HEADERS), message_handler=on_message) as client:
            yield client, client.server_info.name

    @asynccontextmanager
    async def subscribed(connection):
        """Yields how to wait for the next update of the stats."""
        async with connection.client.listen(resource_subscriptions=[STATS]) as events:

            async def next_update():
                return (await anext(events)).uri

            yield next_update

    async def handshake(url):
        """The other mode: `initialize`, as with servers that speak no newer revision."""
        async with Client(sse_client(url, headers=HEADERS), mode="legacy") as client:
            result = await client.call_tool("echo", {"message": "after initialize"})
            expect("echo", result.content[0].text, "after initialize")

    async def cancel_request(_client, _request_id):
        """2.x has sent the notification itself by the time the abandoned call returns."""


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
            await tasks.start(connection.run, url)
            expect("server has a name", bool(connection.server_name), True)

        first = Connection()
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
            second = Connection()
            await initialize(second)
            await echo(second, "again")
            await second.close()

        await check("connect again", connect_again)
        if not VERSION.startswith("1."):
            await check("connect with initialize", handshake, url)


async def main(url, checks):
    try:
        await checks_of(url, checks)
    except Exception as error:  # a connection that broke between two checks
        checks.fail("connection", error)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="http://HOST:PORT/sse")
    url = parser.parse_args().url
    checks = Checks()

    def out_of_time():
        checks.fail("overall", TimeoutError(f"not done after {TOTAL_SECONDS} s"))
        checks.finish()

    # A thread, because it must fire even when the event loop is stuck.
    watchdog = threading.Timer(TOTAL_SECONDS, out_of_time)
    watchdog.daemon = True
    watchdog.start()
    anyio.run(main, url, checks)
    checks.finish()
