"""What is tried with each client at each server, and what must be seen.

Each row is a function of a `Cell`; it raises `Differs` if something else is seen, and `Cannot` if what it tries cannot be
expressed by this client or this server.
"""

import itertools
import json
from collections.abc import Callable
from typing import NamedTuple

from peers import Broken, Failed

ONE, ITEM = "test://static/one", "test://item/1"
URL = "https://example.com/sign-in"
META = "io.modelcontextprotocol/"
TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "example.com/x": [1, {"y": None}]}
TOOLS = """add all ask change die echo fails grüße hang_up headers log meta progress progress_rounds region roots rounds running
sample slow state throws touch visit was_cancelled""".split()


# What a server without sessions cannot.
NEED_SESSIONS = ("answers", "updates", "changes", "cancel", "logs")


class Differs(Exception):
    """Something else was seen."""


class Cannot(Exception):
    """This client or this server cannot express it; the text says why."""


def same(what, seen, wanted):
    if seen != wanted:
        raise Differs(f"{what}: {dumped(seen)}, not {dumped(wanted)}")


def dumped(value):
    return json.dumps(value, ensure_ascii=False, default=str)


def without_meta(params):
    return {name: value for name, value in (params or {}).items() if name != "_meta"}


class Cell:
    """One client at one server."""

    def __init__(self, client, way, server, process):
        # The client's program; what is known of its way to the server; what is known of the server, and its program if that is
        # not started by somebody else.
        self.client, self.way, self.server, self.process = client, way, server, process
        self.connection = None

    async def open(self):
        """The connection that most rows share."""
        if self.connection is None:
            self.connection = await self.client.open()
        self.connection.answer = Answers()
        self.connection.said.clear()
        self.connection.asked.clear()
        return self.connection

    async def broken(self):
        """The next row gets another connection."""
        connection, self.connection = self.connection, None
        if connection:
            try:
                await connection.close()
            except (Broken, Failed):
                await self.client.restart()

    def needs(self, *features):
        """What a row needs of its client, and of its server in the era that it is spoken to."""
        for feature in features:
            if feature in self.way.lacks:
                raise Cannot(self.way.lacks[feature])
            if self.server.is_stateless and self.server_era == "legacy" and feature in NEED_SESSIONS:
                raise Cannot("the SDK's default legacy half has no sessions")

    @property
    def era(self):
        """In which era the client speaks."""
        return self.connection.era

    @property
    def server_era(self):
        """In which era the server is spoken to."""
        if self.server.is_stateless and not self.way.is_direct:
            # Its legacy half can do less, so the gateway prefers the other one.
            return "modern"
        return self.era if self.server.era == "dual" else self.server.era

    @property
    def is_translated(self):
        return self.server_era != self.era


class Answers:
    """What a client says to what it is asked: it accepts, each time with another name."""

    def __init__(self):
        self.names = (f"Ada {n}" for n in itertools.count(1))

    def __call__(self, method, params):
        match method:
            case "sampling/createMessage":
                said = params["messages"][0]["content"]["text"]
                content = {"type": "text", "text": f"sampled {said}"}
                return {"result": {"role": "assistant", "content": content, "model": "m"}}
            case "roots/list":
                return {"result": {"roots": [{"uri": "file:///a"}, {"uri": "file:///b", "name": "b"}]}}
            case "elicitation/create" if params.get("url"):
                return {"result": {"action": "accept"}}
            case "elicitation/create":
                return {"result": {"action": "accept", "content": {"name": next(self.names)}}}


async def opening(cell):
    opened = (await cell.open()).opened
    if "details" in cell.way.lacks:
        same("connected", "Connected" in opened["status"], True)
        return
    same("serverInfo", {k: opened["serverInfo"].get(k) for k in ("name", "version")},
         {"name": cell.server.name, "version": "1.0.0"})
    same("instructions", opened.get("instructions"), "Call the tools in any order.")
    same("revision", opened["protocolVersion"],
         "2026-07-28" if cell.era == "modern" else cell.way.revision)
    if cell.way.era != "auto":
        same("era", cell.era, cell.way.era)
    wanted = {"completions": {}, "logging": {}, "prompts": {"listChanged": True}, "tools": {"listChanged": True},
              "resources": {"listChanged": True, "subscribe": True}}
    same("capabilities", {name: opened["capabilities"].get(name) for name in wanted}, wanted)


