"""What a client lives through: a replica or the engine goes, and what the client sees of it is written down.

A client is a process that does what it is told (node/driven.mjs, python/driven.py): it opens a connection,
has a call in flight when something happens, and makes calls afterwards. All else it does by itself.
"""

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from world import Broken, World, dies_with_us, until

# How long a client has for what it does, until that counts as nothing: less than the SDKs wait (60 s, or for
# ever), and more than anything takes here that comes at all. Python 2.x asks for the rest of a stream several
# times, 3 s apart, and may learn only after 7 s that it has ended.
ENOUGH = 25
# How long what is done here may take.
PATIENCE = 10
# How long a client may take to start on a busy machine: Chromium.
START = 60
# How soon calls are taken again after the engine is back, and how soon a client is that comes back by itself.
SOON = 2
BACK = 5
# The call in flight: long enough to be met by what happens, and short enough for a replica that leaves.
LONG = {"steps": 100, "step_ms": 50}
# One that is still in flight when a call is refused that has waited for the engine as long as calls do (3 s).
LONGER = {"steps": 160, "step_ms": 50}
# How long an engine is away that is away briefly, and when in this time a new connection is opened.
BRIEF = 1
AMID = 0.3
# If it takes longer on a busy machine, it says nothing of a client: calls wait for 3 s.
BRIEF_ENOUGH = 2.5
# How long it may take until what a client has asked for is kept for other replicas: a tenth of a second if
# nobody is busy.
KEPT = 1

ANSWERED, REFUSED, NOTHING = "answered", "refused", "no answer"
LATE = "answered late"

# 404 and 503 in the words of the gateway, or of a client that has none of them: the message was not taken.
REFUSALS = re.compile(
    r"Could not find session|cannot be reached now|Too much is on its way|Server is shutting down"
    r"|503 Service Unavailable|[(]503[)]|Server returned an error response"
)


class Client:
    """A client that does what it is told."""

    def __init__(self, world, command):
        self.world, self.command, self.name = world, command, None
        # What is awaited, by number; the connections that it has opened again by itself.
        self.waiting, self.reopened, self.last = {}, set(), 0

    async def __aenter__(self):
        with open(self.world.folder / "client.log", "wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *map(str, self.command),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self.world.environment,
                start_new_session=True,
                preexec_fn=dies_with_us,
            )
        self.reading = asyncio.create_task(self.read())
        try:
            await until(lambda: self.name or self.reading.done(), START, "the client starts")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_):
        # It ends with its input; what hangs in it is no reason to wait.
        self.process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self.process.wait()
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        self.reading.cancel()

    async def read(self):
        while line := await self.process.stdout.readline():
            line = json.loads(line)
            if "n" in line:
                self.waiting.pop(line["n"]).set_result(line)
            elif "reopened" in line:
                self.reopened.add(line["reopened"])
            else:
                self.name = line["name"]

    def tell(self, what, connection, **more):
        """Has it do something; what comes of it is awaited with `outcome`."""
        self.last += 1
        self.waiting[self.last] = answer = asyncio.get_running_loop().create_future()
        line = {"n": self.last, "do": what, "connection": connection, **more}
        self.process.stdin.write(json.dumps(line).encode() + b"\n")
        return answer

    async def outcome(self, answer, seconds=ENOUGH):
        """What came of it, in a few words."""
        try:
            async with asyncio.timeout(seconds):
                line = await asyncio.shield(answer)
        except TimeoutError:
            return NOTHING
        return ANSWERED if line["ok"] else plain(line["text"])

    async def open(self, connection):
        return await self.outcome(self.tell("open", connection))

    def call(self, connection, tool, **arguments):
        return self.tell("call", connection, tool=tool, arguments=arguments)

    async def echo(self, connection):
        return await self.outcome(self.call(connection, "echo", message="hello"))


def plain(text):
    """An error, without what is different each time."""
    if REFUSALS.search(text):
        return REFUSED
    # The Inspector prints JSON.
    if found := re.search(r'"message":"(.*?)"', text):
        text = found[1]
    text = re.sub(r"^M[Cc][Pp]Error:? ", "", text.strip())
    return f"error: {re.sub(r'127[.]0[.]0[.]1:[0-9]+', 'HOST', text)}"


def in_words(outcomes):
    """What came of several calls, one after the other."""
    return ", then ".join(outcome for outcome, _ in itertools.groupby(outcomes))


