"""Clients over HTTP+SSE that call all the time, and write down all that they send and get.

A POST that broke off is never sent again. A stream that breaks is resumed with `Last-Event-ID`. A session that
is over (404) is followed by a new one, with a marker of its own.
"""

import asyncio

from records import Record
from session import PATIENCE, TEXT, Session, now
from wire import BROKEN, Refused


class Client:
    """A client that always has a session, if it can."""

    kind = "caller"

    def __init__(self, world, name, get_door, post_door, rng, key=None):
        self.world, self.name, self.rng, self.key = world, name, rng, key
        self.get_door, self.post_door = get_door, post_door
        self.count, self.session = 0, None
        # GETs for new sessions that did not open one, by status.
        self.refusals = {}

    def new(self):
        self.count += 1
        marker = f"{self.name}.{self.count}"
        record = Record(marker, self.name, self.kind, self.key and self.key[0], self.get_door.name)
        return Session(self.world, record, self.get_door, self.post_door, self.key and self.key[1])

    async def open(self, until=float("inf")):
        """A session that has begun, or None when the run ends before."""
        while not self.world.stopping and now() < until:
            session = self.new()
            try:
                await session.open()
                if await session.begin(min(until, now() + 40)):
                    return session
            except Refused as refused:
                self.refusals[refused.status] = self.refusals.get(refused.status, 0) + 1
            except BROKEN as error:
                name = type(error).__name__
                self.refusals[name] = self.refusals.get(name, 0) + 1
            except asyncio.CancelledError:
                await session.close()
                raise
            if session.record.opened is None:
                self.count -= 1
            await session.close()
            await asyncio.sleep(0.3)
        return None

    async def run(self):
        while not self.world.stopping:
            session = await self.open()
            if session is None:
                return
            self.session = session
            await self.live(session)
            if session.is_over.is_set():
                await session.close()
                self.session = None

    async def live(self, session):
        """Uses the session until it is over, or the run ends."""
        lanes = [asyncio.create_task(self.lane(session)) for _ in range(self.lanes)]
        ends = [asyncio.create_task(session.is_over.wait()), asyncio.create_task(self.world.stops.wait())]
        try:
            # A lane that fails is a mistake here.
            done, _ = await asyncio.wait([*lanes, *ends], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if self.world.stopping and not session.is_over.is_set():
                # What is under way is seen to its end.
                await asyncio.wait(lanes, timeout=PATIENCE + 1)
        finally:
            for task in (*lanes, *ends):
                task.cancel()
            results = await asyncio.gather(*lanes, *ends, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    lanes = 2

    async def lane(self, session):
        """Calls, one thing after the other."""
        names, weights = zip(*ACTIONS.items())
        while not session.is_over.is_set() and not self.world.stopping:
            action = self.rng.choices(names, weights)[0]
            post = await getattr(self, action)(session)
            pause = self.rng.expovariate(1 / self.world.pause)
            if post is not None and post.status != 202:
                # As a client would that has been told to come later.
                pause += self.rng.uniform(0.1, 0.6)
            await asyncio.sleep(min(pause, 2))

    async def call(self, session):
        tool = session.tool(
            "echo", text=f"of {session.marker}", pad="." * self.rng.choice([0, 10, 1000, 20_000])
        )
        return (await session.request(*tool, arguments=True, patience=self.rng.choice([0, 20])))[0]

    async def listing(self, session):
        return (await session.request("tools/list", {}))[0]

    async def burst(self, session):
        """Several at once, on several connections."""
        calls = []
        for _ in range(self.rng.randint(2, 6)):
            tool = session.tool("slow", ms=self.rng.choice([1, 10, 100, 500]))
            calls.append(session.ask_for(*tool, arguments=True))
        posts = await asyncio.gather(*calls)
        return posts[-1][0]

    async def notes(self, session):
        """Notifications, one after the other, as fast as it goes."""
        for _ in range(self.rng.randint(1, 6)):
            post = await session.notify()
            if post.status != 202:
                break
        return post

    async def cancel(self, session):
        tool = session.tool("slow", ms=self.rng.choice([20, 1000, 2000]))
        post, _ = await session.ask_for(*tool, arguments=True)
        await asyncio.sleep(self.rng.uniform(0, 0.2))
        if post.status == 202 and not session.is_over.is_set():
            post.cancelled = now()
            params = {"requestId": post.id, "reason": "chaos"}
            return await session.notify("notifications/cancelled", params)
        return post

    async def large(self, session):
        """A body of up to 4 MiB."""
        async with self.world.few:
            size = self.rng.choice([300_000, 1_000_000, 4_194_304 - 300])
            tool = session.tool("echo", pad="p" * size)
            return (await session.request(*tool, arguments=True))[0]

    async def big(self, session):
        """A large result."""
        async with self.world.few:
            size = self.rng.choice([1_000, 100_000, 200_000, 1_000_000])
            tool = session.tool("big", bytes=size)
            return (await session.request(*tool, arguments=True, expected=size))[0]

    async def works(self, until):
        """Whether a call works before this time; also what was last seen."""
        last = "it has no session"
        while now() < until:
            session = self.session
            if session is None or session.is_over.is_set():
                last = "it has no session"
            else:
                patience = min(3, max(0.1, until - now()))
                try:
                    async with asyncio.timeout(patience):
                        post, answer = await session.request(
                            *session.tool("echo"), arguments=True, patience=patience
                        )
                    if answer is not None and "result" in answer:
                        return True, None
                    last = f"{session.marker}: {post.status or post.failure}, answer {str(answer)[:TEXT]}"
                except TimeoutError:
                    last = f"{session.marker}: no answer within {patience:.1f} s"
            await asyncio.sleep(0.2)
        return False, last

    async def finish(self, until):
        if self.session and not self.session.is_over.is_set():
            await self.session.drain(until)
            await self.session.close()


# What callers do, and how often.
ACTIONS = {"call": 40, "listing": 6, "burst": 14, "notes": 16, "cancel": 10, "large": 2, "big": 5}


class Steady(Client):
    """A client that does one small call after the other, to measure how long its POSTs take."""

    lanes = 1

    async def lane(self, session):
        while not session.is_over.is_set() and not self.world.stopping:
            started = now()
            tool = session.tool("echo", text=f"of {session.marker}")
            await session.request(*tool, arguments=True, patience=5)
            await asyncio.sleep(max(0.02, started + self.rng.uniform(0.5, 1.5) / self.rate - now()))


class Bystander(Steady):
    """One that posts to the replica that holds its session."""

    kind, rate = "bystander", 14


class Foreigner(Steady):
    """One that posts to another replica."""

    kind, rate = "foreigner", 4
