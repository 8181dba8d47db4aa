"""HTTP/1.1 and event streams over bare sockets, so that nothing is sent again unasked."""

import asyncio
import dataclasses

from link import reset

# How long for the head of a stream, before it tries again.
STREAM_PATIENCE = 4
# What goes wrong with connections.
BROKEN = (OSError, EOFError, asyncio.IncompleteReadError, ValueError)


@dataclasses.dataclass(frozen=True)
class Door:
    """A port to knock at: nginx's, or a replica's own."""

    name: str
    port: int


class Answer:
    def __init__(self, status, headers, reader, writer):
        self.status, self.headers, self.reader, self.writer = status, headers, reader, writer

    def upstream(self, doors):
        """Which replica nginx asked last, and the status that it got."""
        address, _, status = self.headers.get("x-upstream", "").partition(" / ")
        port = address.split(",")[-1].strip().rpartition(":")[2]
        return doors.get(port), status.split(",")[-1].strip() or None

    async def parts(self):
        """The body, as it comes."""
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int((await self.line()).split(b";")[0], 16):
                yield (await self.reader.readexactly(size + 2))[:-2]
            await self.line()
        elif "content-length" in self.headers:
            left = int(self.headers["content-length"])
            while left:
                part = await self.reader.read(min(left, 1 << 16))
                if not part:
                    raise EOFError("the body broke off")
                left -= len(part)
                yield part
        else:
            while part := await self.reader.read(1 << 16):
                yield part

    async def line(self):
        line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the connection was closed")
        return line


async def ask(reader, writer, method, path, headers, body=b""):
    """Sends a request, and reads the head of the answer."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    writer.write("\r\n".join(lines).encode() + body)
    line = await reader.readline()
    words = line.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1."):
        raise EOFError("there is no answer")
    found = {}
    while (line := await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        found[name.strip().lower()] = value.strip()
    if not line:
        raise EOFError("the head broke off")
    return Answer(int(words[1]), found, reader, writer)


class Pool:
    """Connections of one client to one door, kept alive."""

    def __init__(self, door):
        self.door, self.idle = door, []

    async def take(self):
        while self.idle:
            reader, writer = self.idle.pop()
            if not reader.at_eof() and reader.exception() is None and not writer.is_closing():
                return reader, writer
            reset(writer)
        return await asyncio.open_connection("127.0.0.1", self.door.port)

    def give(self, reader, writer):
        if len(self.idle) < 8:
            self.idle.append((reader, writer))
        else:
            reset(writer)

    def close(self):
        while self.idle:
            reset(self.idle.pop()[1])


class Refused(Exception):
    """A stream was answered with this status."""

    def __init__(self, status):
        super().__init__(f"status {status}")
        self.status = status


class Stream:
    def __init__(self, answer, rest, first):
        self.answer, self.parts, self.rest, self.first = answer, answer.parts(), rest, first

    @classmethod
    async def open(cls, door, headers):
        """Opens a stream; its first event is in `first`."""
        async with asyncio.timeout(STREAM_PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            try:
                answer = await ask(
                    reader, writer, "GET", "/sse", {"Host": f"127.0.0.1:{door.port}", **headers}
                )
                if answer.status != 200:
                    raise Refused(answer.status)
                stream = cls(answer, bytearray(), None)
                stream.first = await stream.event()
                if stream.first is None or stream.first.get("event") != "endpoint":
                    raise Refused(0)
                return stream
            except BaseException:
                reset(writer)
                raise

    async def event(self):
        """The next event as its fields; None at the end. A comment is an event without fields."""
        seen = 0
        while (end := self.rest.find(b"\n\n", max(0, seen - 1))) < 0:
            seen = len(self.rest)
            part = await anext(self.parts, None)
            if part is None:
                return None
            self.rest += part
        block = bytes(self.rest[:end])
        del self.rest[: end + 2]
        fields = {}
        for line in block.split(b"\n"):
            name, _, value = line.partition(b":")
            if name:
                fields[name.decode()] = value.removeprefix(b" ").decode()
        return fields

    def close(self):
        reset(self.answer.writer)
