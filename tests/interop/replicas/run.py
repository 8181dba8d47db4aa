"""Real clients through three replicas behind nginx, with NATS and with Redis.

    run.py existing|lives [--engine nats|redis] [--only REGEX] [--report FILE]

`existing`: all checks that the clients have anyway. `lives`: what each of them lives through when a replica
or the engine goes, as Markdown, printed and, if nothing is left out, written to --report. Prints `ok NAME` or
`FAIL NAME: reason` for each and ends with a line `replicas, PART: N passed, M failed`. See README.md.
"""

import argparse
import asyncio
import functools
import itertools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading

# Nothing is written into the source tree.
sys.dont_write_bytecode = True

import existing
import table
from expected import EXPECTED
from lives import EVENTS, Life
from world import Broken

TESTS = pathlib.Path(__file__).resolve().parent.parent
ROOT = TESTS.parent.parent
# How many run at once: the checks compute, the lives mostly wait.
AT_ONCE = {"existing": 2, "lives": 4}
# For all, in seconds; each run ends much earlier by itself.
DEADLINE = 45 * 60
# One run, in seconds.
RUN = 240

NAMES = {
    "sdk-1x": "TypeScript SDK 1.x",
    "client-2x": "TypeScript client 2.x",
    "inspector": "Inspector CLI",
    "chromium": "Chromium `EventSource`",
    "python-1x": "Python `mcp` 1.x",
    "python-2x": "Python `mcp` 2.x",
}


class Options:
    """Where everything is."""

    def __init__(self):
        parser = argparse.ArgumentParser(
            description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("part", choices=AT_ONCE)
        parser.add_argument("--engine", choices=table.ENGINES, help="only this one")
        parser.add_argument(
            "--only", type=re.compile, default="", metavar="REGEX", help="only what has such a name"
        )
        parser.add_argument("--report", type=pathlib.Path, metavar="FILE")
        parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target/release/mcp-sse")
        parser.add_argument(
            "--engines", type=pathlib.Path, default=ROOT / "target/engines/bin", metavar="FOLDER"
        )
        parser.add_argument("--clients", type=pathlib.Path, default=ROOT / "target/interop", metavar="FOLDER")
        parser.add_argument("--nginx", default=shutil.which("nginx") or "/usr/sbin/nginx")
        parser.add_argument("--at-once", type=int, metavar="N", help="how many run at the same time")
        parser.add_argument("--no-chromium", action="store_true", help="leave out what needs it")
        parser.add_argument("--keep", action="store_true", help="keep the folders with logs")
        self.__dict__.update(vars(parser.parse_args()))
        self.program, self.engines, self.clients = (
            path.resolve() for path in (self.program, self.engines, self.clients)
        )
        self.tests, self.servers = TESTS, self.clients / "servers"
        self.names = list(table.ENGINES) if self.engine is None else [self.engine]

    def python(self, version, script):
        # Its bytecode would be written into the source tree.
        return [self.clients / f"python-{version}/bin/python", "-B", self.tests / "python" / script]

    def script(self, name):
        return ["node", self.clients / "node" / name]

    def is_wanted(self, run):
        name, _ = run
        return re.search(self.only, name) and not (self.no_chromium and "chromium" in name)


class Verdicts:
    """What went well and what did not, each with a line."""

    def __init__(self, part):
        self.part, self.passed, self.failed, self.checks = part, 0, 0, 0

    async def of(self, name, run):
        """Runs it; what it gives are the words of a client about its checks."""
        try:
            async with asyncio.timeout(RUN):
                result = await run()
        except Exception as error:
            self.failed += 1
            why = " ".join(f"{type(error).__name__} {error}".split())
            print(f"FAIL {name}: {why.removeprefix(f'{Broken.__name__} ')[:1000]}", flush=True)
            return
        self.passed += 1
        print(f"ok {name}{f': {result}' if result else ''}", flush=True)
        if result:
            self.checks += int(re.search(r"(\d+) passed", result)[1])

    def finish(self):
        checks = f" ({self.checks} checks)" if self.checks else ""
        print(f"replicas, {self.part}{checks}: {self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed or not self.passed else 0


async def at_once(options, verdicts, runs):
    """Runs all, some of them at the same time."""
    few = asyncio.Semaphore(options.at_once or AT_ONCE[options.part])

    async def one(name, run):
        async with few:
            await verdicts.of(name, run)

    await asyncio.gather(*itertools.starmap(one, runs))


async def all_existing(options, verdicts):
    runs = [
        (f"{engine}, {name}", functools.partial(run, engine))
        for name, run in existing.runs(options)
        for engine in options.names
    ]
    await at_once(options, verdicts, filter(options.is_wanted, runs))


async def all_lives(options, verdicts):
    commands = {
        **{name: [*options.script("driven.mjs"), "--client", name] for name in NAMES if "python" not in name},
        "python-1x": options.python("1x", "driven.py"),
        "python-2x": options.python("2x", "driven.py"),
    }
    seen = {}

    async def live(event, client, transport, engine):
        name, row = await Life(options, engine, commands[client], transport).live_through(event)
        seen[event, client, transport, engine] = f"{NAMES[client]} ({name.rpartition(' ')[2]})", row
        expected = EXPECTED[event, client, transport]
        differs = [
            f"{what}: {row[what]!r}, not {expected[what]!r}"
            for what in expected
            if row[what] != expected[what]
        ]
        if differs:
            raise Broken("; ".join(differs))

    every = [of for of in itertools.product(EVENTS, NAMES, ("sse", "http")) if of in EXPECTED]
    runs = [
        (
            f"{event}, {engine}, {client}, {transport}",
            functools.partial(live, event, client, transport, engine),
        )
        for event, client, transport in every
        for engine in options.names
    ]
    await at_once(options, verdicts, filter(options.is_wanted, runs))

    rows = {}
    for event, client, transport in every:
        found = [
            (engine, seen[key])
            for engine in options.names
            if (key := (event, client, transport, engine)) in seen
        ]
        are_equal = len(found) == len(table.ENGINES) and found[0][1] == found[1][1]
        for engine, (name, row) in found[:1] if are_equal else found:
            rows.setdefault(event, []).append((name, transport, None if are_equal else engine, row))
    text = table.markdown(rows, await versions(options))
    print(text, flush=True)
    if options.report and len(seen) == len(every) * len(table.ENGINES):
        options.report.write_text(text)


async def versions(options):
    """Of what is between the clients and the servers."""
    found = []
    for name, program, option in (
        ("nginx", options.nginx, "-v"),
        ("NATS", options.engines / "nats-server", "--version"),
        ("Redis", options.engines / "redis-server", "--version"),
    ):
        process = await asyncio.create_subprocess_exec(
            program, option, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        text, _ = await process.communicate()
        found.append(f"{name} {re.search(r'[0-9]+([.][0-9]+)+', text.decode())[0]}")
    return found


async def main(options, verdicts):
    # At a signal as at the end: what was started is ended.
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    await {"existing": all_existing, "lives": all_lives}[options.part](options, verdicts)


def out_of_time():
    print(f"FAIL overall: not done after {DEADLINE} s", flush=True)
    # What was started dies with this process.
    os._exit(1)


if __name__ == "__main__":
    watchdog = threading.Timer(DEADLINE, out_of_time)
    watchdog.daemon = True
    watchdog.start()
    options = Options()
    verdicts = Verdicts(options.part)
    try:
        asyncio.run(main(options, verdicts))
    except asyncio.CancelledError:
        print("FAIL overall: ended by a signal", flush=True)
        verdicts.failed += 1
    sys.exit(verdicts.finish())
