//! What it prints, and every mistake that a user can make.

use std::net::TcpListener;

use snapbox::{assert_data_eq, file, str};

use crate::help::{refused, run};

#[test]
fn help_and_version_go_to_stdout() {
    let help = run(&["--help"]);
    assert!(help.status.success() && help.stderr.is_empty());
    assert_data_eq!(String::from_utf8(help.stdout).unwrap(), file!["help.txt"]);
    let version = run(&["--version"]);
    assert!(version.status.success());
    assert_data_eq!(String::from_utf8(version.stdout).unwrap(), str!["mcp-sse [..]\n"]);
}

#[test]
fn a_mistake_is_one_line_and_exit_code_2() {
    for (arguments, expected) in [
        (&["--frobnicate"][..], str!["error: unexpected argument '--frobnicate' found; see --help"]),
        (
            &["--prot", "1"],
            str![
                "error: unexpected argument '--prot' found; tip: a similar argument exists: '--port'; see --help"
            ],
        ),
        (
            &["--port", "99999"],
            str!["error: invalid value '99999' for '--port <PORT>': 99999 is not in 0..=65535; see --help"],
        ),
        (
            &["--host", "localhost"],
            str![
                "error: invalid value 'localhost' for '--host <ADDRESS>': invalid IP address syntax; see --help"
            ],
        ),
        (
            &["--keep-alive", "soon"],
            str![
                "error: invalid value 'soon' for '--keep-alive <TIME>': expected a time such as 500ms, 15s or 2m; see --help"
            ],
        ),
        (
            &["--max-sessions", "0"],
            str![
                "error: invalid value '0' for '--max-sessions <N>': expected a whole number, 1 or more; see --help"
            ],
        ),
        (&["--stall-timeout", "0s"], str!["error: stall_timeout must be more than zero"]),
        (
            &["--log-format", "xml"],
            str![
                "error: invalid value 'xml' for '--log-format <LOG_FORMAT>'; [possible values: text, json]; see --help"
            ],
        ),
        (&["--log-level", "a=b=c"], str!["error: --log-level a=b=c: [..]"]),
        (&["--sse-path", "sse"], str!["error: --sse-path \"sse\" is not a path; expected one such as /sse"]),
        (
            &["--sse-path", "/messages"],
            str!["error: --sse-path and --message-path are both \"/messages\"; they must differ"],
        ),
        (
            &["--message-path", "https://example.com/m"],
            str!["error: the endpoint \"https://example.com/m\" is a full URL; [..]"],
        ),
        (
            &["--mount-prefix", "api"],
            str!["error: the mount prefix \"api\" is not a path; expected one such as \"/api\""],
        ),
        (&["--allowed-host", "http://a"], str!["error: the allowed host \"http://a\" is not a host; [..]"]),
        (&["--allowed-origin", "a"], str!["error: the allowed origin \"a\" is not an origin; [..]"]),
        (
            &["--host", "0.0.0.0", "--port", "0"],
            str![
                "error: --host 0.0.0.0 is not a loopback address: name the hosts that clients use, with --allowed-host NAME [..]\n"
            ],
        ),
    ] {
        assert_data_eq!(refused(arguments), expected);
    }
}

#[test]
fn a_busy_port_is_one_line_and_exit_code_2() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let expected = str![
        "error: cannot listen on 127.0.0.1:[..]: Address already in use (os error [..]); choose another with --host or --port\n"
    ];
    assert_data_eq!(refused(&["--port", &port]), expected);
}
