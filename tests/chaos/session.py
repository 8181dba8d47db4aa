"""A session of a client: its stream, which is resumed when it breaks, and its POSTs, each sent once."""

import asyncio
import json
import time

from link import reset
from records import Post, awaits
from wire import BROKEN, Pool, Refused, Stream, ask

now = time.monotonic

# How long a client waits for the answer to a POST. Longer than anything may take.
PATIENCE = 30
# A stream that says nothing for so long is none: there is a comment each 15 s.
SILENCE = 45
# How long a client tries to resume before it gives up.
RESUMING = 60
# How long POSTs may be answered 404 on a session whose stream is open, before its client gives it up.
DISOWNED = 15
# What is left of texts of errors.
TEXT = 200


class Session:
    """A session of a client, with its stream."""

    def __init__(self, world, record, get_door, post_door, key):
        self.world, self.record = world, record
        self.get_door, self.pool = get_door, Pool(post_door)
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.uri, self.last_id, self.sequence = None, None, 0
        self.numbers, self.ids, self.posts, self.waiting = 0, 0, {}, {}
        self.is_over, self.hears = asyncio.Event(), asyncio.Event()
        self.hears.set()
        self.disowned = None
        self.connected = False
        self.stream = self.listening = None

    @property
    def marker(self):
        return self.record.marker

    async def open(self):
        """Opens the stream. `Refused`, or an error of the connection, if that fails."""
        self.stream = await Stream.open(self.get_door, self.headers)
        self.record.opened = now()
        self.connected = True
        first = self.stream.first
        self.uri, self.last_id = first["data"], first.get("id")
        query = dict(part.partition("=")[::2] for part in self.uri.partition("?")[2].split("&"))
        self.record.sid, self.record.at = query.get("session_id", "")[:8], query.get("at")
        upstream, _ = self.stream.answer.upstream(self.world.names)
        name = self.record.at.partition(".")[0] if self.record.at else upstream
        self.record.host = name or self.get_door.name
        self.world.records.append(self.record)
        self.listening = self.world.task(self.listen())

    async def begin(self, until):
        """The handshake, until it is through or the session is over; whether it is through."""
        while now() < until and not self.is_over.is_set():
            params = {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "chaos", "version": "1"},
            }
            post, answer = await self.request("initialize", params, patience=10)
            if answer is not None and "result" in answer:
                while now() < until and not self.is_over.is_set():
                    if (await self.notify("notifications/initialized")).status == 202:
                        return True
                    await asyncio.sleep(0.3)
            await asyncio.sleep(0.3)
        return False

    # The stream.

    async def listen(self):
        while True:
            why = await self.take_all()
            self.connected = False
            self.stream.close()
            self.record.breaks.append((now(), why))
            if self.record.closed or self.is_over.is_set() or not await self.resume():
                return
            self.record.resumed.append((now(), self.stream.answer.upstream(self.world.names)[0]))
            self.connected = True

    async def take_all(self):
        """Takes events until the stream ends; how it has ended."""
        try:
            while True:
                await self.hears.wait()
                async with asyncio.timeout(SILENCE):
                    event = await self.stream.event()
                if event is None:
                    return "ended"
                self.takes(event)
        except TimeoutError:
            self.odd("a stream was silent", f"nothing for {SILENCE} s")
            return "silent"
        except BROKEN as error:
            return f"reset ({type(error).__name__})"

    async def resume(self):
        """Opens the stream again; whether that was possible."""
        since = now()
        while not self.record.closed and not self.is_over.is_set():
            try:
                headers = {**self.headers, "Last-Event-ID": self.last_id} if self.last_id else self.headers
                self.stream = await Stream.open(self.get_door, headers)
                self.uri = self.stream.first["data"]
                return True
            except Refused as refused:
                self.tried(refused.status)
                if refused.status == 404:
                    self.end("404 to Last-Event-ID")
            except BROKEN as error:
                self.tried(type(error).__name__)
            if now() - since > RESUMING:
                self.end(f"it could not be resumed for {RESUMING} s")
            await asyncio.sleep(0.25)
        return False

    def tried(self, why):
        if len(self.record.tries) < 300:
            self.record.tries.append((now(), why))

    def takes(self, event):
        if event.get("event") != "message":
            if event.get("event") is not None:
                self.odd("an event that has no business here", str(event)[:TEXT])
            return
        self.record.events += 1
        if id := event.get("id"):
            self.last_id = id
            sequence = int(id.split(":")[1])
            if sequence != self.sequence + 1:
                self.odd("events out of sequence", f"{sequence} after {self.sequence}")
            self.sequence = sequence
        try:
            message = json.loads(event["data"])
        except ValueError:
            self.odd("an event that is not JSON", event["data"][:TEXT])
            return
        if "method" in message:
            return
        post = self.posts.get(message.get("id"))
        if post is None:
            self.odd("an answer to what was not asked", event["data"][:TEXT])
            return
        error = message.get("error")
        if error is None:
            meta = message["result"].get("_meta", {})
            if (meta.get("m"), meta.get("n")) != (self.marker, post.n):
                self.odd("an answer of another session or request", f"{meta} for {post.n} of {self.marker}")
            if post.expected and len(message["result"]["content"][0]["text"]) != post.expected:
                self.odd("a result of another size", f"not {post.expected}")
            post.answers.append((now(),))
        else:
            post.answers.append((now(), error.get("code"), str(error.get("message"))[:TEXT]))
        waiting = self.waiting.pop(post.id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def odd(self, what, detail):
        self.record.oddities.append((now(), what, detail))

    def end(self, why):
        """It is over: the client has learned that it is gone, or gives up."""
        if not self.is_over.is_set() and not self.record.closed:
            self.record.over, self.record.why = now(), why
        self.is_over.set()
        self.give_up()

    def give_up(self):
        for waiting in self.waiting.values():
            if not waiting.done():
                waiting.set_result(None)
        self.waiting.clear()

    async def close(self):
        """Closes it on purpose."""
        if self.record.over is None and self.record.opened is not None:
            self.record.closed = now()
        self.is_over.set()
        self.give_up()
        if self.listening:
            self.listening.cancel()
            await asyncio.gather(self.listening, return_exceptions=True)
        if self.stream:
            self.stream.close()
        self.pool.close()

    # Messages.

    async def post(
        self, method, params, id=None, *, arguments=False, uri=None, key=None, door=None, mark="", **more
    ):
        """Posts a message once, and writes down what came of it."""
        n, self.numbers = self.numbers, self.numbers + 1
        marks = {"m": self.marker, "n": n}
        if arguments:
            params = {**params, "arguments": {**params["arguments"], **marks}}
        else:
            params = {**params, **marks}
        message = {"jsonrpc": "2.0", "method": method, "params": params, **({} if id is None else {"id": id})}
        body = json.dumps(message).encode()
        pool = Pool(door) if door else self.pool
        record = Post(n, method, id, pool.door.name, len(body), now(), mark, **more)
        self.record.posts.append(record)
        if id is not None:
            self.posts[id] = record
        headers = {
            "Host": f"127.0.0.1:{pool.door.port}",
            "Content-Type": "application/json",
            "Content-Length": len(body),
            **({"Authorization": f"Bearer {key}"} if key else self.headers),
        }
        writer = None
        try:
            async with asyncio.timeout(PATIENCE):
                try:
                    reader, writer = await pool.take()
                except OSError:
                    record.failure = "refused"
                    return record
                answer = await ask(reader, writer, "POST", uri or self.uri, headers, body)
                text = b"".join([part async for part in answer.parts()])
            record.status, record.text = answer.status, text[:TEXT].decode(errors="replace")
            record.retry_after = "retry-after" in answer.headers
            record.upstream, record.upstream_status = answer.upstream(self.world.names)
            if answer.headers.get("connection", "").lower() != "close" and door is None:
                pool.give(reader, writer)
                writer = None
        except TimeoutError:
            record.failure = "timeout"
        except BROKEN as error:
            record.failure, record.text = "reset", f"{type(error).__name__}: {error}"[:TEXT]
        except asyncio.CancelledError:
            record.failure = "abandoned"
            raise
        finally:
            record.done = now()
            if writer is not None:
                reset(writer)
        if not mark:
            self.minds(record)
        return record

    def minds(self, post):
        """Whether POSTs find the session."""
        if post.status != 404:
            self.disowned = None if post.status == 202 else self.disowned
        elif not self.connected:
            self.disowned = None
        else:
            self.disowned = self.disowned or now()
            if now() - self.disowned > DISOWNED:
                self.end("404 to POSTs, with its stream open")

    async def ask_for(self, method, params, **how):
        """Posts a request; returns the post, and a future for the answer if the post was accepted."""
        id, self.ids = self.ids, self.ids + 1
        # Another kind of id is an id too.
        id = id if id % 3 else f"r{id}"
        waiting = asyncio.get_running_loop().create_future()
        self.waiting[id] = waiting
        try:
            post = await self.post(method, params, id, **how)
        except asyncio.CancelledError:
            self.waiting.pop(id, None)
            raise
        if post.status != 202 or self.is_over.is_set():
            self.waiting.pop(id, None)
            if not waiting.done():
                waiting.set_result(None)
        return post, waiting

    async def request(self, method, params, patience=20, **how):
        """Posts a request and waits for its answer, which is None if there is none."""
        post, waiting = await self.ask_for(method, params, **how)
        # Not `wait_for`: before Python 3.12 it may swallow that its task is cancelled.
        await asyncio.wait([waiting], timeout=patience)
        return post, waiting.result() if waiting.done() else None

    async def notify(self, method="notifications/chaos", params=None, **how):
        return await self.post(method, params or {}, **how)

    def tool(self, name, **arguments):
        """What is asked of a tool, for `ask_for` and `request`."""
        return "tools/call", {"name": name, "arguments": arguments}

    def unanswered(self):
        """What it waits for."""
        return [post for post in self.record.posts if awaits(post)]

    async def drain(self, until):
        """Waits for all answers."""
        while now() < until and not self.is_over.is_set():
            if not self.unanswered() and self.connected:
                break
            await asyncio.sleep(0.1)
        self.record.drained = not self.is_over.is_set()
