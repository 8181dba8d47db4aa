"""The Python SDK 2.x as a server of the modern era, or of both: `server.py stdio|http [--port N] --era modern|dual`.

README.md says what each tool does. The same tools, with the same answers, are in server.mjs and legacy.py.
"""

import argparse
import json
import os
import signal
import socket
import warnings
from collections.abc import Callable
from typing import Annotated, Any, Literal

import anyio
import uvicorn
from mcp.server.caching import CacheHint
from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.resolve import Elicit, ListRoots, Resolve, Sample
from mcp.server.mcpserver.resources import FunctionResource
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    UNSUPPORTED_PROTOCOL_VERSION,
    CallToolResult,
    Completion,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    EmptyResult,
    InputRequiredResult,
    ListRootsResult,
    PromptReference,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    UnsubscribeRequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, Field

# The SDK warns of every use of what the modern era has deprecated, and that is what these servers are for.
warnings.simplefilter("ignore")

LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
QUESTION = "What is your name?"


class Name(BaseModel):
    name: str


class Sum(BaseModel):
    sum: int


SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}

running = cancelled = 0
added = {"tools": False, "prompts": False, "resources": False}
# The connections of the handshake era, each with its subscriptions and the level of its log.
live: dict[Any, dict[str, Any]] = {}


async def refuse_legacy(ctx, call_next):
    """What an author can do about the handshake era: the SDK itself always serves it."""
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        requested = (ctx.params or {}).get("protocolVersion")
        raise MCPError(
            UNSUPPORTED_PROTOCOL_VERSION,
            f"Unsupported protocol version: {requested}",
            {"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": requested},
        )
    return await call_next(ctx)


async def remember(ctx, call_next):
    """Keeps the connections of the handshake era, because its notifications are sent to each of them."""
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS and connection(ctx) not in live:
        live[connection(ctx)] = {"uris": set(), "level": "debug"}
    return await call_next(ctx)


def connection(ctx) -> Any:
    return ctx.session._connection


parser = argparse.ArgumentParser()
parser.add_argument("transport", choices=["stdio", "http"])
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--era", choices=["modern", "dual"], required=True)
options = parser.parse_args()

server = MCPServer(
    "eras-python",
    version="1.0.0",
    instructions="Call the tools in any order.",
    log_level="WARNING",
    cache_hints={"tools/list": CacheHint(ttl_ms=60_000, scope="public")},
    middleware=[refuse_legacy] if options.era == "modern" else [remember],
)


def text(value: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=value)])


def dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def outcome(result: ElicitationResult[Name]) -> dict[str, Any]:
    if isinstance(result, AcceptedElicitation):
        return {"action": "accept", "content": result.data.model_dump()}
    return {"action": result.action}


def elicited(result: ElicitResult) -> dict[str, Any]:
    return {"action": result.action, **({"content": result.content} if result.content else {})}


def modern(ctx: Context) -> bool:
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def question() -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestFormParams(message=QUESTION, requested_schema=SCHEMA))


async def asked(ctx: Context, key: str = "ask") -> ElicitResult | InputRequiredResult:
    """The answer, or in the modern era what asks for it."""
    if not modern(ctx):
        return await ctx.session.elicit_form(QUESTION, SCHEMA, related_request_id=ctx.request_id)
    answer = (ctx.input_responses or {}).get(key)
    return answer if answer is not None else InputRequiredResult(input_requests={key: question()})


def resolve_name() -> Elicit[Name]:
    return Elicit(QUESTION, Name)


def resolve_sample(prompt: str) -> Sample:
    return Sample([SamplingMessage(role="user", content=TextContent(type="text", text=prompt))], max_tokens=100)


def resolve_all_sample() -> Sample:
    return resolve_sample("all")


def resolve_roots() -> ListRoots:
    return ListRoots()


Asked = Annotated[ElicitationResult[Name], Resolve(resolve_name)]
Roots = Annotated[ListRootsResult, Resolve(resolve_roots)]


@server.tool(description="The tool echo.")
def echo(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)])


@server.tool(description="The tool add.")
def add(a: int, b: int) -> Annotated[CallToolResult, Sum]:
    result = text(str(a + b))
    result.structured_content = {"sum": a + b}
    return result


@server.tool(description="The tool fails.")
def fails() -> CallToolResult:
    result = text("failed on purpose")
    result.is_error = True
    return result


@server.tool(description="The tool throws.")
def throws() -> CallToolResult:
    raise MCPError(-32050, "thrown on purpose", {"why": "a test"})


@server.tool(name="grüße", description="The tool grüße.")
def greetings() -> CallToolResult:
    return text("grüße")