async def ping(cell):
    connection = await cell.open()
    cell.needs("ping")
    if cell.era == "modern":
        raise Cannot("the stateless revision has no ping")
    same("ping", without_meta(await connection.do("ping")), {})


async def tools(cell):
    connection = await cell.open()
    tools = {tool["name"]: tool for tool in (await connection.do("list", kind="tools"))["tools"]}
    # Left out by whoever speaks the stateless revision over HTTP.
    same("names", sorted(set(tools) - {"bad_header"}), sorted(TOOLS))
    same("description", tools["echo"]["description"], "The tool echo.")
    same("arguments", sorted(tools["region"]["inputSchema"]["properties"]), ["query", "region"])
    same("output", list(tools["add"]["outputSchema"]["properties"]), ["sum"])


async def call(cell):
    connection = await cell.open()
    text = "emoji 😀, CJK 漢字, lines \n\r\n\u2028 and \\u0000 \"quotes\""
    same("echo", await connection.call("echo", text=text), {"text": text})
    same("grüße", await connection.call("grüße"), {"text": "grüße"})


async def structured(cell):
    connection = await cell.open()
    same("add", await connection.call("add", a=1, b=2), {"text": "3", "structured": {"sum": 3}})


async def is_error(cell):
    connection = await cell.open()
    same("fails", await connection.call("fails"), {"text": "failed on purpose", "isError": True})


async def protocol_error(cell):
    connection = await cell.open()
    wanted = {"code": -32050, "message": "thrown on purpose", "data": {"why": "a test"}}
    seen = error_of(await connection.call("throws"))
    names = ["message"] if "codes" in cell.way.lacks else list(wanted)
    same("throws", {name: seen.get(name) for name in names}, {name: wanted[name] for name in names})


def error_of(outcome):
    """The SDK for TypeScript puts the code before the message."""
    error = outcome.get("error", outcome)
    if "message" in error:
        error = {**error, "message": error["message"].removeprefix(f"MCP error {error.get('code')}: ")}
    return error


async def unknown_tool(cell):
    connection = await cell.open()
    cell.needs("unlisted")
    # The SDKs do not agree whether that is an error of the protocol.
    outcome = await connection.call("nope")
    if cell.server.sdk == "typescript":
        wanted = {"code": -32602, "message": "Tool nope not found"}
        same("nope", {k: error_of(outcome).get(k) for k in wanted}, wanted)
    else:
        same("nope", outcome, {"text": "Unknown tool: nope", "isError": True})


async def resources(cell):
    connection = await cell.open()
    listed = (await connection.do("list", kind="resources"))["resources"]
    wanted = {ONE: "one"} if cell.server.sdk == "python" else {ONE: "one", "test://asks": "asks"}
    same("resources", {one["uri"]: one["name"] for one in listed}, wanted)


async def read(cell):
    connection = await cell.open()
    for uri, text in ((ONE, "one"), (ITEM, "item 1")):
        read = (await connection.do("read", uri=uri))["contents"]
        same(uri, [(one["uri"], one["text"], one["mimeType"]) for one in read], [(uri, text, "text/plain")])


async def templates(cell):
    connection = await cell.open()
    listed = (await connection.do("list", kind="resourceTemplates"))["resourceTemplates"]
    wanted = {"item": "test://item/{id}"} | ({"asks": "test://{asks}"} if cell.server.sdk == "python" else {})
    same("templates", {one["name"]: one["uriTemplate"] for one in listed}, wanted)


async def missing_resource(cell):
    connection = await cell.open()
    try:
        read = await connection.do("read", uri="test://no/such")
        raise Differs(f"it was read: {read}")
    except Failed as failed:
        # A legacy client knows it as -32002; an SDK that says otherwise to legacy clients is not corrected.
        code = -32602
        is_legacy_code = cell.is_translated or cell.server.sdk == "python-1x"
        # The client 2.x for TypeScript gives both the same code.
        if cell.era == "legacy" and is_legacy_code and cell.way.client != "client-2x":
            code = -32002
        if "codes" in cell.way.lacks:
            return
        same("code", failed.error.get("code"), code)
        same("data", failed.error.get("data"), {"uri": "test://no/such"})


