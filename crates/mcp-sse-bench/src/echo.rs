//! A quick MCP server over stdin and stdout, with the tool `echo`: what gateways are measured in front of. It does
//! no more than it has to: what it reads at once it answers at once. With `--modern` it speaks revision 2026-07-28 only.

use std::{
    borrow::Cow,
    io::{self, BufRead as _, BufReader, Write as _},
};

use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    arguments: Arguments<'a>,
}

#[derive(Deserialize)]
struct Arguments<'a> {
    #[serde(borrow)]
    message: &'a RawValue,
}

#[derive(Deserialize)]
struct Initialize<'a> {
    #[serde(borrow, rename = "protocolVersion")]
    protocol_version: &'a RawValue,
}

const TOOLS: &str = r#"{"tools":[{"name":"echo","description":"Returns the message as it came","inputSchema":{"type":"object","properties":{"message":{"type":"string"}},"required":["message"]}}]}"#;

fn main() -> io::Result<()> {
    let mut stdin = BufReader::with_capacity(64 * 1024, io::stdin().lock());
    let mut stdout = io::stdout().lock();
    let is_modern = std::env::args().nth(1).is_some_and(|argument| argument == "--modern");
    let (mut line, mut answers) = (Vec::new(), Vec::new());
    while stdin.read_until(b'\n', &mut line)? > 0 {
        answer(&line, is_modern, &mut answers)?;
        line.clear();
        if !stdin.buffer().contains(&b'\n') {
            stdout.write_all(&answers)?;
            stdout.flush()?;
            answers.clear();
        }
    }
    Ok(())
}

fn answer(line: &[u8], is_modern: bool, answers: &mut Vec<u8>) -> io::Result<()> {
    let Line { id, method, params } = serde_json::from_slice(line)?;
    let (Some(id), Some(method)) = (id, method) else { return Ok(()) };
    match (&*method, params) {
        ("tools/call", Some(params)) => {
            let Call { arguments: Arguments { message } } = serde_json::from_str(params.get())?;
            let kind = if is_modern { r#","resultType":"complete""# } else { "" };
            writeln!(
                answers,
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":{message}}}],"isError":false{kind}}}}}"#
            )
        }
        ("server/discover", _) if is_modern => writeln!(
            answers,
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{}}}},"resultType":"complete"}}}}"#
        ),
        ("initialize", Some(params)) if !is_modern => {
            let Initialize { protocol_version } = serde_json::from_str(params.get())?;
            writeln!(
                answers,
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":{protocol_version},"capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"echo","version":"1"}}}}}}"#
            )
        }
        ("tools/list", _) => writeln!(answers, r#"{{"jsonrpc":"2.0","id":{id},"result":{TOOLS}}}"#),
        ("ping", _) => writeln!(answers, r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
        _ => writeln!(
            answers,
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"there is no such method"}}}}"#
        ),
    }
}
