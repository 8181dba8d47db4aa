"""The official Python SDK (`mcp`, 1.x or 2.x) against real MCP servers behind a gateway.

What is checked is what came back from the server through the gateway, and, where files are written, the files
themselves. 2.x connects in its default mode: it sends `server/discover` first, and speaks 2026-07-28 if the server
does, which is so of `time` and `git`.
"""

import argparse
import base64
import json
import os
import re
import warnings
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path

import anyio
from mcp import types
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from checks import ECHOES, HeldOpen, expect, run
from sdk import NAME, VERSION, cancel_request, connect

# What servers of before 2026-07-28 understand is deprecated in 2.x.
warnings.filterwarnings("ignore", message=".*2026-07-28")

TRANSPORTS = {"sse": sse_client, "http": streamable_http_client}

TEXT_RESOURCE = "demo://resource/dynamic/text/7"
LONG_OPERATION = "trigger-long-running-operation"
UNUSUAL = "😀 漢字 a\u2028b\r\nc"


def expect_match(what, text, pattern):
    if not re.search(pattern, text):
        raise AssertionError(f"{what}: got {text!r:.200}, expected a match of {pattern!r}")


class Queue:
    """Values that one side pushes and the other awaits, in order."""

    def __init__(self):
        self._send, self._receive = anyio.create_memory_object_stream(float("inf"))
        self.push = self._send.send_nowait
        self.next = self._receive.receive

    async def find(self, matches):
        """The next value that matches; those before it are dropped."""
        while not matches(value := await self.next()):
            pass
        return value


class Seen:
    """A transport's read stream that shows each message on its way to the client."""

    def __init__(self, stream, see):
        self._stream, self._see = stream, see

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def __aiter__(self):
        return self

    async def __anext__(self):
        item = await anext(self._stream)
        if not isinstance(item, Exception):
            # 1.x wraps the message once more.
            self._see(getattr(item.message, "root", item.message))
        return item

    async def __aenter__(self):
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error):
        return await self._stream.__aexit__(*error)


class Connection(HeldOpen):
    """A connected client, what it was sent besides responses, and what it answers when the server asks."""

    def __init__(self, url, options, **mode):
        self.updates, self.logs, self.progress = Queue(), Queue(), Queue()
        self.answered = set()
        callbacks = {"logging_callback": self._on_log, "message_handler": self._on_message}
        # Only to the one that uses them all: the filesystem server takes a client's roots for its directories.
        if options.server == "everything":
            self.roots = []
            callbacks |= {
                "sampling_callback": lambda _, params: self.sample(params),
                "elicitation_callback": lambda _, params: self.elicit(params),
                "list_roots_callback": self._on_list_roots,
            }
        transport = self._seen(TRANSPORTS[options.transport](url))
        super().__init__(connect(transport, **callbacks, **mode))

    async def open(self, tasks):
        self.client, self.server_name = await super().open(tasks)

    @asynccontextmanager
    async def _seen(self, transport):
        async with transport as (read, write, *_):
            yield Seen(read, self._see), write

    def _see(self, message):
        method = getattr(message, "method", None)
        if method is None:
            self.answered.add(message.id)
        elif method == "notifications/progress":
            self.progress.push(message.params)

    async def _on_message(self, message):
        notification = getattr(message, "root", message)
        if getattr(notification, "method", None) == "notifications/resources/updated":
            self.updates.push(str(notification.params.uri))

    async def _on_log(self, params):
        self.logs.push((params.level, str(params.data)))

    async def _on_list_roots(self, _context):
        return types.ListRootsResult(roots=self.roots)

    async def call(self, tool, arguments=None, on_progress=None):
        """The whole result, with the names that it has on the wire: the versions differ in theirs."""
        result = await self.client.call_tool(tool, arguments or {}, progress_callback=on_progress)
        return result.model_dump(by_alias=True, mode="json", exclude_none=True)

    async def text(self, tool, arguments=None):
        """The text of a result that is no error."""
        result = await self.call(tool, arguments)
        text = result["content"][0]["text"]
        if result.get("isError"):
            raise AssertionError(text)
        return text

    async def error(self, tool, arguments):
        """The text of a result that is one. Tools report errors in the result, so that a model reads them."""
        result = await self.call(tool, arguments)
        expect("isError", result.get("isError"), True)
        return result["content"][0]["text"]


