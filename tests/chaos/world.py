"""All that runs, and all that is written down: its start, whether it is well, and its end."""

import asyncio
import contextlib
import os
import pathlib
import random
import secrets
import signal
import subprocess
import sys
import time

from clients import Bystander, Client, Foreigner
from link import Link
from processes import NGINX, Engine, Process, Replica, free_port, memory, running
from records import Facts
from session import now

HERE = pathlib.Path(__file__).resolve().parent
# How long a replica may take to end after SIGTERM: --shutdown-timeout, twice --stop-timeout, and a little.
ENDING = 25


class World:
    """All that runs, and all that is written down."""

    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.began = now()
        names = [chr(ord("a") + index) for index in range(options.replicas)]
        self.facts = Facts(options.seed, options.engine, names, self.began, strict=options.strict)
        self.processes, self.replicas, self.records, self.clients = [], [], [], []
        self.engine = self.nginx = None
        self.names = {}
        self.stopping, self.stops = False, asyncio.Event()
        self.few = asyncio.Semaphore(2)
        # Between two things that a lane does, each of which is two POSTs on average.
        self.pause = options.sessions * Client.lanes * 2 / options.rate
        self.tasks, self.broken = set(), asyncio.get_running_loop().create_future()
        self.logs = folder / "seen"
        self.logs.mkdir()
        # What is in the environment of all that is started.
        self.token = secrets.token_hex(8)
        self.keys = None

    def say(self, text):
        print(f"[{now() - self.began:6.1f} s] {text}", flush=True)

    def found(self, what, detail=""):
        self.facts.found.append([now(), what, detail])
        self.say(f"VIOLATION: {what}: {detail}")

    def task(self, coroutine):
        """A task whose failure ends the run: it is a mistake here."""
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)

        def done(task):
            self.tasks.discard(task)
            if not task.cancelled() and task.exception() and not self.broken.done():
                self.broken.set_exception(task.exception())

        task.add_done_callback(done)
        return task

    # Start and end.

    async def start(self):
        options, env = self.options, {"CHAOS_RUN": self.token}
        self.key_options = []
        if options.keys:
            self.keys = [(name, secrets.token_hex(32)) for name in ("alice", "bob")]
            path = self.folder / "keys"
            path.touch(mode=0o600)
            path.write_text("".join(f"{name} {key}\n" for name, key in self.keys))
            self.key_options = ["--bearer-token-file", str(path)]
        if options.engine != "none":
            program = {"nats": options.nats_server, "redis": options.redis_server}[options.engine]
            self.engine = Engine(self, program, options.engine, free_port())
            self.engine.env = env
            await self.engine.start()
        for name in self.facts.replicas:
            await self.add_replica(name, env)
        self.names = {str(replica.port): replica.name for replica in self.replicas}
        port = free_port()
        servers = " ".join(f"server 127.0.0.1:{replica.port} max_fails=0;" for replica in self.replicas)
        path = self.folder / "nginx.conf"
        path.write_text(NGINX.format(folder=self.folder, servers=servers, port=port))
        command = [options.nginx, "-p", str(self.folder), "-c", str(path)]
        command += ["-e", f"{self.folder}/nginx-error.log"]
        self.nginx = Process(self, "nginx", command, port, env)
        await self.nginx.start()

    async def add_replica(self, name, env):
        options, port = self.options, free_port()
        command = [options.program, "serve", "--host", "127.0.0.1", "--port", str(port), *self.key_options]
        link = None
        if self.engine:
            link = Link(free_port(), self.engine.port)
            await link.start()
            command += ["--replica-name", name, "--cluster", f"{options.engine}://127.0.0.1:{link.port}"]
            if options.cluster_key_file:
                command += ["--cluster-key-file", options.cluster_key_file]
        command += [*options.serve, "--", sys.executable, "-S", "-E", str(HERE / "server.py"), str(self.logs)]
        replica = Replica(self, name, command, port, env)
        replica.link = link
        self.facts.links[name] = []
        await replica.start()
        self.replicas.append(replica)

    async def open_clients(self):
        seed, keys = self.options.seed, self.keys or [None]
        doors = {replica.name: replica.door for replica in self.replicas}

        def client(kind, name, get_door, post_door):
            rng = random.Random(f"{seed} {name}")
            self.clients.append(
                kind(self, name, get_door, post_door, rng, keys[len(self.clients) % len(keys)])
            )

        for index in range(self.options.sessions):
            client(Client, f"c{index:02}", self.nginx.door, self.nginx.door)
        for name, door in doors.items():
            for index in range(self.options.bystanders):
                client(Bystander, f"b{index}{name}", door, door)
            for other in sorted(doors.keys() - {name}):
                client(Foreigner, f"f{name}{other}", door, doors[other])
        self.running = [self.task(client.run()) for client in self.clients]
        await self.recovers("the start", 20)

    async def recovers(self, after, within):
        """All that should work works within so many seconds; what does not is a violation. When it did."""
        until = now() + within
        checks = [self.client_works(client, until) for client in self.clients]
        checks += [
            self.door_opens(door, until) for door in [self.nginx.door, *(r.door for r in self.replicas)]
        ]
        checks += [self.is_ready(replica, until) for replica in self.replicas]
        wrong = [text for text in await asyncio.gather(*checks) if text]
        for text in wrong:
            self.found(f"not well {within} s after {after}", text)
        return None if wrong else now()

    async def client_works(self, client, until):
        works, last = await client.works(until)
        return None if works else f"calls do not work: {client.name}: {last}"

    async def door_opens(self, door, until):
        """New sessions open, and work."""
        prober = Client(
            self, f"new-{door.name}-{secrets.token_hex(3)}", door, door, random, self.keys and self.keys[0]
        )
        prober.kind = "new session"
        session = await prober.open(until)
        if session is None:
            return f"no new session can be opened at {door.name}: {prober.refusals}"
        prober.session = session
        try:
            works, last = await prober.works(max(until, now() + 2))
            return None if works else f"a new session at {door.name} does not work: {last}"
        finally:
            await session.drain(now() + 3)
            await session.close()

    async def is_ready(self, replica, until):
        status = None
        while now() < until:
            status = await replica.ready()
            if status == 200:
                return None
            await asyncio.sleep(0.2)
        return f"/readyz of {replica.name} is {status}"

    async def watch(self):
        """Looks at processes and their memory; what dies by itself is started again."""
        turn = 0
        while True:
            await asyncio.sleep(0.5)
            turn += 1
            for process in self.processes:
                if process.expected and not process.lives:
                    process.runs[-1][1:] = [now(), "dead by itself", now()]
                    self.found(
                        f"{process.name} has ended by itself", f"exit status {process.child.returncode}"
                    )
                    await process.start()
                if turn % 4 == 0 and process.lives:
                    used = memory(process.child.pid)
                    before = self.facts.memory.get(process.name, 0)
                    self.facts.memory[process.name] = max(before, round(used, 1))
                    limit = self.options.max_memory
                    if isinstance(process, Replica) and used > limit >= before:
                        self.found("a replica grows", f"{process.name} has {used:.0f} MiB")
            if turn % 4 == 0 and self.engine_is_away:
                for replica in self.replicas:
                    if replica.expected and not replica.is_frozen:
                        status = await replica.ready()
                        if status != 200 and replica.expected and not replica.is_frozen:
                            self.found("/readyz is not 200 without the engine", f"{replica.name}: {status}")

    @property
    def engine_is_away(self):
        return self.engine is not None and (not self.engine.expected or self.engine.is_frozen)

    async def measure_lag(self):
        while True:
            asked = now()
            await asyncio.sleep(0.05)
            lag = now() - asked - 0.05
            self.facts.lag = max(self.facts.lag, lag)
            if lag > 1:
                self.say(f"the harness itself was late by {lag:.1f} s: the machine is too busy")

    async def finish(self):
        """What is under way is seen to its end; then all ends, in order."""
        self.stopping = True
        self.stops.set()
        self.say("waiting for what is under way")
        await asyncio.wait(self.running, timeout=40)
        until = now() + 10
        await asyncio.gather(*(client.finish(until) for client in self.clients))
        for client in self.clients:
            for status, count in client.refusals.items():
                of_kind = self.facts.refusals.setdefault(client.kind, {})
                of_kind[str(status)] = of_kind.get(str(status), 0) + count
        self.facts.ended = now()
        self.say("ending the replicas")
        await asyncio.gather(*(self.ends(replica) for replica in self.replicas))
        for process in (self.nginx, self.engine):
            if process:
                await process.ends("ended", signal.SIGTERM, 10)
        until = now() + 5
        while (left := self.left()) and now() < until:
            await asyncio.sleep(0.1)
        for pid, what in left:
            self.found("a process is left", f"{pid}: {what}")
        for replica in self.replicas:
            panics = [
                line for line in replica.log.read_text(errors="replace").splitlines() if "panicked" in line
            ]
            for line in panics[:3]:
                self.found("a replica panicked", f"{replica.name}: {line[:300]}")

    async def ends(self, replica):
        status = await replica.ends("restarted", signal.SIGTERM, ENDING)
        if status is None:
            self.found("a replica does not end", f"{replica.name}: {ENDING} s after SIGTERM")
            await replica.kill()
        elif status != 0:
            self.found("a replica does not end well", f"{replica.name}: exit status {status}")

    def left(self):
        """What was started here and runs: its environment has our mark, or its command our folder."""
        found = []
        for pid in running():
            if pid == os.getpid():
                continue
            if self.is_ours(pid):
                with contextlib.suppress(OSError):
                    command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
                    found.append((pid, command.replace(b"\0", b" ").decode(errors="replace")[:200]))
        return found

    def is_ours(self, pid):
        marks = {"cmdline": str(self.folder), "environ": f"CHAOS_RUN={self.token}"}
        for name, mark in marks.items():
            with contextlib.suppress(OSError):
                if mark.encode() in pathlib.Path(f"/proc/{pid}/{name}").read_bytes():
                    return True
        return False

    def kill_all(self):
        """Whatever happens: nothing stays."""
        children = [process.child for process in self.processes if process.child]
        for process in self.processes:
            process.expected = False
        for child in children:
            if child.poll() is None:
                with contextlib.suppress(OSError):
                    os.killpg(child.pid, signal.SIGKILL)
        until = time.monotonic() + 10
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.1, until - time.monotonic()))
        # Keepers end their programs, 2 s later by force.
        until = time.monotonic() + 5
        while (left := self.left()) and time.monotonic() < until:
            time.sleep(0.1)
        for pid, _ in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