async def killed(life, replica):
    if life.is_revived:
        await asyncio.sleep(KEPT)
    await replica.kill()
    seen = {NEW: await life.new_connection()}
    await replica.start()
    return seen


async def left(life, replica):
    ending = asyncio.create_task(replica.end())
    await until(replica.is_deaf, PATIENCE, f"{replica.name} leaves")
    # Nginx does not know, and tries it first for one in three requests.
    seen = {NEW: await life.new_connection()}
    await ending
    await replica.start()
    return seen


async def left_and_met(life, replica):
    """It is the turn of the one that leaves when the client comes back; it has others' calls in flight."""
    ending = asyncio.create_task(replica.end())
    await until(replica.is_deaf, PATIENCE, f"{replica.name} leaves")
    await life.world.turn_to(replica)
    await ending
    await replica.start()
    return {NEW: await life.new_connection()}


async def engine_away(life, _replica):
    """While the client makes no calls."""
    await life.cut_off()
    await life.world.engine.start()
    await life.world.is_whole()
    return {NEW: await life.new_connection()}


async def engine_away_briefly(life, _replica):
    """The client calls meanwhile, and so does a new connection; those that have to cross wait."""
    began = time.monotonic()
    await life.cut_off()
    # Each replica has its turn.
    calls = [asyncio.create_task(life.client.echo("first")) for _ in life.world.replicas]
    await asyncio.sleep(AMID)
    new = asyncio.create_task(life.new_connection())
    await asyncio.sleep(max(0, began + BRIEF - time.monotonic()))
    waited = not all(call.done() for call in calls)
    await life.world.engine.start()
    await until(life.is_connected, PATIENCE, "all replicas are connected again")
    away = time.monotonic() - began
    if away > BRIEF_ENOUGH:
        raise Broken(f"the engine was away for {away:.1f} s, which is not brief")
    meanwhile = in_words([await call for call in calls])
    # The Inspector takes about as long to start for a call, so that nobody knows whether it had to wait.
    if meanwhile == ANSWERED and not life.is_one_call:
        if not waited:
            raise Broken("no call had to wait for the engine")
        meanwhile = LATE
    seen = {MEANWHILE: meanwhile, NEW: await new}
    await life.world.is_whole()
    return seen


async def engine_away_for_calls(life, _replica):
    """The client makes calls until one is not answered, and goes on when the engine is back."""
    await life.cut_off()
    meanwhile = ANSWERED
    # Each replica has its turn.
    for _ in range(2 * len(life.world.replicas)):
        if meanwhile == ANSWERED:
            meanwhile = await life.client.echo("first")
    await life.world.engine.start()
    again = await life.calls_again()
    await life.world.is_whole()
    return {MEANWHILE: meanwhile, AGAIN: again, NEW: await life.new_connection()}


IN_FLIGHT, SESSION, NEXT, NEW = "the call in flight", "its session", "the next calls", "a new connection"
MEANWHILE, AGAIN = "calls meanwhile", "calls after the engine's return"


class Event(NamedTuple):
    """What can happen."""

    happens: Callable
    # Whether a replica goes.
    replica_goes: bool
    # What is written down.
    columns: tuple
    # Whether sessions are revived that may be.
    is_revived: bool = False
    # The call in flight.
    long: dict = LONG


OF_REPLICA = (IN_FLIGHT, SESSION, NEXT, NEW)
EVENTS = {
    "killed": Event(killed, True, OF_REPLICA),
    "left": Event(left, True, OF_REPLICA),
    "met": Event(left_and_met, True, (SESSION, NEXT, NEW)),
    "killed with --revive": Event(killed, True, OF_REPLICA, is_revived=True),
    "left with --revive": Event(left, True, OF_REPLICA, is_revived=True),
    "engine": Event(engine_away, False, OF_REPLICA),
    "calls briefly": Event(engine_away_briefly, False, (IN_FLIGHT, MEANWHILE, NEXT, SESSION, NEW)),
    "calls": Event(engine_away_for_calls, False, (IN_FLIGHT, MEANWHILE, AGAIN, SESSION, NEW), long=LONGER),
}


