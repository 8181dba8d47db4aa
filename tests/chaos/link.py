"""A TCP link that can be cut: it listens on a port of its own, and carries bytes to another one."""

import asyncio
import contextlib
import socket
import struct
import time

# Closing a socket with this resets its connection.
RESETS = struct.pack("ii", 1, 0)
# What a direction holds at most, in parts of so many bytes. More stays with who sends it.
PARTS, PART = 64, 65536
DELAY = 0.2


def reset(writer):
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
    writer.transport.abort()


class Link:
    """
    What it does:

    pass       carries all
    drop       resets what is open, and what is opened
    blackhole  carries nothing; connections stay, and later get what they have missed, as with TCP
    mute       the same, but only towards the engine
    deaf       the same, but only from the engine
    delay      carries all, later
    """

    def __init__(self, port, to):
        self.port, self.to, self.mode = port, to, "pass"
        self.ways = {"there": asyncio.Event(), "back": asyncio.Event()}
        self.server, self.pairs, self.tasks = None, set(), set()
        self.set("pass")

    async def start(self):
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", self.port, limit=PART)

    def set(self, mode):
        self.mode = mode
        for way, closed_by in (("there", ("blackhole", "mute")), ("back", ("blackhole", "deaf"))):
            self.ways[way].clear() if mode in closed_by else self.ways[way].set()
        if mode == "drop":
            self.reset_all()

    def reset_all(self):
        for pair in list(self.pairs):
            for writer in pair:
                reset(writer)

    async def accept(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        try:
            await self.carry(reader, writer)
        finally:
            self.tasks.discard(asyncio.current_task())
            reset(writer)

    async def carry(self, reader, writer):
        if self.mode == "drop":
            return
        await self.ways["there"].wait()
        try:
            far, far_writer = await asyncio.open_connection("127.0.0.1", self.to, limit=PART)
        except OSError:
            return
        pair = (writer, far_writer)
        self.pairs.add(pair)
        pumps = [self.pump(reader, far_writer, "there"), self.pump(far, writer, "back")]
        pumps = [asyncio.ensure_future(pump) for pump in pumps]
        try:
            # One that is half closed is of no use to anybody here.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.pairs.discard(pair)
            reset(far_writer)

    async def pump(self, reader, writer, way):
        parts = asyncio.Queue(PARTS)

        async def take():
            with contextlib.suppress(OSError):
                while data := await reader.read(PART):
                    await parts.put((time.monotonic() + (DELAY if self.mode == "delay" else 0), data))
            await parts.put((0, b""))

        taking = asyncio.ensure_future(take())
        try:
            while True:
                due, data = await parts.get()
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                await self.ways[way].wait()
                if not data:
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            return
        finally:
            taking.cancel()

    async def close(self):
        if self.server:
            self.server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
