"""Each promise, broken once on paper: the check must find it. `python3 check_test.py`."""

import json
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True

from check import Check, load, save
from records import Facts, Post, Record


class OnPaper(unittest.TestCase):
    """A session at replica a, with a handshake and three calls. All is well until a test breaks it."""

    def setUp(self):
        self.facts = Facts(1, "nats", ["a", "b"], 0.0, ended=200.0)
        self.facts.runs = {"a": [[0, None, None, None]], "b": [[0, None, None, None]]}
        self.record = Record("c1.1", "c1", "caller", None, "nginx", 1.0, "0123abcd", "a", "a.0")
        self.record.closed, self.record.drained = 190.0, True
        self.seen, self.run = [], 1
        self.post("initialize", id=0)
        self.post("notifications/initialized")
        for id in (1, 2, 3):
            self.post(id=id)

    def post(self, method="tools/call", id=None, status=202, seen=1, answered=True, **more):
        n = len(self.record.posts)
        post = Post(n, method, id, "nginx", 100, 10.0 + n, done=10.1 + n, upstream="b", **more)
        post.status = status
        if id is not None and answered:
            post.answers.append((10.2 + n,))
        self.record.posts.append(post)
        for _ in range(seen):
            self.sees(n, method)
        return post

    def sees(self, n, method="tools/call", marker="c1.1", own="c1.1", t=None):
        entry = {"k": len(self.seen) + 1, "t": 10.1 + len(self.seen) if t is None else t, "own": own}
        self.seen.append((self.run, {**entry, "m": marker, "n": n, "method": method, "id": None}))

    def found(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            for run, entry in self.seen:
                with open(folder / f"{run}.jsonl", "a") as file:
                    file.write(json.dumps(entry) + "\n")
            logs = [str(path) for path in folder.glob("*.jsonl")]
            save(folder / "records", self.facts, [self.record], logs)
            return [one["what"] for one in Check(*load(folder / "records")).run().violations]

    def over(self, why="404 to Last-Event-ID", at=60.0):
        self.record.closed, self.record.drained = None, False
        self.record.over, self.record.why = at, why
        self.record.breaks.append((at - 1, "reset"))

    def killed(self, at=58.0):
        self.facts.runs["a"] = [[0, at, "killed", at], [at + 1, None, None, None]]

    def test_what_is_well_is_well(self):
        self.assertEqual(self.found(), [])

    def test_accepted_is_seen_once(self):
        self.post(seen=0)
        self.post(seen=2)
        self.assertEqual(
            self.found(), ["202, and the server never saw it", "202, and the server saw it more than once"]
        )

    def test_refused_is_never_seen(self):
        for status in (503, 404, 400, 413, 429):
            with self.subTest(status):
                self.setUp()
                self.post(status=status, mark="garbled", retry_after=True)
                self.assertEqual(self.found(), [f"{status}, and the server saw it"])

    def test_what_broke_off_is_seen_once_at_most(self):
        for status, failure in ((504, None), (502, None), (None, "reset"), (None, "timeout")):
            for seen in (0, 1, 2):
                with self.subTest(status=status, failure=failure, seen=seen):
                    self.setUp()
                    self.post(status=status, failure=failure, seen=seen)
                    expected = (
                        [f"{status or failure}, and the server saw it more than once"] if seen == 2 else []
                    )
                    self.assertEqual(self.found(), expected)

    def test_what_nobody_listened_to_is_never_seen(self):
        self.post(status=None, failure="refused")
        self.assertEqual(self.found(), ["refused, and the server saw it"])

    def test_one_after_the_other_is_in_order(self):
        self.post(seen=0)
        self.post(seen=1)
        self.sees(5)
        self.assertEqual(self.found(), ["out of order"])

    def test_what_was_sent_together_has_no_order(self):
        first, second = self.post(seen=0), self.post(seen=1)
        second.sent = first.sent + 0.05
        self.sees(5)
        self.assertEqual(self.found(), [])

    def test_with_a_session_that_dies_its_last_messages_may_be_lost(self):
        self.post(id=9, seen=0, answered=False)
        self.over()
        self.killed()
        self.assertEqual(self.found(), [])

    def test_not_one_from_the_middle(self):
        self.post(id=9, seen=0, answered=False)
        self.post()
        self.over()
        self.killed()
        self.assertEqual(self.found(), ["a message was dropped alone"])

    def test_a_session_is_not_over_without_a_cause(self):
        self.over()
        self.assertEqual(self.found(), ["a session was lost"])

    def test_every_request_is_answered_once(self):
        self.post(id=8, answered=False)
        self.post(id=9).answers.append((20.0,))
        self.post(id=10, status=503, seen=0, retry_after=True)
        self.assertEqual(
            sorted(self.found()),
            ["202, and never an answer", "503, and an answer came", "more than one answer"],
        )

    def test_a_cancelled_one_need_not_be_answered(self):
        self.post(id=8, answered=False, cancelled=16.0)
        self.assertEqual(self.found(), [])

    def test_a_session_that_lives_answers_before_it_dies(self):
        self.post(id=8, answered=False)
        self.over(at=100.0)
        self.killed(at=99.0)
        self.assertEqual(self.found(), ["no answer for 85 s"])

    def test_an_error_has_a_cause(self):
        self.post(id=8, answered=False).answers.append((15.0, -32000, "gone"))
        self.assertEqual(self.found(), ["an error without a cause"])
        self.facts.programs_killed = [[14.5, "c1.1"]]
        self.assertEqual(self.found(), [])

    def test_a_killed_program_takes_what_was_on_its_way_to_it_and_no_more(self):
        self.facts.programs_killed = [[15.5, "c1.1"]]
        self.post(seen=0)
        self.run = 2
        self.sees(0, "initialize", t=17.0)
        self.sees(1, "notifications/initialized", t=17.1)
        self.post()
        self.assertEqual(self.found(), [])
        for _ in range(9):
            self.post()
        self.post(seen=0)
        self.assertEqual(self.found(), ["202, and the server never saw it"])

    def test_no_post_takes_long(self):
        self.post(status=504).done = 22.0
        self.assertEqual(self.found(), ["a POST took 7.0 s"])
        self.facts.frozen = {"a": [[15, 20]]}
        self.assertEqual(
            self.found(), ["a POST took 7.0 s"], "another one was frozen than the one it was given to"
        )
        self.facts.frozen = {"b": [[15, 20]]}
        self.assertEqual(self.found(), [])

    def test_messages_stay_in_their_session(self):
        self.sees(3, marker="c1.1", own="c2.1")
        self.sees(0, marker="c3.1", own="c3.1")
        self.assertEqual(
            sorted(self.found()),
            [
                "202, and the server saw it more than once",
                "a message of another session",
                "a server has a session that no client has opened",
            ],
        )

    def test_404_is_for_sessions_that_are_over(self):
        self.post(status=404, seen=0)
        self.assertEqual(self.found(), ["404 for a session that lives"])
        self.facts.links = {"a": [[12, 14, "drop"]]}
        self.assertEqual(self.found(), [])
        self.facts.strict = True
        self.assertEqual(self.found(), ["404 for a session that lives"])
        self.over()
        self.record.over, self.record.breaks = 16.0, [(15.0, "ended")]
        self.killed(14.0)
        self.assertEqual(self.found(), [])

    def test_busy_says_when_to_come_again(self):
        self.post(status=503, seen=0)
        self.assertEqual(self.found(), ["503 without Retry-After"])

    def test_other_statuses_have_no_business_here(self):
        self.post(status=500, seen=0)
        self.assertEqual(self.found(), ["a status that has no business here: 500"])

    def test_bystanders_do_not_feel_a_dead_engine(self):
        self.facts.runs["engine"] = [[0, 50.0, "killed", 50.0], [100.0, None, None, None]]
        self.facts.events = [
            {"kind": "kill-engine", "detail": "", "start": 50.0, "repaired": 100.0, "recovered": 101.0}
        ]
        self.record.kind = "bystander"
        for index in range(600):
            post = self.post(upstream_status=None)
            post.sent = 16.0 + index / 10
            post.done = post.sent + (0.1 if 50 <= post.sent < 100 else 0.001)
        self.assertEqual(self.found(), ["bystanders feel that the engine is dead"])
        post.status, post.retry_after = 503, True
        self.seen.pop()
        self.assertIn("a bystander's POST was not accepted without the engine", self.found())

    def test_what_the_run_has_seen_by_itself_counts(self):
        self.facts.found = [[20.0, "a process is left", "1"]]
        self.record.oddities = [(21.0, "events out of sequence", "3 after 1")]
        self.assertEqual(self.found(), ["a process is left", "events out of sequence"])


if __name__ == "__main__":
    unittest.main()
