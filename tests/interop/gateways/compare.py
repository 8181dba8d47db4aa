"""Does to gateways what happens to gateways, and writes down what came of it.

    compare.py --gateway NAME COMMAND [--gateway NAME COMMAND]… [--report FILE] [SCENARIO…]

COMMAND, one string, starts a gateway in front of `server-everything`, with an SSE endpoint at /sse; {port} in it is the
port. Each scenario gets a gateway of its own. Looked at is only what comes over HTTP, and what the system shows of
processes.
"""

import argparse
import contextlib
import datetime
import http.client
import json
import os
import queue
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

# What anything may take at the most, in seconds.
PATIENCE = 20
# What may go wrong with a gateway while it is used.
BROKEN = (OSError, EOFError, http.client.HTTPException)


def running():
    """The processes that run: id -> parent."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(name)] = int(parent)
    return found


def below(root):
    """The running processes that descend from this one."""
    parents, found, new = running(), set(), {root}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new}
        found |= new
    return found


def is_server(pid):
    """Whether it is the MCP server itself, not a shell or a launcher before it."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().split(b"\0")
        return words[0].endswith(b"node") and words[1].endswith(b"server-everything/dist/index.js")
    return False


def memory(pid):
    """Resident, in MiB."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def until(is_so, seconds=PATIENCE):
    """Looks until it is so; whether that came."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