@server.tool(description="The tool ask.")
def ask(name: Asked) -> CallToolResult:
    return text(dumped(outcome(name)))


@server.tool(description="The tool visit.")
async def visit(ctx: Context) -> CallToolResult | InputRequiredResult:
    url = "https://example.com/sign-in"
    if not modern(ctx):
        result = await ctx.session.elicit_url("Please sign in.", url, "visit", related_request_id=ctx.request_id)
        return text(dumped(elicited(result)))
    answer = (ctx.input_responses or {}).get("visit")
    if answer is not None:
        return text(dumped(elicited(answer)))
    params = ElicitRequestURLParams(message="Please sign in.", url=url)
    return InputRequiredResult(input_requests={"visit": ElicitRequest(params=params)})


@server.tool(description="The tool sample.")
def sample(prompt: str, sampled: Annotated[CreateMessageResult, Resolve(resolve_sample)]) -> CallToolResult:
    return text(sampled.content.text)


@server.tool(description="The tool roots.")
def roots(listed: Roots) -> CallToolResult:
    return text(dumped([str(root.uri) for root in listed.roots]))


@server.tool(name="all", description="The tool all.")
def ask_all(
    name: Asked, sampled: Annotated[CreateMessageResult, Resolve(resolve_all_sample)], listed: Roots
) -> CallToolResult:
    uris = [str(root.uri) for root in listed.roots]
    return text(dumped({"ask": outcome(name), "sample": sampled.content.text, "roots": uris}))


@server.tool(description="The tool rounds.")
async def rounds(n: int, ctx: Context) -> CallToolResult | InputRequiredResult:
    answers = json.loads(ctx.request_state) if ctx.request_state else []
    while len(answers) < n or ctx.input_responses:
        key = f"round{len(answers)}"
        if modern(ctx) and key not in (ctx.input_responses or {}):
            if len(answers) >= n:
                break
            return InputRequiredResult(input_requests={key: question()}, request_state=json.dumps(answers))
        answer = await asked(ctx, key)
        answers.append(answer.content["name"] if answer.content else answer.action)
    return text(dumped(answers))


@server.tool(description="The tool state.")
def state(ctx: Context) -> CallToolResult | InputRequiredResult:
    if not modern(ctx) or ctx.request_state == "once":
        return text("state came back")
    return InputRequiredResult(request_state="once")


async def made(ctx: Context, to: int, total: int) -> None:
    for step in range(1, to + 1):
        await ctx.report_progress(step, total, f"step {step}")
        # A client that reads progress and the result at once may drop the progress.
        await anyio.sleep(0.02)


@server.tool(description="The tool progress.")
async def progress(steps: int, ctx: Context) -> CallToolResult:
    await made(ctx, steps, steps)
    return text(f"made {steps} steps")


@server.tool(description="The tool progress_rounds.")
async def progress_rounds(ctx: Context) -> CallToolResult | InputRequiredResult:
    first = modern(ctx) and not ctx.input_responses
    if first or not modern(ctx):
        await made(ctx, 2, 4)
    answer = await asked(ctx)
    if isinstance(answer, InputRequiredResult):
        return answer
    # It counts from the beginning again, as a server without state does.
    await made(ctx, 4, 4)
    return text(dumped(elicited(answer)))


@server.tool(description="The tool log.")
async def log(level: str, text: str, ctx: Context) -> CallToolResult:
    wanted = live.get(connection(ctx), {}).get("level", "debug")
    if LEVELS.index(level) >= LEVELS.index(wanted):
        await ctx.log(level, text, logger_name="eras")
    return CallToolResult(content=[TextContent(type="text", text="logged")])


@server.tool(description="The tool slow.")
async def slow(ms: int) -> CallToolResult:
    global running, cancelled
    running += 1
    try:
        await anyio.sleep(ms / 1000)
    except anyio.get_cancelled_exc_class():
        cancelled += 1
        raise
    finally:
        running -= 1
    return text(f"slept {ms} ms")


@server.tool(name="running", description="The tool running.")
def how_many_run() -> CallToolResult:
    return text(str(running))


@server.tool(description="The tool was_cancelled.")
def was_cancelled() -> CallToolResult:
    return text(str(cancelled))


@server.tool(description="The tool region.")
def region(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})], query: str
) -> CallToolResult:
    return text(dumped({"region": region, "query": query}))


@server.tool(description="The tool headers.")
def headers(ctx: Context) -> CallToolResult:
    if ctx.headers is None:
        return text("null")
    return text(dumped({name: value for name, value in sorted(ctx.headers.items()) if name.startswith("mcp-")}))


