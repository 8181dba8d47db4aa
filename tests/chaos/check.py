"""Holds what clients have written down, and what the servers have, against what is promised.

    check.py RECORDS    # those that `run.py --keep` has left

What is promised of a POST, by what came of it:

| outcome | the session's server saw it |
|---|---|
| 202 | once, and in order; or its session is over, and nothing that came later was seen either |
| 503, 429, 404, 400, 401, 403, 408, 413, 414, 421, 431; nobody listened | never |
| 504, 502, the connection broke off | once at most |

Where a run has killed the program behind a session, what was on its way to that program may be lost; a request
is then answered with an error.
"""

import collections
import dataclasses
import json
import sys

from records import Facts, Post, Record, awaits

NEVER = {400, 401, 403, 404, 408, 413, 414, 421, 429, 431, 503}
ONCE_AT_MOST = {502, 504}
# What a POST that is as it should be may be answered. 404: its session is over.
PROPER = {202, 404, 429, 502, 503, 504}
# The longest that a POST may take, in seconds.
LONGEST = 6
# How long before a program is killed, and after, a message may have been on its way to it.
ON_ITS_WAY = (5, 3)
# How long a session may leave a request without an answer while it lives.
UNANSWERED = 45
# What is kept of what a stream has taken, for a client that resumes.
KEPT = 256 * 1024
# What is repeated to a program that takes the place of another one.
HANDSHAKE = {"initialize", "notifications/initialized"}


def overlap(start, end, windows):
    """How much of the time from start to end lies in these windows, which do not overlap."""
    return sum(max(0, min(end, until or end) - max(start, since)) for since, until, *_ in windows)


def near(start, end, windows, before=0, after=0):
    """Whether one of these windows, so much longer at its ends, has a part of the time from start to end."""
    return any(
        since - before <= end and (until is None or until + after >= start) for since, until, *_ in windows
    )


def read_logs(paths):
    """What servers have written down: by marker the messages, as (t, run, k, n, method), in order."""
    seen, odd = collections.defaultdict(list), []
    for path in sorted(paths):
        with open(path) as file:
            for line in file:
                if not line.endswith("\n"):
                    continue
                entry = json.loads(line)
                if "k" not in entry:
                    continue
                if entry["m"] is None and entry["method"] == "notifications/initialized" and entry["k"] > 1:
                    # Of the gateway, to a program that takes the place of another one.
                    continue
                if entry["m"] is None:
                    odd.append((entry["t"], "a server got what no client has sent", line.strip()))
                    continue
                if entry["own"] != entry["m"] and entry["own"] is not None:
                    odd.append((entry["t"], "a message of another session", line.strip()))
                seen[entry["m"]].append((entry["t"], path, entry["k"], entry["n"], entry["method"]))
    for entries in seen.values():
        entries.sort()
    return seen, odd


