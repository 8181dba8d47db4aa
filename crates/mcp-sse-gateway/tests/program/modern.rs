//! Clients of the stateless era (revision 2026-07-28) at `/mcp`: what they get of servers of either era, and what strangers get.

mod checks;
mod listening;
mod passed;
mod questions;
mod strangers;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::help::{Folder, Program, until};

/// A server that knows nothing of this era. It writes down what it is told, one line each.
const LEGACY: &str = r#"
n=0
while read -r line; do
  printf '%s\n' "$line" >> FILE
  id=${line#*\"id\":}; id=${id%%[,\}]*}
  case $line in
    *'"server/discover"'*) echo '{"jsonrpc":"2.0","id":'$id',"error":{"code":-32601,"message":"Method not found"}}';;
    *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"protocolVersion":"2025-11-25","capabilities":{"logging":{},"tools":{"listChanged":true},"resources":{"subscribe":true}},"serverInfo":{"name":"legacy","version":"1"},"instructions":"Ask."}}';;
    *'"tools/list"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"tools":[]}}';;
    *'"resources/read"'*) echo '{"jsonrpc":"2.0","id":'$id',"error":{"code":-32002,"message":"not found"}}';;
    *'"resources/subscribe"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{}}'; echo '{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:/b"}}';;
    *'"name":"echo"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"content":[{"type":"text","text":"echo"}]}}';;
    *'"name":"large"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"bytes":'${#line}'}}';;
    *'"name":"progress"'*) token=${line#*\"progressToken\":}; token=${token%%[,\}]*}
      echo '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":'$token',"progress":1}}'
      echo '{"jsonrpc":"2.0","id":'$id',"result":{"content":[]}}';;
    *'"name":"changes"'*) echo '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'; echo '{"jsonrpc":"2.0","id":'$id',"result":{"content":[]}}';;
    *'"name":"ask"'*) call=$id; n=$((n+1)); echo '{"jsonrpc":"2.0","id":"q'$n'","method":"elicitation/create","params":{"message":"Who?","requestedSchema":{"type":"object"},"_meta":{"progressToken":0}}}';;
    *'"id":"q'*) echo '{"jsonrpc":"2.0","id":'$call',"result":{"content":[{"type":"text","text":"thanks"}]}}';;
    *'"name":"die"'*) exit 3;;
  esac
done
"#;

/// That server behind a gateway, and what it was told.
struct Legacy {
    gateway: Program,
    file: String,
    _folder: Folder,
}

impl Legacy {
    fn start(options: &[&str]) -> Self {
        let folder = Folder::new();
        let file = folder.path("lines");
        let gateway = Program::script(options, &LEGACY.replace("FILE", &file));
        Self { gateway, file, _folder: folder }
    }

    fn told(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap_or_default()
    }

    fn until_told(&self, text: &str) -> String {
        until(text, || self.told().contains(text));
        self.told()
    }
}

/// A request of a client with these capabilities.
fn body(id: &Value, method: &str, params: &Value, capabilities: &Value) -> String {
    let mut params = params.clone();
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    params["_meta"]["io.modelcontextprotocol/clientInfo"] = json!({ "name": "test", "version": "0" });
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities.clone();
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

/// The head of such a request.
fn head(method: &str, params: &Value) -> String {
    let name = match method {
        "resources/read" => params["uri"].as_str(),
        "tools/call" | "prompts/get" => params["name"].as_str(),
        _ => None,
    };
    let name = name.map(|name| format!("\r\nmcp-name: {name}")).unwrap_or_default();
    format!(
        "POST /mcp HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: {method}{name}"
    )
}

/// The status and the rest of an answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    text: String,
}

