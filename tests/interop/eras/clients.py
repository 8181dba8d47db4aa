"""Who meets whom: the servers, and the clients with their ways to them."""

import json
from dataclasses import dataclass

SDKS = {
    "typescript": ("eras-typescript", "TypeScript 2.x"),
    "python": ("eras-python", "Python 2.x"),
    "python-1x": ("eras-legacy", "Python 1.x"),
}
ERAS = {"legacy": "legacy", "dual": "both", "modern": "modern"}


@dataclass(frozen=True)
class Server:
    """A server as it is started."""

    sdk: str
    era: str
    transport: str
    command: tuple
    # Its legacy half over HTTP has no sessions, which is the SDK's default.
    is_stateless: bool = False

    @property
    def name(self):
        """What it calls itself."""
        return SDKS[self.sdk][0]

    @property
    def key(self):
        return f"{self.sdk} {self.era}{' stateless' if self.is_stateless else ''} {self.transport}"


def servers(options):
    mjs = options.copied("server.mjs", "eras")
    py1, py2 = options.python("1x", "legacy.py"), options.python("2x", "server.py")
    kinds = [
        ("typescript", "legacy", (*mjs, "--era", "legacy")),
        ("python-1x", "legacy", py1),
        ("typescript", "dual", (*mjs, "--era", "dual")),
        ("python", "dual", (*py2, "--era", "dual")),
        ("typescript", "modern", (*mjs, "--era", "modern")),
        ("python", "modern", (*py2, "--era", "modern")),
    ]
    every = []
    for sdk, era, command in kinds:
        every += (Server(sdk, era, transport, (*command, transport)) for transport in ("stdio", "http"))
        if (sdk, era) == ("typescript", "dual"):
            every.append(Server(sdk, era, "http", (*command, "--stateless", "http"), True))
    return every


@dataclass(frozen=True)
class Way:
    """A client, and how it reaches a server."""

    client: str
    # What it says of the eras itself.
    era: str
    # `sse` and `http` at the gateway, `connect` by `mcp-sse connect`, or `direct`.
    by: str

    @property
    def key(self):
        era = "" if self.era == "legacy" else f"-{self.era}"
        return f"{self.client}{era} {self.by}"

    @property
    def is_direct(self):
        return self.by == "direct"

    @property
    def revision(self):
        """That of the legacy era which it asks for."""
        return "2025-06-18" if self.client == "chromium" else "2025-11-25"

    @property
    def lacks(self):
        """What the client cannot, and why."""
        return LACKS.get(self.client, {})

    @property
    def told(self):
        """What a server is told of it: its name, and what it offers."""
        every = ["elicitation", "roots", "sampling"]
        return TOLD.get(self.client, ("eras-client", every))

    @property
    def only(self):
        """The row that it can express, and why no other; `None` if it can express any."""
        return ONLY.get(self.client)

    @property
    def title(self):
        return TITLES[self.client]

    def can_meet(self, server):
        """Without a gateway only those meet that speak the same."""
        return not self.is_direct or server.era == "dual" or server.era == self.era


TITLES = {
    "sdk-1x": "TypeScript SDK 1.x",
    "client-2x": "TypeScript client 2.x",
    "python-1x": "Python `mcp` 1.x",
    "python-2x": "Python `mcp` 2.x",
    "inspector": "Inspector CLI",
    "chromium": "Chromium `EventSource`",
    "mcp-remote": "`mcp-remote`",
    "claude-code": "Claude Code",
}

WAYS = [
    Way(client, era, by)
    for by, all_of in {
        "sse": [
            ("python-1x", "legacy"), ("python-2x", "legacy"), ("python-2x", "auto"),
            ("sdk-1x", "legacy"), ("client-2x", "legacy"), ("client-2x", "auto"),
            ("mcp-remote", "legacy"), ("chromium", "legacy"), ("inspector", "legacy"), ("claude-code", "legacy"),
        ],
        "http": [
            ("python-1x", "legacy"), ("sdk-1x", "legacy"), ("inspector", "legacy"), ("claude-code", "legacy"),
            ("python-2x", "auto"), ("python-2x", "modern"), ("client-2x", "auto"), ("client-2x", "modern"), ("inspector", "modern"),
        ],
        "connect": [("python-1x", "legacy"), ("sdk-1x", "legacy"), ("python-2x", "auto")],
        "direct": [
            ("python-1x", "legacy"), ("python-2x", "legacy"), ("python-2x", "modern"),
            ("sdk-1x", "legacy"), ("client-2x", "legacy"), ("client-2x", "modern"),
        ],
    }.items()
    for client, era in all_of
]

ONE_REQUEST = "an invocation of the Inspector's command line is one request, and ends with the answer"
ONLY_CONNECTS = "`claude mcp` only connects to a server, and says whether it could"
LACKS = {
    "inspector": {
        **dict.fromkeys(("progress", "logs", "updates", "changes", "cancel", "many", "ping", "completion"), ONE_REQUEST),
        "answers": "the Inspector's command line declines whatever a server asks",
        "offers": "the Inspector's command line always offers the same",
        "unlisted": "the Inspector's command line calls only what is listed",
        # It prints what an error says, and takes text for metadata.
        "codes": "",
        "values": "",
    },
    "chromium": {"urls": "the revision that the page asks for has no URLs to visit"},
    "claude-code": {"details": ""},
}
TOLD = {
    "inspector": ("inspector-cli", ["roots"]),
    "mcp-remote": ("eras-client (via mcp-remote 0.15.1)", ["elicitation", "roots", "sampling"]),
}
ONLY = {"claude-code": ("opening", ONLY_CONNECTS)}


def driver(options, client):
    """The program that does what it is told."""
    if client.startswith("python"):
        return options.python(client.removeprefix("python-"), "client.py")
    return (*options.copied("client.mjs", "node"), "--client", "sdk-1x" if client == "mcp-remote" else client)


def package(options, folder, name):
    """The version of an installed package."""
    return json.loads((options.installed / folder / "node_modules" / name / "package.json").read_text())["version"]
