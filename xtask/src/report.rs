//! What ran, what failed and what was left out: the last lines of a test run.

use std::process::ExitCode;

#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<(Outcome, String)>,
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
        println!("{} passed, {failed} failed, {} skipped", count(Outcome::Passed), count(Outcome::LeftOut));
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