class Time:
    name = "mcp-time"
    tools = {"get_current_time", "convert_time"}

    def __init__(self, _root):
        pass

    async def quick(self, connection):
        result = json.loads(await connection.text("get_current_time", {"timezone": "UTC"}))
        expect("timezone", result["timezone"], "UTC")

    async def checks(self, check, connection):
        await check("current time", self.current_time, connection)
        await check("convert time", self.convert_time, connection)
        await check("error for a bad timezone", self.bad_timezone, connection)

    async def current_time(self, connection):
        result = await connection.call("get_current_time", {"timezone": "Asia/Tokyo"})
        expect("structured content", result["structuredContent"], json.loads(result["content"][0]["text"]))
        now = result["structuredContent"]["datetime"]
        expect_match("offset", now, r"\+09:00$")
        away = abs((datetime.fromisoformat(now) - datetime.now(timezone.utc)).total_seconds())
        expect("within a minute", away < 60, True)

    async def convert_time(self, connection):
        arguments = {"source_timezone": "Asia/Tokyo", "time": "12:00", "target_timezone": "Asia/Kathmandu"}
        result = json.loads(await connection.text("convert_time", arguments))
        expect_match("target", result["target"]["datetime"], r"T08:45:00\+05:45$")
        expect("difference", result["time_difference"], "-3.25h")

    async def bad_timezone(self, connection):
        error = await connection.error("get_current_time", {"timezone": "Nowhere/None"})
        expect_match("error", error, "Invalid timezone")


class Filesystem:
    name = "secure-filesystem-server"
    tools = {"read_text_file", "write_file", "edit_file", "list_directory", "list_allowed_directories"}

    def __init__(self, root):
        # The real path is what the server checks against.
        self.root = root.resolve()
        self.folder = self.root / f"interop-{stamp()}"

    async def quick(self, connection):
        text = await connection.text("list_allowed_directories")
        expect("directories", text, f"Allowed directories:\n{self.root}")

    async def checks(self, check, connection):
        self.folder.mkdir()
        await check("list allowed directories", self.quick, connection)
        for name, text in ECHOES.items():
            await check(f"write and read {name}", self.write_and_read, connection, self.folder / name, text)
        await check("edit", self.edit, connection)
        await check("list", self.list, connection)
        await check("error for a path outside", self.outside, connection)

    async def write_and_read(self, connection, path, content):
        await connection.text("write_file", {"path": str(path), "content": content})
        expect("file", path.read_bytes(), content.encode())
        expect("read", await connection.text("read_text_file", {"path": str(path)}), content)

    async def edit(self, connection):
        path = self.folder / "edited"
        path.write_text("one\n漢字 😀\nthree\n")
        edits = [{"oldText": "漢字 😀", "newText": "zwei\u2028かな"}]
        diff = await connection.text("edit_file", {"path": str(path), "edits": edits})
        expect("lines in the diff", "-漢字 😀\n+zwei\u2028かな\n" in diff, True)
        expect("file", path.read_text(), "one\nzwei\u2028かな\nthree\n")

    async def list(self, connection):
        lines = (await connection.text("list_directory", {"path": str(self.folder)})).split("\n")
        expect("list", sorted(lines), sorted(f"[FILE] {path.name}" for path in self.folder.iterdir()))

    async def outside(self, connection):
        expect_match("error", await connection.error("read_text_file", {"path": "/etc/hostname"}), "Access denied")


