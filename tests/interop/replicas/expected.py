"""What each client lives through today: nothing that is wanted of it, but a change is noticed."""

from lives import AGAIN, ANSWERED, IN_FLIGHT, LATE, MEANWHILE, NEW, NEXT, NOTHING, REFUSED, SESSION, SOON

GOES_ON, BACK, GONE, ONE_A_CALL = "goes on", "comes back by itself, as a new one", "is gone", "one a call"
CUT_OFF, REVIVED = "goes on, but not for this client", "goes on, with a new server"
IN_TIME = f"answered within {SOON} s"
CLOSED = {"python-1x": "error: ClosedResourceError", "python-2x": "error: Connection closed"}
TERMINATED = "error: Session terminated"
# The code is -32000.
LOST = "error: the server that worked on this is gone; ask again"
UNTOLD = {
    "python-1x": NOTHING,
    "python-2x": "error: SSE stream ended and reconnection attempts were exhausted",
}

TYPESCRIPT = ("sdk-1x", "client-2x")
PYTHON = ("python-1x", "python-2x")


def of_replica(in_flight, session, following, new=ANSWERED):
    return {IN_FLIGHT: in_flight, SESSION: session, NEXT: following, NEW: new}


def of_calls(in_flight, meanwhile, again, session):
    return {IN_FLIGHT: in_flight, MEANWHILE: meanwhile, AGAIN: again, SESSION: session, NEW: ANSWERED}


# What happens, the client and the transport → what is written down. All that is here is run.
EXPECTED = {}
for client in (*TYPESCRIPT, "inspector", "chromium", *PYTHON):
    # A page's `EventSource` is for SSE only.
    for transport in ("sse",) if client == "chromium" else ("sse", "http"):
        session = ONE_A_CALL if client == "inspector" else GOES_ON
        EXPECTED["engine", client, transport] = of_replica(ANSWERED, session, ANSWERED)
        meanwhile = ANSWERED if client == "inspector" else LATE
        EXPECTED["calls briefly", client, transport] = {
            **of_replica(ANSWERED, session, ANSWERED),
            MEANWHILE: meanwhile,
        }
        EXPECTED["calls", client, transport] = of_calls(ANSWERED, REFUSED, IN_TIME, session)

for client in TYPESCRIPT:
    # `EventSource` opens the stream again, and the client goes on as if it had said `initialize`.
    EXPECTED["killed", client, "sse"] = of_replica(NOTHING, BACK, ANSWERED)
    EXPECTED["left", client, "sse"] = of_replica(ANSWERED, BACK, ANSWERED)
    # Nothing listens there, and nginx goes on to the next one.
    EXPECTED["met", client, "sse"] = {SESSION: BACK, NEXT: ANSWERED, NEW: ANSWERED}
    # 404 should make it say `initialize`; that is left to who uses it.
    EXPECTED["killed", client, "http"] = of_replica(NOTHING, GONE, REFUSED)
    EXPECTED["left", client, "http"] = of_replica(ANSWERED, GONE, REFUSED)

for transport in ("sse", "http"):
    EXPECTED["killed", "inspector", transport] = of_replica(NOTHING, ONE_A_CALL, ANSWERED)
    EXPECTED["left", "inspector", transport] = of_replica(ANSWERED, ONE_A_CALL, ANSWERED)

# It asks for its session, by Last-Event-ID, and gives up at 404.
EXPECTED["killed", "chromium", "sse"] = of_replica(NOTHING, GONE, REFUSED)
EXPECTED["left", "chromium", "sse"] = of_replica(ANSWERED, GONE, REFUSED)

for client in PYTHON:
    EXPECTED["killed", client, "sse"] = of_replica("error: Connection closed", GONE, CLOSED[client])
    EXPECTED["left", client, "sse"] = of_replica(ANSWERED, GONE, CLOSED[client])
    EXPECTED["killed", client, "http"] = of_replica(UNTOLD[client], GONE, TERMINATED)
    EXPECTED["left", client, "http"] = of_replica(ANSWERED, GONE, TERMINATED)
    # One POST that is refused ends the task that posts: that call gets nothing, and later ones are not sent.
    EXPECTED["calls", client, "sse"] = of_calls(ANSWERED, NOTHING, CLOSED[client], CUT_OFF)
# Here it ends all tasks, and what they had in flight.
EXPECTED["calls", "python-1x", "http"] = of_calls(NOTHING, NOTHING, CLOSED["python-1x"], CUT_OFF)

# With --revive it is the same for those that do not say where they were, and over Streamable HTTP.
for event, client, transport in list(EXPECTED):
    if event in ("killed", "left"):
        EXPECTED[f"{event} with --revive", client, transport] = EXPECTED[event, client, transport]
EXPECTED["killed with --revive", "chromium", "sse"] = of_replica(LOST, REVIVED, ANSWERED)
EXPECTED["left with --revive", "chromium", "sse"] = of_replica(ANSWERED, REVIVED, ANSWERED)
