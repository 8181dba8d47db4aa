"""What clients and the run itself write down. Times are the system's monotonic clock, as in `server.py`."""

import dataclasses


@dataclasses.dataclass(slots=True)
class Post:
    n: int
    method: str
    id: object
    door: str
    size: int
    sent: float
    # What is special about it: it "garbles" `at`, or comes from "another" principal.
    mark: str = ""
    done: float = None
    status: int = None
    # Why there is no status: refused (nobody listens), reset, timeout, abandoned (by the client itself).
    failure: str = None
    # Which replica nginx gave it to, and what that one answered; from nginx's header.
    upstream: str = None
    upstream_status: str = None
    retry_after: bool = False
    text: str = ""
    # When the client has sent a cancellation.
    cancelled: float = None
    # What a result has that is large.
    expected: int = 0
    # When, and the code and text if it was an error.
    answers: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Record:
    """A session as its client has seen it."""

    marker: str
    client: str
    kind: str
    key: str
    door: str
    opened: float = None
    # The first digits of its id: enough to find it in a log.
    sid: str = ""
    # The name of the replica that holds it, and the whole of `at`.
    host: str = None
    at: str = None
    posts: list = dataclasses.field(default_factory=list)
    # When its stream has ended and how; when it was resumed, and through which replica.
    breaks: list = dataclasses.field(default_factory=list)
    resumed: list = dataclasses.field(default_factory=list)
    # GETs that have not resumed it: when, and why not; status 0 is a stream that says "later".
    tries: list = dataclasses.field(default_factory=list)
    # When it was over and why; or when the client has closed it on purpose.
    over: float = None
    why: str = None
    closed: float = None
    # Whether all that it waited for was waited for, when it was closed.
    drained: bool = False
    # What must not be: events with numbers that do not follow, answers to what was not asked, …
    oddities: list = dataclasses.field(default_factory=list)
    events: int = 0
    # Whether its client has not read for a while.
    deaf: bool = False


def awaits(post):
    """Whether its client waits for an answer."""
    return post.id is not None and post.status == 202 and not post.answers and post.cancelled is None


@dataclasses.dataclass
class Facts:
    """What the run itself has done and seen."""

    seed: int
    engine: str
    replicas: list
    began: float
    ended: float = None
    # By name (replicas, "engine", "nginx"): runs as [start, signal, how, end], and freezes as [from, to].
    runs: dict = dataclasses.field(default_factory=dict)
    frozen: dict = dataclasses.field(default_factory=dict)
    # By replica: [from, to, mode].
    links: dict = dataclasses.field(default_factory=dict)
    # [when, marker].
    programs_killed: list = dataclasses.field(default_factory=list)
    # kind, detail, start, repaired, recovered.
    events: list = dataclasses.field(default_factory=list)
    # [when, what, detail] of violations that the run has seen by itself.
    found: list = dataclasses.field(default_factory=list)
    memory: dict = dataclasses.field(default_factory=dict)
    # GETs for new sessions that opened none, by status.
    refusals: dict = dataclasses.field(default_factory=dict)
    # How late the harness was at the most, in seconds.
    lag: float = 0
    # Whether 404 is wrong also while a session's replica is cut off.
    strict: bool = False
    program: str = ""
    command: list = dataclasses.field(default_factory=list)
