"""What a run consists of: a server, the gateway in front of it, and a client that does what it is told."""

import asyncio
import contextlib
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(TESTS / "replicas"))

from world import PORTS, Broken, Process, ask, dies_with_us, until  # noqa: E402

# How long a client or a server may take to start on a busy machine.
START = 60
# How long anything else may take.
PATIENCE = 15
# How long a client may take to end when its input ends.
END = 8


class Place:
    """A folder for all that runs, and a mark by which it is found again."""

    def __init__(self, keep):
        self.keep = keep
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="mcp-sse-eras-"))
        name, value = "MCP_SSE_ERAS", secrets.token_hex(8)
        self.mark = f"{name}={value}"
        self.environment = {**os.environ, name: value, "MCP_REMOTE_CONFIG_DIR": str(self.folder)}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in self.left():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if self.keep:
            print(f"the logs are in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def left(self):
        """What was started here and runs: its environment has our mark."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            folder = pathlib.Path("/proc", name)
            with contextlib.suppress(OSError):
                is_ours = self.mark.encode() in (folder / "environ").read_bytes().split(b"\0")
                if is_ours and not (folder / "stat").read_text().rpartition(")")[2].startswith(" Z"):
                    found.append(int(name))
        return found


async def answers(port, path):
    return await ask(port, path) is not None


class Listening(Process):
    """A program that listens on a port of its own."""

    def __init__(self, place, name, command, path):
        self.port = PORTS.free()
        super().__init__(place, name, [*command, "--port", self.port], lambda: answers(self.port, path))

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, *_):
        self.child.terminate()
        with contextlib.suppress(Broken):
            await until(lambda: not self.runs, END, f"{self.name} ends")
        if self.runs:
            self.child.kill()
            self.child.wait()


class Gateway(Listening):
    """In front of a server that listens, or of a program."""

    def __init__(self, place, options, backend, command):
        serve = [options.program, "serve", "--log-level", options.log_level]
        super().__init__(place, "gateway", serve, "/healthz")
        self.command += ["--upstream", f"http://127.0.0.1:{backend.port}/mcp"] if backend else ["--", *command]


class RestartedServer(Listening):
    """A server that is started again when it has died."""

    def __init__(self, place, command):
        super().__init__(place, "server", command, "/mcp")

    async def __aenter__(self):
        await self.start()
        self.keeping = asyncio.create_task(self.keep())
        return self

    async def __aexit__(self, *_):
        self.keeping.cancel()
        await super().__aexit__()

    async def keep(self):
        while True:
            await until(lambda: not self.runs, 3600, "the server ends")
            await self.start()

    async def is_back(self):
        async def listens():
            return self.runs and await self.is_up()

        await until(listens, START, "the server is back")


class Failed(Exception):
    """The client has got an error."""

    def __init__(self, error):
        super().__init__(json.dumps(error, ensure_ascii=False))
        self.error = error


class Connection:
    """One connection of a client, with all that it was told and asked."""

    def __init__(self, client, name):
        self.client, self.name = client, name
        # Notifications as (method, params); what the server asks, as it came; how to answer that.
        self.said, self.asked, self.unasked, self.answer = [], [], [], None
        self.heard_out = False

    async def do(self, what, **more):
        return await self.client.outcome(self.tell(what, **more))

    def tell(self, what, **more):
        return self.client.tell(what, connection=self.name, **more)

    def start(self, tool, **arguments):
        """A call that is not waited for."""
        return self.tell("call", tool=tool, arguments=arguments)

    async def call(self, tool, *, progress=False, meta=None, **arguments):
        more = {**({"progress": True} if progress else {}), **({"meta": meta} if meta else {})}
        return await self.outcome(self.tell("call", tool=tool, arguments=arguments, **more))

    async def outcome(self, call, seconds=PATIENCE):
        """What came of a call, without what is always there."""
        try:
            return plain(await self.client.outcome(call, seconds))
        except Failed as failed:
            return {"error": failed.error}

    async def reply(self, number, result=None, error=None):
        answer = {"error": error} if error else {"result": result}
        await self.client.outcome(self.client.tell("answer", ask=number, **answer))

    async def until(self, is_so, what):
        await self.client.until(is_so, what)

    def of(self, *methods):
        return [params for method, params in self.said if method in methods]

    async def close(self):
        await self.do("close")


def plain(result):
    """A result of a tool, with all that a legacy client might show."""
    texts = [part.get("text") for part in result.get("content", [])]
    seen = {"text": texts[0]} if len(texts) == 1 else {"texts": texts}
    if result.get("isError"):
        seen["isError"] = True
    if result.get("structuredContent") is not None:
        seen["structured"] = result["structuredContent"]
    return {"cancelled": True} if result.get("cancelled") else seen


class Client:
    """A client that does what it is told, in lines (see client.mjs)."""

    def __init__(self, place, command):
        self.place, self.command, self.version = place, command, None
        self.waiting, self.connections, self.last = {}, {}, 0
        self.changed = asyncio.Event()

    async def __aenter__(self):
        with open(self.place.folder / "client.log", "ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *map(str, self.command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.place.environment,
                cwd=self.place.folder,
                start_new_session=True,
                preexec_fn=dies_with_us,
                limit=1 << 24,
            )
        self.reading = asyncio.create_task(self.read())
        try:
            await self.until(lambda: self.version or self.reading.done(), "the client starts", START)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_):
        await self.stop()

    async def restart(self):
        await self.stop()
        self.version = None
        await self.__aenter__()

    async def stop(self):
        self.process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END):
                await self.process.wait()
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        self.reading.cancel()
        for answer in self.waiting.values():
            answer.cancel()
        self.waiting.clear()

    async def read(self):
        while line := await self.process.stdout.readline():
            self.take(json.loads(line))
            self.changed.set()
        for answer in self.waiting.values():
            answer.done() or answer.set_result({"error": {"words": "the client has ended"}})
        self.changed.set()

    def take(self, line):
        if "version" in line:
            self.version = line["version"]
        elif "n" in line:
            answer = self.waiting.pop(line["n"])
            answer.done() or answer.set_result(line)
        else:
            self.hear(self.connections[line["connection"]], line)

    def hear(self, connection, line):
        match line["event"]:
            case "said":
                connection.said.append((line["method"], line.get("params")))
            case "unasked":
                connection.unasked.append(line["ask"])
            case "heard out":
                connection.heard_out = True
            case "asked":
                connection.asked.append(line)
                if connection.answer:
                    told = connection.answer(line["method"], line.get("params") or {})
                    self.tell("answer", ask=line["ask"], **told).add_done_callback(lambda _: None)

    async def until(self, is_so, what, seconds=PATIENCE):
        """Waits until it is so; looked at whenever the client has said something."""
        try:
            async with asyncio.timeout(seconds):
                while not is_so():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise Broken(f"{what}: not within {seconds} s") from None

    def tell(self, what, **more):
        """Has it do something; what comes of it is awaited with `outcome`."""
        self.last += 1
        self.waiting[self.last] = answer = asyncio.get_running_loop().create_future()
        answer.number = self.last
        if self.reading.done():
            answer.set_result({"error": {"words": "the client has ended"}})
            return answer
        self.process.stdin.write(json.dumps({"n": self.last, "do": what, **more}).encode() + b"\n")
        return answer

    async def outcome(self, answer, seconds=PATIENCE):
        try:
            async with asyncio.timeout(seconds):
                line = await asyncio.shield(answer)
        except TimeoutError:
            raise Broken(f"no answer within {seconds} s") from None
        if "error" in line:
            raise Failed(line["error"])
        return line["result"]

    async def open(self, offers=True, seconds=START):
        name = f"connection-{len(self.connections)}"
        connection = self.connections[name] = Connection(self, name)
        connection.opened = await self.outcome(self.tell("open", connection=name, offers=offers), seconds)
        connection.era = connection.opened["era"]
        return connection
