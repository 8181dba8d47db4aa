//! One client cannot hurt another: what today's gateways get wrong.

use std::fs;

use crate::help::{Folder, INITIALIZE, PING, Program, Witness, count, long_task, pids, signal_to};

#[test]
fn two_clients_with_equal_ids_get_their_own_replies() {
    let gateway = Program::gateway(&[]);
    let (mut a, mut b) = (gateway.connect(), gateway.connect());
    a.initialize();
    b.initialize();
    for round in 1..=20 {
        a.accepted(&crate::help::echo(round, &format!("for a {round}")));
        b.accepted(&crate::help::echo(round, &format!("for b {round}")));
        assert!(b.answer(round).contains(&format!("for b {round}")));
        assert!(a.answer(round).contains(&format!("for a {round}")));
    }
    assert_eq!(pids(&gateway.log.until("two starts", |log| pids(log).len() >= 2)).len(), 2);
}

#[test]
fn an_idle_connect_costs_no_process() {
    let gateway = Program::gateway(&[]);
    let idle = gateway.connect();
    let mut busy = gateway.connect();
    busy.initialize();
    assert_eq!(count(&gateway.log.until_says("server started"), "server started"), 1);
    drop(idle);
}

#[test]
fn a_child_that_is_killed_in_mid_call_fails_what_is_pending_and_nothing_else() {
    let gateway = Program::gateway(&["--restart", "never"]);
    let (mut doomed, mut bystander) = (gateway.connect(), gateway.connect());
    doomed.initialize();
    let pid = pids(&gateway.log.until_says("server started"))[0];
    bystander.initialize();
    for id in [1, 2] {
        doomed.accepted(&long_task(id, 60, 60_000));
    }
    doomed.accepted(PING);
    doomed.answer(9);
    signal_to(pid, "-KILL");
    for _ in 0..2 {
        let answer = doomed.data();
        assert!(
            answer.contains(r#""error":{"code":-32000,"message":"the server ended (signal: 9 (SIGKILL))"#),
            "{answer}"
        );
    }
    assert!(doomed.rest().ends_with("0\r\n\r\n"), "the stream ends");
    bystander.echo(3, "still here");
    assert!(doomed.post(PING).contains("404"));
    gateway.log.until_says("server ended");
}

#[test]
fn a_client_that_is_killed_in_mid_call_takes_its_child_along() {
    let gateway = Program::gateway(&["--resume-window", "0s"]);
    let (mut doomed, mut bystander) = (gateway.connect(), gateway.connect());
    doomed.initialize();
    bystander.initialize();
    doomed.accepted(&long_task(1, 60, 60_000));
    doomed.accepted(PING);
    doomed.answer(9);
    drop(doomed);
    let log = gateway.log.until_says("server ended");
    assert_eq!(count(&log, "server ended"), 1);
    bystander.echo(3, "still here");
}

/// Most of what the kernel ever gave the program.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// 1,500 messages of 100 KB, 150 MB in all, to a client that reads nothing.
#[cfg(target_os = "linux")]
#[test]
fn large_replies_to_a_client_that_does_not_read_keep_memory_bounded() {
    let script = r#"read -r first
        big=$(head -c 100000 /dev/zero | tr '\0' x)
        i=0
        while [ $i -lt 1500 ]; do
            printf '{"jsonrpc":"2.0","method":"notifications/message","params":{"x":"%s"}}\n' "$big" || exit 1
            i=$((i+1))
        done"#;
    let gateway = Program::script(&["--stall-timeout", "2s"], script);
    let before = peak_kib(gateway.pid());
    let deaf = gateway.connect();
    deaf.accepted(INITIALIZE);
    let log = gateway.log.until_says("reason=\"stalled\"");
    let after = peak_kib(gateway.pid());
    assert!(after - before < 50_000, "{before} KiB before, {after} KiB after\n{log}");
    gateway.log.until_says("server ended");
}

#[test]
fn two_hundred_connects_and_disconnects_leave_no_process() {
    let options = ["--resume-window", "0s", "--start-rate", "1000"];
    let folder = Folder::new();
    let (pipe, witness) = Witness::new(&folder, "alive");
    let script = format!("exec 9>{pipe}; cat");
    let gateway = Program::script(&options, &script);
    for round in 0..200 {
        let mut client = gateway.connect();
        match round % 4 {
            // Gone before its server is there, or is being started, or while it is there.
            0 => {}
            1 => client.accepted(INITIALIZE),
            _ => {
                client.accepted(INITIALIZE);
                // The server gives it back.
                assert_eq!(client.data(), INITIALIZE);
            }
        }
    }
    gateway.log.until("200 ends of sessions", |log| count(log, "session closed") == 200);
    let ready = gateway.get("/readyz");
    assert!(ready.contains(r#""sse":0"#), "{ready}");
    gateway.signal("-TERM");
    witness.gone("");
    let (success, log) = gateway.end();
    let started = count(&log, "server started");
    assert!(success && started >= 100, "{log}");
    assert_eq!(count(&log, "server ended"), started);
}

#[test]
fn a_flood_of_garbage_on_one_session_leaves_the_others_alone() {
    // Its first session talks rubbish for ever; the others are real.
    let folder = Folder::new();
    let script = format!(
        "if mkdir {} 2>/dev/null; then while :; do echo rubbish; echo rubbish >&2; done; else exec {} demo --stdio; fi",
        folder.path("first"),
        crate::help::PROGRAM
    );
    let gateway = Program::script(&["--start-timeout", "3s"], &script);
    let mut noisy = gateway.connect();
    noisy.accepted(INITIALIZE);
    gateway.log.until_says("no message");
    let mut other = gateway.connect();
    other.initialize();
    for id in 1..100 {
        // Garbage the other way, until the session has ended for its own.
        let status = noisy.post("rubbish");
        assert!(status.contains("400") || status.contains("404"), "{status}");
        other.echo(id, "hello");
    }
    let answer = noisy.answer(0);
    let reasons = ["no answer within 3s", "lines that are not messages"];
    assert!(reasons.iter().any(|reason| answer.contains(reason)), "{answer}");
    other.echo(100, "hello");
    let log = gateway.log.until_says("server ended");
    assert!(count(&log, "a line that is not a message") <= 100, "a few are shown");
    assert!(log.contains("lines to stdout that were no messages lines="), "and all are counted: {log}");
    assert!(count(&log, "mcp_sse::stderr: rubbish") <= 300, "stderr does not flood the log");
}
