//! The bench runs against every server and nothing is lost, doubled or mixed up: the generator stops with
//! an error at an answer that nobody waits for, and when one does not come. How fast it is, is not tested.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::process::Command;

#[cfg(target_os = "linux")]
#[test]
fn every_scenario_runs_against_every_server() {
    let output = Command::new(env!("CARGO_BIN_EXE_mcp-sse-bench"))
        .args([
            "run",
            "--rounds",
            "1",
            "--seconds",
            "0.2",
            "--many",
            "20",
            "--idle",
            "20",
            "--storm",
            "20",
            "--steps",
            "200",
        ])
        .args(["--hold", "0.2", "--hold-http1", "50", "--hold-http2", "450"])
        .output()
        .unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
    let header = report.lines().find(|line| line.starts_with("| | floor")).unwrap();
    assert_eq!(header, "| | floor | floor-current-thread | bare | rmcp | rmcp-0.10 |");
    for figure in [
        "1×1 requests",
        "50×16 p99",
        "50×16 requests, with keys against without",
        "20×1 requests",
        "4×1 of 1 MiB",
        "idle, a session",
        "open and close",
        "five waves",
        "slow reader",
        "flood",
        "progress",
        "rmcp by itself",
        "50 idle sessions over HTTP/1.1, bare: 50 open",
        "450 idle sessions over HTTP/2, bare: 450 open",
        "bare pipes | bare HTTP | mcp-sse",
    ] {
        assert!(report.contains(figure), "{figure}: {report}");
    }
}