@server.tool(description="The tool meta.")
def meta(ctx: Context) -> CallToolResult:
    return text(dumped((ctx.request_context.params or {}).get("_meta", {})))


async def everyone(tell: Callable[[Any, dict[str, Any]], Any]) -> None:
    for one, known in list(live.items()):
        await tell(one, known)


@server.tool(description="The tool change.")
async def change(what: Literal["tools", "prompts", "resources"], ctx: Context) -> CallToolResult:
    added[what] = not added[what]
    if what == "tools":
        if added[what]:
            server.add_tool(lambda: text("extra"), name="extra", description="The tool extra.", structured_output=False)
        else:
            server.remove_tool("extra")
        await ctx.notify_tools_changed()
        await everyone(lambda one, _: one.send_tool_list_changed())
    elif what == "prompts":
        if added[what]:
            server.add_prompt(Prompt.from_function(lambda: "extra", name="extra"))
        else:
            server.remove_prompt("extra")
        await ctx.notify_prompts_changed()
        await everyone(lambda one, _: one.send_prompt_list_changed())
    else:
        if added[what]:
            server.add_resource(FunctionResource.from_function(lambda: "extra", uri="test://extra", name="extra"))
        else:
            # The SDK has nothing that removes a resource.
            del server._resource_manager._resources["test://extra"]
        await ctx.notify_resources_changed()
        await everyone(lambda one, _: one.send_resource_list_changed())
    return text("added" if added[what] else "removed")


@server.tool(description="The tool touch.")
async def touch(uri: str, ctx: Context) -> CallToolResult:
    await ctx.notify_resource_updated(uri)

    async def tell(one, known):
        if uri in known["uris"]:
            await one.send_resource_updated(uri)

    await everyone(tell)
    return text("touched")


@server.tool(description="The tool hang_up.")
def hang_up() -> CallToolResult:
    core.get_request_handler("subscriptions/listen").handler.close()
    return text("hung up")


@server.tool(description="The tool die.")
def die() -> CallToolResult:
    os.kill(os.getpid(), signal.SIGKILL)


@server.resource("test://static/one", name="one", mime_type="text/plain")
def one() -> str:
    return "one"


@server.resource("test://item/{id}", name="item", mime_type="text/plain")
def item(id: str) -> str:
    return f"item {id}"


# A template, because the SDK gives no context to anything else.
@server.resource("test://{asks}", name="asks", mime_type="text/plain")
async def asks(asks: str, ctx: Context) -> str | InputRequiredResult:
    answer = await asked(ctx)
    return answer if isinstance(answer, InputRequiredResult) else dumped(elicited(answer))


@server.prompt(description="The prompt greet.")
def greet(name: str) -> str:
    return f"Hello, {name}!"


@server.prompt(name="asks", description="The prompt asks.")
async def prompt_asks(ctx: Context) -> str | InputRequiredResult:
    answer = await asked(ctx)
    return answer if isinstance(answer, InputRequiredResult) else dumped(elicited(answer))


@server.completion()
async def complete(ref, argument, context) -> Completion:
    every = ["Ada", "Alan", "Grace"] if isinstance(ref, PromptReference) else ["1", "10", "2"]
    return Completion(values=[one for one in every if one.startswith(argument.value)])


async def set_level(ctx, params: SetLevelRequestParams) -> EmptyResult:
    live[connection(ctx)]["level"] = params.level
    return EmptyResult()


async def subscribe(ctx, params: SubscribeRequestParams) -> EmptyResult:
    live[connection(ctx)]["uris"].add(str(params.uri))
    return EmptyResult()


async def unsubscribe(ctx, params: UnsubscribeRequestParams) -> EmptyResult:
    live[connection(ctx)]["uris"].discard(str(params.uri))
    return EmptyResult()


# Requests of the handshake era, for which MCPServer has no decorators; the modern era never reaches them.
core = server._lowlevel_server
core.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)
core.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)
core.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)
changes = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
without_changes = core.create_initialization_options
# What serves HTTP asks for the options without saying that there are changes.
core.create_initialization_options = lambda: without_changes(changes)


async def over_stdio() -> None:
    async with stdio_server() as (reading, writing):
        await core.run(reading, writing, core.create_initialization_options())


async def over_http() -> None:
    listener = socket.create_server(("127.0.0.1", options.port))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    app = server.streamable_http_app(host="127.0.0.1")
    await uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)).serve(sockets=[listener])


if __name__ == "__main__":
    anyio.run(over_stdio if options.transport == "stdio" else over_http)
