"""The Python SDK (`mcp`, 1.x or 2.x) as a client that does what the lines on its stdin say.

    client.py --transport sse|http URL | --transport stdio COMMAND ARGUMENT…   [--era legacy|auto|modern]

The lines in both directions are those of client.mjs. What the SDK gives is written down as it was on the wire.
"""

import argparse
import importlib.metadata
import json
import os
import sys
import warnings
from contextlib import asynccontextmanager

import anyio
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

VERSION = importlib.metadata.version("mcp")
IS_1X = VERSION.startswith("1.")
MODERN = "2026-07-28"
# Requests of the era before are deprecated, and are what is tried here.
warnings.simplefilter("ignore")

if IS_1X:
    from mcp import ClientSession, McpError, types
    from pydantic import AnyUrl
else:
    import mcp_types as types
    from mcp import Client
    from mcp.shared.exceptions import MCPError as McpError


def say(**line):
    print(json.dumps(line), flush=True)


def wire(value):
    return value.model_dump(by_alias=True, mode="json", exclude_none=True)


def error_of(error):
    while isinstance(error, BaseExceptionGroup):  # say the cause, not "unhandled errors in a TaskGroup"
        error = error.exceptions[0]
    if isinstance(error, McpError):
        return wire(error.error)
    return {"words": " ".join(f"{type(error).__name__} {error}".split())[:300]}


class Asks:
    """What the server asks the client, until a line says what the client answers."""

    def __init__(self):
        self.open, self.answers, self.next = {}, {}, 0

    async def ask(self, connection, method, params):
        self.next += 1
        n, waits = self.next, anyio.Event()
        self.open[n] = waits
        say(event="asked", connection=connection, ask=n, method=method, params=wire(params) if params else None)
        try:
            await waits.wait()
        except anyio.get_cancelled_exc_class():
            say(event="unasked", connection=connection, ask=n)
            raise
        return self.answers.pop(n)

    def answer(self, ask, result=None, error=None):
        self.answers[ask] = types.ErrorData(**error) if error else result
        self.open.pop(ask).set()


class Connection:
    """One client, whichever version it is."""

    def __init__(self, name, asks):
        self.name, self.asks, self.calls = name, asks, {}
        self.log_level = self.listening = None

    def callbacks(self, offers):
        async def sampling(_, params):
            answer = await self.asks.ask(self.name, "sampling/createMessage", params)
            return types.CreateMessageResult(**answer) if isinstance(answer, dict) else answer

        async def elicitation(_, params):
            answer = await self.asks.ask(self.name, "elicitation/create", params)
            return types.ElicitResult(**answer) if isinstance(answer, dict) else answer

        async def roots(_):
            answer = await self.asks.ask(self.name, "roots/list", None)
            return types.ListRootsResult(**answer) if isinstance(answer, dict) else answer

        async def logging(_):
            pass

        async def message(message):
            notification = getattr(message, "root", message)
            if hasattr(notification, "method"):
                said = wire(notification)
                say(event="said", connection=self.name, method=said["method"], params=said.get("params"))

        told = {"logging_callback": logging, "message_handler": message}
        asked = {"sampling_callback": sampling, "elicitation_callback": elicitation, "list_roots_callback": roots}
        info = types.Implementation(name="eras-client", version="1.2.3")
        return {**told, **(asked if offers else {}), "client_info": info}

    @asynccontextmanager
    async def open(self, transport, era, offers):
        callbacks = self.callbacks(offers)
        if IS_1X:
            async with transport as (read, write, *_), ClientSession(read, write, **callbacks) as session:
                self.sdk = session
                opened = wire(await session.initialize())
                self.era = "legacy"
                yield opened
        else:
            mode = MODERN if era == "modern" else era
            async with Client(transport, mode=mode, cache=None, **callbacks) as client:
                self.sdk = client
                self.era = "modern" if client.protocol_version >= MODERN else "legacy"
                if era == "modern":
                    # A pinned client asks nothing when it connects.
                    found = await client.session.send_discover(MODERN)
                    client.session.adopt(types.DiscoverResult.model_validate(found))
                yield {"protocolVersion": client.protocol_version, "serverInfo": wire(client.server_info),
                       "capabilities": wire(client.server_capabilities), "instructions": client.instructions}

    async def ping(self):
        return wire(await self.sdk.send_ping())

    async def list(self, kind):
        listing = {"tools": "list_tools", "prompts": "list_prompts", "resources": "list_resources",
                   "resourceTemplates": "list_resource_templates"}[kind]
        return wire(await getattr(self.sdk, listing)())

    async def call(self, n, tool, arguments, progress=False, meta=None):
        async def made(_progress, _total, _message):
            pass

        if self.log_level and self.era == "modern":
            meta = {**(meta or {}), "io.modelcontextprotocol/logLevel": self.log_level}
        with anyio.CancelScope() as scope:
            # With the id of the request, which 1.x does not tell.
            self.calls[n] = scope, IS_1X and self.sdk._request_id
            return wire(await self.sdk.call_tool(
                tool, arguments, **({"progress_callback": made} if progress else {}), meta=meta))
        return {"cancelled": True}

    async def cancel(self, call):
        scope, request_id = self.calls[call]
        if IS_1X:
            # 1.x tells the server nothing about an abandoned call; its users send the notification themselves.
            params = types.CancelledNotificationParams(requestId=request_id)
            await self.sdk.send_notification(types.ClientNotification(types.CancelledNotification(params=params)))
        scope.cancel()

    async def read(self, uri):
        return wire(await self.sdk.read_resource(AnyUrl(uri) if IS_1X else uri))

    async def prompt(self, name, arguments=None):
        return wire(await self.sdk.get_prompt(name, arguments))

    async def complete(self, ref, argument):
        kind = types.PromptReference if ref["type"] == "ref/prompt" else types.ResourceTemplateReference
        return wire(await self.sdk.complete(kind(**ref), argument))

    async def level(self, level):
        self.log_level = level
        if self.era == "legacy":
            await self.sdk.set_logging_level(level)

    async def subscribe(self, uri):
        await self.sdk.subscribe_resource(AnyUrl(uri) if IS_1X else uri)

    async def unsubscribe(self, uri):
        await self.sdk.unsubscribe_resource(AnyUrl(uri) if IS_1X else uri)


