"""Three replicas behind nginx, with a real engine between them: started, killed, ended."""

import asyncio
import contextlib
import ctypes
import json
import os
import pathlib
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
NAMES = ("a", "b", "c")

# How long something may take to start, and to end after SIGTERM: longer than --shutdown-timeout and twice
# --stop-timeout.
START = 15
END = 25
# Between two looks.
MOMENT = 0.02

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class Broken(Exception):
    """What is needed does not do what it should, so that nothing can be said of a client."""


def dies_with_us():
    """In a child, before its program: it is killed when this process dies, however that happens."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Ports:
    """Ports that are free, each given once in this run. None of those that the system gives to connections:
    it could be one's own when a program is started there again."""

    def __init__(self):
        self.given = set()

    def free(self):
        while True:
            port = random.randrange(20_000, 30_000)
            with socket.socket() as free, contextlib.suppress(OSError):
                free.bind(("127.0.0.1", port))
                if port not in self.given:
                    self.given.add(port)
                    return port


PORTS = Ports()


async def until(is_so, seconds, what):
    """Looks until it is so; `is_so` is awaited if it has to be."""
    end = time.monotonic() + seconds
    while True:
        found = is_so()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        if time.monotonic() > end:
            raise Broken(f"{what}: not within {seconds} s")
        await asyncio.sleep(MOMENT)


