"""What is done to the processes of a run, to their links, and by clients that misbehave."""

import asyncio
import contextlib
import os
import random
import secrets
import signal

from clients import Client
from processes import Failed, below, stat
from session import now
from wire import BROKEN, Refused, Stream

# How long everything may take to be well again after a fault is over.
RECOVERY = 10
# How long what a killed replica has started may live.
ORPHANS = 10


class Chaos:
    """What is done, in which order. A fault returns when it is over, with some words for the report."""

    def __init__(self, world):
        self.world = world
        self.rng = random.Random(world.options.seed)
        self.busy = set()

    def kinds(self):
        """The faults that there can be in this run."""
        options = self.world.options
        kinds = [name for name, fault in FAULTS.items() if not fault.needs - self.has()]
        if options.events:
            unknown = set(options.events) - FAULTS.keys()
            if unknown:
                raise Failed(f"no such events: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
            kinds = [name for name in options.events if name in kinds]
        return kinds

    def has(self):
        options = self.world.options
        has = {"engine"} if options.engine != "none" else set()
        return has | ({"keys"} if options.keys else set())

    def plan(self):
        """Kinds of faults without end, one or two at a time: each kind once before one comes again."""
        kinds = self.kinds()
        while kinds:
            bag = list(kinds)
            self.rng.shuffle(bag)
            while bag:
                chosen = [bag.pop()]
                others = [kind for kind in bag if not self.clash(kind, chosen[0])]
                if others and self.rng.random() < self.world.options.pairs:
                    chosen.append(others[-1])
                    bag.remove(others[-1])
                # Each fault has its own numbers, so that a plan does not depend on how long things take.
                yield [(kind, random.Random(self.rng.random())) for kind in chosen]

    def clash(self, one, other):
        """Whether both would be done to the same process."""
        one, other = FAULTS[one].to, FAULTS[other].to
        if {one, other} == {"replica"}:
            return len(self.world.replicas) == 1
        return one is not None and one == other or {one, other} == {"replica", "replicas"}

    async def go(self, until):
        for chosen in self.plan():
            await asyncio.sleep(self.rng.uniform(2, 4))
            if now() > until:
                return
            names = " and ".join(kind for kind, _ in chosen)
            start = now()
            self.busy.clear()
            details = await asyncio.gather(*(FAULTS[kind].run(self, rng) for kind, rng in chosen))
            repaired = now()
            recovered = await self.world.recovers(f"{names} ({', '.join(filter(None, details))})", RECOVERY)
            for (kind, _), detail in zip(chosen, details):
                event = {"kind": kind, "detail": detail or "", "start": start}
                self.world.facts.events.append({**event, "repaired": repaired, "recovered": recovered})
            took = "not well" if recovered is None else f"well after {recovered - repaired:.1f} s"
            details = [detail for detail in details if detail]
            self.world.say(f"{names}: {'; '.join(details)}; {repaired - start:.1f} s, {took}")

    def replica(self, rng):
        """One that nothing else is done to."""
        free = [r for r in self.world.replicas if r.name not in self.busy] or self.world.replicas
        chosen = rng.choice(free)
        self.busy.add(chosen.name)
        return chosen

    def caller(self, rng):
        """A client with a session, or None."""
        callers = [client for client in self.world.clients if client.kind == "caller"]
        callers = [client for client in callers if client.session and not client.session.is_over.is_set()]
        return rng.choice(callers) if callers else None

    async def orphans(self, name, processes):
        """What a killed process has started ends too."""
        until = now() + ORPHANS
        while left := {
            one for one in processes if (seen := stat(one[0])) and seen[1] != "Z" and seen[2] == one[1]
        }:
            if now() > until:
                self.world.found("processes outlive their killed replica", f"{name}: {len(left)}")
                return
            await asyncio.sleep(0.1)

    # Faults.

    async def kill_replica(self, rng):
        replica = self.replica(rng)
        started = below(replica.child.pid)
        await replica.kill()
        orphans = self.world.task(self.orphans(replica.name, started))
        pause = rng.choice([0, 0.5, 3])
        await asyncio.sleep(pause)
        await replica.start()
        await orphans
        return f"{replica.name} with {len(started)} processes, back after {pause} s"

    async def restart_all(self, rng):
        """One after the other, as a deployment does."""
        for replica in self.world.replicas:
            await self.world.ends(replica)
            await replica.start()
        took = max(replica.runs[-2][3] - replica.runs[-2][1] for replica in self.world.replicas)
        return f"the slowest ended in {took:.1f} s"

    async def kill_nginx(self, rng):
        pause = rng.choice([0, 1, 4])
        await self.world.nginx.kill()
        await asyncio.sleep(pause)
        await self.world.nginx.start()
        return f"back after {pause} s"

    async def kill_programs(self, rng):
        """Those behind a few sessions."""
        killed = []
        for _ in range(3):
            client = self.caller(rng)
            marker = client and client.session.marker
            pid = await asyncio.to_thread(self.program, marker)
            if pid is None:
                continue
            self.world.facts.programs_killed.append([now(), marker])
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            killed.append(marker)
            await asyncio.sleep(rng.uniform(0, 1))
        return " ".join(killed)

    def program(self, marker):
        """The process behind a session: the one that runs, of those that have seen its marker."""
        if marker is None:
            return None
        for path in self.world.logs.glob("*.jsonl"):
            pid = int(path.name.partition("-")[0])
            with open(path) as file:
                lines = [file.readline(), file.readline()]
            if f'"own": "{marker}"' in lines[1] and self.world.is_ours(pid):
                return pid
        return None

    async def freeze_replica_briefly(self, rng):
        return await self.freeze(self.replica(rng), 4)

    async def freeze_replica(self, rng):
        return await self.freeze(self.replica(rng), 20)

    async def freeze_engine_briefly(self, rng):
        return await self.freeze(self.world.engine, 4)

    async def freeze_engine(self, rng):
        return await self.freeze(self.world.engine, 20)

    async def freeze(self, process, seconds):
        await process.freeze(seconds)
        return f"{process.name} for {seconds} s"

    async def kill_engine(self, rng):
        return await self.no_engine(rng.choice([0.5, 6, 9]), False)

    async def kill_engine_empty(self, rng):
        return await self.no_engine(rng.choice([0.5, 2, 6]), True)

    async def no_engine(self, pause, empty):
        engine = self.world.engine
        await engine.kill()
        if empty:
            engine.empty()
        await asyncio.sleep(pause)
        await engine.start()
        return f"back{' empty' if empty else ''} after {pause} s"

    async def cut_link(self, rng):
        return await self.breaks(rng, "drop", rng.choice([0, 2, 6]))

    async def blackhole(self, rng):
        return await self.breaks(rng, "blackhole", rng.choice([3, 8, 15]))

    async def one_way(self, rng):
        return await self.breaks(rng, rng.choice(["mute", "deaf"]), rng.choice([3, 8]))

    async def slow_link(self, rng):
        return await self.breaks(rng, "delay", 5)

    async def breaks(self, rng, mode, seconds):
        replica = self.replica(rng)
        windows = self.world.facts.links[replica.name]
        windows.append([now(), None, mode])
        replica.link.set(mode)
        await asyncio.sleep(seconds)
        # A hole that is found out is the end of the connections in it.
        cut = mode in ("blackhole", "mute", "deaf") and rng.random() < 0.5
        if cut:
            replica.link.reset_all()
        replica.link.set("pass")
        windows[-1][1] = now()
        return f"{replica.name} {mode} for {seconds} s{', then reset' if cut else ''}"

    async def extra(self, kind, name, rng):
        """A client for once, with a session."""
        world = self.world
        keys = world.keys or [None]
        client = Client(
            world, f"{name}{secrets.token_hex(2)}", world.nginx.door, world.nginx.door, rng, keys[0]
        )
        client.kind = kind
        client.session = await client.open(now() + 30)
        return client.session

    async def deaf_client(self, rng):
        """It asks for much and does not read; then it reads all, or leaves."""
        session = await self.extra("deaf client", "deaf", rng)
        if session is None:
            return "no session"
        session.record.deaf = True
        session.hears.clear()
        reads_later, until, posts = rng.random() < 0.6, now() + 6, 0

        async def asks():
            nonlocal posts
            while now() < until and not session.is_over.is_set():
                tool = session.tool("big", bytes=100_000)
                post, _ = await session.ask_for(*tool, arguments=True, expected=100_000)
                posts += 1
                await asyncio.sleep(0.05 if post.status == 202 else 0.3)

        await asyncio.gather(*(asks() for _ in range(4)))
        refused = sum(post.status == 503 for post in session.record.posts)
        if reads_later:
            session.hears.set()
            await session.drain(now() + RECOVERY)
        await session.close()
        return f"{posts} calls, {refused} of them 503; {'read all later' if reads_later else 'left'}"

    async def flood(self, rng):
        """A client posts as fast as it can, on many connections."""
        session = await self.extra("flood", "flood", rng)
        if session is None:
            return "no session"
        until, count = now() + 3, 0

        async def floods(lane):
            nonlocal count
            while now() < until and not session.is_over.is_set() and count < 3000:
                count += 1
                if lane % 2:
                    await session.notify()
                else:
                    await session.ask_for(*session.tool("slow", ms=1500), arguments=True)

        await asyncio.gather(*(floods(lane) for lane in range(24)))
        refused = sum(post.status == 503 for post in session.record.posts)
        await session.drain(now() + RECOVERY)
        await session.close()
        return f"{count} posts, {refused} of them 503"

    async def garbage(self, rng):
        """What must not be in `at`."""
        session = await self.extra("garbage", "garbage", rng)
        if session is None:
            return "no session"
        path, _, query = session.uri.partition("?")
        session_id = query.split("&")[0]
        at = session.record.at or "a.0123456789abcdef"
        name, _, run = at.partition(".")
        wrong = [
            f"x{name}.{run}",
            f"{name}.{'0' * 16}",
            f"{name}.{run.upper()}x",
            f"{name}.{run[:-1]}",
            f"{name}",
            "",
            ".",
            "*",
            ">",
            "%3E",
            "..%2F..",
            "%00",
            "%0d%0aX",
            "%ff%fe",
            "a b".replace(" ", "%20"),
            "x" * 10_000,
            f"{'x' * 10_000}.{run}",
            f"{at}&at={at}",
            f"{at}&at=x{name}.{run}",
            f"x{name}.{run}&at={at}",
        ]
        statuses = {}
        doors = [None, *(replica.door for replica in self.world.replicas)]
        for bad in wrong:
            for door in doors:
                uri = f"{path}?{session_id}&at={bad}"
                tool = session.tool("echo", text="garbage")
                post, _ = await session.ask_for(*tool, arguments=True, uri=uri, door=door, mark="garbled")
                statuses[post.status or post.failure] = statuses.get(post.status or post.failure, 0) + 1
        # And none at all.
        for door in doors:
            tool = session.tool("echo", text="garbage")
            await session.ask_for(
                *tool, arguments=True, uri=f"{path}?{session_id}", door=door, mark="garbled"
            )
        await session.drain(now() + RECOVERY)
        await session.close()
        return ", ".join(f"{count} times {status}" for status, count in sorted(statuses.items(), key=str))

    async def another_principal(self, rng):
        """Somebody else's session: it does not exist."""
        session = await self.extra("garbage", "theirs", rng)
        if session is None:
            return "no session"
        other = self.world.keys[1][1]
        doors = [None, *(replica.door for replica in self.world.replicas)]
        for door in doors:
            for _ in range(3):
                tool = session.tool("echo", text="of another one")
                post, _ = await session.ask_for(*tool, arguments=True, key=other, door=door, mark="another")
                if post.status not in (404, 503, 504) and post.failure is None:
                    self.world.found("another principal's session", f"a POST got {post.status}")
        for door in [self.world.nginx.door, *doors[1:]]:
            headers = {"Authorization": f"Bearer {other}", "Last-Event-ID": session.last_id or ""}
            try:
                stream = await Stream.open(door, headers)
                stream.close()
                self.world.found("another principal's session", "its stream was resumed")
            except Refused as refused:
                if refused.status not in (0, 404, 503):
                    self.world.found("another principal's session", f"a GET got {refused.status}")
            except (*BROKEN, TimeoutError):
                pass
        await session.close()
        return None


class Fault:
    """What is done, what it is done to, and what there has to be for that."""

    def __init__(self, run, to=None, needs=()):
        self.run, self.to, self.needs = run, to, set(needs)


FAULTS = {
    "kill-replica": Fault(Chaos.kill_replica, "replica"),
    "rolling-restart": Fault(Chaos.restart_all, "replicas"),
    "kill-nginx": Fault(Chaos.kill_nginx, "nginx"),
    "kill-programs": Fault(Chaos.kill_programs),
    "freeze-replica-4s": Fault(Chaos.freeze_replica_briefly, "replica"),
    "freeze-replica-20s": Fault(Chaos.freeze_replica, "replica"),
    "kill-engine": Fault(Chaos.kill_engine, "engine", ["engine"]),
    "kill-engine-empty": Fault(Chaos.kill_engine_empty, "engine", ["engine"]),
    "freeze-engine-4s": Fault(Chaos.freeze_engine_briefly, "engine", ["engine"]),
    "freeze-engine-20s": Fault(Chaos.freeze_engine, "engine", ["engine"]),
    "cut-link": Fault(Chaos.cut_link, "link", ["engine"]),
    "blackhole": Fault(Chaos.blackhole, "link", ["engine"]),
    "one-way": Fault(Chaos.one_way, "link", ["engine"]),
    "slow-link": Fault(Chaos.slow_link, "link", ["engine"]),
    "deaf-client": Fault(Chaos.deaf_client),
    "flood": Fault(Chaos.flood),
    "garbage-at": Fault(Chaos.garbage),
    "another-principal": Fault(Chaos.another_principal, None, ["keys"]),
}
