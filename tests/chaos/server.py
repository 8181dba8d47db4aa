"""A small MCP server over stdio that writes down each message that it gets: `server.py LOGDIR`.

Each process has a file of its own in LOGDIR, with a line of JSON for each message before it acts on it:

    {"k": 3, "t": 123.456, "own": "c07.2", "m": "c07.2", "n": 5, "method": "tools/call", "id": 4}

`k` counts up, `t` is the system's monotonic clock, `own` the marker of the session that has initialized it.
`m` and `n` are the marker and the number that its client has given to the message, in its `params` or, for a
call, in its `arguments`. The first line has the process's id.

It has the tools `echo` (returns its arguments; of `pad`, which may be long, only the length), `slow` (answers
after `ms`, unless it is cancelled) and `big` (returns `bytes` bytes).
"""

import heapq
import json
import os
import select
import sys
import time

TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "slow", "big")]


class Server:
    def __init__(self, folder):
        path = os.path.join(folder, f"{os.getpid()}-{time.monotonic_ns()}.jsonl")
        self.log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.count, self.own = 0, None
        # Of slow calls: when, a number, the id, the answer.
        self.later = []
        self.write({"pid": os.getpid(), "parent": os.getppid(), "t": time.monotonic()})

    def write(self, line):
        os.write(self.log, json.dumps(line).encode() + b"\n")

    def send(self, id, **members):
        data = json.dumps({"jsonrpc": "2.0", "id": id, **members}).encode() + b"\n"
        while data:
            data = data[os.write(1, data) :]

    def run(self):
        parts = []
        while True:
            wait = max(0, self.later[0][0] - time.monotonic()) if self.later else None
            if select.select([0], [], [], wait)[0]:
                data = os.read(0, 1 << 20)
                if not data:
                    self.write({"end": True, "t": time.monotonic()})
                    return
                *lines, rest = data.split(b"\n")
                for line in lines:
                    self.takes(b"".join(parts) + line)
                    parts = []
                parts.append(rest)
            while self.later and self.later[0][0] <= time.monotonic():
                _, _, id, result = heapq.heappop(self.later)
                self.send(id, result=result)

    def takes(self, line):
        if not line.strip():
            return
        message = json.loads(line)
        method, id = message.get("method"), message.get("id")
        params = message.get("params") or {}
        asked = params.get("arguments", params)
        marker, number = asked.get("m"), asked.get("n")
        if method == "initialize" and self.own is None:
            self.own = marker
        self.count += 1
        seen = {"k": self.count, "t": time.monotonic(), "own": self.own, "m": marker, "n": number}
        self.write({**seen, "method": method, "id": id})
        if method == "notifications/cancelled":
            self.later = [one for one in self.later if one[2] != params.get("requestId")]
            heapq.heapify(self.later)
        elif id is not None and method is not None:
            self.answers(id, method, params, {"m": self.own, "n": number})

    def answers(self, id, method, params, meta):
        if method == "initialize":
            result = {
                "protocolVersion": params.get("protocolVersion", "2025-06-18"),
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "chaos", "version": "1"},
            }
        elif method == "ping":
            result = {}
        elif method == "tools/list":
            result = {"tools": TOOLS}
        elif method == "tools/call":
            return self.calls(id, params.get("name"), params.get("arguments") or {}, meta)
        else:
            return self.send(id, error={"code": -32601, "message": f"there is no method {method}"})
        self.send(id, result={**result, "_meta": meta})

    def calls(self, id, tool, arguments, meta):
        if tool == "big":
            text = "x" * arguments["bytes"]
        elif tool in ("echo", "slow"):
            returned = {**arguments, "pad": len(arguments.get("pad", ""))}
            text = json.dumps(returned)
        else:
            return self.send(id, error={"code": -32602, "message": f"there is no tool {tool}"})
        result = {"content": [{"type": "text", "text": text}], "_meta": meta}
        if tool == "slow":
            heapq.heappush(self.later, (time.monotonic() + arguments["ms"] / 1000, self.count, id, result))
        else:
            self.send(id, result=result)


if __name__ == "__main__":
    try:
        Server(sys.argv[1]).run()
    except BrokenPipeError:
        # Nobody is there any more.
        os._exit(1)