impl Answer {
    fn read(whole: &str) -> Self {
        let (head, text) = whole.split_once("\r\n\r\n").unwrap_or((whole, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        Self { status, head: head.to_ascii_lowercase(), text: text.to_owned() }
    }

    fn json(&self) -> Value {
        assert!(self.text.starts_with('{'), "{self:?}");
        serde_json::from_str(&self.text).unwrap()
    }

    /// The code of an error.
    fn code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap_or_default()
    }

    /// The messages of a stream.
    fn events(&self) -> Vec<Value> {
        assert!(self.head.contains("content-type: text/event-stream"), "{self:?}");
        let data = self.text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

fn ask(gateway: &Program, method: &str, params: &Value) -> Answer {
    ask_as(gateway, "", &json!({}), method, params)
}

/// The same with more lines in the head, and capabilities.
fn ask_as(gateway: &Program, lines: &str, capabilities: &Value, method: &str, params: &Value) -> Answer {
    let head = format!("{}{lines}", head(method, params));
    Answer::read(&gateway.request(&head, &body(&json!(1), method, params, capabilities)))
}

fn call(gateway: &Program, tool: &str) -> Answer {
    ask(gateway, "tools/call", &json!({ "name": tool }))
}

/// A request whose answer is read as it comes.
fn open(gateway: &Program, method: &str, params: &Value, capabilities: &Value) -> BufReader<TcpStream> {
    gateway.send(&head(method, params), &body(&json!("L"), method, params, capabilities))
}

/// The data of the next event.
fn event(stream: &mut BufReader<TcpStream>) -> Value {
    loop {
        let mut line = String::new();
        assert_ne!(stream.read_line(&mut line).unwrap(), 0, "the stream ended");
        if let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str(data).unwrap();
        }
    }
}

fn rest(mut stream: BufReader<TcpStream>) -> String {
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    rest
}

#[test]
fn a_server_that_knows_only_the_handshake_answers_them() {
    let legacy = Legacy::start(&[]);
    // A client that speaks both eras is better off with a handshake here.
    let discovered = ask(&legacy.gateway, "server/discover", &json!({}));
    assert_eq!((discovered.status, &discovered.json()["error"]["code"]), (400, &json!(-32022)));
    let list = ask(&legacy.gateway, "tools/list", &json!({ "_meta": { "own": 1 } })).json();
    assert_eq!((&list["result"]["resultType"], &list["result"]["ttlMs"]), (&json!("complete"), &json!(0)));
    let echo = call(&legacy.gateway, "echo").json();
    assert_eq!((&echo["id"], &echo["result"]["content"][0]["text"]), (&json!(1), &json!("echo")));
    let read = ask(&legacy.gateway, "resources/read", &json!({ "uri": "a:/b" }));
    assert_eq!((read.status, read.code()), (200, -32602));
    // One session for all, which is told no more than it knows.
    let told = legacy.told();
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].contains("server/discover") && lines[1].contains("initialize"), "{told}");
    assert!(lines[1].contains(
        r#""protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"0"}"#
    ));
    assert!(lines[2].contains("notifications/initialized"));
    assert!(lines[3].ends_with(r#""method":"tools/list","params":{"_meta":{"own":1}}}"#), "{told}");
    assert!(lines[4].ends_with(r#""method":"tools/call","params":{"name":"echo"}}"#), "{told}");
    assert_eq!(lines.len(), 6);
}

#[test]
fn what_comes_before_an_answer_makes_it_a_stream() {
    let legacy = Legacy::start(&[]);
    let params = json!({ "name": "progress", "_meta": { "progressToken": "mine" } });
    let answer = ask(&legacy.gateway, "tools/call", &params);
    assert!(answer.head.contains("x-accel-buffering: no"));
    let events = answer.events();
    assert_eq!(events[0]["params"], json!({ "progressToken": "mine", "progress": 1 }));
    assert_eq!((&events[1]["id"], events.len()), (&json!(1), 2));
    // A client that reads no streams gets the answer alone, and one that reads nothing else a stream.
    let only = |accept: &str, params: &Value| {
        let head = head("tools/call", params).replace("application/json, text/event-stream", accept);
        Answer::read(&legacy.gateway.request(&head, &body(&json!(1), "tools/call", params, &json!({}))))
    };
    assert_eq!(only("application/json", &params).json()["id"], 1);
    assert_eq!(only("text/event-stream", &json!({ "name": "echo" })).events().len(), 1);
}

#[test]
fn a_client_that_closes_the_response_cancels_the_request() {
    let legacy = Legacy::start(&[]);
    let stream = open(&legacy.gateway, "tools/call", &json!({ "name": "slow" }), &json!({}));
    legacy.until_told(r#""name":"slow""#);
    drop(stream);
    let told = legacy.until_told("notifications/cancelled");
    let id = told
        .lines()
        .find(|line| line.contains("slow"))
        .unwrap()
        .split(['{', ','])
        .find(|part| part.starts_with(r#""id""#))
        .unwrap();
    assert!(told.contains(&id.replace("id", "requestId")), "{told}");
    // A note that says so has no effect.
    let stream = open(&legacy.gateway, "tools/call", &json!({ "name": "slow" }), &json!({}));
    until("it has come", || legacy.told().matches(r#""name":"slow""#).count() == 2);
    let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"L"}}"#;
    let answer = legacy.gateway.request(&head("notifications/cancelled", &json!({})), note);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert_eq!(call(&legacy.gateway, "echo").status, 200);
    assert_eq!(legacy.told().matches("notifications/cancelled").count(), 1);
    drop(stream);
}

#[test]
fn a_slow_answer_begins_before_those_on_the_way_give_it_up() {
    let legacy = Legacy::start(&["--keep-alive", "1s"]);
    let mut stream = open(&legacy.gateway, "tools/call", &json!({ "name": "slow" }), &json!({}));
    let mut line = String::new();
    while !line.starts_with(':') {
        line.clear();
        assert_ne!(stream.read_line(&mut line).unwrap(), 0);
    }
    // And the end of the gateway is told.
    legacy.gateway.signal("-TERM");
    legacy.gateway.signal("-TERM");
    let rest = rest(stream);
    assert!(rest.contains(r#""id":"L","error""#), "{rest}");
}

#[test]
fn a_server_that_dies_answers_what_it_was_asked() {
    let legacy = Legacy::start(&[]);
    let died = call(&legacy.gateway, "die");
    assert!(died.json()["error"]["message"].as_str().unwrap().contains("exit status: 3"), "{died:?}");
    assert_eq!(call(&legacy.gateway, "echo").status, 200);
}

#[test]
fn large_calls_at_once_wait_for_their_server_and_are_all_answered() {
    let legacy = Legacy::start(&[]);
    let params = json!({ "name": "large", "arguments": { "text": "x".repeat(200_000) } });
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let asks: Vec<_> =
            (0..12).map(|_| scope.spawn(|| ask(&legacy.gateway, "tools/call", &params))).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    for answer in answers {
        assert!(answer.json()["result"]["bytes"].as_u64() > Some(200_000), "{answer:.300?}");
    }
}