async def prompts(cell):
    connection = await cell.open()
    listed = {one["name"]: one for one in (await connection.do("list", kind="prompts"))["prompts"]}
    same("prompts", sorted(listed), ["asks", "greet"])
    same("arguments", [one["name"] for one in listed["greet"]["arguments"]], ["name"])
    prompt = await connection.do("prompt", name="greet", arguments={"name": "Ada"})
    same("greet", prompt["messages"], [{"role": "user", "content": {"type": "text", "text": "Hello, Ada!"}}])


async def completion(cell):
    connection = await cell.open()
    cell.needs("completion")
    for ref, argument, wanted in (
        ({"type": "ref/prompt", "name": "greet"}, {"name": "name", "value": "A"}, ["Ada", "Alan"]),
        ({"type": "ref/resource", "uri": "test://item/{id}"}, {"name": "id", "value": "1"}, ["1", "10"]),
    ):
        completed = await connection.do("complete", ref=ref, argument=argument)
        same(argument["name"], completed["completion"]["values"], wanted)


def steps(connection):
    return [(one["progress"], one.get("total"), one.get("message")) for one in connection.of("notifications/progress")]


async def progress(cell):
    connection = await cell.open()
    cell.needs("progress")
    same("result", await connection.call("progress", progress=True, steps=4), {"text": "made 4 steps"})
    same("progress", steps(connection), [(n, 4, f"step {n}") for n in (1, 2, 3, 4)])


async def progress_rounds(cell):
    connection = await cell.open()
    cell.needs("progress", "answers")
    outcome = await connection.call("progress_rounds", progress=True)
    same("result", outcome, {"text": '{"action":"accept","content":{"name":"Ada 1"}}'})
    numbers = [number for number, _, _ in steps(connection)]
    if cell.server_era == "legacy" or cell.era == "modern":
        # As the server counts.
        same("progress", numbers, [1, 2, 1, 2, 3, 4])
    else:
        if sorted(set(numbers)) != numbers or numbers[:2] != [1, 2] or len(numbers) < 4:
            raise Differs(f"progress: {numbers}, not rising over both rounds")


async def logging(cell):
    connection = await cell.open()
    cell.needs("logs")

    async def logs(level):
        same("log", await connection.call("log", level=level, text=f"at {level}"), {"text": "logged"})

    await connection.do("level", level="warning")
    for level in ("info", "warning", "error"):
        await logs(level)
    await connection.do("level", level="debug")
    await logs("debug")
    wanted = [("warning", "at warning"), ("error", "at error"), ("debug", "at debug")]

    def seen():
        return [(one["level"], one["data"]) for one in connection.of("notifications/message")]

    await connection.until(lambda: len(seen()) >= len(wanted), f"three messages; until then {seen()}")
    same("messages", seen(), wanted)
    same("logger", {one.get("logger") for one in connection.of("notifications/message")}, {"eras"})


async def becomes(connection, tool, wanted):
    """Asks until that is the answer."""
    seen = None
    for _ in range(400):
        seen = (await connection.call(tool)).get("text")
        if seen == wanted:
            return
    raise Differs(f"{tool}: {seen}, not {wanted}")


async def cancelling(cell):
    connection = await cell.open()
    cell.needs("cancel")
    before = int((await connection.call("was_cancelled"))["text"])
    slow = connection.start("slow", ms=60_000)
    await becomes(connection, "running", "1")
    await connection.do("cancel", call=slow.number)
    await becomes(connection, "was_cancelled", str(before + 1))
    await becomes(connection, "running", "0")
    outcome = await connection.outcome(slow)
    if not (outcome.get("cancelled") or "error" in outcome):
        raise Differs(f"the cancelled call was answered: {outcome}")


