"""The report of a run: as Markdown for people, and as JSON."""

import datetime
import json

import check


def table(head, rows):
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join(
        lines + [f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |" for row in rows]
    )


def counts(title, counter):
    """A line for each, the most frequent first."""
    rows = sorted(counter.items(), key=lambda item: -item[1])
    return table([title, "count"], rows) if rows else f"{title}: none."


def markdown(facts, found):
    figures = found.figures
    minutes = ((facts.ended or facts.began) - facts.began) / 60
    longest = figures["longest_post"]
    verdict = f"{len(found.violations)} violations" if found.violations else "no violation"
    parts = [
        "# Chaos",
        f"{facts.program}, {len(facts.replicas)} replicas, engine {facts.engine}, seed {facts.seed}, "
        f"{minutes:.1f} minutes, on {datetime.date.today().isoformat()}: **{verdict}**.",
        f"    {' '.join(facts.command)}",
        "## Events",
        table(
            ["event", "count", "well again after at most"],
            [
                (
                    kind,
                    count,
                    f"{figures['slowest_recovery'][kind]} s"
                    if kind in figures["slowest_recovery"]
                    else "not",
                )
                for kind, count in sorted(figures["events"].items())
            ],
        ),
        "## What was done",
        table(
            ["", ""],
            [
                ("sessions", figures["sessions"]),
                ("POSTs", figures["posts"]),
                ("tool calls among them", figures["calls"]),
                ("MiB posted", round(figures["bytes"] / 2**20)),
                ("messages that programs have seen", figures["seen"]),
                ("answers", figures["answers"]),
                ("events on streams", figures["events_received"]),
                ("streams resumed", figures["resumed"]),
                ("longest POST", f"{longest['seconds']:.2f} s ({longest['outcome']}; of {check.LONGEST} s)"),
                ("the harness was late by at most", f"{figures['lag_seconds']} s"),
                (
                    "memory at most",
                    ", ".join(f"{name} {mib} MiB" for name, mib in sorted(figures["memory_mib"].items())),
                ),
            ],
        ),
        "## Outcomes of POSTs",
        statuses(figures["statuses"]),
        "## What was lost",
        counts("sessions lost, by cause", figures["sessions_lost"]),
        counts(
            "requests without an answer, by what ended their session",
            figures["requests_lost_with_their_session"],
        ),
        counts("excused", figures["excused"]),
        counts("404 for sessions that lived", figures["404_for_sessions_that_live"]),
        f"GETs that opened no session, by status: {json.dumps(figures['refusals_of_streams'])}.",
        "## How long POSTs take",
        latencies(figures),
        "## Violations",
        violations(found.violations),
    ]
    return "\n\n".join(parts) + "\n"


def statuses(by_kind):
    names = sorted({name for counter in by_kind.values() for name in counter})
    rows = [[kind, *(counter.get(name, 0) for name in names)] for kind, counter in sorted(by_kind.items())]
    return table(["client", *names], rows)


def latencies(figures):
    rows = [
        (name, values["posts"], f"{values['p50']} ms", f"{values['p99']} ms")
        for name, values in figures["latencies_ms"].items()
    ]
    text = table(["", "POSTs until 202", "p50", "p99"], rows)
    back = figures["foreign_posts_work_after_the_engine_is_back_s"]
    if back:
        times = ", ".join(f"{seconds} s" for seconds in back)
        text += f"\n\nAfter the engine was back, the last foreign client had its first 202 after {times}."
    return text


def violations(found):
    if not found:
        return "None."
    kinds = {}
    for one in found:
        kinds.setdefault(one["what"], []).append(one)
    parts = [table(["what", "count"], [(what, len(ones)) for what, ones in kinds.items()])]
    # The first of each kind, whole; all are in the JSON.
    for what, ones in kinds.items():
        for one in ones[:3]:
            parts.append(f"### {what}, at {one['t']} s\n\n```json\n{json.dumps(one, indent=1)}\n```")
    return "\n\n".join(parts)


def as_json(facts, found):
    events = [
        {**e, **{name: found.relative(e[name]) for name in ("start", "repaired", "recovered")}}
        for e in facts.events
    ]
    return json.dumps(
        {
            "seed": facts.seed,
            "engine": facts.engine,
            "replicas": facts.replicas,
            "command": facts.command,
            "seconds": found.relative(facts.ended),
            "events": events,
            "figures": found.figures,
            # The first ones say enough.
            "violations": found.violations[:500],
        },
        indent=1,
    )
