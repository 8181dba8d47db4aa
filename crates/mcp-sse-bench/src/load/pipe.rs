//! Round trips over the pipes of the echo server, without a gateway between: what no gateway can be faster than.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    time::Duration,
};

use hdrhistogram::Histogram;

use super::{FIRST_ID, RoundTrips, id_of, now};

/// One call after the other. The server is where `command` puts it, the generator where it is.
pub(crate) fn round_trips(mut command: Command, time: Duration) -> io::Result<RoundTrips> {
    let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(mut stdin), Some(stdout)) = (server.stdin.take(), server.stdout.take()) else {
        return Err(io::Error::other("the server has no pipes"));
    };
    let mut stdout = BufReader::new(stdout);
    let mut latency = Histogram::new(3).map_err(io::Error::other)?;
    let (mut line, mut answer, mut id) = (Vec::new(), Vec::new(), FIRST_ID);
    // A tenth to warm up.
    let from = now() + time / 10;
    let end = from + time;
    let mut calls = 0;
    let seconds = loop {
        line.clear();
        writeln!(
            line,
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"message":"xxxxxxxxxxxxxxxx"}}}}}}"#
        )?;
        let posted = now();
        stdin.write_all(&line)?;
        answer.clear();
        stdout.read_until(b'\n', &mut answer)?;
        let answered = now();
        if id_of(&answer) != Some(id) {
            return Err(io::Error::other(format!("{:?} came", String::from_utf8_lossy(&answer))));
        }
        id += 1;
        if posted < from {
            continue;
        }
        let _ = latency.record((answered - posted).as_micros() as u64);
        calls += 1;
        if answered >= end {
            break (answered - from).as_secs_f64();
        }
    };
    drop(stdin);
    server.wait()?;
    Ok(RoundTrips { calls, seconds, latency })
}
