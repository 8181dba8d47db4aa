"""Each client at each server, directly and by way of the gateway: what they can do with each other.

    run.py [--short] [--clients REGEX] [--servers REGEX] [--rows REGEX] [--report FILE]

Prints `ok CLIENT @ SERVER: N rows` or `FAIL CLIENT @ SERVER, ROW: reason`, and ends with a line
`compatibility: N passed, M failed, …`. See README.md.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import pathlib
import re
import shutil
import signal
import sys
import threading

# Nothing is written into the source tree.
sys.dont_write_bytecode = True

import table  # noqa: E402
from clients import WAYS, Server, driver, package, servers  # noqa: E402
from peers import TESTS, Broken, Client, Failed, Gateway, Place, RestartedServer  # noqa: E402
from rows import ROWS, Cannot, Cell, Differs  # noqa: E402

ROOT = TESTS.parent.parent
HERE = TESTS / "eras"
# In seconds: for all, for one client at one server, for one row.
DEADLINE = 90 * 60
RUN = 300
ROW = 60
SHORT = {"clients": "^(python-1x|sdk-1x) sse", "servers": " modern "}


class Options:
    """Where everything is, and what of it is run."""

    def __init__(self):
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--short", action="store_true", help="two clients over SSE at what speaks the stateless revision only")
        for what in ("clients", "servers", "rows"):
            parser.add_argument(f"--{what}", type=re.compile, metavar="REGEX", help="only those that match, as they are printed")
        parser.add_argument("--report", type=pathlib.Path, metavar="FILE")
        parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target/release/mcp-sse")
        parser.add_argument("--installed", type=pathlib.Path, default=ROOT / "target/interop", metavar="FOLDER")
        parser.add_argument("--at-once", type=int, default=2, metavar="N", help="how many run at the same time")
        parser.add_argument("--log-level", default="info", metavar="FILTER", help="of the gateway")
        parser.add_argument("--no-chromium", action="store_true", help="leave out what needs it")
        parser.add_argument("--keep", action="store_true", help="keep the folders with logs")
        self.__dict__.update(vars(parser.parse_args()))
        self.program, self.installed = self.program.resolve(), self.installed.resolve()
        # A report says what all of them do.
        self.is_whole = not (self.short or self.clients or self.servers or self.rows or self.no_chromium)
        for what in ("clients", "servers", "rows"):
            given = getattr(self, what) or re.compile(SHORT.get(what, "") if self.short else "")
            setattr(self, what, given)

    def python(self, version, script):
        # Its bytecode would be written into the source tree.
        return (self.installed / f"python-{version}/bin/python", "-B", HERE / script)

    def copied(self, script, folder):
        """Beside the packages that it imports."""
        return ("node", self.installed / folder / script)

    def copy(self):
        for script, folder in (("server.mjs", "eras"), ("client.mjs", "node")):
            shutil.copy(HERE / script, self.installed / folder)

    def pairs(self):
        ways = [way for way in WAYS if self.clients.search(way.key) and not (self.no_chromium and way.client == "chromium")]
        wanted = [server for server in servers(self) if self.servers.search(server.key)]
        return [(way, server) for way, server in itertools.product(ways, wanted) if way.can_meet(server)]


class Verdicts:
    """What was seen of each cell."""

    def __init__(self):
        # (way, server, row) → (`passed`, `failed` or `cannot`; why).
        self.cells, self.versions = {}, {}

    async def of(self, key, run, cell):
        """Whether it went well."""
        try:
            async with asyncio.timeout(ROW):
                await run(cell)
            seen = ("passed", "")
        except Cannot as why:
            seen = ("cannot", str(why))
        except (Differs, Broken) as why:
            seen = ("failed", " ".join(str(why).split())[:1000])
        # What comes is not even of the form that the row looks at.
        except (Failed, TimeoutError, LookupError, ValueError, TypeError, AttributeError) as error:
            seen = ("failed", " ".join(f"{type(error).__name__} {error}".split())[:1000])
        self.put(key, seen)
        return seen[0] != "failed"

    def put(self, key, seen):
        self.cells[key] = seen
        if seen[0] == "failed":
            way, server, row = key
            print(f"FAIL {way} @ {server}, {row}: {seen[1]}", flush=True)

    def count(self, wanted, start=()):
        return sum(seen == wanted for key, (seen, _) in self.cells.items() if key[: len(start)] == start)

    def said(self, start=()):
        passed, failed, cannot = (self.count(word, start) for word in ("passed", "failed", "cannot"))
        return f"{passed} passed, {failed} failed, {cannot} cannot be expressed"


async def one(options, way, server: Server, verdicts):
    """All rows of one client at one server."""
    async with contextlib.AsyncExitStack() as stack:
        place = stack.enter_context(Place(options.keep))
        backend = gateway = None
        if server.transport == "http":
            backend = await stack.enter_async_context(RestartedServer(place, server.command))
        # `mcp-sse connect` goes to where a server listens, and needs a gateway only in front of a program.
        if not way.is_direct and not (way.by == "connect" and backend):
            gateway = await stack.enter_async_context(Gateway(place, options, backend, server.command))
        command = [*driver(options, way.client), *target(options, way, server, backend, gateway)]
        client = await stack.enter_async_context(Client(place, command))
        verdicts.versions[way.client] = package(options, "oauth", "mcp-remote") if way.client == "mcp-remote" else client.version
        cell = Cell(client, way, server, backend)
        await cell.open()
        for name, row in ROWS.items():
            if options.rows.search(name) and not await verdicts.of((way.key, server.key, name), row.run, cell):
                await cell.broken()


def target(options, way, server, backend, gateway):
    """The words that lead a client there."""
    here = gateway or backend
    path = "/mcp" if way.by == "http" or not gateway else "/sse"
    url = f"http://127.0.0.1:{here.port}{path}" if here else None
    if way.by == "connect":
        transport, words = "stdio", [options.program, "connect", url]
    elif way.client == "mcp-remote":
        proxy = options.installed / "oauth/node_modules/mcp-remote/dist/proxy.js"
        transport, words = "stdio", ["node", proxy, url, "--transport", "sse-only"]
    elif way.is_direct:
        transport, words = ("http", [url]) if backend else ("stdio", server.command)
    else:
        transport, words = way.by, [url]
    return ["--transport", transport, "--era", way.era, *words]


async def main(options, verdicts):
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    few = asyncio.Semaphore(options.at_once)

    async def run(way, server):
        async with few:
            start = (way.key, server.key)
            try:
                async with asyncio.timeout(RUN):
                    await one(options, way, server, verdicts)
            except Exception as error:
                why = " ".join(f"{type(error).__name__} {error}".split())[:600]
                print(f"FAIL {way.key} @ {server.key}: {why}", flush=True)
                # Nothing can be said of the others.
                for name in filter(options.rows.search, ROWS):
                    verdicts.cells.setdefault((*start, name), ("failed", why))
            if not verdicts.count("failed", start):
                print(f"ok {way.key} @ {server.key}: {verdicts.said(start)}", flush=True)

    await asyncio.gather(*itertools.starmap(run, options.pairs()))


def out_of_time():
    print(f"FAIL overall: not done after {DEADLINE} s", flush=True)
    # What was started dies with this process.
    os._exit(1)


if __name__ == "__main__":
    watchdog = threading.Timer(DEADLINE, out_of_time)
    watchdog.daemon = True
    watchdog.start()
    options, verdicts = Options(), Verdicts()
    options.copy()
    is_done = False
    try:
        asyncio.run(main(options, verdicts))
        is_done = True
    except asyncio.CancelledError:
        print("FAIL overall: ended by a signal", flush=True)
    if options.report and options.is_whole and is_done:
        options.report.write_text(table.markdown(options, verdicts))
    print(f"compatibility: {verdicts.said()}", flush=True)
    sys.exit(0 if is_done and verdicts.count("passed") and not verdicts.count("failed") else 1)