class Driver:
    def __init__(self, options, tasks):
        self.options, self.tasks, self.asks, self.connections = options, tasks, Asks(), {}

    def transport(self):
        target = self.options.target
        match self.options.transport:
            case "sse":
                return sse_client(target[0])
            case "http":
                return streamable_http_client(target[0])
            case "stdio":
                return stdio_client(StdioServerParameters(command=target[0], args=target[1:], env=dict(os.environ)))

    async def done(self, n, request):
        what, connection = request.pop("do"), request.pop("connection", None)
        try:
            if what == "answer":
                result = self.asks.answer(**request)
            elif what == "open":
                result = await self.tasks.start(self.hold, connection, request["offers"])
            elif what == "close":
                result = await self.close(connection)
            elif what == "call":
                result = await self.connections[connection].call(n, **request)
            elif what == "listen":
                result = await self.tasks.start(self.listen, connection, request)
            elif what == "deafen":
                result = self.connections[connection].listening.cancel()
            else:
                result = await getattr(self.connections[connection], what)(**request)
        except Exception as error:
            say(n=n, error=error_of(error))
        else:
            say(n=n, result=result)

    async def hold(self, name, offers, *, task_status):
        """Keeps a connection open, in a task of its own: what breaks it breaks nothing else."""
        connection = Connection(name, self.asks)
        connection.closing, connection.closed = anyio.Event(), anyio.Event()
        is_open = False
        try:
            async with connection.open(self.transport(), self.options.era, offers) as opened:
                self.connections[name], is_open = connection, True
                task_status.started({**opened, "era": connection.era})
                await connection.closing.wait()
        except Exception as error:
            if not is_open:
                raise
            print(name, error_of(error), file=sys.stderr, flush=True)
        finally:
            connection.closed.set()

    async def close(self, name):
        connection = self.connections.pop(name)
        connection.closing.set()
        await connection.closed.wait()

    async def listen(self, name, wanted, *, task_status):
        """What is heard is an event like any other; one listens at a time on a connection."""
        connection = self.connections[name]
        with anyio.CancelScope() as scope:
            connection.listening = scope
            lists = {f"{what}_list_changed": True for what in wanted["lists"]}
            async with connection.sdk.listen(**lists, resource_subscriptions=wanted["uris"]) as heard:
                task_status.started(wire(heard.honored))
                # The message handler tells of each.
                async for _ in heard:
                    pass
            say(event="heard out", connection=name)


async def main(options):
    async with anyio.create_task_group() as tasks:
        driver = Driver(options, tasks)
        say(version=VERSION)
        while line := await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            request = json.loads(line)
            tasks.start_soon(driver.done, request.pop("n"), request)
        # Not by the end of the tasks: that would wait for whatever a broken connection left behind.
        for name in list(driver.connections):
            with anyio.move_on_after(5):
                await driver.close(name)
        os._exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transport", required=True, choices=["sse", "http", "stdio"])
    parser.add_argument("--era", default="legacy", choices=["legacy", "auto", "modern"])
    parser.add_argument("target", nargs=argparse.REMAINDER)
    anyio.run(main, parser.parse_args())
