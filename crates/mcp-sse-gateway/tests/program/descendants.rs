//! What programs start and leave behind, in groups and sessions of their own: it goes with its session, with
//! the gateway, and when either is killed.

#![cfg(target_os = "linux")]

use std::{fs, process::Command};

use crate::{
    attacker::has_landlock,
    help::{Folder, INITIALIZE, PROGRAM, Program, Witness, count, pids, signal_to, until},
};

/// Starts a process that does all to stay: its parent ends, it has its own session, none of the pipes, an
/// empty environment, and it ignores signals.
fn leaves(folder: &Folder) -> (String, Witness) {
    let (pipe, witness) = Witness::new(folder, "alive");
    let stays = folder.write(
        "stays",
        &format!(
            "trap '' TERM HUP INT; exec 9>{pipe} <&- >&- 2>&-; echo up >&9; while :; do sleep 1000; done"
        ),
    );
    // A session in a session, whose leader ends.
    (
        format!("(setsid env -i PATH=\"$PATH\" sh -c 'setsid sh {stays} & setsid sh {stays} & exit' &)"),
        witness,
    )
}

fn up(said: &str) -> bool {
    count(said, "up") == 2
}

#[test]
fn what_left_the_process_group_goes_with_its_session() {
    let folder = Folder::new();
    let (script, witness) = leaves(&folder);
    let gateway =
        Program::script(&["--resume-window", "0s", "--stop-timeout", "100ms"], &format!("{script}; cat"));
    let client = gateway.connect();
    client.accepted(INITIALIZE);
    witness.until("two are up", up);
    drop(client);
    witness.gone("up\nup");
    let log = gateway.log.until_says("server ended");
    assert!(log.contains("status=exit status: 0") && !log.contains("could not be killed"), "{log}");
}

#[test]
fn and_with_a_program_that_has_to_be_killed() {
    let folder = Folder::new();
    let (script, witness) = leaves(&folder);
    let script = format!("{script}; trap '' TERM; cat; while :; do sleep 1000; done");
    let gateway = Program::script(&["--resume-window", "0s", "--stop-timeout", "100ms"], &script);
    let client = gateway.connect();
    client.accepted(INITIALIZE);
    witness.until("two are up", up);
    drop(client);
    witness.gone("up\nup");
    gateway.log.until_says("forced=\"SIGKILL\"");
}

#[test]
fn what_left_the_group_gets_its_sigterm_and_its_time() {
    let folder = Folder::new();
    let (pipe, witness) = Witness::new(&folder, "alive");
    let ends = folder.write(
        "ends",
        &format!("exec 9>{pipe} <&- >&- 2>&-; trap 'echo terminated >&9; exit' TERM; echo up >&9; while :; do sleep 0.01; done"),
    );
    let gateway = Program::script(&["--resume-window", "0s"], &format!("(setsid sh {ends} &); cat"));
    let client = gateway.connect();
    client.accepted(INITIALIZE);
    witness.until_says("up");
    drop(client);
    witness.gone("up\nterminated");
}

#[test]
fn the_end_of_one_session_leaves_what_another_has_started() {
    let (one, two) = (Folder::new(), Folder::new());
    let ((first, first_witness), (second, second_witness)) = (leaves(&one), leaves(&two));
    let script = format!("if mkdir {} 2>/dev/null; then {first}; else {second}; fi; cat", one.path("first"));
    let gateway = Program::script(&["--resume-window", "0s", "--stop-timeout", "100ms"], &script);
    let a = gateway.connect();
    a.accepted(INITIALIZE);
    first_witness.until("two are up", up);
    let mut b = gateway.connect();
    b.accepted(INITIALIZE);
    assert_eq!(b.data(), INITIALIZE);
    second_witness.until("two are up", up);
    drop(a);
    first_witness.gone("up\nup");
    gateway.log.until_says("server ended");
    let line = format!("sh\0{}\0", two.path("stays"));
    let processes = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("cmdline")).ok());
    assert_eq!(processes.filter(|process| *process == line).count(), 2, "they stay");
    drop(b);
    second_witness.gone("up\nup");
}

#[test]
fn sigterm_and_sigkill_of_the_gateway_leave_nobody() {
    for signal in ["-TERM", "-KILL"] {
        let folder = Folder::new();
        let (script, witness) = leaves(&folder);
        let gateway = Program::script(
            &["--stop-timeout", "100ms", "--shutdown-timeout", "100ms"],
            &format!("{script}; cat"),
        );
        let client = gateway.connect();
        client.accepted(INITIALIZE);
        witness.until("two are up", up);
        gateway.signal(signal);
        witness.gone("up\nup");
    }
}

