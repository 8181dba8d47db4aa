"""The Python SDK 1.x, which knows nothing of the modern era: `legacy.py stdio|http [--port N]`.

README.md says what each tool does. The same tools, with the same answers, are in server.mjs and server.py.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
from typing import Any

import anyio
import uvicorn
from mcp import types
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import McpError
from pydantic import AnyUrl
from starlette.applications import Starlette
from starlette.routing import Route

LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
QUESTION = "What is your name?"
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}

server = Server("eras-legacy", version="1.0.0", instructions="Call the tools in any order.")
running = cancelled = 0
added = {"tools": False, "prompts": False, "resources": False}
# The sessions that have sent a request, each with its subscriptions and the level of its log.
live: dict[Any, dict[str, Any]] = {}


def here() -> Any:
    return server.request_context.session


def known() -> dict[str, Any]:
    return live.setdefault(here(), {"uris": set(), "level": "debug"})


def related() -> types.RequestId:
    return server.request_context.request_id


def text(value: str, **rest: Any) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=value)], **rest)


def dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def elicited(result: types.ElicitResult) -> dict[str, Any]:
    return {"action": result.action, **({"content": result.content} if result.content else {})}


async def ask() -> types.ElicitResult:
    return await here().elicit_form(QUESTION, SCHEMA, related_request_id=related())


async def visit() -> types.ElicitResult:
    url = "https://example.com/sign-in"
    return await here().elicit_url("Please sign in.", url, "visit", related_request_id=related())


async def sample(prompt: str) -> str:
    said = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=prompt))
    result = await here().create_message([said], max_tokens=100, related_request_id=related())
    return result.content.text


async def roots() -> list[str]:
    return [str(root.uri) for root in (await here().list_roots()).roots]


async def ask_all() -> str:
    """All three at once."""
    answers: dict[str, Any] = {"ask": None, "sample": None, "roots": None}

    async def put(key: str, answer: Any) -> None:
        answers[key] = await answer

    async with anyio.create_task_group() as tasks:
        for key, answer in (("ask", ask()), ("sample", sample("all")), ("roots", roots())):
            tasks.start_soon(put, key, answer)
    return dumped({**answers, "ask": elicited(answers["ask"])})


async def made(to: int, total: int) -> None:
    meta = server.request_context.meta
    if meta is None or meta.progressToken is None:
        return
    for step in range(1, to + 1):
        await here().send_progress_notification(meta.progressToken, step, total, f"step {step}", str(related()))
        # A client that reads progress and the result at once may drop the progress.
        await anyio.sleep(0.02)


async def slow(ms: int) -> str:
    global running, cancelled
    running += 1
    try:
        await anyio.sleep(ms / 1000)
    except anyio.get_cancelled_exc_class():
        cancelled += 1
        raise
    finally:
        running -= 1
    return f"slept {ms} ms"


async def everyone(tell) -> None:
    for session, known in list(live.items()):
        # A session that has ended stays in the table.
        with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            await tell(session, known)


async def change(what: str) -> str:
    added[what] = not added[what]
    tell = {"tools": "send_tool_list_changed", "prompts": "send_prompt_list_changed",
            "resources": "send_resource_list_changed"}[what]
    await everyone(lambda session, _: getattr(session, tell)())
    return "added" if added[what] else "removed"


async def touch(uri: str) -> str:
    async def tell(session, known):
        if uri in known["uris"]:
            await session.send_resource_updated(AnyUrl(uri))

    await everyone(tell)
    return "touched"


def headers() -> str:
    request = server.request_context.request
    if request is None:
        return "null"
    return dumped({name: value for name, value in sorted(request.headers.items()) if name.startswith("mcp-")})


STRING, INTEGER = {"type": "string"}, {"type": "integer"}
WHAT = {"type": "string", "enum": ["tools", "prompts", "resources"]}
TOOLS: dict[str, dict[str, Any]] = {
    "echo": {"text": STRING}, "add": {"a": INTEGER, "b": INTEGER}, "fails": {}, "throws": {}, "grüße": {},
    "ask": {}, "visit": {}, "sample": {"prompt": STRING}, "roots": {}, "all": {}, "rounds": {"n": INTEGER}, "state": {},
    "progress": {"steps": INTEGER}, "progress_rounds": {}, "log": {"level": STRING, "text": STRING},
    "slow": {"ms": INTEGER}, "running": {}, "was_cancelled": {}, "region": {"region": STRING, "query": STRING}, "headers": {}, "meta": {},
    "change": {"what": WHAT}, "touch": {"uri": STRING}, "hang_up": {}, "die": {},
}


@server.list_tools()
async def list_tools() -> list[types.Tool]:
    known()
    tools = TOOLS | ({"extra": {}} if added["tools"] else {})
    output = {"type": "object", "properties": {"sum": INTEGER}, "required": ["sum"]}
    return [types.Tool(name=name, description=f"The tool {name}.", outputSchema=output if name == "add" else None,
                       inputSchema={"type": "object", "properties": properties, "required": list(properties)})
            for name, properties in tools.items()]


@server.call_tool()
async def call_tool(name: str, args: dict[str, Any]) -> types.CallToolResult:
    level = known()["level"]
    match name:
        case "echo":
            return text(args["text"])
        case "add":
            return text(str(args["a"] + args["b"]), structuredContent={"sum": args["a"] + args["b"]})
        case "fails":
            return text("failed on purpose", isError=True)
        case "grüße":
            return text("grüße")
        case "ask":
            return text(dumped(elicited(await ask())))
        case "visit":
            return text(dumped(elicited(await visit())))
        case "sample":
            return text(await sample(args["prompt"]))
        case "roots":
            return text(dumped(await roots()))
        case "all":
            return text(await ask_all())
        case "rounds":
            answers = [await ask() for _ in range(args["n"])]
            return text(dumped([answer.content["name"] if answer.content else answer.action for answer in answers]))
        case "state":
            return text("state came back")
        case "progress":
            await made(args["steps"], args["steps"])
            return text(f"made {args['steps']} steps")
        case "progress_rounds":
            await made(2, 4)
            answer = await ask()
            await made(4, 4)
            return text(dumped(elicited(answer)))
        case "log":
            if LEVELS.index(args["level"]) >= LEVELS.index(level):
                await here().send_log_message(args["level"], args["text"], "eras", related())
            return text("logged")
        case "slow":
            return text(await slow(args["ms"]))
        case "running":
            return text(str(running))
        case "was_cancelled":
            return text(str(cancelled))
        case "region":
            return text(dumped({"region": args["region"], "query": args["query"]}))
        case "headers":
            return text(headers())
        case "meta":
            meta = server.request_context.meta
            return text(dumped(meta.model_dump(exclude_none=True) if meta else {}))
        case "change":
            return text(await change(args["what"]))
        case "touch":
            return text(await touch(args["uri"]))
        case "hang_up":
            return text("nobody can be hung up on", isError=True)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "extra" if added["tools"]:
            return text("extra")
    raise ValueError(f"Unknown tool: {name}")


usual = server.request_handlers[types.CallToolRequest]


async def call_or_throw(request: types.CallToolRequest) -> types.ServerResult:
    """The SDK makes a result of whatever a tool raises, so this is raised before it."""
    if request.params.name == "throws":
        raise McpError(types.ErrorData(code=-32050, message="thrown on purpose", data={"why": "a test"}))
    return await usual(request)


server.request_handlers[types.CallToolRequest] = call_or_throw


@server.list_resources()
async def list_resources() -> list[types.Resource]:
    known()
    names = {"one": "test://static/one", "asks": "test://asks"} | ({"extra": "test://extra"} if added["resources"] else {})
    return [types.Resource(name=name, uri=AnyUrl(uri), mimeType="text/plain") for name, uri in names.items()]


@server.list_resource_templates()
async def list_resource_templates() -> list[types.ResourceTemplate]:
    return [types.ResourceTemplate(name="item", uriTemplate="test://item/{id}", mimeType="text/plain")]


@server.read_resource()
async def read_resource(uri: AnyUrl) -> list[ReadResourceContents]:
    known()
    match str(uri).removeprefix("test://").split("/"):
        case ["static", "one"]:
            content = "one"
        case ["asks"]:
            content = dumped(elicited(await ask()))
        case ["item", id]:
            content = f"item {id}"
        case ["extra"] if added["resources"]:
            content = "extra"
        case _:
            raise McpError(types.ErrorData(code=-32002, message="Resource not found", data={"uri": str(uri)}))
    return [ReadResourceContents(content=content, mime_type="text/plain")]


@server.list_prompts()
async def list_prompts() -> list[types.Prompt]:
    known()
    greet = types.Prompt(name="greet", description="The prompt greet.",
                         arguments=[types.PromptArgument(name="name", required=True)])
    asks = types.Prompt(name="asks", description="The prompt asks.")
    return [greet, asks] + ([types.Prompt(name="extra")] if added["prompts"] else [])


@server.get_prompt()
async def get_prompt(name: str, arguments: dict[str, str] | None) -> types.GetPromptResult:
    known()
    match name:
        case "greet":
            said = f"Hello, {arguments['name']}!"
        case "asks":
            said = dumped(elicited(await ask()))
        case "extra" if added["prompts"]:
            said = "extra"
        case _:
            raise McpError(types.ErrorData(code=types.INVALID_PARAMS, message=f"Unknown prompt: {name}"))
    content = types.TextContent(type="text", text=said)
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=content)])


@server.completion()
async def complete(ref, argument, context) -> types.Completion:
    every = ["Ada", "Alan", "Grace"] if isinstance(ref, types.PromptReference) else ["1", "10", "2"]
    return types.Completion(values=[one for one in every if one.startswith(argument.value)])


@server.set_logging_level()
async def set_level(level: types.LoggingLevel) -> None:
    known()["level"] = level


@server.subscribe_resource()
async def subscribe(uri: AnyUrl) -> None:
    known()["uris"].add(str(uri))


@server.unsubscribe_resource()
async def unsubscribe(uri: AnyUrl) -> None:
    known()["uris"].discard(str(uri))


changes = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
create = server.create_initialization_options


def with_changes(*_: Any, **__: Any):
    """The SDK says that there are no changes and no subscriptions, whatever handlers there are."""
    made = create(changes)
    made.capabilities.resources.subscribe = True
    return made


# The manager of sessions over HTTP asks for the options without saying which.
server.create_initialization_options = with_changes


async def over_stdio() -> None:
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


async def over_http(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    manager = StreamableHTTPSessionManager(server)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        async with manager.run():
            yield

    class Endpoint:
        """Starlette would give a function a request, and the manager wants to be an application."""

        async def __call__(self, scope, receive, send):
            await manager.handle_request(scope, receive, send)

    app = Starlette(routes=[Route("/mcp", Endpoint())], lifespan=lifespan)
    await uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)).serve(sockets=[listener])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("transport", choices=["stdio", "http"])
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    if options.transport == "stdio":
        anyio.run(over_stdio)
    else:
        anyio.run(over_http, options.port)
