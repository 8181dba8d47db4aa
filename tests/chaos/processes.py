"""The processes of a run: replicas, the engine and nginx, which are killed, frozen and started again."""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess

from link import reset
from session import now
from wire import BROKEN, Door, ask


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def dies_with_us():
    """In a child, before its program: it is killed when this process dies, however that happens."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def stat(pid):
    """Parent, state and start of a process, or None if there is none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return int(fields[1]), fields[0], int(fields[19])
    except (OSError, IndexError):
        return None


def running():
    """The processes that run: id -> (parent, start)."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        if (seen := stat(name)) and seen[1] != "Z":
            found[int(name)] = (seen[0], seen[2])
    return found


def below(root):
    """The running processes that descend from this one, as (id, start)."""
    processes, found, new = running(), set(), {root}
    while new:
        new = {pid for pid, (parent, _) in processes.items() if parent in new}
        found |= new
    return {(pid, processes[pid][1]) for pid in found}


def memory(pid):
    """Resident, in MiB; 0 if there is no such process."""
    with contextlib.suppress(OSError, StopIteration), open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024
    return 0


class Failed(Exception):
    """The run cannot go on: something does not start."""


class Process:
    """A process that is killed and started again, with what happened to it."""

    def __init__(self, world, name, command, port, env=None):
        self.world, self.name, self.command, self.port, self.env = world, name, command, port, env
        self.child, self.expected, self.is_frozen = None, False, False
        self.runs = world.facts.runs.setdefault(name, [])
        self.frozen = world.facts.frozen.setdefault(name, [])
        self.log = world.folder / f"{name}.log"
        self.door = Door(name, port)
        world.processes.append(self)

    async def start(self):
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(self.env or {})},
                start_new_session=True,
                preexec_fn=dies_with_us,
                cwd=self.world.folder,
            )
        until = now() + 15
        while not await self.is_up():
            if self.child.poll() is not None or now() > until:
                end = self.log.read_text(errors="replace")[-1500:]
                raise Failed(f"{self.name} does not start: {self.command}\n{end}")
            await asyncio.sleep(0.05)
        self.expected = True
        self.runs.append([now(), None, None, None])

    async def is_up(self):
        try:
            async with asyncio.timeout(2):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except (OSError, TimeoutError):
            return False
        reset(writer)
        return True

    def signals(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child.pid, number)

    async def ends(self, how, number, within):
        """Sends the signal, and waits for the end; the exit status, or None if it does not end."""
        self.expected = False
        self.runs[-1][1:3] = [now(), how]
        self.signals(number)
        until = now() + within
        while self.child.poll() is None:
            if now() > until:
                return None
            await asyncio.sleep(0.02)
        self.runs[-1][3] = now()
        return self.child.returncode

    async def kill(self):
        await self.ends("killed", signal.SIGKILL, 10)

    async def freeze(self, seconds):
        self.frozen.append([now(), None])
        self.is_frozen = True
        self.signals(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.signals(signal.SIGCONT)
            self.is_frozen = False
            self.frozen[-1][1] = now()

    @property
    def lives(self):
        return self.child is not None and self.child.poll() is None


class Replica(Process):
    link = None

    async def start(self):
        """As something does that watches over it: again, as there may have been no engine for a moment."""
        until = now() + 40
        while True:
            try:
                return await super().start()
            except Failed:
                if now() > until:
                    raise
                self.signals(signal.SIGKILL)
                self.child.wait()
                await asyncio.sleep(0.3)

    async def is_up(self):
        return await self.ready() == 200

    async def ready(self):
        """The status of /readyz, or None if there is no answer."""
        with contextlib.suppress(*BROKEN, TimeoutError):
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    host = {"Host": f"127.0.0.1:{self.port}", "Connection": "close"}
                    return (await ask(reader, writer, "GET", "/readyz", host)).status
                finally:
                    reset(writer)
        return None


class Engine(Process):
    def __init__(self, world, program, kind, port):
        self.data = world.folder / "engine"
        self.data.mkdir()
        if kind == "nats":
            command = [program, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(self.data)]
        else:
            files = ["--dir", str(self.data), "--save", "", "--appendonly", "yes"]
            command = [program, "--bind", "127.0.0.1", "--port", str(port), *files]
        super().__init__(world, "engine", command, port)

    def empty(self):
        shutil.rmtree(self.data)
        self.data.mkdir()


NGINX = """
daemon off; master_process off; worker_processes 1;
pid {folder}/nginx.pid; error_log {folder}/nginx-error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi; uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  client_max_body_size 8m;
  large_client_header_buffers 4 16k;
  # Round robin, and nothing that makes a client stay with a replica. What refuses connections is passed over.
  upstream replicas {{ {servers} }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://replicas;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_buffering off;
      proxy_connect_timeout 2s; proxy_read_timeout 1h; proxy_send_timeout 1h;
      # A POST that a replica has got is never given to another one.
      proxy_next_upstream error;
      add_header X-Upstream "$upstream_addr / $upstream_status" always;
    }}
  }}
}}
"""