async def cancelling_while_asked(cell):
    connection = await cell.open()
    cell.needs("answers", "cancel")
    if cell.era == "modern":
        raise Cannot("in the stateless revision nothing is in flight while the client is asked")
    connection.answer = None
    call = connection.start("ask")
    await connection.until(lambda: connection.asked, "the client is asked")
    await connection.do("cancel", call=call.number)
    outcome = await connection.outcome(call)
    if not (outcome.get("cancelled") or "error" in outcome):
        raise Differs(f"the cancelled call was answered: {outcome}")
    # An answer that comes too late disturbs nobody.
    await connection.reply(connection.asked[0]["ask"], {"action": "accept", "content": {"name": "late"}})
    connection.answer = Answers()
    same("the next one", await connection.call("ask"), {"text": '{"action":"accept","content":{"name":"Ada 1"}}'})


async def sampling(cell):
    connection = await cell.open()
    cell.needs("answers")
    same("sample", await connection.call("sample", prompt="a prompt"), {"text": "sampled a prompt"})
    [asked] = connection.asked
    same("method", asked["method"], "sampling/createMessage")
    params = without_meta(asked.get("params"))
    message = params["messages"][0]
    same("asked", (params["maxTokens"], message["role"], message["content"]["text"]), (100, "user", "a prompt"))


async def form(cell, answer, wanted):
    connection = await cell.open()
    cell.needs("answers")
    connection.answer = lambda *_: answer
    same("ask", await connection.call("ask"), {"text": wanted})
    [asked] = connection.asked
    params = without_meta(asked.get("params"))
    schema = params["requestedSchema"]
    same("message", params["message"], "What is your name?")
    same("schema", (schema["type"], schema["properties"]["name"]["type"], schema["required"]), ("object", "string", ["name"]))
    same("mode", params.get("mode", "form"), "form")


async def accept(cell):
    answer = {"result": {"action": "accept", "content": {"name": "Grüße"}}}
    await form(cell, answer, '{"action":"accept","content":{"name":"Grüße"}}')


async def decline(cell):
    await form(cell, {"result": {"action": "decline"}}, '{"action":"decline"}')


async def cancelled_form(cell):
    await form(cell, {"result": {"action": "cancel"}}, '{"action":"cancel"}')


async def client_error(cell):
    connection = await cell.open()
    cell.needs("answers")
    connection.answer = lambda *_: {"error": {"code": -32055, "message": "the client says no"}}
    outcome = await connection.call("ask")
    # As a result or as an error: what the client has said is in it.
    if not (outcome.get("isError") or "error" in outcome) or "the client says no" not in dumped(outcome):
        raise Differs(f"ask: {dumped(outcome)}, not an error that says what the client said")
    if cell.is_translated:
        same("code", outcome["error"].get("code"), -32055)


async def url(cell):
    connection = await cell.open()
    cell.needs("answers", "urls")
    same("visit", await connection.call("visit"), {"text": '{"action":"accept"}'})
    [asked] = connection.asked
    params = without_meta(asked.get("params"))
    identifier = params.pop("elicitationId", None)
    same("asked", params, {"mode": "url", "message": "Please sign in.", "url": URL})
    if cell.era == "legacy" and not identifier:
        raise Differs("there is no elicitationId")


async def roots(cell):
    connection = await cell.open()
    cell.needs("answers")
    same("roots", json.loads((await connection.call("roots"))["text"]), ["file:///a", "file:///b"])
    same("asked", [asked["method"] for asked in connection.asked], ["roots/list"])


async def all_at_once(cell):
    connection = await cell.open()
    cell.needs("answers")
    answers, connection.answer = connection.answer, None
    call = connection.start("all")
    # Python 2.x asks for one after another in the legacy era, and a client of 1.x takes a question when it has answered the
    # one before.
    is_slow = cell.server.sdk == "python" and cell.server_era == "legacy" or cell.way.client == "python-1x"
    at_once = 1 if is_slow else 3
    await connection.until(lambda: len(connection.asked) >= at_once, f"{at_once} questions at once")
    connection.answer = answers
    # The last one is answered first.
    for asked in connection.asked[::-1]:
        await connection.reply(asked["ask"], **answers(asked["method"], asked.get("params") or {}))
    outcome = await connection.outcome(call)
    wanted = {"ask": {"action": "accept", "content": {"name": "Ada 1"}}, "sample": "sampled all",
              "roots": ["file:///a", "file:///b"]}
    same("all", json.loads(outcome.get("text") or dumped(outcome)), wanted)
    same("questions", len(connection.asked), 3)