class Git:
    name = "mcp-git"
    tools = {"git_status", "git_log", "git_add", "git_commit", "git_diff"}

    def __init__(self, root):
        self.root = root
        self.file = root / f"interop-{stamp()}.txt"

    async def git(self, connection, tool, **arguments):
        return await connection.text(tool, {"repo_path": str(self.root), **arguments})

    async def quick(self, connection):
        expect_match("status", await self.git(connection, "git_status"), r"^Repository status:\nOn branch ")

    async def checks(self, check, connection):
        await check("status", self.quick, connection)
        await check("add", self.add, connection)
        await check("commit and log", self.commit_and_log, connection)
        await check("diff", self.diff, connection)
        await check("error for a path that is no repository", self.no_repository, connection)

    async def add(self, connection):
        self.file.write_text("one\n")
        expect_match("add", await self.git(connection, "git_add", files=[self.file.name]), "staged")
        expect_match("status", await self.git(connection, "git_status"), f"new file:   {self.file.name}")

    async def commit_and_log(self, connection):
        message = f"Add {self.file.name}: emoji 😀, CJK 漢字"
        commit = await self.git(connection, "git_commit", message=message)
        expect_match("commit", commit, "hash [0-9a-f]{40}")
        log = await self.git(connection, "git_log", max_count=1)
        expect_match("log", log, commit[-40:])
        expect_match("log", log, message)

    async def diff(self, connection):
        self.file.write_text("one\nשלום\u2028😀\n")
        expect_match("diff", await self.git(connection, "git_diff", target="HEAD"), "\n\\+שלום\u2028😀")

    async def no_repository(self, connection):
        path = self.root / f"no-repository-{stamp()}"
        path.mkdir()
        expect_match("error", await connection.error("git_status", {"repo_path": str(path)}), path.name)


