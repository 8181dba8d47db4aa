"""What the scripts share: the runner, texts that are hard to carry, and a connection that outlives a check."""

import os
import threading

import anyio

CHECK_SECONDS = 30
TOTAL_SECONDS = 120

ECHOES = {
    "plain": "hello",
    "unicode": "emoji 😀👩‍👩‍👧, CJK 漢字かな한글, combining e\u0301 n\u0303, right to left שלום",
    "line ends": "a\nb\r\nc\rd\n\ne\r\r\nf\n",
    "unicode line ends": "a\u2028b\u2029c\u0085d",
    # Numbered, so that a lost, doubled or displaced piece shows.
    "100 KB": "".join(f"{i:09d}," for i in range(10_240)),
}


class Checks:
    """Runs named checks, prints a line for each, and counts."""

    def __init__(self, name):
        self.name = name
        self.passed = self.failed = 0

    async def __call__(self, name, check, *args):
        try:
            with anyio.fail_after(CHECK_SECONDS):
                await check(*args)
        except Exception as error:  # also the groups that anyio makes of them
            self.fail(name, error)
            return False
        self.passed += 1
        print("ok", name, flush=True)
        return True

    def fail(self, name, error):
        self.failed += 1
        while isinstance(error, BaseExceptionGroup):  # say the cause, not "unhandled errors in a TaskGroup"
            error = error.exceptions[0]
        reason = " ".join(f"{type(error).__name__} {error}".split())
        print(f"FAIL {name}: {reason[:300]}", flush=True)

    def finish(self):
        print(f"{self.name}: {self.passed} passed, {self.failed} failed", flush=True)
        # Not sys.exit: that would wait for whatever a broken connection left behind.
        os._exit(1 if self.failed else 0)


def expect(what, actual, expected):
    if actual != expected:
        raise AssertionError(f"{what}: got {actual!r:.100}, expected {expected!r:.100}")


class HeldOpen:
    """A context manager, held open by a task of its own, so that no check's timeout scope encloses it."""

    def __init__(self, context):
        self._context = context
        self._closing = anyio.Event()
        self._closed = anyio.Event()

    async def open(self, tasks):
        return await tasks.start(self._hold)

    async def _hold(self, *, task_status):
        try:
            async with self._context as value:
                task_status.started(value)
                await self._closing.wait()
        finally:
            self._closed.set()

    async def close(self):
        self._closing.set()
        await self._closed.wait()


def run(name, checks_of, *args):
    """Runs `checks_of(*args, check)` and ends the process, whatever the client under test left open."""
    checks = Checks(name)

    async def main():
        try:
            await checks_of(*args, checks)
        except Exception as error:  # a connection that broke between two checks
            checks.fail("connection", error)

    def out_of_time():
        checks.fail("overall", TimeoutError(f"not done after {TOTAL_SECONDS} s"))
        checks.finish()

    # A thread, because it must fire even when the event loop is stuck.
    watchdog = threading.Timer(TOTAL_SECONDS, out_of_time)
    watchdog.daemon = True
    watchdog.start()
    anyio.run(main)
    checks.finish()