async def rounds(cell):
    connection = await cell.open()
    cell.needs("answers")
    same("rounds", await connection.call("rounds", n=3), {"text": '["Ada 1","Ada 2","Ada 3"]'})


async def state(cell):
    connection = await cell.open()
    same("state", await connection.call("state"), {"text": "state came back"})
    same("questions", connection.asked, [])


async def prompt_asks(cell):
    connection = await cell.open()
    cell.needs("answers")
    prompt = await connection.do("prompt", name="asks")
    same("asks", prompt["messages"][0]["content"]["text"], '{"action":"accept","content":{"name":"Ada 1"}}')


async def resource_asks(cell):
    connection = await cell.open()
    cell.needs("answers")
    read = await connection.do("read", uri="test://asks")
    same("asks", read["contents"][0]["text"], '{"action":"accept","content":{"name":"Ada 1"}}')


async def without_capability(cell):
    main = await cell.open()
    cell.needs("offers")
    connection = await cell.client.open(offers=False)
    for tool in ("ask", "visit", "sample", "roots"):
        outcome = await connection.call(tool, **({"prompt": "p"} if tool == "sample" else {}))
        if not (outcome.get("isError") or "error" in outcome):
            raise Differs(f"{tool}: {dumped(outcome)}, not an error")
        if cell.era == "legacy" and cell.is_translated:
            code = outcome["error"].get("code")
            if code not in (-32600, -32603):
                raise Differs(f"{tool}: {dumped(outcome)}, with a code that legacy clients do not know")
    same("questions", connection.asked, [])
    same("the next call", await connection.call("echo", text="still here"), {"text": "still here"})
    await connection.close()
    same("the other client", await main.call("echo", text="here too"), {"text": "here too"})


def updated(connection):
    return [one["uri"] for one in connection.of("notifications/resources/updated")]


async def subscribing(cell):
    connection = await cell.open()
    is_modern = cell.era == "modern"
    cell.needs("updates")

    async def subscribe(uri):
        if is_modern:
            heard = await connection.do("listen", lists=[], uris=[uri])
            same("acknowledged", heard.get("resourceSubscriptions"), [uri])
        else:
            await connection.do("subscribe", uri=uri)

    async def unsubscribe(uri):
        await (connection.do("deafen") if is_modern else connection.do("unsubscribe", uri=uri))

    async def touch(uri):
        same("touch", await connection.call("touch", uri=uri), {"text": "touched"})

    await subscribe(ONE)
    for uri in (ONE, ITEM, ONE):
        await touch(uri)
    await connection.until(lambda: len(updated(connection)) >= 2, "two updates")
    same("updates", updated(connection), [ONE, ONE])
    if is_modern:
        await unsubscribe(ONE)
        await subscribe(ITEM)
    else:
        await subscribe(ITEM)
        await unsubscribe(ONE)
    for uri in (ONE, ITEM):
        await touch(uri)
    await connection.until(lambda: len(updated(connection)) >= 3, "another update")
    same("updates", updated(connection), [ONE, ONE, ITEM])
    for params in connection.of("notifications/resources/updated"):
        if not is_modern and META + "subscriptionId" in (params.get("_meta") or {}):
            raise Differs(f"a legacy client was told a subscription: {params}")
    await unsubscribe(ITEM)


async def hung_up(cell):
    connection = await cell.open()
    cell.needs("updates")
    if cell.server_era == "legacy":
        raise Cannot("the legacy era has no subscriptions that a server could end")
    if cell.server.sdk == "typescript" and cell.server.transport == "stdio":
        raise Cannot("the SDK cannot end a subscription over stdio")
    if cell.era == "modern":
        await connection.do("listen", lists=[], uris=[ONE])
        same("hang_up", await connection.call("hang_up"), {"text": "hung up"})
        await connection.until(lambda: connection.heard_out, "the subscription ends")
        return
    await connection.do("subscribe", uri=ONE)
    same("hang_up", await connection.call("hang_up"), {"text": "hung up"})
    for _ in range(400):
        await connection.call("touch", uri=ONE)
        await connection.call("slow", ms=50)
        if updated(connection):
            break
    same("updates", set(updated(connection)), {ONE})
    await connection.do("unsubscribe", uri=ONE)


