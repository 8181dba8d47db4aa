//! How children begin and end: with their reasons, and none left behind.

use std::fs;

use crate::help::{Folder, INITIALIZE, Program, Witness, count, long_task, until};

#[test]
fn a_child_that_exits_at_once_answers_initialize_with_its_status_and_stderr() {
    for (script, expected) in [
        (
            "echo 'no config' >&2; echo 'giving up' >&2; exit 3",
            "the server ended (exit status: 3); its stderr ends: no config | giving up",
        ),
        ("exit 0", "the server ended (exit status: 0); it wrote nothing to stderr"),
        ("kill -9 $$", "the server ended (signal: 9 (SIGKILL)); it wrote nothing to stderr"),
        ("exec 1>&-; exec sleep 1000", "the server closed its output; it wrote nothing to stderr"),
    ] {
        let gateway = Program::script(&["--stop-timeout", "200ms"], script);
        let mut client = gateway.connect();
        client.accepted(INITIALIZE);
        let answer = client.data();
        assert!(answer.contains(r#""id":0"#) && answer.contains(expected), "{answer}");
        assert!(client.rest().ends_with("0\r\n\r\n"), "the stream ends");
        gateway.log.until_says("server ended");
    }
}

#[test]
fn a_program_that_cannot_be_started_says_so_in_the_answer_to_initialize() {
    let folder = Folder::new();
    let program = folder.write("program", "#!/no/such/interpreter\n");
    std::process::Command::new("chmod").args(["+x", &program]).status().unwrap();
    let gateway = Program::start("serve", &["--", &program]);
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    let answer = client.data();
    assert!(answer.contains("cannot start ") && answer.contains("No such file or directory"), "{answer}");
    client.rest();
}

#[test]
fn what_a_child_wrote_to_stderr_is_for_clients_on_this_machine_unless_all_are_to_have_it() {
    let script = "echo 'postgres://user:secret@db' >&2; exit 3";
    let everywhere = ["--host", "0.0.0.0", "--allowed-host", "*"];
    let behind_a_proxy = ["--trust-forwarded-for", "1"];
    for (places, options, told) in [
        (&everywhere[..], &["--stderr-to-client"][..], true),
        (&everywhere, &[], false),
        (&behind_a_proxy, &["--stderr-to-client"], true),
        (&behind_a_proxy, &[], false),
    ] {
        let gateway = Program::script(&[places, options].concat(), script);
        let mut client = gateway.connect();
        client.accepted(INITIALIZE);
        let answer = client.data();
        assert!(answer.contains("the server ended (exit status: 3)"), "{answer}");
        assert_eq!(answer.contains("secret"), told, "{answer}");
        assert_eq!(answer.contains("what it wrote to stderr is in this gateway's log"), !told, "{answer}");
        gateway.log.until_says("postgres://user:secret@db");
    }
    // Nor why it cannot be started.
    let folder = Folder::new();
    let program = folder.write("program", "#!/no/such/interpreter\n");
    std::process::Command::new("chmod").args(["+x", &program]).status().unwrap();
    let gateway = Program::start("serve", &[&everywhere[..], &["--", &program]].concat());
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    let answer = client.data();
    assert!(answer.contains("could not be started; see this gateway's log"), "{answer}");
    gateway.log.until_says("No such file or directory");
}

#[test]
fn a_silent_child_is_given_up_after_the_start_timeout() {
    let gateway =
        Program::script(&["--start-timeout", "200ms"], "echo thinking >&2; while read -r x; do :; done");
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    let answer = client.data();
    assert!(answer.contains("no answer within 200ms after its start; its stderr ends: thinking"), "{answer}");
    gateway.log.until_says("server ended");
}

/// Ignores SIGTERM and the end of its input, as does what it has started.
const STUBBORN: &str =
    r#"trap "" TERM; sleep 1000 & sleep 1000 & echo up >&9; cat; while :; do sleep 1000; done"#;

fn stubborn(folder: &Folder) -> (String, Witness) {
    let (pipe, witness) = Witness::new(folder, "alive");
    (format!("exec 9>{pipe}; {STUBBORN}"), witness)
}

#[test]
fn a_session_that_ends_takes_the_whole_process_group_along() {
    let folder = Folder::new();
    let (script, witness) = stubborn(&folder);
    let gateway = Program::script(&["--resume-window", "0s", "--stop-timeout", "100ms"], &script);
    let client = gateway.connect();
    client.accepted(INITIALIZE);
    witness.until_says("up");
    drop(client);
    witness.gone("up");
    let log = gateway.log.until_says("server ended");
    assert!(log.contains("forced=\"SIGKILL\""), "{log}");
}

#[test]
fn servers_whose_clients_hang_up_while_they_start_are_ended_and_waited_for() {
    let folder = Folder::new();
    let (pipe, witness) = Witness::new(&folder, "alive");
    let gateway = Program::script(&["--resume-window", "0s"], &format!("exec 9>{pipe}; echo up >&9; cat"));
    for _ in 0..40 {
        gateway.connect().accepted(INITIALIZE);
    }
    gateway.signal("-TERM");
    let (success, log) = gateway.end();
    assert!(success, "{log}");
    let up = count(&witness.rest(), "up");
    // Each is in the log with its start and its end.
    assert_eq!((count(&log, "server started"), count(&log, "server ended")), (up, up), "{log}");
}

#[test]
fn what_a_child_left_running_goes_with_it() {
    let folder = Folder::new();
    let (pipe, witness) = Witness::new(&folder, "alive");
    let script = format!("exec 9>{pipe}; sleep 1000 & echo up >&9; while read -r x; do :; done");
    let gateway = Program::script(&["--resume-window", "0s"], &script);
    let client = gateway.connect();
    client.accepted(INITIALIZE);
    witness.until_says("up");
    drop(client);
    witness.gone("up");
    let log = gateway.log.until_says("server ended");
    assert!(log.contains("status=exit status: 0") && !log.contains("forced"), "{log}");
}

#[test]
fn a_shutdown_lets_calls_finish_and_leaves_no_process() {
    let folder = Folder::new();
    let (pipe, witness) = Witness::new(&folder, "alive");
    let script = format!("exec 9>{pipe}; echo up >&9; exec {} demo --stdio", crate::help::PROGRAM);
    let gateway = Program::script(&[], &script);
    let mut client = gateway.connect();
    client.initialize();
    client.accepted(&long_task(1, 30, 20));
    assert!(client.data().contains("notifications/progress"));
    gateway.signal("-TERM");
    let rest = client.rest();
    assert!(rest.contains("done 30 steps"), "{rest}");
    witness.gone("up");
    let (success, log) = gateway.end();
    assert!(success && log.contains("drained=1") && log.contains("server ended"), "{log}");
}

#[test]
fn a_second_signal_leaves_no_process_either() {
    let folder = Folder::new();
    let (script, witness) = stubborn(&folder);
    let gateway = Program::script(&["--stop-timeout", "1h", "--shutdown-timeout", "1h"], &script);
    let client = gateway.connect();
    client.accepted(INITIALIZE);
    witness.until_says("up");
    gateway.signal("-TERM");
    gateway.log.until_says("shutting down");
    gateway.signal("-TERM");
    witness.gone("up");
    let (success, log) = gateway.end();
    assert!(success && log.contains("second signal"), "{log}");
}

#[test]
fn sigkill_of_the_gateway_leaves_no_process() {
    let folder = Folder::new();
    let (script, witness) = stubborn(&folder);
    let gateway = Program::script(&[], &script);
    let client = gateway.connect();
    client.accepted(INITIALIZE);
    witness.until_says("up");
    gateway.signal("-KILL");
    witness.gone("up");
}

#[test]
fn over_the_bounds_it_waits_or_says_so() {
    let gateway = Program::gateway(&["--max-sessions", "1"]);
    let mut client = gateway.connect();
    client.initialize();
    assert!(gateway.get("/sse").starts_with("HTTP/1.1 503"));
    assert!(gateway.get("/readyz").starts_with("HTTP/1.1 503"));
    client.echo(1, "served");

    // The last has to wait for its turn longer than a start may take.
    let gateway = Program::gateway(&["--start-rate", "1", "--start-timeout", "5s"]);
    let mut clients: Vec<_> = (0..12).map(|_| gateway.connect()).collect();
    for client in &clients {
        client.accepted(INITIALIZE);
    }
    let (first, last) = (clients[0].answer(0), clients[11].answer(0));
    assert!(first.contains(r#""result""#), "{first}");
    assert!(last.contains("too many servers are being started"), "{last}");
    gateway.log.until_says("raise --start-rate");
}

/// What init does in a container: `mcp-sse` does it itself when it is the first process there.
#[cfg(target_os = "linux")]
#[test]
fn orphans_are_cleared_away() {
    let script = "sh -c 'sleep 0 & exec true' ; sh -c '(exec sleep 1000) & exec true'; cat";
    let options = ["serve", "--port", "0", "--resume-window", "0s", "--", "sh", "-c", script];
    let init = Program::prepare_as("__init", &options);
    for _ in 0..5 {
        let mut client = init.connect();
        client.accepted(INITIALIZE);
        assert_eq!(client.data(), INITIALIZE);
    }
    init.log.until("five ends", |log| count(log, "server ended") == 5);
    // Only the gateway is left. The last orphan's end may still be on its way to init.
    let children = format!("/proc/{0}/task/{0}/children", init.pid());
    until("only the gateway is left", || {
        fs::read_to_string(&children).unwrap().split_whitespace().count() == 1
    });
    init.signal("-TERM");
    let (success, log) = init.end();
    assert!(success && log.contains("shut down"), "{log}");
}
