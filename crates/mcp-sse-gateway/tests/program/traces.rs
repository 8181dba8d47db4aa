//! Traces: what a collector is sent, and what continues a trace.

use std::process::Command;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use serde_json::Value;

use crate::{
    fake::{Asked, Fake, answer},
    help::{Folder, INITIALIZE, PROGRAM, Program},
};

/// Where a client's trace is.
const CLIENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// Where the request that brings its message is, in another trace.
const AROUND: &str = "00-11111111111111111111111111111111-2222222222222222-01";

fn collector() -> Fake {
    Fake::start(|asked, stream| {
        let kind = asked.header("content-type").unwrap_or_default();
        let body = if kind.contains("json") { "{}" } else { "" };
        answer(stream, "200 OK", &format!("content-type: {kind}\r\n"), body)
    })
}

/// The gateway in front of a demo server whose input is also written to a file.
fn traced(collector: &Fake, folder: &Folder, variables: &[(&str, &str)]) -> Program {
    let script = format!("tee {} | exec {PROGRAM} demo --stdio", folder.path("input"));
    let mut prepared = Program::prepare("serve", "0", &["--no-isolation", "--", "sh", "-c", &script])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url(""))
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
        .env("OTEL_BSP_SCHEDULE_DELAY", "50");
    for (name, value) in variables {
        prepared = prepared.env(name, value);
    }
    prepared.piped()
}

/// The spans that a collector was sent as JSON.
fn spans(asked: &[Asked]) -> Vec<Value> {
    let mut spans = Vec::new();
    for asked in asked {
        assert_eq!((&*asked.method, &*asked.path), ("POST", "/v1/traces"));
        let sent: Value = serde_json::from_str(&asked.body).unwrap();
        for resource in sent["resourceSpans"].as_array().unwrap() {
            for scope in resource["scopeSpans"].as_array().unwrap() {
                spans.extend(scope["spans"].as_array().unwrap().iter().cloned());
            }
        }
    }
    spans
}

/// Those of these names, once they are there.
fn named(collector: &Fake, names: &[&str]) -> Vec<Value> {
    let is_there = |asked: &[Asked]| {
        let spans = spans(asked);
        names.iter().all(|name| spans.iter().any(|span| span["name"] == *name))
    };
    let all = spans(&collector.until(&format!("sent {names:?}"), is_there));
    names.iter().map(|name| all.iter().find(|span| span["name"] == *name).unwrap().clone()).collect()
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let attributes = span["attributes"].as_array().unwrap();
    attributes.iter().find(|one| one["key"] == key).map_or(&Value::Null, |one| &one["value"]["stringValue"])
}

fn call(id: u32, tool: &str, meta: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"text":"x","message":"x"}}{meta}}}}}"#
    )
}

