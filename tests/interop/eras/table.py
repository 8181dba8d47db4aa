"""Who can do what with whom, in Markdown."""

from clients import ERAS, SDKS, WAYS, package, servers
from rows import ROWS

BEGIN = """\
<!-- Written by `cargo xtask compatibility`; change tests/interop/eras instead. -->
# Compatibility

Revision 2026-07-28 made MCP stateless. The specification calls it *modern*, and all revisions before it *legacy*. A client of one
era and a server of the other cannot speak to each other; through `mcp-sse` they can. Here is what they can do then: published
clients at servers made with the official SDKs, each pinned to one version, every cell run.

- **✓**: what must be seen was seen, to the letter.
- **–**: this client or this server cannot express it, for the reason in the note. It was not counted.
- **✗**: something else was seen.

All servers have the same tools, resources and prompts ([how](../tests/interop/eras/README.md)). What must be seen is the same for
all clients: it is written down once, in [rows.py](../tests/interop/eras/rows.py).
"""

SERVERS = """
## Servers

| | made with | speaks | over |
|---|---|---|---|
"""

WITHOUT_SESSIONS = "both, the legacy one without sessions (the SDK's default)"

CLIENTS = """
## Clients and servers

How many of the {rows} rows below are ✓, and how many are –. A client speaks the legacy era unless it says otherwise: with
`auto` it asks for the modern one first, and takes the legacy one if there is no other. `/sse` and `/mcp` are the gateway's; `connect` is
`mcp-sse connect`, a program on the client's side that goes to the server itself if that listens, and else to a
gateway's `/sse`. "No gateway" is the client at the server itself, for those that speak the same.

"""

ROW_TABLES = """
## What they can do

The rows, for the ways above by their numbers: ways with the same cells share a column. A ✓ with a note is one at all servers but
those of the note.
"""

GROUPS = {
    "modern": "Servers of the modern era",
    "dual": "Servers of both eras",
    "legacy": "Servers of the legacy era",
}

BY = {"sse": "`/sse`", "http": "`/mcp`", "connect": "`connect`", "direct": "no gateway"}
PLACES = {"stdio": "stdio", "http": "HTTP"}


def line(cells):
    return f"| {' | '.join(cells)} |\n"


def spoken(way):
    return {"legacy": "", "auto": ", `auto`", "modern": ", modern"}[way.era]


class Notes:
    """Each reason once, by number."""

    def __init__(self):
        self.numbers = {}

    def of(self, reasons):
        numbers = sorted(self.numbers.setdefault(reason, len(self.numbers) + 1) for reason in set(reasons))
        return f"<sup>{', '.join(map(str, numbers))}</sup>" if numbers else ""

    def __str__(self):
        return "".join(f"{number}. {reason[0].upper()}{reason[1:]}.\n" for reason, number in self.numbers.items())


def markdown(options, verdicts):
    every = servers(options)
    columns = {server.key: letter for server, letter in zip(every, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")}
    parts = [BEGIN, SERVERS, *the_servers(options, verdicts, every, columns)]
    parts += [CLIENTS.format(rows=len(ROWS)), *the_ways(verdicts, every, columns)]
    notes = Notes()
    parts.append(ROW_TABLES)
    for era, title in GROUPS.items():
        parts.append(f"\n### {title}\n\n")
        parts += the_rows(verdicts, [server for server in every if server.era == era], notes)
    parts += ["\n## Notes\n\n", str(notes)]
    failed = [(key, why) for key, (seen, why) in verdicts.cells.items() if seen == "failed"]
    if failed:
        parts.append("\n## What was seen instead\n\n")
        parts += [f"- {way} @ {server}, {row}: `{why}`\n" for (way, server, row), why in failed]
    return "".join(parts)


def the_servers(options, verdicts, every, columns):
    version = {
        "typescript": package(options, "eras", "@modelcontextprotocol/server"),
        "python": verdicts.versions["python-2x"],
        "python-1x": verdicts.versions["python-1x"],
    }
    for server in every:
        speaks = WITHOUT_SESSIONS if server.is_stateless else ERAS[server.era]
        made = f"{SDKS[server.sdk][1]} ({version[server.sdk]})"
        yield line([columns[server.key], made, speaks, PLACES[server.transport]])


def the_ways(verdicts, every, columns):
    yield line(["", "client", "at", *columns.values()])
    yield f"|{'---|' * (3 + len(columns))}\n"
    for number, way in enumerate(WAYS, 1):
        client = f"{way.title} ({verdicts.versions.get(way.client, 'did not start')}){spoken(way)}"
        yield line([str(number), client, BY[way.by], *(count(verdicts, way, server) for server in every)])


def count(verdicts, way, server):
    if not way.can_meet(server):
        return ""
    passed, failed, cannot = (verdicts.count(word, (way.key, server.key)) for word in ("passed", "failed", "cannot"))
    return " ".join([f"{passed} ✓", *([f"{cannot} –"] if cannot else []), *([f"**{failed} ✗**"] if failed else [])])


def the_rows(verdicts, group, notes):
    """A table of one group of servers."""
    columns = {}
    for number, way in enumerate(WAYS, 1):
        met = [server for server in group if way.can_meet(server)]
        if met:
            cells = tuple(cell(verdicts, way, met, row, notes) for row in ROWS)
            columns.setdefault(cells, []).append(number)
    yield line(["", *(ranges(numbers) for numbers in columns.values())])
    yield f"|{'---|' * (1 + len(columns))}\n"
    for place, row in enumerate(ROWS.values()):
        yield line([row.title, *(cells[place] for cells in columns)])


def cell(verdicts, way, met, row, notes):
    """What was seen at all of these servers."""
    seen = [verdicts.cells[way.key, server.key, row] for server in met]
    reasons = [why for word, why in seen if word == "cannot"]
    words = {word for word, _ in seen}
    mark = "**✗**" if "failed" in words else "✓" if "passed" in words else "–"
    return mark + notes.of(reasons)


def ranges(numbers):
    """1–3, 5."""
    parts = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}, {b}" if b == a + 1 else f"{a}–{b}" for a, b in parts)
