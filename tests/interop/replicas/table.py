"""What clients live through, in Markdown."""

import textwrap

from lives import EVENTS

ENGINES = {"nats": "NATS", "redis": "Redis"}
TRANSPORTS = {"sse": "SSE", "http": "Streamable HTTP"}

BEGIN = """\
<!-- Written by `cargo xtask replicas`; change tests/interop/replicas instead. -->
# What clients live through

Three replicas of `mcp-sse serve --cluster …` behind nginx, which brings each request to the next one,
with NATS and with Redis ({versions}).
Published clients, each pinned to one version, keep a connection and have a call in flight when something
happens; what they do then they do by themselves. With both engines it is the same unless a line names
one. All checks that there are for these clients pass through the replicas too, as they do with one
gateway.

- **no answer**: none within 25 s. The TypeScript SDKs give up after a minute, the Python ones never
  unless they are told to.
- **refused**: with 404 or 503, and the call was not made. It is 503 when the replica that holds the session
  cannot be reached and is not back within 3 s, and 404 when it is gone.
- A **session** that "comes back by itself, as a new one" has a server of its own, which knows nothing of
  the one before. It is there a second after the old one's stream has ended; calls in this second are
  refused.
- One that "goes on, with a new server" is the same session, at a replica that has revived it. The new server
  is told what the client has said at the beginning, its log level and its subscriptions, and knows nothing
  else of it.
"""

WHAT = {
    "killed": (
        "A replica is killed",
        "`kill -9` to the one that holds the session, which is started again on the same port.",
    ),
    "killed with --revive": (
        "A replica is killed, with `--revive`",
        "The same, when all replicas have `--revive`. The one that was killed counts as gone when it has "
        "been started again. A client that comes back over SSE with `Last-Event-ID` has its session then; of "
        "these, Chromium does that. What was in flight is answered with an error (-32000).",
    ),
    "left": (
        "A replica leaves",
        "SIGTERM to the one that holds the session: it answers what is in flight, closes, and is started "
        "again. It listens no more from the beginning, so that nginx, which knows nothing of this, brings "
        "new connections to the next one by itself.",
    ),
    "left with --revive": (
        "A replica leaves, with `--revive`",
        "The same, when all replicas have `--revive`: the session is there as soon as its client comes back.",
    ),
    "met": (
        "A replica leaves, and it is its turn when the client comes back",
        "Without `--revive`, when other sessions have calls in flight there: the stream of a session without "
        "any ends at once, and while the replica still answers the others, its client opens the stream "
        "again. For one in three of those that come back by themselves, nginx tries the replica that leaves "
        "first, and then the next one.",
    ),
    "engine": (
        "The engine is killed, and nobody calls",
        "`kill -9` to NATS or Redis, which is started again when all replicas have noticed.",
    ),
    "calls briefly": (
        "The engine is killed and is back after a second, and the client calls",
        "The client makes calls and opens a new connection while the engine is away. Requests that have to "
        "cross wait for it, for at most 3 s; the others are answered at once.",
    ),
    "calls": (
        "The engine is killed for longer, and the client calls",
        "The client makes calls until one is not answered, which takes 3 s at least, and again after the "
        "engine's return. Those that nginx brings to the replica that holds the session are answered all the "
        "time. A new connection is several requests, and fails as calls do.",
    ),
}

END = """
## What a client should do

- Open a new connection when one is closed, when a call is answered with 404, and when it cannot be sent.
  A new one works at once, at whatever replica.
- Say how long a call may take (`read_timeout_seconds` in Python, `timeout` in TypeScript): what was in
  flight at a replica that is killed is never answered, and most clients do not notice. Only a session that
  is revived gets an error for it.
- The Python SDKs do not come back. Over SSE they do not survive a POST that is refused either: that call
  waits for ever, and each one after it fails. The remedy is the same, a timeout and a new connection.
- `EventSource` in a page comes back by itself as long as the replica that holds its session does, and with
  `--revive` also when that is gone; at `readyState` 2, open a new one.
"""


def markdown(rows, versions):
    """`rows`: event → [(client, transport, engine or None for both, what was seen)]."""
    parts = [BEGIN.format(versions=", ".join(versions))]
    for event, (title, text) in WHAT.items():
        columns = EVENTS[event][2]
        parts.append(f"\n## {title}\n\n{textwrap.fill(text, 110)}\n\n")
        parts.append(line(["client", "over", *columns]) + f"|{'---|' * (2 + len(columns))}\n")
        for client, transport, engine, seen in rows.get(event, []):
            over = TRANSPORTS[transport] + (f", {ENGINES[engine]}" if engine else "")
            parts.append(line([client, over, *(seen[column] for column in columns)]))
    return "".join([*parts, END])


def line(cells):
    return f"| {' | '.join(cells)} |\n"