class Client:
    """A client over SSE. What comes on its stream goes into a queue, unless it does not read."""

    def __init__(self, port, reads=True):
        self.port, self.events, self.ended = port, queue.Queue(), False
        self.stream = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.stream.sendall(f"GET /sse HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
        self.lines = self.stream.makefile("rb")
        self.path = "/" + self.data().split("://")[-1].split("/", 1)[1]
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        if reads:
            self.stream.settimeout(None)
            threading.Thread(target=self.read, daemon=True).start()

    def data(self):
        """The next event's, read here and now."""
        while line := self.lines.readline():
            if line.startswith(b"data:"):
                return line[5:].strip().decode()
        raise EOFError("the stream ended")

    def read(self):
        with contextlib.suppress(ValueError, *BROKEN):
            while True:
                self.events.put(json.loads(self.data()))
        self.ended = True

    def post(self, message):
        """The status."""
        headers = {"Content-Type": "application/json", "Host": f"localhost:{self.port}"}
        try:
            return self.request(message, headers)
        except (ConnectionError, http.client.HTTPException):
            # A server may close what was idle.
            return self.request(message, headers)

    def request(self, message, headers):
        try:
            self.connection.request("POST", self.path, json.dumps(message), headers)
            response = self.connection.getresponse()
            response.read()
            return response.status
        except BROKEN:
            # The next one makes a new one.
            self.connection.close()
            raise

    def ask(self, id, method, params):
        return self.post({"jsonrpc": "2.0", "id": id, "method": method, "params": params})

    def call(self, id, tool, **arguments):
        return self.ask(id, "tools/call", {"name": tool, "arguments": arguments, "_meta": {"progressToken": id}})

    def until(self, is_it, seconds=PATIENCE):
        """The next event that is it, or None."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not (self.ended and self.events.empty()):
            with contextlib.suppress(queue.Empty):
                event = self.events.get(timeout=0.1)
                if is_it(event):
                    return event
        return None

    def answer(self, id, seconds=PATIENCE):
        return self.until(lambda event: event.get("id") == id and "method" not in event, seconds)

    def says(self, method, seconds=PATIENCE):
        return self.until(lambda event: event.get("method") == method, seconds)

    def initialize(self):
        params = {
            "protocolVersion": "2025-06-18",
            "capabilities": {"sampling": {}},
            "clientInfo": {"name": "compare", "version": "0"},
        }
        self.ask(0, "initialize", params)

    def initialized(self):
        self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def open(self):
        self.initialize()
        if "result" not in (self.answer(0) or {}):
            raise EOFError("initialize was not answered")
        self.initialized()
        return self

    def goes_on(self):
        """What becomes of a call, in words."""
        try:
            self.call("again", "echo", message="still here")
            answer = self.answer("again", 5)
        except BROKEN:
            return "is cut off"
        if answer is None:
            return "is cut off" if self.ended else "gets no answer within 5 s"
        return "goes on" if "Echo: still here" in json.dumps(answer) else "gets errors"

    def kill(self):
        """Its connections close, as when its process is killed."""
        with contextlib.suppress(OSError):
            self.stream.shutdown(socket.SHUT_RDWR)
        self.connection.close()


class Gateway:
    def __init__(self, command):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        words = [word.replace("{port}", str(self.port)) for word in shlex.split(command)]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(words, start_new_session=True, **quiet)
        self.pid = self.process.pid
        if not until(self.listens):
            raise EOFError("it does not listen")

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def client(self):
        return Client(self.port).open()

    def serves(self):
        """Whether new clients are served, in words."""
        try:
            return f"a new client {self.client().goes_on()}".replace("goes on", "is served")
        except BROKEN:
            return "a new client is not served"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        others = below(self.pid)
        self.kill()
        for pid in others:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def equal_ids(gateway):
    """Ten clients use the same ids: 50 calls each"""
    clients = [gateway.client() for _ in range(10)]
    own, foreign = [0] * 10, [0] * 10

    def work(index):
        client = clients[index]
        with contextlib.suppress(*BROKEN):
            for id in range(1, 51):
                client.call(id, "echo", message=f"of client {index}.")

        def count(event):
            text = json.dumps(event)
            own[index] += f"of client {index}." in text
            foreign[index] += "of client" in text and f"of client {index}." not in text
            return False

        # Those of others come late.
        client.until(count, 5)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return f"{sum(own)} of 500 answers came; {sum(foreign)} came to clients that had not asked"


def killed_server(gateway):
    """A client's server is killed in mid-call"""
    client = gateway.client()
    servers = set(filter(is_server, below(gateway.pid)))
    other = gateway.client()
    client.call(1, "trigger-long-running-operation", duration=60, steps=60)
    client.says("notifications/progress")
    for pid in servers:
        os.kill(pid, signal.SIGKILL)
    answer = client.answer(1, 10)
    if answer:
        is_error = "error" in answer or answer["result"].get("isError")
        heard = "the client gets an error" if is_error else "the client gets a wrong answer"
    else:
        heard = "the client's stream ends" if client.ended else "the client hears nothing for 10 s"
    return f"{heard}; another client {other.goes_on()}; {gateway.serves()}"


def killed_clients(gateway):
    """Twenty clients are killed in mid-call, one after the other"""
    gateway.client()
    before, served = len(below(gateway.pid)), 0
    for _ in range(20):
        with contextlib.suppress(*BROKEN):
            client = gateway.client()
            client.call(1, "trigger-long-running-operation", duration=60, steps=60)
            served += client.says("notifications/progress") is not None
            client.kill()
    until(lambda: len(below(gateway.pid)) <= before, 45)
    left = max(0, len(below(gateway.pid)) - before)
    return f"{served} were served; {left} processes are left; {gateway.serves()}"


def deaf_client(gateway):
    """A client asks 1,500 times for 100 KB and reads nothing"""
    other = gateway.client()
    client = Client(gateway.port, reads=False)
    client.initialize()
    client.data()
    client.initialized()
    before = peak = memory(gateway.pid)
    taken = 0
    with contextlib.suppress(*BROKEN):
        for id in range(1, 1501):
            status = client.call(id, "echo", message="x" * 100_000)
            taken += status < 300
            peak = max(peak, memory(gateway.pid))
            if status == 404:
                # Its session is over.
                break
    until(lambda: not gateway.listens(), 3)
    peak = max(peak, memory(gateway.pid))
    return f"{taken} calls are taken; the gateway grows by {peak - before:.0f} MiB; another client {other.goes_on()}"


def killed_gateway(gateway):
    """The gateway is killed, with three clients"""
    clients = [gateway.client() for _ in range(3)]
    processes = below(gateway.pid)
    gateway.kill()
    until(lambda: not processes & running().keys(), 10)
    left = processes & running().keys()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    del clients
    return f"{len(left)} of {len(processes)} processes are left"


def both_ways(gateway):
    """Progress, and a request of the server's (sampling)"""
    client = gateway.client()
    client.call(1, "trigger-long-running-operation", duration=1, steps=4)
    seen = []
    client.until(lambda event: seen.append(event) or (event.get("id") == 1 and "method" not in event), 10)
    progress = sum(event.get("method") == "notifications/progress" for event in seen)
    client.call(2, "trigger-sampling-request", prompt="hello", maxTokens=10)
    passes = "passes" if client.says("sampling/createMessage", 5) else "does not pass"
    return f"{progress} of 4 notifications come; sampling {passes}"


def thousand_calls(gateway):
    """A thousand calls, one after the other"""
    client, times = gateway.client(), []
    for id in range(1, 1001):
        start = time.perf_counter()
        client.call(id, "echo", message="hello")
        if client.answer(id) is None:
            return "no answer"
        times.append(time.perf_counter() - start)
    times.sort()
    middle, late = times[500] * 1000, times[990] * 1000
    return f"p50 {middle:.1f} ms, p99 {late:.1f} ms; the gateway by itself takes {memory(gateway.pid):.0f} MiB"


SCENARIOS = [equal_ids, killed_server, killed_clients, deaf_client, killed_gateway, both_ways, thousand_calls]


def try_one(scenario, command):
    try:
        gateway = Gateway(command)
    except EOFError as error:
        return str(error)
    try:
        return scenario(gateway)
    except BROKEN as error:
        return f"could not be tried: {error or type(error).__name__}"
    finally:
        gateway.end()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gateway", nargs=2, action="append", required=True, metavar=("NAME", "COMMAND"))
    parser.add_argument("--report")
    parser.add_argument("scenario", nargs="*")
    arguments = parser.parse_args()
    names = [name for name, _ in arguments.gateway]
    report = [f"| | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for scenario in SCENARIOS:
        if arguments.scenario and scenario.__name__ not in arguments.scenario:
            continue
        seen = []
        for name, command in arguments.gateway:
            seen.append(try_one(scenario, command))
            print(f"{scenario.__name__}, {name}: {seen[-1]}", flush=True)
        report.append(f"| {scenario.__doc__} | {' | '.join(seen)} |")
    if arguments.report:
        with open(arguments.report, "w") as file:
            today = datetime.date.today().isoformat()
            file.write("\n".join([HEAD.format(today=today), *report, ""]))


HEAD = """# Gateways compared

What the three do with what happens to a gateway. Each is in front of `server-everything` over stdio and speaks SSE to its
clients; each line is tried with a gateway of its own. `mcp-sse` starts a server for each client, so ten clients have ten
servers to pay for; the others share one. Measured on {today} by `cargo xtask compare`, which installs them; the versions
are pinned in [tests/interop/gateways](../tests/interop/gateways), and
[compare.py](../tests/interop/gateways/compare.py) says what is done and how it is seen.
"""

sys.exit(main())