async def list_changes(cell):
    connection = await cell.open()
    cell.needs("changes")
    kinds = ("tools", "prompts", "resources")
    if cell.era == "modern":
        heard = await connection.do("listen", lists=list(kinds), uris=[])
        same("acknowledged", {f"{kind}ListChanged": heard.get(f"{kind}ListChanged") for kind in kinds},
             {f"{kind}ListChanged": True for kind in kinds})
    methods = [f"notifications/{kind}/list_changed" for kind in kinds]

    def seen():
        return [method for method, _ in connection.said if method in methods]

    wanted = []
    for what in ("added", "removed"):
        for kind, method in zip(kinds, methods):
            same("change", await connection.call("change", what=kind), {"text": what})
            wanted.append(method)
            await connection.until(lambda: len(seen()) >= len(wanted), f"{method} when something was {what}")
            same("changes", seen(), wanted)
            listed = [one["name"] for one in (await connection.do("list", kind=kind))[kind]]
            same(f"{kind} with what was {what}", "extra" in listed, what == "added")
    if cell.era == "modern":
        await connection.do("deafen")


async def headers(cell):
    connection = await cell.open()
    if cell.server.transport == "stdio":
        raise Cannot("there are no headers over stdio")
    seen = json.loads((await connection.call("headers"))["text"])
    if cell.server_era == "modern":
        same("headers", seen, {"mcp-method": "tools/call", "mcp-name": "headers", "mcp-protocol-version": "2026-07-28"})
    else:
        if not cell.server.is_stateless and not seen.pop("mcp-session-id", None):
            raise Differs("there is no session")
        same("headers", seen, {"mcp-protocol-version": cell.way.revision})


async def parameter_headers(cell):
    connection = await cell.open()
    await connection.do("list", kind="tools")
    # Plain; not ASCII; with a space at an end; like what is encoded; empty.
    for region in ("eu", "grüße", " eu ", "=?base64?ZXU=?=", ""):
        wanted = {"region": region, "query": "q"}
        outcome = await connection.call("region", **wanted)
        same("region", json.loads(outcome.get("text") or dumped(outcome)), wanted)


async def listed_again(cell):
    """Nobody on a new connection has seen the list of tools."""
    await cell.broken()
    connection = await cell.open()
    cell.needs("unlisted")
    outcome = await connection.call("region", region="eu", query="q")
    same("region", json.loads(outcome.get("text") or dumped(outcome)), {"region": "eu", "query": "q"})


async def bad_header(cell):
    connection = await cell.open()
    if cell.server.sdk != "typescript":
        raise Cannot("the SDK does not take such a tool")
    if cell.server.transport == "stdio" or cell.server_era == "legacy":
        raise Cannot("it is left out only over HTTP in the stateless revision")
    names = [tool["name"] for tool in (await connection.do("list", kind="tools"))["tools"]]
    same("left out", "bad_header" not in names, True)


async def told_of_client(cell):
    connection = await cell.open()
    seen = json.loads((await connection.call("meta"))["text"])
    if cell.server_era == "legacy":
        same("members of the stateless revision", [name for name in seen if name.startswith(META)], [])
        return
    same("protocolVersion", seen[META + "protocolVersion"], "2026-07-28")
    name, offers = cell.way.told
    same("clientInfo", seen[META + "clientInfo"]["name"], name)
    same("clientCapabilities", sorted(set(seen[META + "clientCapabilities"]) & {"elicitation", "roots", "sampling"}), offers)


async def trace(cell):
    connection = await cell.open()
    sent = {name: value for name, value in TRACE.items() if "values" not in cell.way.lacks or isinstance(value, str)}
    seen = json.loads((await connection.call("meta", meta=sent))["text"])
    same("_meta", {name: seen.get(name) for name in sent}, sent)


async def many(cell):
    connection = await cell.open()
    cell.needs("many")
    calls = [connection.start("echo", text=f"call {n}") for n in range(30)]
    for n, call in enumerate(calls):
        same("echo", await connection.outcome(call), {"text": f"call {n}"})