class Life:
    """One client, and one thing that happens."""

    def __init__(self, options, engine, command, transport):
        self.options, self.engine, self.command, self.transport = options, engine, command, transport
        # Each call of the Inspector is a connection of its own.
        self.is_one_call = "inspector" in command

    async def live_through(self, name):
        """The client's name, and what was written down."""
        event = EVENTS[name]
        self.is_revived = event.is_revived

        async def serves(_world):
            revive = ["--revive"] if self.is_revived else []
            return [*revive, "--", self.options.program, "demo", "--stdio"]

        async with World(self.options, self.engine, serves) as self.world:
            url = ["--url", self.world.url_of(self.transport), "--transport", self.transport]
            async with Client(self.world, [*self.command, *url]) as self.client:
                return self.client.name, await self.seen(event)

    async def seen(self, event):
        client = self.client
        session, caller = await self.begin("first"), "first"
        if event.happens is left_and_met:
            # Somebody else is at the same replica, and only they have a call in flight.
            for caller in map("other {}".format, range(2 * len(self.world.replicas))):
                if (await self.begin(caller))["replica"] == session["replica"]:
                    break
            else:
                raise Broken("nginx brings nobody else there")
        long, last = client.call(caller, "long_task", **event.long), time.monotonic() + ENOUGH
        busy = await self.in_flight()
        replica, session = self.world.named(busy["replica"]), (session or busy)["id"]
        client.reopened.clear()
        seen = await event.happens(self, replica)
        # From its beginning: the Inspector is ended after 30 s.
        seen[IN_FLIGHT] = await client.outcome(long, max(0, last - time.monotonic()))
        if event.replica_goes and not self.is_one_call:
            # A client that comes back by itself does so a second after its stream has ended; and so much
            # later all replicas know that the other one is gone.
            with contextlib.suppress(Broken):
                await until(lambda: "first" in client.reopened, BACK, "it comes back")
        afterwards = in_words([await client.echo("first") for _ in self.world.replicas])
        seen[NEXT] = afterwards
        lives = any(one["id"] == session for one in await self.world.sessions())
        seen[SESSION] = self.what_became(lives, afterwards == ANSWERED, event.replica_goes)
        return {column: seen[column] for column in event.columns}

    def what_became(self, lives, answers, replica_has_gone):
        """Of the session of before."""
        if self.is_one_call:
            return "one a call"
        if lives:
            how = ", with a new server" if replica_has_gone else ""
            return f"goes on{how if answers else ', but not for this client'}"
        return "comes back by itself, as a new one" if answers else "is gone"

    async def begin(self, connection):
        """Opens it; its session, if that stays. Each replica has its turn."""
        before = {one["id"] for one in await self.world.sessions()}
        came = [
            await self.client.open(connection),
            *[await self.client.echo(connection) for _ in self.world.replicas],
        ]
        if in_words(came) != ANSWERED:
            raise Broken(f"before anything happens: {in_words(came)}")
        return next((one for one in await self.world.sessions() if one["id"] not in before), None)

    async def in_flight(self):
        """The session that has the long call in flight."""

        async def found():
            busy = (one for one in await self.world.sessions() if one["in_flight"])
            return next((one for one in busy if one["last_call"] == "tools/call long_task"), None)

        return await until(found, PATIENCE, "the call is in flight")

    async def new_connection(self):
        """What comes of a new one, and of a call on it."""
        came = await self.client.open("second")
        return await self.client.echo("second") if came == ANSWERED else came

    async def cut_off(self):
        """The engine dies, and all replicas notice."""
        await self.world.engine.kill()
        for replica in self.world.replicas:
            await until(replica.is_cut_off, PATIENCE, f"{replica.name} notices that the engine is gone")

    async def is_connected(self):
        """Whether all replicas have the engine."""
        return not any([await replica.is_cut_off() for replica in self.world.replicas])

    async def calls_again(self):
        """How soon after the engine's return no call is refused any more."""
        back = last = time.monotonic()
        # So many, that each replica has its turn twice; those of the Inspector take a turn for each request.
        wanted, answered = 1 if self.is_one_call else 2 * len(self.world.replicas), 0
        while answered < wanted:
            came = await self.client.echo("first")
            if came == ANSWERED:
                answered += 1
                continue
            answered, last = 0, time.monotonic()
            if came != REFUSED or last > back + ENOUGH:
                return came
            await asyncio.sleep(0.05)
        return f"answered within {SOON} s" if last <= back + SOON else f"refused for more than {SOON} s"