fn keeper_of(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_keeper_that_is_killed_is_noticed_at_once_and_nobody_is_left() {
    let folder = Folder::new();
    let (script, witness) = leaves(&folder);
    let gateway = Program::script(
        &["--restart", "never"],
        &format!("{script}; trap '' TERM; while :; do read -r x; done"),
    );
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    witness.until("two are up", up);
    let server = pids(&gateway.log.until_says("server started"))[0];
    signal_to(keeper_of(server), "-KILL");
    let answer = client.answer(0);
    assert!(answer.contains("the server ended (signal: 9 (SIGKILL))"), "{answer}");
    witness.gone("up\nup");
    gateway.log.until_says("the keeper of a server was killed");
    // The gateway goes on.
    let other = gateway.connect();
    other.accepted(INITIALIZE);
    gateway.log.until("a second server", |log| pids(log).len() == 2);
}

#[test]
fn keepers_that_are_killed_together_leave_no_temporary_folder() {
    if !has_landlock(3, "folders of sessions whose keepers are killed") {
        return;
    }
    const SESSIONS: usize = 16;
    let gateway = Program::script(&["--sandbox"], "while read -r x; do :; done");
    let clients: Vec<_> = (0..SESSIONS).map(|_| gateway.connect()).collect();
    clients.iter().for_each(|client| client.accepted(INITIALIZE));
    let started = gateway.log.until("all of them", |log| pids(log).len() == SESSIONS);
    let keepers: Vec<String> = pids(&started).into_iter().map(|pid| keeper_of(pid).to_string()).collect();
    assert!(Command::new("kill").arg("-KILL").args(&keepers).status().unwrap().success());
    gateway.log.until("their ends", |log| count(log, "the keeper of a server was killed") == SESSIONS);
    gateway.signal("-TERM");
    let (success, log) = gateway.end();
    // What clears the folders away is our own, and nobody whom a keeper left.
    assert!(success && !log.contains("the temporary folder of a session could not be removed"), "{log}");
}

/// As `pkill -9 -f mcp-sse` does.
#[test]
fn sigkill_of_the_gateway_and_the_keeper_leaves_no_program() {
    let folder = Folder::new();
    let (pipe, witness) = Witness::new(&folder, "alive");
    let script = format!("exec 9>{pipe}; echo up >&9; trap '' TERM; while :; do read -r x; done");
    let gateway = Program::script(&[], &script);
    let client = gateway.connect();
    client.accepted(INITIALIZE);
    witness.until_says("up");
    let server = pids(&gateway.log.until_says("server started"))[0];
    let keeper = keeper_of(server);
    gateway.signal("-STOP");
    signal_to(keeper, "-KILL");
    gateway.signal("-KILL");
    witness.gone("up");
}

#[test]
fn a_program_that_starts_others_for_ever_ends_too() {
    let folder = Folder::new();
    let (pipe, witness) = Witness::new(&folder, "alive");
    // Each starts the next in a session of its own, and ends.
    let chain = folder.path("chain");
    folder.write("chain", &format!("trap '' TERM; setsid sh {chain} <&- >&- 2>&- & exit"));
    let script = format!("exec 9>{pipe}; echo up >&9; setsid sh {chain} & cat");
    let gateway = Program::script(&["--resume-window", "0s", "--stop-timeout", "100ms"], &script);
    let client = gateway.connect();
    client.accepted(INITIALIZE);
    witness.until_says("up");
    drop(client);
    witness.gone("up");
    gateway.log.until_says("server ended");
}

#[test]
fn a_keeper_holds_none_of_its_programs_pipes() {
    // The end of a program's output is seen when the program closes it, and so is that of its input.
    let gateway = Program::script(&["--stop-timeout", "100ms"], "read -r x; exec <&- >&-; sleep 1000");
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    let answer = client.answer(0);
    assert!(answer.contains("the server closed its output"), "{answer}");

    let gateway = Program::start("serve", &["--", PROGRAM, "demo", "--stdio"]);
    let mut client = gateway.connect();
    client.initialize();
    let keeper = keeper_of(pids(&gateway.log.until_says("server started"))[0]);
    // Others may not look, unless they are root.
    let null =
        |fd: u32| fs::read_link(format!("/proc/{keeper}/fd/{fd}")).is_ok_and(|file| file.ends_with("null"));
    let is_open = fs::read_dir(format!("/proc/{keeper}/fd")).is_ok();
    until("it has let go", || !is_open || (0..3).all(null));
}
