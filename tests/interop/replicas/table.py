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
- **refused**: with 404 or 503, and the call was not made. It is 503 as long as the replica that holds the
  session cannot be reached, and 404 when it is gone.
- A **session** that "comes back by itself, as a new one" has a server of its own, which knows nothing of
  the one before. It is there a second after the old one's stream has ended; calls in this second are
  refused.
"""

WHAT = {
    "killed": (
        "A replica is killed",
        "`kill -9` to the one that holds the session, which is started again on the same port.",
    ),
    "left": (
        "A replica leaves",
        "SIGTERM to the one that holds the session: it answers what is in flight, closes, and is started "
        "again. Nginx knows nothing of this: new connections that it brings there are refused with 503 until "
        "it has ended, and then work at the next try.",
    ),
    "met": (
        "A replica leaves, and nginx brings the client back to it",
        "The same, when other sessions have calls in flight there: the stream of a session without any ends "
        "at once, and while the replica still answers the others, its client opens the stream again. Of the "
        "clients that come back by themselves, nginx brings one in three to the replica that leaves.",
    ),
    "engine": (
        "The engine is killed, and nobody calls",
        "`kill -9` to NATS or Redis, which is started again when all replicas have noticed.",
    ),
    "calls": (
        "The engine is killed, and the client calls",
        "The same, and the client makes calls until one is not answered, and again after the engine's "
        "return. Those that nginx brings to the replica that holds the session are answered all the time. A "
        "new connection is several requests, and fails as calls do.",
    ),
}

END = """
## What a client should do

- Open a new connection when one is closed, when a call is answered with 404, and when it cannot be sent.
  A new one works at once, at whatever replica.
- Say how long a call may take (`read_timeout_seconds` in Python, `timeout` in TypeScript): what was in
  flight at a replica that is killed is never answered, and most clients do not notice.
- The Python SDKs do not come back. Over SSE they do not survive a POST that is refused either: that call
  waits for ever, and each one after it fails. The remedy is the same, a timeout and a new connection.
- `EventSource` in a page comes back by itself as long as the replica that holds its session does; at
  `readyState` 2, open a new one.
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
