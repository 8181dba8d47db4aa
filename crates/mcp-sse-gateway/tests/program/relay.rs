//! What passes between a client and its child: bytes as they are, and what is not a message.

use std::fs;

use crate::help::{Folder, INITIALIZE, PING, Program, until};

#[test]
fn bytes_pass_as_they_are_both_ways() {
    let folder = Folder::new();
    let odd = r#"{ "jsonrpc" : "2.0","id":0,"unknown":[1.0,1e400,"\u00e9é"], "result":{"z":1,"a":123456789012345678901234567890} }"#;
    let reply = folder.write("reply", &format!("{odd}\n"));
    let taken = folder.path("taken");
    let gateway = Program::script(&[], &format!("head -n 2 > {taken}; cat {reply}; cat > /dev/null"));
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    let pretty =
        "{\n  \"jsonrpc\": \"2.0\",\r\n  \"method\": \"notifications/x\",\n  \"params\": {\"a\":  1.50}\n}";
    client.accepted(pretty);
    assert_eq!(client.data(), odd);
    let lines = fs::read_to_string(&taken).unwrap();
    let expected = pretty.replace(['\n', '\r'], " ");
    assert_eq!(lines, format!("{INITIALIZE}\n{expected}\n"), "one line each, otherwise the same");
}

#[test]
fn lines_that_are_no_messages_are_logged_counted_and_skipped() {
    let script = r#"echo 'Server v1.0 starting'; echo; echo '[1,2]'; read -r first
        echo '[{"jsonrpc":"2.0","method":"one"},{"jsonrpc":"2.0","method":"two"}]'
        printf '{"jsonrpc":"2.0","id":0,"result":{}}'"#;
    let gateway = Program::script(&[], script);
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    for expected in [r#""method":"one"}"#, r#""method":"two"}"#, r#""id":0,"result""#] {
        let data = client.data();
        assert!(data.contains(expected), "{data}");
    }
    let log = gateway.log.until_says("lines=2");
    assert!(log.contains("line=Server v1.0 starting"), "{log}");
}

#[test]
fn a_server_gets_an_initialize_that_its_client_left_out_unless_that_is_turned_off() {
    let folder = Folder::new();
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let first = |options: &[&str]| {
        let taken = folder.path("first");
        let gateway = Program::script(options, &format!("head -n 1 > {taken}; cat > /dev/null"));
        let client = gateway.connect();
        client.accepted(list);
        until("the server has its first message", || {
            fs::read_to_string(&taken).is_ok_and(|line| line.ends_with('\n'))
        });
        let line = fs::read_to_string(&taken).unwrap();
        fs::remove_file(&taken).unwrap();
        line
    };
    for options in [&[][..], &["--synthesize-initialize", "true"]] {
        assert!(first(options).contains(r#""method":"initialize""#), "{options:?}");
    }
    assert_eq!(first(&["--synthesize-initialize", "false"]), format!("{list}\n"));
}

/// A script that answers the first message with the value of variables.
fn tells(variables: &str) -> String {
    format!(
        r#"read -r first; printf '{{"jsonrpc":"2.0","id":0,"result":{{"it":"%s"}}}}\n' "{variables}"; cat >/dev/null"#
    )
}

#[test]
fn the_childs_environment_is_what_was_asked_for() {
    let script = tells("$ONE,$TWO,${PATH:+path},$WHO");
    let start = |options: &[&str]| {
        let mut arguments = options.to_vec();
        arguments.extend(["--", "sh", "-c", &script]);
        Program::prepare("serve", "0", &arguments).env("TWO", "inherited").env("WHO", "operator").piped()
    };
    let it = |gateway: &Program, headers: &str| {
        let mut client = gateway.connect_with("/sse", headers);
        client.accepted(INITIALIZE);
        client.data()
    };
    let gateway = start(&["--env", "ONE=1=1"]);
    assert!(it(&gateway, "").contains(r#""it":"1=1,inherited,path,operator""#));
    let gateway = start(&["--clean-env", "--env", "ONE=1"]);
    assert!(it(&gateway, "").contains(r#""it":"1,,path,""#));
    let gateway = start(&["--env-from-header", "X-User=WHO"]);
    assert!(it(&gateway, "x-user: ann\r\n").contains(r#""it":",inherited,path,ann""#));
    let nobody = it(&gateway, "x-other: ann\r\n");
    assert!(nobody.contains(r#""it":",inherited,path,""#), "not what was the operator's: {nobody}");
}

/// The gateway's own limit on open files is raised, since each session takes several; not its children's.
#[cfg(target_os = "linux")]
#[test]
fn a_child_has_the_limits_that_the_gateway_was_started_with() {
    let folder = Folder::new();
    let tell = folder.write("tell", &tells("$(ulimit -Sn)"));
    let script = format!("ulimit -Sn 200; exec {} serve --port 0 -- sh {tell}", crate::help::PROGRAM);
    let gateway = Program::prepare_shell(&script);
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    let answer = client.data();
    assert!(answer.contains(r#""it":"200""#), "{answer}");
    let own = fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).unwrap();
    let files = own.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert!(!files.contains(" 200 "), "{files}");
}

#[test]
fn the_working_directory_is_what_was_asked_for() {
    let folder = Folder::new();
    folder.write("here", "");
    let gateway = Program::script(&["--cwd", &folder.path("")], &tells("$(ls)"));
    let mut client = gateway.connect();
    client.accepted(INITIALIZE);
    assert!(client.data().contains(r#""it":"here""#));
}

#[test]
fn progress_and_cancellation_reach_the_other_side() {
    let gateway = Program::gateway(&[]);
    let mut client = gateway.connect();
    client.initialize();
    client.accepted(&crate::help::long_task(5, 1000, 20));
    assert!(client.data().contains("notifications/progress"));
    client.accepted(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#);
    until("the call is cancelled", || {
        client.accepted(
            r#"{"jsonrpc":"2.0","id":6,"method":"resources/read","params":{"uri":"demo://stats"}}"#,
        );
        client.answer(6).contains(r#"\"running\":0"#)
    });
    client.accepted(PING);
    client.answer(9);
}