async def ask(port, path):
    """The head and the body of an answer, as bytes; None if there is none."""
    with contextlib.suppress(OSError, EOFError, TimeoutError):
        async with asyncio.timeout(6):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
                writer.write(head.encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
        return head, body
    return None


async def get(port, path):
    """The body of an answer with status 200, as JSON; None if there is none."""
    answer = await ask(port, path)
    with contextlib.suppress(ValueError):
        if answer and answer[0].split(b" ", 2)[1:2] == [b"200"]:
            return json.loads(answer[1])
    return None


async def listens(port):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


class Process:
    """A program that can be killed and started again as it was."""

    def __init__(self, world, name, command, is_up):
        self.world, self.name, self.command, self.is_up = world, name, command, is_up
        self.child = None

    async def start(self):
        with open(self.world.folder / f"{self.name}.log", "ab") as log:
            self.child = subprocess.Popen(
                [str(word) for word in self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.world.environment,
                cwd=self.world.folder,
                start_new_session=True,
                preexec_fn=dies_with_us,
            )

        async def is_up():
            if self.child.poll() is not None:
                raise Broken(f"{self.name} ended with {self.child.returncode}: {self.last_words()}")
            return await self.is_up()

        await until(is_up, START, f"{self.name} starts")

    def last_words(self):
        return (self.world.folder / f"{self.name}.log").read_text(errors="replace")[-600:]

    async def kill(self):
        self.child.kill()
        await until(lambda: self.child.poll() is not None, END, f"{self.name} is killed")

    async def end(self):
        """SIGTERM; it must end by itself, with success."""
        self.child.terminate()
        await until(lambda: self.child.poll() is not None, END, f"{self.name} ends after SIGTERM")
        if self.child.returncode != 0:
            raise Broken(f"{self.name} ended with {self.child.returncode} after SIGTERM: {self.last_words()}")

    @property
    def runs(self):
        return self.child is not None and self.child.poll() is None


class Replica(Process):
    def __init__(self, world, name, arguments):
        self.port, self.admin = PORTS.free(), PORTS.free()
        command = [world.options.program, "serve", "--port", self.port, "--replica-name", name]
        command += ["--admin", f"127.0.0.1:{self.admin}"]
        command += ["--cluster", world.url, "--cluster-name", world.cluster]
        super().__init__(world, f"replica-{name}", command + arguments, self.is_ready)
        self.short = name

    async def is_ready(self):
        return (await get(self.admin, "/readyz") or {}).get("ready")

    async def is_deaf(self):
        """Whether nothing listens there any more, which is what it does first when it leaves."""
        return not await listens(self.port)

    async def is_cut_off(self):
        return (await get(self.admin, "/readyz") or {}).get("cluster", {}).get("connected") is False

    async def knows(self, others):
        """Whether it is connected, and knows so many others."""
        cluster = (await get(self.admin, "/readyz") or {}).get("cluster", {})
        return cluster.get("connected") and cluster.get("others") == others


class World:
    """All that runs for one client. `serves(world)` are the arguments of a replica for what is behind it."""

    def __init__(self, options, engine, serves):
        self.options, self.kind, self.serves = options, engine, serves
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="mcp-sse-replicas-"))
        # Started by root, nginx does its work as another user, in folders of its own in this one.
        self.folder.chmod(0o711)
        # What is in the environment of all that is started, to find it again.
        self.mark = f"MCP_SSE_REPLICAS={secrets.token_hex(8)}"
        name, _, value = self.mark.partition("=")
        self.environment = {**os.environ, name: value}
        # The engine is this world's own. Should its port be somebody else's one day, nobody is met there.
        self.cluster = f"interop-{secrets.token_hex(4)}"
        self.processes = []

    async def __aenter__(self):
        try:
            await self.start()
        except BaseException:
            self.clean_up()
            raise
        return self

    async def __aexit__(self, kind, *_):
        try:
            if kind is None:
                await self.end()
        finally:
            left = self.clean_up()
        if kind is None and left:
            raise Broken(f"processes are left: {left}")

    async def start(self):
        self.engine = self.add(self.an_engine())
        await self.engine.start()
        arguments = await self.serves(self)
        self.replicas = [self.add(Replica(self, name, arguments)) for name in NAMES]
        await asyncio.gather(*(replica.start() for replica in self.replicas))
        await self.is_whole()
        self.nginx = self.add(self.a_balancer())
        await self.nginx.start()

    def add(self, process):
        self.processes.append(process)
        return process

    def an_engine(self):
        port, data = PORTS.free(), self.folder / "data"
        data.mkdir()
        self.url = f"{self.kind}://127.0.0.1:{port}"
        program = self.options.engines / f"{self.kind}-server"
        if self.kind == "nats":
            command = [program, "-a", "127.0.0.1", "-p", port, "-js", "-sd", data]
        else:
            command = [program, "--bind", "127.0.0.1", "--port", port, "--dir", data, "--save", ""]
        return Process(self, "engine", command, lambda: listens(port))

    async def a_demo(self):
        """Starts one demo server for all sessions; the arguments that lead a replica to it."""
        port = PORTS.free()
        command = [self.options.program, "demo", "--port", port]
        await self.add(Process(self, "demo", command, lambda: listens(port))).start()
        return ["--upstream", f"http://127.0.0.1:{port}/sse", "--transport", "sse"]

    def a_balancer(self):
        port = PORTS.free()
        self.port = port
        # One that was away is tried again at its next turn.
        servers = "\n        ".join(
            f"server 127.0.0.1:{replica.port} max_fails=0;" for replica in self.replicas
        )
        text = (HERE / "nginx.conf").read_text()
        for name, value in {"FOLDER": self.folder, "SERVERS": servers, "PORT": port}.items():
            text = text.replace(f"@{name}@", str(value))
        (self.folder / "nginx.conf").write_text(text)
        log = self.folder / "nginx.log"
        command = [self.options.nginx, "-p", self.folder, "-e", log, "-c", self.folder / "nginx.conf"]
        return Process(self, "nginx", command, lambda: listens(port))

    def url_of(self, transport):
        return f"http://127.0.0.1:{self.port}/{'mcp' if transport == 'http' else 'sse'}"

    async def is_whole(self):
        """All replicas know of each other."""
        others = len(self.replicas) - 1

        async def are_known():
            return all([await replica.knows(others) for replica in self.replicas])

        await until(are_known, START, "all replicas know of each other")

    async def sessions(self):
        """All that are somewhere, by way of a replica that runs."""
        for replica in self.replicas:
            if replica.runs and (listed := await get(replica.admin, "/sessions")) is not None:
                return listed["sessions"]
        return []

    async def forwarded(self):
        """How many requests a replica has passed on to another one."""
        status = [await get(replica.admin, "/status") for replica in self.replicas]
        return sum(one["cluster"]["forwarded"] for one in status if one)

    async def turn_to(self, replica):
        """Has nginx bring the next request to this one, if nobody else asks meanwhile."""
        before = self.replicas[self.replicas.index(replica) - 1]

        async def was_turn_before():
            head, _ = await ask(self.port, "/healthz") or (b"", b"")
            return f"x-replica: 127.0.0.1:{before.port}".encode() in head.lower()

        await until(was_turn_before, START, f"nginx comes to {replica.name}")

    def named(self, short):
        return next(replica for replica in self.replicas if replica.short == short)

    async def end(self):
        """All of it in order; what does not end well is said."""
        await asyncio.gather(*(replica.end() for replica in self.replicas if replica.runs))
        for replica in self.replicas:
            log = (self.folder / f"{replica.name}.log").read_text(errors="replace")
            if "panicked" in log:
                raise Broken(f"{replica.name} panicked: {log[log.index('panicked') :][:300]}")
        for process in self.processes:
            if process.runs:
                process.child.terminate()
        await until(lambda: not any(process.runs for process in self.processes), END, "all ends")
        # Those that a replica has started end with it, a moment later at most.
        with contextlib.suppress(Broken):
            await until(lambda: not self.left(), 5, "")

    def clean_up(self):
        """Nothing stays; what had to be killed."""
        left = {**self.left()}
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            if process.child:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.child.wait(2)
        if self.options.keep:
            print(f"the logs are in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
        return sorted(left.values())

    def left(self):
        """What was started here and runs: its environment has our mark."""
        found, mark = {}, self.mark.encode()
        for name in filter(str.isdigit, os.listdir("/proc")):
            folder = pathlib.Path("/proc", name)
            with contextlib.suppress(OSError):
                is_ours = mark in (folder / "environ").read_bytes()
                if is_ours and not (folder / "stat").read_text().rpartition(")")[2].startswith(" Z"):
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[int(name)] = command.strip()[:120]
        return found