class Check:
    def __init__(self, facts, records, logs):
        self.facts, self.records = facts, records
        self.seen, odd = read_logs(logs)
        self.violations, self.figures = [], {}
        self.lost, self.excused, self.false_deaths = (collections.Counter() for _ in range(3))
        self.kills = collections.defaultdict(list)
        for when, marker in facts.programs_killed:
            self.kills[marker].append(when)
        for when, what, detail in [*facts.found, *odd]:
            self.violation(when, what, detail)

    def violation(self, when, what, detail="", record=None, post=None):
        found = {
            "seed": self.facts.seed,
            "t": round(when - self.facts.began, 3),
            "what": what,
            "detail": detail,
        }
        if record is not None:
            found["session"] = {**dataclasses.asdict(dataclasses.replace(record, posts=[], oddities=[]))}
            for name in ("opened", "over", "closed"):
                found["session"][name] = self.relative(found["session"][name])
            for name in ("breaks", "resumed", "tries"):
                found["session"][name] = [(self.relative(t), how) for t, how in found["session"][name]]
        if post is not None:
            times = {name: self.relative(getattr(post, name)) for name in ("sent", "done", "cancelled")}
            answers = [(self.relative(t), *rest) for t, *rest in post.answers]
            found["post"] = {**dataclasses.asdict(post), **times, "answers": answers}
        around = [e for e in self.facts.events if e["start"] - 1 <= when <= (e["repaired"] or when) + 15]
        found["events"] = [f"{e['kind']} {e['detail']}".strip() for e in around]
        self.violations.append(found)

    def relative(self, when):
        return None if when is None else round(when - self.facts.began, 3)

    def run(self):
        markers = set()
        for record in self.records:
            markers.add(record.marker)
            self.session(record)
        for marker in self.seen.keys() - markers:
            self.violation(
                self.seen[marker][0][0], "a server has a session that no client has opened", marker
            )
        self.summary()
        self.violations.sort(key=lambda found: found["t"])
        return self

    # One session.

    def session(self, record):
        entries = self.seen.get(record.marker, [])
        places = collections.defaultdict(list)
        for place, (_, run, _, n, method) in enumerate(entries):
            places[n].append((place, run, method))
        numbers = {post.n for post in record.posts}
        for n in places.keys() - numbers:
            self.violation(record.opened, "a server saw what was not sent", f"message {n}", record)
        tail = []
        for post in record.posts:
            if not self.post(record, post, self.times_seen(places.get(post.n, []))):
                tail.append(post)
            self.duration(record, post)
            self.answers(record, post)
        self.order(record, {n: found[0][0] for n, found in places.items()}, tail)
        for when, what, detail in record.oddities:
            self.violation(when, what, detail, record)
        if record.over is not None:
            self.end(record)

    def times_seen(self, found):
        """How often a message was seen; a handshake is repeated to each program."""
        if found and found[0][2] in HANDSHAKE:
            return max(collections.Counter(run for _, run, _ in found).values())
        return len(found)

    def outcome(self, post):
        return post.status if post.status is not None else post.failure or "abandoned"

    def post(self, record, post, count):
        """Whether it was seen as it should be; false if it is lost with its session."""
        outcome = self.outcome(post)
        when = post.done or post.sent
        if outcome in NEVER or outcome == "refused":
            if count:
                self.violation(when, f"{outcome}, and the server saw it", f"{count} times", record, post)
        elif count > 1:
            self.violation(
                when, f"{outcome}, and the server saw it more than once", f"{count} times", record, post
            )
        elif outcome == 202 and count == 0:
            if self.was_on_its_way(record, post):
                self.excused["messages lost with a program that was killed"] += 1
            elif record.over is not None or record.closed is not None and not record.drained:
                return False
            else:
                self.violation(when, "202, and the server never saw it", "", record, post)
        proper = PROPER if not post.mark else PROPER | NEVER
        if isinstance(outcome, int) and outcome not in proper:
            self.violation(when, f"a status that has no business here: {outcome}", post.text, record, post)
        if outcome == 503 and not post.retry_after and post.upstream_status in (None, "503"):
            self.violation(when, "503 without Retry-After", post.text, record, post)
        if post.mark == "another" and outcome == 202:
            self.violation(when, "a POST of another principal was accepted", "", record, post)
        if outcome == 404 and not post.mark:
            self.not_found(record, post)
        return True

    def was_on_its_way(self, record, post):
        """Whether it may have been on its way to a program that was killed."""
        kills = self.kills.get(record.marker, [])
        if post.method == "notifications/cancelled" and any(kill < post.done for kill in kills):
            # A new program is not told that something is cancelled that it does not have.
            return True
        before, after = ON_ITS_WAY
        return any(post.sent - after <= kill <= post.done + before for kill in kills)

    def not_found(self, record, post):
        """404: whether the session was over at all."""
        lives = post.done + 10
        is_gone = record.over is not None and record.over <= lives
        # A stream that has ended may have been of a session that had to be given up.
        is_gone |= any(post.sent - 1 <= when <= lives for when, _ in record.breaks)
        is_gone |= record.closed is not None and record.closed <= lives
        if is_gone:
            return
        if any(
            run[1] and record.opened <= run[1] <= post.done for run in self.facts.runs.get(record.host, [])
        ):
            self.violation(post.done, "a stream stays open whose session is gone", "", record, post)
            return
        why = self.cut_off(record, post.sent, post.done)
        self.false_deaths[why or "its replica could be reached"] += 1
        if why is None or self.facts.strict:
            self.violation(post.done, "404 for a session that lives", f"its replica: {why}", record, post)

    def cut_off(self, record, start, end):
        """Why the engine may have said that a replica is gone which lives."""
        windows = [window for window in self.facts.links.get(record.host, []) if window[2] != "delay"]
        if near(start, end, windows, after=10):
            return "its replica's link was cut"
        if near(start, end, self.facts.frozen.get(record.host, []), after=10):
            return "its replica was frozen"
        return None

    def duration(self, record, post):
        """No POST takes long; not counted is how long the replica was frozen that nginx has given it to."""
        end = post.done if post.done is not None else self.facts.ended
        asked = post.upstream if post.door == "nginx" else post.door
        if asked is None:
            # It broke off, and could have been any of them.
            frozen = [
                overlap(post.sent, end, self.facts.frozen.get(name, [])) for name in self.facts.replicas
            ]
            frozen = max(frozen, default=0)
        else:
            frozen = overlap(post.sent, end, self.facts.frozen.get(asked, []))
        took = end - post.sent - frozen
        self.longest = max(self.longest, (took, record.marker, post.n, self.outcome(post)))
        if took > LONGEST:
            self.violation(
                post.sent, f"a POST took {took:.1f} s", f"answer: {self.outcome(post)}", record, post
            )

    longest = (0, None, None, None)

    def answers(self, record, post):
        outcome = self.outcome(post)
        if post.answers and (post.id is None or outcome in NEVER or outcome == "refused"):
            self.violation(post.answers[0][0], f"{outcome}, and an answer came", "", record, post)
        if len(post.answers) > 1:
            self.violation(post.answers[1][0], "more than one answer", "", record, post)
        for when, *error in post.answers:
            if error:
                self.error(record, post, when, error)
        if awaits(post):
            end = min((t for t in (record.over, record.closed, self.facts.ended) if t is not None))
            if record.over is None and record.drained:
                self.violation(post.done, "202, and never an answer", "", record, post)
            elif self.lived(record, post, end) > UNANSWERED:
                self.violation(post.done, f"no answer for {end - post.done:.0f} s", "", record, post)
            else:
                self.lost[self.why_over(record) if record.over else "closed by its client"] += 1

    def lived(self, record, post, end):
        """How long its session has lived after it, with a stream."""
        return min([when for when, _ in record.breaks if when > post.done] + [end]) - post.done

    def error(self, record, post, when, error):
        """An error is right where what it was asked of has died."""
        self.excused["requests answered with an error"] += 1
        if any(kill - 1 <= when <= kill + 15 for kill in self.kills.get(record.marker, [])):
            return
        ends = [run[1] for run in self.facts.runs.get(record.host, []) if run[1] is not None]
        if any(end - 1 <= when <= end + 25 for end in ends):
            return
        self.violation(when, "an error without a cause", str(error), record, post)

    def order(self, record, places, tail):
        """In the order of their sending, where one was accepted before the next was sent."""
        accepted = [post for post in record.posts if post.status == 202]
        moments = [(post.sent, 1, post) for post in accepted] + [(post.done, 0, post) for post in accepted]
        highest, lost, tail = (-1, None), None, {post.n for post in tail}
        for _, is_sending, post in sorted(moments, key=lambda moment: moment[:2]):
            place = places.get(post.n)
            if not is_sending:
                if place is not None:
                    highest = max(highest, (place, post.n))
                elif post.n in tail:
                    lost = lost if lost is not None else post
            elif place is not None and post.method not in HANDSHAKE:
                if place < highest[0]:
                    detail = f"message {post.n} before {highest[1]}, which was accepted before it was sent"
                    self.violation(post.sent, "out of order", detail, record, post)
                if lost is not None:
                    detail = f"message {post.n} was seen, {lost.n} before it was not"
                    self.violation(lost.done, "a message was dropped alone", detail, record, lost)
                    lost = None

    def why_over(self, record):
        """Why a session is over, in words; None if there is no reason."""
        ends = [run for run in self.facts.runs.get(record.host, []) if run[1] is not None]
        for _, asked, how, _ in ends:
            if record.opened <= asked <= record.over + 1:
                return f"its replica was {how}"
        if "404 to Last-Event-ID" in record.why:
            broken = record.breaks[-1][0] if record.breaks else record.over
            waited = [post for post in record.posts if post.status == 202 and post.done < broken]
            missed = sum(post.expected for post in waited if not post.answers or post.answers[0][0] > broken)
            if missed > KEPT * 0.8:
                return "more was on its way than is kept for a client that resumes"
            if record.deaf:
                return "its client did not read"
            if not self.facts.strict:
                return self.cut_off(record, broken - 1, record.over)
        return None

    def end(self, record):
        why = self.why_over(record)
        self.sessions_lost[why or f"no cause: {record.why}"] += 1
        if why is None or "stream open" in record.why:
            self.violation(record.over, "a session was lost", f"{record.why}; cause: {why}", record)

    @property
    def sessions_lost(self):
        return self.figures.setdefault("sessions_lost", collections.Counter())

    # All together.

    def summary(self):
        facts, figures = self.facts, self.figures
        lost = self.sessions_lost
        figures["events"] = collections.Counter(event["kind"] for event in facts.events)
        figures["slowest_recovery"] = {}
        for event in facts.events:
            if event["recovered"] is not None:
                took = round(event["recovered"] - event["repaired"], 2)
                kind = event["kind"]
                figures["slowest_recovery"][kind] = max(took, figures["slowest_recovery"].get(kind, 0))
        posts = [(record, post) for record in self.records for post in record.posts]
        figures["posts"], figures["sessions"] = len(posts), len(self.records)
        figures["statuses"] = {}
        for record, post in posts:
            kind = f"{record.kind}, {post.mark}" if post.mark else record.kind
            by_kind = figures["statuses"].setdefault(kind, collections.Counter())
            by_kind[str(self.outcome(post))] += 1
        figures["calls"] = sum(post.method == "tools/call" for _, post in posts)
        figures["answers"] = sum(len(post.answers) for _, post in posts)
        figures["events_received"] = sum(record.events for record in self.records)
        figures["resumed"] = sum(len(record.resumed) for record in self.records)
        figures["seen"] = sum(len(entries) for entries in self.seen.values())
        figures["bytes"] = sum(post.size for _, post in posts)
        figures["longest_post"] = dict(zip(("seconds", "session", "n", "outcome"), self.longest))
        figures["requests_lost_with_their_session"] = self.lost
        figures["excused"] = self.excused
        figures["404_for_sessions_that_live"] = self.false_deaths
        figures["sessions_lost"] = lost
        figures["memory_mib"], figures["lag_seconds"] = facts.memory, round(facts.lag, 3)
        figures["refusals_of_streams"] = facts.refusals
        self.latencies()
        self.returns()

    def engine_away(self):
        """When there was no engine, or it was frozen."""
        runs = self.facts.runs.get("engine", [])
        gaps = [[run[1], later[0]] for run, later in zip(runs, runs[1:])]
        return sorted([*gaps, *self.facts.frozen.get("engine", [])])

    def troubles(self, name):
        """When something was done to a replica."""
        ends = [[run[1], run[3] or self.facts.ended] for run in self.facts.runs.get(name, []) if run[1]]
        return [*ends, *self.facts.frozen.get(name, []), *self.facts.links.get(name, [])]

    def latencies(self):
        """How long POSTs took of those that send one at a time; of bystanders also without the engine."""
        troubles = [[e["start"] - 0.2, (e["recovered"] or e["repaired"]) + 1] for e in self.facts.events]
        away = self.engine_away()
        times = collections.defaultdict(list)
        for record in self.records:
            if record.kind not in ("bystander", "foreigner"):
                continue
            host = [
                [run[1], run[3] or self.facts.ended] for run in self.facts.runs.get(record.host, []) if run[1]
            ]
            host += self.facts.frozen.get(record.host, [])
            for post in record.posts:
                if post.done is None or post.method != "tools/call":
                    continue
                is_calm = not near(post.sent, post.done, troubles)
                is_away = any(a + 0.1 <= post.sent and post.done <= b for a, b in away)
                is_hit = near(post.sent, post.done, host, before=1, after=3)
                # Whoever asks for a session of a run that has ended cannot be told so without the engine.
                is_hit |= any(record.opened <= end <= post.sent for end, _ in host)
                if is_away and record.kind == "bystander" and not is_hit and post.status != 202:
                    what = "a bystander's POST was not accepted without the engine"
                    self.violation(post.sent, what, "", record, post)
                if post.status != 202:
                    continue
                if is_calm:
                    times[record.kind, "calm"].append(post.done - post.sent)
                elif is_away and record.kind == "bystander" and not is_hit:
                    times[record.kind, "without the engine"].append(post.done - post.sent)
        self.figures["latencies_ms"] = {}
        for (kind, when), values in sorted(times.items()):
            values.sort()
            p50, p99 = (values[min(len(values) - 1, int(len(values) * q))] * 1000 for q in (0.5, 0.99))
            found = {"posts": len(values), "p50": round(p50, 2), "p99": round(p99, 2)}
            self.figures["latencies_ms"][f"{kind}, {when}"] = found
        calm = self.figures["latencies_ms"].get("bystander, calm")
        dead = self.figures["latencies_ms"].get("bystander, without the engine")
        if calm and dead and min(calm["posts"], dead["posts"]) >= 200 and dead["p99"] > 2 * calm["p99"] + 20:
            detail = f"p99 {dead['p99']} ms, when calm {calm['p99']} ms"
            self.violation(self.facts.ended, "bystanders feel that the engine is dead", detail)

    def returns(self):
        """How soon POSTs for other replicas' sessions were accepted again after the engine was back."""
        slowest, foreigners = [], collections.defaultdict(list)
        for record in self.records:
            if record.kind == "foreigner" and record.posts:
                key = (record.client, record.host, record.posts[0].door)
                foreigners[key].extend(post for post in record.posts if post.status == 202)
        for _, back in self.engine_away():
            firsts = []
            for (_, *replicas), posts in foreigners.items():
                others = [window for name in replicas for window in self.troubles(name)]
                after = [post.done - back for post in posts if post.sent >= back]
                # Not where something else is wrong at that time.
                if after and not near(back - 1, back + 1, others, before=1, after=1):
                    firsts.append(min(after))
            if firsts:
                slowest.append(round(max(firsts), 2))
        self.figures["foreign_posts_work_after_the_engine_is_back_s"] = slowest


def load(path):
    with open(path) as file:
        saved = json.load(file)
    records = []
    for record in saved["records"]:
        posts = [Post(**post) for post in record.pop("posts")]
        records.append(Record(**record, posts=posts))
    return Facts(**saved["facts"]), records, saved["logs"]


def save(path, facts, records, logs):
    with open(path, "w") as file:
        saved = {"facts": dataclasses.asdict(facts), "logs": logs}
        json.dump({**saved, "records": [dataclasses.asdict(record) for record in records]}, file)


if __name__ == "__main__":
    found = Check(*load(sys.argv[1])).run()
    for violation in found.violations:
        print(json.dumps(violation))
    print(json.dumps(found.figures, indent=2))
    sys.exit(bool(found.violations))
