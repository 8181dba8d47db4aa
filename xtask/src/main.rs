//! The project's own commands.
//!
//! `cargo xtask test` installs what the tests need into `target/` (and Chromium by the system's package
//! manager), runs everything, and ends with one line a part.

mod interop;
mod report;
mod rust;
mod tools;

use std::process::ExitCode;

use report::Report;

const USAGE: &str = "usage: cargo xtask test [PART…]
parts: rust, features, fuzz, interop (all of them if none is named)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let parts: &[&str] = match arguments.as_slice() {
        ["test"] => &["features", "rust", "fuzz", "interop"],
        ["test", parts @ ..] => parts,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut report = Report::default();
    for part in parts {
        match *part {
            "rust" => rust::tests(&mut report),
            "features" => rust::features(&mut report),
            "fuzz" => rust::fuzz(&mut report),
            "interop" => interop::run(&mut report),
            other => {
                eprintln!("there is no part {other:?}\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    report.finish()
}
