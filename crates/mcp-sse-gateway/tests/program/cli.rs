//! What it prints, and every mistake that a user can make.

use std::net::TcpListener;

use snapbox::{assert_data_eq, file, str};

use crate::help::{Folder, refused, run};

#[test]
fn help_and_version_go_to_stdout() {
    let help = |arguments: &[&str]| {
        let help = run(arguments);
        assert!(help.status.success() && help.stderr.is_empty());
        String::from_utf8(help.stdout).unwrap()
    };
    assert_data_eq!(help(&["--help"]), file!["help.txt"]);
    assert_data_eq!(help(&["serve", "--help"]), file!["help-serve.txt"]);
    assert_data_eq!(help(&["connect", "--help"]), file!["help-connect.txt"]);
    assert_data_eq!(help(&["demo", "--help"]), file!["help-demo.txt"]);
    assert_data_eq!(help(&["--version"]), str!["mcp-sse [..]\n"]);
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
            &["--host", ""],
            str![
                "error: invalid value '' for '--host <ADDRESS>': expected an IP address of this machine, or a name of one; see --help"
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
        (
            &["--log-level", "verbose"],
            str!["error: --log-level \"verbose\": expected trace, debug, info, warn, error, off, [..]"],
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
        "error: cannot listen on 127.0.0.1:[..]: Address already in use (os error [..]); choose another with --host and --port, or --listen\n"
    ];
    assert_data_eq!(refused(&["--port", &port]), expected);
}

#[test]
fn a_mistake_with_serve_is_one_line_and_exit_code_2() {
    let folder = Folder::new();
    let broken =
        folder.write("broken.json", "{\n  \"mcpServers\": {\n    \"a\": { \"comand\": \"x\" }\n  }\n}");
    let empty = folder.write("empty.json", "{ \"mcpServers\": {} }");
    let text = folder.write("text.pem", "no certificate");
    for (arguments, expected) in [
        (
            &[][..],
            str![
                "error: nothing to serve: give a program (mcp-sse serve -- COMMAND), --config FILE or --upstream URL; see --help"
            ],
        ),
        (
            &["npx", "server"],
            str![
                "error: unexpected argument 'npx' found; a program comes after `--`, as in: mcp-sse serve -- npx; see --help"
            ],
        ),
        (
            &["--", "no-such-program"],
            str![
                "error: cannot find the program \"no-such-program\"; expected one in PATH, or a path (no shell is used: give a script as `sh -c '…'`)"
            ],
        ),
        (&["--", "npx -y server"], str!["error: cannot find the program \"npx -y server\"; [..]"]),
        (&["--env", "NAME", "--", "sh"], str!["error: --env \"NAME\": expected NAME=VALUE"]),
        (
            &["--env", "=x", "--", "sh"],
            str!["error: --env \"=x\": \"\" is not a name for an environment variable"],
        ),
        (
            &["--env-from-header", "X-User", "--", "sh"],
            str!["error: --env-from-header \"X-User\": expected HEADER=NAME, as in X-User=MCP_USER"],
        ),
        (
            &["--env-from-header", "a b=C", "--", "sh"],
            str!["error: --env-from-header \"a b=C\": \"a b\" is not a header name"],
        ),
        (&["--start-timeout", "0s", "--", "sh"], str!["error: --start-timeout must be more than zero"]),
        (&["--cwd", "/no such", "--", "sh"], str!["error: --cwd \"/no such\" is not a directory"]),
        (
            &["--upstream", "http://h", "--env", "A=B"],
            str![
                "error: --env, --clean-env, --env-from-header and --cwd are for a program; in a configuration file each server has its own"
            ],
        ),
        (
            &["--upstream", "http://h", "--", "sh"],
            str!["error: the argument '--upstream <URL>' cannot be used with '[COMMAND]...'; see --help"],
        ),
        (&["--upstream", "h"], str!["error: --upstream \"h\" is not a URL: relative URL without a base"]),
        (
            &["--upstream", "ws://h"],
            str!["error: --upstream \"ws://h\" is not the URL of a server; expected http:// or https://"],
        ),
        (
            &["--upstream", "http://${NO_SUCH_VARIABLE}"],
            str!["error: --upstream: the environment variable NO_SUCH_VARIABLE is not set"],
        ),
        (
            &["--upstream", "http://h", "--header", "secret"],
            str!["error: --header: expected 'NAME: VALUE', as in 'Authorization: Bearer ${TOKEN}'"],
        ),
        (
            &["--upstream", "http://h", "--header", "X: ${NO_SUCH_VARIABLE}"],
            str!["error: --header X: the environment variable NO_SUCH_VARIABLE is not set"],
        ),
        (
            &["--upstream", "http://h", "--header", "Host: x"],
            str!["error: --header: the header host belongs to the connection; it cannot be set or passed on"],
        ),
        (
            &["--upstream", "http://h", "--header-from-client", "content-length"],
            str![
                "error: --header-from-client: the header content-length belongs to the connection; it cannot be set or passed on"
            ],
        ),
        (
            &["--header", "A: b", "--", "sh"],
            str![
                "error: --transport, --header and --header-from-client are for --upstream; in a configuration file each server has its own"
            ],
        ),
        (
            &["--upstream", "http://h", "--ca-file", "/no/such"],
            str!["error: --ca-file /no/such: No such file or directory (os error 2)"],
        ),
        (
            &["--upstream", "http://h", "--ca-file", &text],
            str!["error: --ca-file [..]text.pem: expected certificates in PEM[..]"],
        ),
        (
            &["--config", "/no/such"],
            str!["error: cannot read /no/such: No such file or directory (os error 2)"],
        ),
        (&["--config", "/"], str!["error: cannot read /: Is a directory (os error 21)"]),
        (&["--config", &empty], str!["error: [..]empty.json: there is no server in it"]),
        (
            &["--config", &broken],
            str![
                "error: [..]broken.json:3: mcpServers.a.comand: there is no such key; did you mean \"command\"?"
            ],
        ),
        (
            &["--mcp-path", "mcp", "--", "sh"],
            str!["error: --mcp-path \"mcp\" is not a path; expected one such as /sse"],
        ),
        (
            &["--mcp-path", "/sse/", "--", "sh"],
            str!["error: --sse-path and --mcp-path are both \"/sse/\"; they must differ"],
        ),
        (
            &["--mcp-path", "/healthz", "--", "sh"],
            str!["error: --mcp-path \"/healthz\" is a path of the health checks; choose another"],
        ),
        (
            &["--base-path", "x", "--", "sh"],
            str!["error: --base-path is for the named servers of a configuration file"],
        ),
        (
            &["--start-rate", "0", "--", "sh"],
            str![
                "error: invalid value '0' for '--start-rate <N>': expected a whole number, 1 or more; see --help"
            ],
        ),
    ] {
        let mut all = vec!["serve", "--port", "0"];
        all.extend(arguments);
        assert_data_eq!(refused(&all), expected);
    }
}

#[test]
fn a_mistake_with_connect_is_one_line_and_exit_code_2() {
    for (arguments, expected) in [
        (&[][..], str!["error: the following required arguments were not provided:; <URL>; see --help"]),
        (&["example.com/sse"], str!["error: \"example.com/sse\" is not a URL: relative URL without a base"]),
        (
            &["http://h", "--transport", "ws"],
            str![
                "error: invalid value 'ws' for '--transport <TRANSPORT>'; [possible values: auto, http, sse]; see --help"
            ],
        ),
        (
            &["http://h", "--header", "x"],
            str!["error: --header: expected 'NAME: VALUE', as in 'Authorization: Bearer ${TOKEN}'"],
        ),
        (
            &["http://h", "--ca-file", "/no/such"],
            str!["error: --ca-file /no/such: No such file or directory (os error 2)"],
        ),
    ] {
        let mut all = vec!["connect"];
        all.extend(arguments);
        assert_data_eq!(refused(&all), expected);
    }
}

#[test]
fn an_unknown_command_is_one_line_and_exit_code_2() {
    assert_data_eq!(
        refused(&["sevre"]),
        str!["error: unrecognized subcommand 'sevre'; tip: a similar subcommand exists: 'serve'; see --help"]
    );
}