async def dies(cell):
    connection = await cell.open()
    if cell.way.is_direct:
        raise Cannot("without a gateway the connection ends with its server")
    outcome = await connection.call("die")
    if "error" not in outcome:
        raise Differs(f"die: {dumped(outcome)}, not an error")
    if "code" not in outcome["error"] and "codes" not in cell.way.lacks:
        raise Differs(f"die: {dumped(outcome)}, not an error of the protocol")


async def after_death(cell):
    if cell.way.is_direct:
        raise Cannot("without a gateway the connection ends with its server")
    connection = await cell.open()
    if cell.process:
        await cell.process.is_back()
    seen = None
    # While a server is started again, calls may be refused.
    for _ in range(60):
        seen = await connection.call("echo", text="again")
        if seen == {"text": "again"}:
            break
    same("echo", seen, {"text": "again"})
    cell.needs("answers")
    same("ask", await connection.call("ask"), {"text": '{"action":"accept","content":{"name":"Ada 1"}}'})


class Row(NamedTuple):
    check: Callable
    # What it is about, in the table.
    title: str

    async def run(self, cell):
        only = cell.way.only
        if only and self is not ROWS.get(only[0]):
            raise Cannot(only[1])
        await self.check(cell)


# In this order; the last ones disturb others.
ROWS = {
    "listed again": Row(listed_again, "a tool with `x-mcp-header`, called before anybody has listed the tools"),
    "opening": Row(opening, "opening: revision, name, capabilities, instructions"),
    "ping": Row(ping, "ping"),
    "tools": Row(tools, "list of tools, with their schemas"),
    "call": Row(call, "calls with any text, of a tool whose name is not ASCII"),
    "structured": Row(structured, "structured content"),
    "isError": Row(is_error, "a tool that fails"),
    "protocol error": Row(protocol_error, "an error of the server's own, with data"),
    "unknown tool": Row(unknown_tool, "a tool that does not exist"),
    "resources": Row(resources, "list of resources"),
    "read": Row(read, "reading a resource, also by a template"),
    "templates": Row(templates, "list of resource templates"),
    "missing resource": Row(missing_resource, "a resource that does not exist"),
    "prompts": Row(prompts, "prompts: list, get"),
    "completion": Row(completion, "completion for a prompt and for a template"),
    "progress": Row(progress, "progress, in order, before the result"),
    "progress of rounds": Row(progress_rounds, "progress of a call that asks in between"),
    "logging": Row(logging, "log messages, from a level on"),
    "cancel": Row(cancelling, "cancelling: the server stops"),
    "cancel while asked": Row(cancelling_while_asked, "cancelling a call while the client is asked"),
    "sampling": Row(sampling, "sampling"),
    "accept": Row(accept, "a form that is accepted"),
    "decline": Row(decline, "a form that is declined"),
    "cancelled form": Row(cancelled_form, "a form that is cancelled"),
    "client error": Row(client_error, "a form that the client answers with an error"),
    "url": Row(url, "a URL to visit"),
    "roots": Row(roots, "roots"),
    "all": Row(all_at_once, "a form, sampling and roots at once, answered last first"),
    "rounds": Row(rounds, "three forms, one after another"),
    "state": Row(state, "a round that only carries state"),
    "prompt asks": Row(prompt_asks, "a prompt that asks"),
    "resource asks": Row(resource_asks, "a resource that asks"),
    "without capability": Row(without_capability, "asking a client that does not offer it"),
    "subscribe": Row(subscribing, "updates of resources: subscribing, another one, unsubscribing"),
    "list changes": Row(list_changes, "changes of the lists, each told once"),
    "hung up": Row(hung_up, "a server that ends its subscriptions"),
    "headers": Row(headers, "the headers that the server gets"),
    "parameter headers": Row(parameter_headers, "`x-mcp-header`, also with what no header can hold"),
    "bad header": Row(bad_header, "a tool with an invalid `x-mcp-header` is left out"),
    "client told": Row(told_of_client, "what the server is told of the client"),
    "trace": Row(trace, "`_meta`, with a trace context"),
    "many": Row(many, "30 calls at once"),
    "dies": Row(dies, "the server is killed in a call: that gets an error"),
    "after death": Row(after_death, "calls after that, in the same session"),
}
