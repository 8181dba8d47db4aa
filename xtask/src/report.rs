//! What ran, what failed and what was left out: the last lines of a test run.

// The clock of the library is for what it serves.
#![allow(clippy::disallowed_methods)]

use std::{process::ExitCode, time::Instant};

pub(crate) struct Report {
    lines: Vec<(Outcome, String)>,
    started: Instant,
    /// When the last line was added: what came since then is the next line's.
    last: Instant,
}

impl Default for Report {
    fn default() -> Self {
        let now = Instant::now();
        Self { lines: Vec::new(), started: now, last: now }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    LeftOut,
}

impl Report {
    /// Notes how a part went: what it says for itself, or why it failed.
    pub(crate) fn part(&mut self, name: &str, result: Result<String, String>) {
        let (outcome, word, text) = match result {
            Ok(text) => (Outcome::Passed, "passed", text),
            Err(text) => (Outcome::Failed, "FAILED", text),
        };
        self.add(outcome, format!("{word}    {name}: {text}"));
    }

    /// Notes a part that could not run here.
    pub(crate) fn left_out(&mut self, name: &str, why: &str) {
        self.add(Outcome::LeftOut, format!("LEFT OUT  {name}: {why}"));
    }

    fn add(&mut self, outcome: Outcome, line: String) {
        let took = std::mem::replace(&mut self.last, Instant::now()).elapsed().as_secs();
        let line = if took < 1 { line } else { format!("{line} ({took} s)") };
        println!("{line}");
        self.lines.push((outcome, line));
    }

    pub(crate) fn finish(self) -> ExitCode {
        println!("\n==== cargo xtask test");
        for (_, line) in &self.lines {
            println!("{line}");
        }
        let count = |wanted| self.lines.iter().filter(|(outcome, _)| *outcome == wanted).count();
        let failed = count(Outcome::Failed);
        let (passed, left_out) = (count(Outcome::Passed), count(Outcome::LeftOut));
        let took = self.started.elapsed().as_secs();
        println!("{passed} passed, {failed} failed, {left_out} left out, in {took} s");
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
