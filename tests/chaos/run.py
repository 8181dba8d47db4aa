"""Does to replicas behind a load balancer what happens to them, and checks what is promised.

    run.py [--engine nats|redis|none] [--replicas N] [--minutes F] [--seed N] [--report FILE] [-- OPTIONS]

OPTIONS are more options of `mcp-sse serve`.

See README.md. It ends with 0 if all held, with 1 if not, and with 2 if it could not be tried.
"""

import argparse
import asyncio
import os
import pathlib
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback

# Nothing is written into the source tree.
sys.dont_write_bytecode = True

import check
import report
from faults import Chaos
from processes import Failed
from session import now
from world import World

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def tool(name):
    """A program, by name: of the project's own tools, or of the system's."""
    own = ROOT / "target" / "engines" / "bin" / name
    return str(own) if own.exists() else shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def arguments():
    parser = argparse.ArgumentParser(description="Chaos for replicas of mcp-sse. See README.md.")
    parser.add_argument("--program", default=str(ROOT / "target/release/mcp-sse"), metavar="PATH")
    parser.add_argument("--nats-server", default=tool("nats-server"), metavar="PATH")
    parser.add_argument("--redis-server", default=tool("redis-server"), metavar="PATH")
    parser.add_argument("--nginx", default=tool("nginx"), metavar="PATH")
    parser.add_argument("--engine", choices=["nats", "redis", "none"], default="nats")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument(
        "--seed", type=int, default=None, help="what is done, and when; new at each run unless given"
    )
    parser.add_argument("--report", metavar="FILE", help="Markdown; the same as JSON is beside it")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and records")
    parser.add_argument(
        "--strict", action="store_true", help="404 is wrong also while a session's replica is cut off"
    )
    parser.add_argument("--keys", action="store_true", help="two principals, each with a key")
    parser.add_argument("--cluster-key-file", metavar="FILE")
    parser.add_argument(
        "--events", type=lambda text: text.split(","), help="only these kinds, with commas in between"
    )
    parser.add_argument("--pairs", type=float, default=0.2, help="how often two faults come together")
    parser.add_argument("--sessions", type=int, default=30)
    parser.add_argument("--bystanders", type=int, default=2, help="for each replica")
    parser.add_argument("--rate", type=float, default=300, help="POSTs in a second, about")
    parser.add_argument("--max-memory", type=float, default=256, help="of a replica, in MiB")
    parser.add_argument("serve", nargs="*", help="after --: options of `mcp-sse serve`")
    options = parser.parse_args()
    if options.engine == "none" and options.replicas != 1:
        parser.error("without an engine there is one replica: --replicas 1")
    for name in ["program", "nginx"] + ([f"{options.engine}_server"] if options.engine != "none" else []):
        path = getattr(options, name)
        if not path or not os.access(path, os.X_OK):
            parser.error(f"there is no --{name.replace('_', '-')}: {path}")
        setattr(options, name, os.path.abspath(path))
    for name in ("cluster_key_file", "report"):
        if getattr(options, name):
            setattr(options, name, os.path.abspath(getattr(options, name)))
    options.seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    return options


def command(options):
    """What to say to do the same again, without paths."""
    values = ["engine", "replicas", "minutes", "seed", "sessions", "rate", "pairs"]
    words = [f"--{name} {getattr(options, name)}" for name in values]
    words += [f"--events {','.join(options.events)}"] if options.events else []
    words += [f"--{name}" for name in ("keys", "strict") if getattr(options, name)]
    words += ["--", *options.serve] if options.serve else []
    return ["run.py", *words]


async def run(world):
    """The whole run; returns when it has ended, in whatever way."""
    options = world.options
    await world.start()
    chaos = Chaos(world)
    kinds = chaos.kinds()
    world.say(
        f"seed {options.seed}, {options.engine}, {len(world.replicas)} replicas; events: {', '.join(kinds)}"
    )
    watch = [world.task(world.watch()), world.task(world.measure_lag())]
    await world.open_clients()
    world.say(f"{len(world.clients)} clients have sessions")
    # Calm, to compare with.
    until = now() + options.minutes * 60
    await asyncio.sleep(min(6, options.minutes * 6))
    await chaos.go(until)
    for task in watch:
        task.cancel()
    await world.finish()


async def guarded(world):
    """Ends the run at a signal, at its deadline, and at a mistake of ours in any task."""
    loop, task = asyncio.get_running_loop(), asyncio.create_task(run(world))
    signals = 0

    def told():
        nonlocal signals
        signals += 1
        if signals > 1:
            world.kill_all()
            os._exit(2)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told)
    try:
        async with asyncio.timeout(world.options.minutes * 60 + 180):
            await asyncio.wait([task, world.broken], return_when=asyncio.FIRST_COMPLETED)
            if world.broken.done():
                world.broken.result()
            await task
    finally:
        world.stopping = True
        world.stops.set()
        tasks = [*world.tasks, task]
        for other in tasks:
            other.cancel()
        await asyncio.wait(tasks, timeout=5)
        for replica in world.replicas:
            if replica.link:
                await replica.link.close()


def main():
    options = arguments()
    # Three replicas have many connections.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16384)), hard))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="chaos-"))
    status, keep, worlds = 2, options.keep, []

    def too_long():
        # The loop itself is stuck.
        for world in worlds:
            world.kill_all()
        print("the run did not end in time", file=sys.stderr, flush=True)
        os._exit(2)

    watchdog = threading.Timer(options.minutes * 60 + 240, too_long)
    watchdog.daemon = True
    watchdog.start()

    async def everything():
        world = World(options, folder)
        worlds.append(world)
        await guarded(world)

    try:
        asyncio.run(everything())
        world = worlds[0]
        world.facts.command = command(options)
        logs = [str(path) for path in world.logs.glob("*.jsonl")]
        world.say("checking")
        found = None
        try:
            found = check.Check(world.facts, world.records, logs).run()
        finally:
            keep = keep or found is None or bool(found.violations)
            if keep:
                check.save(folder / "records.json", world.facts, world.records, logs)
        version = subprocess.run([options.program, "--version"], capture_output=True, text=True, timeout=10)
        world.facts.program = version.stdout.strip()
        text = report.markdown(world.facts, found)
        if options.report:
            pathlib.Path(options.report).write_text(text)
            pathlib.Path(options.report).with_suffix(".json").write_text(report.as_json(world.facts, found))
        print(text)
        status = 1 if found.violations else 0
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("ended by a signal", file=sys.stderr)
    except Failed as failed:
        print(failed, file=sys.stderr)
    except TimeoutError:
        print("the run did not end in time", file=sys.stderr)
        keep = True
    except Exception:
        traceback.print_exc()
        keep = True
    finally:
        for world in worlds:
            world.kill_all()
        if keep:
            print(f"logs and records: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