#[test]
fn a_call_is_a_span_in_its_clients_trace_and_the_server_continues_it() {
    let (collector, folder) = (collector(), Folder::new());
    let gateway = traced(&collector, &folder, &[]);
    let mut client = gateway.connect();
    client.initialize();
    client.accepted(&call(
        1,
        "echo",
        &format!(r#","_meta":{{"traceparent":"{CLIENT}","tracestate":"a=b"}}"#),
    ));
    client.answer(1);
    client.accepted(&call(2, "invented", ""));
    client.answer(2);
    let [initialize, echo, invented] =
        <[Value; 3]>::try_from(named(&collector, &["initialize", "tools/call echo", "tools/call invented"]))
            .unwrap();
    assert_eq!(echo["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(echo["parentSpanId"], "b7ad6b7169203331");
    assert_eq!((echo["kind"].as_i64(), &echo["traceState"]), (Some(2), &Value::from("a=b")));
    for (key, value) in [
        ("mcp.method.name", "tools/call"),
        ("gen_ai.tool.name", "echo"),
        ("gen_ai.operation.name", "execute_tool"),
        ("jsonrpc.request.id", "1"),
        ("mcp_sse.server", "/"),
        ("mcp_sse.transport", "sse"),
    ] {
        assert_eq!(attribute(&echo, key), value, "{key}");
    }
    assert_eq!(attribute(&echo, "error.type"), &Value::Null);
    // Without a trace of its client's, it begins one.
    assert_eq!(initialize["parentSpanId"].as_str().unwrap_or_default(), "");
    assert_ne!(initialize["traceId"], invented["traceId"]);
    assert_eq!(
        (attribute(&invented, "error.type"), invented["status"]["code"].as_i64()),
        (&Value::from("error"), Some(2))
    );
    // What the server was sent is in the trace, behind this span.
    let input = std::fs::read_to_string(folder.path("input")).unwrap();
    let line: Value =
        serde_json::from_str(input.lines().find(|line| line.contains("\"echo\"")).unwrap()).unwrap();
    let parent = line["params"]["_meta"]["traceparent"].as_str().unwrap();
    let span = echo["spanId"].as_str().unwrap();
    assert_eq!(parent, format!("00-0af7651916cd43dd8448eb211c80319c-{span}-01"));
    assert_eq!(line["params"]["_meta"]["tracestate"], "a=b");
    // A session's id is a secret.
    let sent: String = collector.so_far().iter().map(|asked| asked.body.clone()).collect();
    assert!(!sent.contains(&client.id()), "{sent}");
}

#[test]
fn the_trace_of_the_request_around_a_message_is_linked_or_continued() {
    let (collector, folder) = (collector(), Folder::new());
    let gateway = traced(&collector, &folder, &[]);
    let head = format!(
        "POST /mcp HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json\r\ntraceparent: {AROUND}"
    );
    let answer = gateway.request(&head, INITIALIZE);
    let session = answer.lines().find(|line| line.starts_with("mcp-session-id:")).unwrap();
    let meta = format!(r#","_meta":{{"traceparent":"{CLIENT}"}}"#);
    gateway.request(&format!("{head}\r\n{session}"), &call(1, "echo", &meta));
    let spans = named(&collector, &["initialize", "tools/call echo"]);
    assert_eq!(spans[0]["parentSpanId"], "2222222222222222");
    assert_eq!(spans[1]["parentSpanId"], "b7ad6b7169203331");
    let links = spans[1]["links"].as_array().unwrap();
    assert_eq!((links.len(), &links[0]["spanId"]), (1, &Value::from("2222222222222222")));
}

#[test]
fn a_remote_server_finds_the_trace_in_the_headers_too() {
    let collector = collector();
    let to = |url: &str| {
        Program::prepare("serve", "0", &["--upstream", url])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url(""))
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
            .piped()
    };
    let in_its_own_span = |text: &str| {
        text.contains("00-0af7651916cd43dd8448eb211c80319c-") && !text.contains("b7ad6b7169203331")
    };
    let called = call(1, "request_headers", &format!(r#","_meta":{{"traceparent":"{CLIENT}"}}"#));
    let remote = Program::demo(&[]);
    let gateway = to(&format!("http://{}/sse", remote.address));
    let mut client = gateway.connect();
    client.initialize();
    client.accepted(&called);
    let answered = client.answer(1);
    assert!(in_its_own_span(&answered) && answered.contains(r#"\"traceparent\""#), "{answered}");

    let remote = Fake::start(|asked, stream| {
        let Ok(message) = serde_json::from_str::<Value>(&asked.body) else {
            return answer(stream, "405 Method Not Allowed", "", "");
        };
        let Some(id) = message.get("id") else { return answer(stream, "202 Accepted", "", "") };
        let result = if message["method"] == "initialize" {
            r#"{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"fake","version":"1"}}"#
        } else {
            "{}"
        };
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        answer(stream, "200 OK", "content-type: application/json\r\n", &body)
    });
    let gateway = to(&remote.url("/mcp"));
    let mut client = gateway.connect();
    client.initialize();
    client.accepted(&called);
    client.answer(1);
    let asked = remote.until("called", |asked| asked.iter().any(|asked| asked.body.contains("tools/call")));
    let asked = asked.iter().find(|asked| asked.body.contains("tools/call")).unwrap();
    let header = asked.header("traceparent").unwrap();
    assert!(in_its_own_span(header) && asked.body.contains(header), "{asked:?}");
}

#[test]
fn a_collector_is_sent_protobuf_unless_it_wants_json_and_the_last_spans_too() {
    let (collector, folder) = (collector(), Folder::new());
    let gateway = traced(
        &collector,
        &folder,
        &[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", ""),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=secret"),
            ("OTEL_SERVICE_NAME", "tools"),
            ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
        ],
    );
    let mut client = gateway.connect();
    client.initialize();
    client.echo(1, "hello");
    gateway.signal("-TERM");
    let (success, log) = gateway.end();
    assert!(success && !log.contains("secret"), "{log}");
    let asked = collector.so_far();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].header("content-type"), Some("application/x-protobuf"));
    assert_eq!(asked[0].header("x-api-key"), Some("secret"));
    let sent = ExportTraceServiceRequest::decode(&*asked[0].bytes).unwrap();
    let resource = format!("{:?}", sent.resource_spans[0].resource);
    assert!(resource.contains("\"tools\"") && resource.contains("service.version"), "{resource}");
    let names: Vec<_> = sent.resource_spans[0].scope_spans[0].spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["initialize", "tools/call echo"]);
}

#[test]
fn a_collector_that_is_away_or_full_costs_nobody_a_call() {
    let folder = Folder::new();
    let away = Fake::start(|_, stream| answer(stream, "503 Service Unavailable", "", ""));
    let gateway = traced(&away, &folder, &[("OTEL_BSP_MAX_QUEUE_SIZE", "4")]);
    let mut client = gateway.connect();
    client.initialize();
    for id in 1..=50 {
        client.echo(id, "hello");
    }
    gateway.log.until_says("the collector does not take spans (503");
    let gateway = Program::prepare("serve", "0", &["--", PROGRAM, "demo", "--stdio"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
        .env("OTEL_BSP_SCHEDULE_DELAY", "10")
        .piped();
    let mut client = gateway.connect();
    client.initialize();
    client.echo(1, "hello");
    gateway.log.until_says("the collector of spans cannot be reached");
    client.echo(2, "hello");
}

#[test]
fn a_collector_that_never_answers_is_left_and_asked_again() {
    let folder = Folder::new();
    let silent = Fake::start(|_, _| {
        std::thread::park();
        false
    });
    let gateway = traced(&silent, &folder, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "300")]);
    let mut client = gateway.connect();
    client.initialize();
    gateway.log.until_says("the collector of spans gives no answer in time");
    client.echo(1, "hello");
    silent.until("asked again", |asked| asked.len() >= 2);
    let log = gateway.log.so_far();
    assert_eq!(crate::help::count(&log, "the collector of spans"), 1, "said once: {log}");
}

#[test]
fn what_cannot_be_sent_is_said_before_anything_is_served() {
    let output = Command::new(PROGRAM)
        .args(["serve", "--port", "0", "--", PROGRAM, "demo", "--stdio"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let expected = "OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\"; expected http/protobuf or http/json";
    assert!(said.contains(expected) && output.stdout.is_empty(), "{said}");
}
