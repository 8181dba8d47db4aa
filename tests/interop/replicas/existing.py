"""The checks that the clients have anyway, through replicas of which each request meets another one."""

import asyncio
import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys

from world import Broken, World, dies_with_us

# Longer than the scripts give themselves.
DEADLINE = 150
SERVERS = ("everything", "filesystem", "git", "time", "crashing")
# What a server may write in, in the folder where all runs.
DATA = "served"
KEY = "interop interop-secret-0123456789\n"


def runs(options):
    """What there is to run, each with its name."""
    for name, command in {
        "python-1x": options.python("1x", "client.py"),
        "python-2x": options.python("2x", "client.py"),
        "sdk-1x": options.script("sdk-1x.mjs"),
        "sdk-2x": options.script("sdk-2x.mjs"),
        "inspector": options.script("inspector.mjs"),
        "chromium": options.script("chromium.mjs"),
    }.items():
        yield f"{name}, sse, demo", Run(options, shared_demo, command, "sse")
        # A page has no key to send.
        if name != "chromium":
            yield f"{name}, sse, demo with keys", Run(options, with_keys, command, "sse")
    for server in SERVERS:
        for client in ("python-1x", "python-2x", "sdk-1x", "client-2x", "inspector", "chromium"):
            for transport in ("sse", "http"):
                # Chromium's `EventSource` is for SSE only.
                if (client, transport) != ("chromium", "http"):
                    command = driving(options, client, transport, server)
                    run = Run(options, serving(server), command, transport)
                    yield f"{client}, {transport}, {server}", run


async def shared_demo(world):
    """One server for all sessions: the checks look at counts that all of them share."""
    return [*await world.a_demo(), "--header-from-client", "User-Agent"]


async def with_keys(world):
    """The same for those who have a key; and the replicas have one among them."""
    keys = {"keys": KEY, "cluster-key": secrets.token_hex(32)}
    for name, text in keys.items():
        (world.folder / name).touch(mode=0o600)
        (world.folder / name).write_text(text)
    files = {"--bearer-token-file": "keys", "--cluster-key-file": "cluster-key"}
    options = [word for option, name in files.items() for word in (option, world.folder / name)]
    return [*options, *await shared_demo(world)]


def serving(server):
    """A real server, a program for each session."""

    async def serves(world):
        options, data = world.options, world.folder / DATA
        data.mkdir()
        if server == "git":
            subprocess.run(["git", "init", "-q", data], check=True, timeout=DEADLINE)
        crashing = [sys.executable, options.tests / "servers/crashing.py", options.program, "demo", "--stdio"]
        modules, venv = options.servers / "node_modules/.bin", options.servers / "venv/bin"
        command = {
            "everything": [modules / "mcp-server-everything"],
            "filesystem": [modules / "mcp-server-filesystem", data],
            "crashing": crashing,
        }.get(server, [venv / f"mcp-server-{server}"])
        return ["--", *command]

    return serves


def driving(options, client, transport, server):
    """What drives it by one of the clients."""
    if client.startswith("python-"):
        command = options.python(client.removeprefix("python-"), "servers.py")
    else:
        command = [*options.script("servers.mjs"), "--client", client]
    return [*command, "--transport", transport, "--server", server]


class Run:
    """One client's checks against replicas of its own."""

    def __init__(self, options, serves, command, transport):
        self.options, self.serves, self.command, self.transport = options, serves, command, transport

    async def __call__(self, engine):
        """What the client says at its end, if nothing failed, and how much it checked."""
        async with World(self.options, engine, self.serves) as world:
            command = [*self.command, "--url", world.url_of(self.transport)]
            if (data := world.folder / DATA).exists():
                command += ["--root", data]
            lines = await output(command, world)
            failed = "; ".join(line for line in lines if line.startswith("FAIL "))
            last = next((line for line in reversed(lines) if " passed, " in line), "no closing line")
            if failed or not re.search(r" [1-9]\d* passed, 0 failed$", last):
                raise Broken(f"{last}; {failed}")
            forwarded = await world.forwarded()
        if not forwarded:
            raise Broken(f"{last}, but no request came to another replica than its own")
        return f"{last}; {forwarded} requests forwarded"


async def output(command, world):
    """The lines that it prints."""
    with open(world.folder / "client.log", "wb") as log:
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=world.environment,
            start_new_session=True,
            preexec_fn=dies_with_us,
        )
    try:
        async with asyncio.timeout(DEADLINE):
            text, _ = await process.communicate()
    except TimeoutError:
        raise Broken(f"the client does not end within {DEADLINE} s") from None
    finally:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return text.decode(errors="replace").splitlines()