class Everything:
    """The reference server that has a tool for each part of the protocol."""

    name = "mcp-servers/everything"
    tools = {
        "echo", "get-roots-list", "get-structured-content", "get-sum", "get-tiny-image", "toggle-simulated-logging",
        "toggle-subscriber-updates", "trigger-elicitation-request", LONG_OPERATION, "trigger-sampling-request",
    }  # fmt: skip

    def __init__(self, _root):
        pass

    async def quick(self, connection):
        # Else it asks for the roots a moment later, and 2.x fails if that comes while it closes.
        await connection.text("get-roots-list")
        await self.echo(connection, "quick")

    async def checks(self, check, connection):
        await check("list resources", self.list_resources, connection)
        await check("list prompts", self.list_prompts, connection)
        await check("prompt", self.prompt, connection)
        for name, text in ECHOES.items():
            await check(f"echo {name}", self.echo, connection, text)
        await check("structured content", self.structured_content, connection)
        await check("image", self.image, connection)
        await check("10 calls at once", self.calls_at_once, connection)
        await check("read resources", self.read_resources, connection)
        await check("progress", self.progress, connection)
        await check("resource updated", self.resource_updated, connection)
        await check("sampling", self.sampling, connection)
        await check("elicitation", self.elicitation, connection)
        await check("roots", self.roots, connection)
        await check("completion", self.completion, connection)
        await check("logging", self.logging, connection)
        await check("cancel", self.cancel, connection)

    async def list_resources(self, connection):
        uris = {str(resource.uri) for resource in (await connection.client.list_resources()).resources}
        expect("features.md", "demo://resource/static/document/features.md" in uris, True)

    async def list_prompts(self, connection):
        names = sorted(prompt.name for prompt in (await connection.client.list_prompts()).prompts)
        expect("prompts", names, ["args-prompt", "completable-prompt", "resource-prompt", "simple-prompt"])

    async def prompt(self, connection):
        result = await connection.client.get_prompt("args-prompt", {"city": "東京"})
        expect("prompt", result.messages[0].content.text, "What's weather in 東京?")

    async def echo(self, connection, text):
        expect("echo", await connection.text("echo", {"message": text}), f"Echo: {text}")

    async def structured_content(self, connection):
        result = await connection.call("get-structured-content", {"location": "Chicago"})
        weather = {"temperature": 36, "conditions": "Light rain / drizzle", "humidity": 82}
        expect("structured content", result["structuredContent"], weather)
        expect("text", json.loads(result["content"][0]["text"]), weather)

    async def image(self, connection):
        image = (await connection.call("get-tiny-image"))["content"][1]
        expect("type", (image["type"], image["mimeType"]), ("image", "image/png"))
        data = base64.b64decode(image["data"], validate=True)
        # The first and the last bytes that a whole PNG has.
        expect("ends of a PNG", (data[:8], data[-8:]), (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"))

    async def calls_at_once(self, connection):
        async def add(i):
            text = await connection.text("get-sum", {"a": i, "b": 100})
            expect("sum", text, f"The sum of {i} and 100 is {i + 100}.")

        await ten_times(add)

    async def read_resources(self, connection):
        text = (await connection.client.read_resource(TEXT_RESOURCE)).contents[0].text
        expect_match("text", text, "^Resource 7: ")
        blob = (await connection.client.read_resource("demo://resource/dynamic/blob/8")).contents[0].blob
        expect_match("blob", base64.b64decode(blob).decode(), "^Resource 8: ")

    async def progress(self, connection):
        steps, seen, complete = 5, [], anyio.Event()

        async def on_progress(step, total, _message):
            seen.append((step, total))
            if len(seen) == steps:
                complete.set()

        await connection.call(LONG_OPERATION, {"duration": 0.5, "steps": steps}, on_progress)
        await complete.wait()
        expect("progress", seen, [(i, steps) for i in range(1, steps + 1)])

    async def resource_updated(self, connection):
        await connection.client.subscribe_resource(TEXT_RESOURCE)
        await connection.call("toggle-subscriber-updates")
        expect("updated", await connection.updates.next(), TEXT_RESOURCE)
        await connection.call("toggle-subscriber-updates")

    async def sampling(self, connection):
        # 1.x answers one after the other, 2.x all at once.
        async def sample(params):
            asked = params.model_dump(by_alias=True, mode="json")
            text = f"{asked['messages'][0]['content']['text']} ({asked['maxTokens']})"
            content = types.TextContent(type="text", text=text)
            return types.CreateMessageResult(role="assistant", model="interop", content=content)

        async def ask(i):
            arguments = {"prompt": f"{UNUSUAL} {i}", "maxTokens": 50 + i}
            text = await connection.text("trigger-sampling-request", arguments)
            result = json.loads(text.removeprefix("LLM sampling result: "))
            expect("model", result["model"], "interop")
            answer = f"Resource trigger-sampling-request context: {UNUSUAL} {i} ({50 + i})"
            expect("answer", result["content"]["text"], answer)

        connection.sample = sample
        await ten_times(ask)

    async def elicitation(self, connection):
        async def raw_result():
            result = await connection.call("trigger-elicitation-request")
            text = result["content"][-1]["text"]
            expect(text, result.get("isError", False), False)
            return json.loads(text.strip().removeprefix("Raw result: "))

        content = {"name": UNUSUAL, "check": True, "integer": 7}
        answers = [types.ElicitResult(action="accept", content=content), types.ElicitResult(action="decline")]

        async def elicit(params):
            schema = params.model_dump(by_alias=True, mode="json")["requestedSchema"]
            expect("required", schema["required"], ["name"])
            return answers.pop(0)

        connection.elicit = elicit
        expect("accepted", await raw_result(), {"action": "accept", "content": content})
        expect("declined", await raw_result(), {"action": "decline"})

    async def roots(self, connection):
        # The first call asks for the roots, unless the server has asked already (it does so a moment after
        # `initialized`); from then on it keeps them until it is told of a change, and logs when it has the new.
        await connection.call("get-roots-list")
        names = {"file:///interop/one": "一", "file:///interop/two": "two 😀"}
        connection.roots = [types.Root(uri=uri, name=name) for uri, name in names.items()]
        await connection.client.send_roots_list_changed()
        await connection.logs.find(lambda log: log[1].startswith("Roots updated: 2 "))
        text = await connection.text("get-roots-list")
        for uri, name in names.items():
            expect(uri, f"{name}\n   URI: {uri}" in text, True)

    async def completion(self, connection):
        async def values(ref, name, value, context=None):
            result = await connection.client.complete(ref, {"name": name, "value": value}, context)
            return result.completion.values

        prompt = types.PromptReference(type="ref/prompt", name="completable-prompt")
        expect("departments", await values(prompt, "department", "S"), ["Sales", "Support"])
        expect("names", await values(prompt, "name", "B", {"department": "Engineering"}), ["Bob"])
        uri = "demo://resource/dynamic/text/{resourceId}"
        template = types.ResourceTemplateReference(type="ref/resource", uri=uri)
        expect("id", await values(template, "resourceId", "7"), ["7"])

    async def logging(self, connection):
        # The server logs each subscription at `info`, so one made at a higher level must leave no message.
        await connection.client.set_logging_level("emergency")
        await connection.client.subscribe_resource("demo://resource/dynamic/text/1")
        await connection.client.set_logging_level("debug")
        await connection.client.subscribe_resource("demo://resource/dynamic/text/2")
        level, text = await connection.logs.find(lambda log: re.search("dynamic/text/[12]", log[1]))
        expect("level", level, "info")
        expect_match("log", text, "Received Subscribe Resource request for URI: demo://resource/dynamic/text/2")
        await connection.call("toggle-simulated-logging")
        # Of a random level, all of which are at or above `debug`.
        await connection.logs.find(lambda log: re.search(r"^\w+[- ]level[- ]message", log[1]))
        await connection.call("toggle-simulated-logging")

    async def cancel(self, connection):
        """The server works on, but a call that it knows to be cancelled gets no response."""
        request_id = None
        with anyio.CancelScope() as scope:

            async def on_progress(*_):
                nonlocal request_id
                # Both versions take the id of the request for its progress token.
                params = await connection.progress.find(lambda params: params["total"] == 10)
                request_id = params["progressToken"]
                scope.cancel()

            await connection.call(LONG_OPERATION, {"duration": 1, "steps": 10}, on_progress)
        expect("call cancelled", scope.cancelled_caught, True)
        await cancel_request(connection.client, request_id)
        # As long as the whole of the other, and begun after it: its response comes when the other's would have.
        await connection.call(LONG_OPERATION, {"duration": 1, "steps": 1})
        expect("a response to the cancelled call", request_id in connection.answered, False)


class Crashing:
    """The demo server, which is killed when it is asked to echo a certain text; another one takes its place."""

    name = "mcp-sse demo"
    tools = {"add", "echo", "long_task"}

    def __init__(self, _root):
        pass

    async def quick(self, connection):
        expect("echo", await connection.text("echo", {"message": "hello"}), "hello")

    async def checks(self, check, connection):
        await check("a call", self.quick, connection)
        for time in ("once", "twice", "three times"):
            await check(f"an error for the call that kills it, {time}", self.crash, connection)
            await check(f"a call after that, {time}", self.quick, connection)
        await check("an error for all calls that it had", self.crash_of_many, connection)

    async def crash(self, connection):
        await self.dies(connection, "echo", {"message": "crash-now"})

    async def dies(self, connection, tool, arguments):
        try:
            await connection.call(tool, arguments)
        except Exception as error:
            expect_match("error", str(error), r"the server ended \(exit status: 3")
        else:
            raise AssertionError("no error")

    async def crash_of_many(self, connection):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.dies, connection, "long_task", {"steps": 1000, "step_ms": 10})
            # The first is sent before.
            await anyio.lowlevel.checkpoint()
            await self.crash(connection)
        await self.quick(connection)


def stamp():
    return f"{os.getpid()}-{datetime.now().timestamp()}"


async def ten_times(action):
    async with anyio.create_task_group() as tasks:
        for i in range(10):
            tasks.start_soon(action, i)


async def list_tools(connection, wanted):
    names = {tool.name for tool in (await connection.client.list_tools()).tools}
    expect("missing tools", wanted - names, set())


async def checks_of(options, check):
    server = SERVERS[options.server](options.root)
    async with anyio.create_task_group() as tasks:

        async def initialize(connection):
            await connection.open(tasks)
            expect("server", connection.server_name, server.name)

        async def connect_and_close(**mode):
            connection = Connection(options.url, options, **mode)
            await initialize(connection)
            await server.quick(connection)
            await connection.close()

        first = Connection(options.url, options)
        if not await check("initialize", initialize, first):
            # Open if only the name was wrong, and the group waits for it.
            tasks.cancel_scope.cancel()
            return
        await check("list tools", list_tools, first, server.tools)
        await server.checks(check, first)
        await check("close", first.close)
        await check("connect again", connect_and_close)
        if not VERSION.startswith("1."):
            await check("connect with initialize", lambda: connect_and_close(mode="legacy"))


SERVERS = {"crashing": Crashing, "everything": Everything, "filesystem": Filesystem, "git": Git, "time": Time}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="http://HOST:PORT/PATH")
    parser.add_argument("--transport", required=True, choices=TRANSPORTS)
    parser.add_argument("--server", required=True, choices=SERVERS)
    parser.add_argument("--root", type=Path, help="the directory or repository that the server works on")
    options = parser.parse_args()
    if options.server in ("filesystem", "git") and options.root is None:
        parser.error("--root is missing")
    run(f"{NAME}, {options.server}", checks_of, options)
