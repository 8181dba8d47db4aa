//! A real rmcp server on a session.

use std::time::Duration;

use http::request::Parts;
use mcp_sse::{Session, SseServerTransport};
use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt as _,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, PingRequest,
        ProgressNotificationParam, ServerCapabilities, ServerConfig, ServerRequest,
    },
    service::RequestContext,
};
use serde_json::{Value, json};

use crate::help::{Events, Server, full, idle, notification, pass, post};

/// What the tool `stubborn` waits for; one test uses it.
static STUBBORN: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);

/// Some tools, each for one promise.
struct Tools;

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let text = match &*request.name {
            "whose" => {
                let parts = context.extensions.get::<Parts>().expect("the head of the POST");
                parts.headers["x-marker"].to_str().unwrap().to_owned()
            }
            "count" => {
                let token = context.meta.get_progress_token().expect("a token");
                for n in 1..=500 {
                    let progress = ProgressNotificationParam::new(token.clone(), f64::from(n));
                    context.peer.notify_progress(progress).await.unwrap();
                }
                "done".to_owned()
            }
            "ask" => {
                let asked =
                    context.peer.send_request(ServerRequest::PingRequest(PingRequest::default())).await;
                match asked {
                    Ok(_) => "answered".to_owned(),
                    Err(error) => error.to_string(),
                }
            }
            "large" => "x".repeat(10_000),
            "wait" => {
                context.ct.cancelled().await;
                "cancelled".to_owned()
            }
            // Does not heed its cancellation.
            "stubborn" => {
                drop(STUBBORN.acquire().await.unwrap());
                "at last".to_owned()
            }
            "panic" => panic!("as a test"),
            other => return Err(ErrorData::invalid_params(format!("no tool {other}"), None)),
        };
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

async fn app(session: Session) {
    if let Ok(server) = Tools.serve(session).await {
        let _ = server.waiting().await;
    }
}

fn server() -> Server {
    Server::with_app(SseServerTransport::builder("/messages/"), app)
}

struct Client<'a> {
    server: &'a Server,
    events: Events,
}

impl<'a> Client<'a> {
    async fn open(server: &'a Server) -> Self {
        Self { server, events: server.open().await }
    }

    async fn initialized(server: &'a Server) -> Self {
        let mut client = Self::open(server).await;
        client.initialize().await;
        client
    }

    async fn initialize(&mut self) {
        let params = json!({
            "protocolVersion": "2024-11-05",
            "capabilities": {},
            "clientInfo": { "name": "test", "version": "1" },
        });
        self.post(json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params })).await;
        let answer = self.next().await;
        assert_eq!(answer["id"], 0);
        assert_eq!(answer["result"]["protocolVersion"], "2024-11-05");
        self.post(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    }

    async fn post(&self, json: impl ToString) {
        self.server.post(&self.events, json.to_string()).await.assert_accepted();
    }

    async fn call(&self, id: i64, tool: &str) {
        self.post(call(id, tool)).await;
    }

    async fn next(&mut self) -> Value {
        serde_json::from_str(&self.events.message().await).unwrap()
    }

    /// The text of the answer to a tool call.
    async fn text(&mut self, id: i64) -> String {
        let answer = self.next().await;
        assert_eq!(answer["id"], id, "{answer}");
        answer["result"]["content"][0]["text"].as_str().expect("a text").to_owned()
    }

    /// An error that bears this id.
    async fn error(&mut self, id: Value) -> Value {
        let mut answer = self.next().await;
        assert_eq!(answer["id"], id, "{answer}");
        answer["error"].take()
    }
}

fn call(id: i64, tool: &str) -> Value {
    let params = json!({ "name": tool, "_meta": { "progressToken": 7 } });
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })
}

async fn marked(client: &Client<'_>, id: i64, marker: &str) {
    let head = post(&client.events.uri).header("x-marker", marker);
    client.server.send(full(head, call(id, "whose").to_string())).await.assert_accepted();
}

#[tokio::test(start_paused = true)]
async fn a_client_shakes_hands_calls_a_tool_and_is_answered() {
    let server = server();
    let mut client = Client::initialized(&server).await;
    marked(&client, 1, "mine").await;
    assert_eq!(client.text(1).await, "mine");
    client.call(2, "unknown").await;
    assert_eq!(client.error(json!(2)).await["message"], "no tool unknown");
}

#[tokio::test(start_paused = true)]
async fn notifications_of_one_call_arrive_in_order_and_before_its_answer() {
    let server = server();
    let mut client = Client::initialized(&server).await;
    client.call(1, "count").await;
    for n in 1..=500 {
        let progress = client.next().await;
        assert_eq!(progress["method"], "notifications/progress");
        assert_eq!(progress["params"]["progress"].as_f64(), Some(f64::from(n)));
    }
    assert_eq!(client.text(1).await, "done");
}

#[tokio::test(start_paused = true)]
async fn a_handler_finds_the_head_of_its_own_post() {
    let server = server();
    let mut client = Client::initialized(&server).await;
    for id in 1..=20 {
        marked(&client, id, &format!("marker {id}")).await;
    }
    let mut texts = Vec::new();
    for _ in 1..=20 {
        let answer = client.next().await;
        let text = answer["result"]["content"][0]["text"].as_str().unwrap().to_owned();
        assert_eq!(text, format!("marker {}", answer["id"]));
        texts.push(text);
    }
    texts.dedup();
    assert_eq!(texts.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn two_clients_with_equal_ids_get_their_own_answers() {
    let server = server();
    let mut first = Client::initialized(&server).await;
    let mut second = Client::initialized(&server).await;
    marked(&first, 1, "first").await;
    marked(&second, 1, "second").await;
    assert_eq!(second.text(1).await, "second");
    assert_eq!(first.text(1).await, "first");
    first.events.assert_silent();
    second.events.assert_silent();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_rmcp_cannot_read_is_answered_with_an_error_that_bears_its_id() {
    let server = server();
    let mut client = Client::initialized(&server).await;
    client.post(r#"{"jsonrpc":"2.0","id":1.5,"method":"tools/call","params":{"name":"whose"}}"#).await;
    assert_eq!(client.error(json!(1.5)).await["code"], -32602);
    client.post(r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":["whose"]}"#).await;
    let error = client.error(json!("a")).await;
    assert_eq!(error["code"], -32602);
    assert!(
        error["message"].as_str().unwrap().starts_with("cannot read the request tools/call: "),
        "{error}"
    );
    client.post(r#"{"jsonrpc":"2.0","id":3,"method":"tools/call"}"#).await;
    client.error(json!(3)).await;
    marked(&client, 4, "still there").await;
    assert_eq!(client.text(4).await, "still there");
    assert_eq!(server.handle(&client.events).info().requests_in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn an_integer_written_as_a_float_is_answered_and_no_longer_in_flight() {
    let server = server();
    let mut client = Client::initialized(&server).await;
    client.post(r#"{"jsonrpc":"2.0","id":1.0,"method":"ping"}"#).await;
    assert_eq!(client.next().await["id"], 1);
    assert_eq!(server.handle(&client.events).info().requests_in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_notification_that_rmcp_cannot_read_harms_nothing() {
    let server = server();
    let mut client = Client::initialized(&server).await;
    client.post(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":[1]}"#).await;
    marked(&client, 4, "still there").await;
    assert_eq!(client.text(4).await, "still there");
}

#[tokio::test(start_paused = true)]
async fn a_response_reaches_the_handler_that_asked() {
    let server = server();
    let mut client = Client::initialized(&server).await;
    client.call(1, "ask").await;
    let asked = client.next().await;
    assert_eq!(asked["method"], "ping");
    client.post(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": {} })).await;
    assert_eq!(client.text(1).await, "answered");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_rmcp_cannot_read_reaches_the_handler_as_an_error() {
    let server = server();
    let mut client = Client::initialized(&server).await;
    let deep = format!(r#""result":{}{}"#, "[".repeat(200), "]".repeat(200));
    for unreadable in [&*deep, r#""result":1e999"#, r#""error":{}"#, r#""error":{"code":"x","message":7}"#] {
        client.call(1, "ask").await;
        let asked = client.next().await;
        client.post(format!(r#"{{"jsonrpc":"2.0","id":{},{unreadable}}}"#, asked["id"])).await;
        let text = client.text(1).await;
        assert!(text.contains("the client's response cannot be read"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_before_initialize_is_answered() {
    let server = server();
    let mut client = Client::open(&server).await;
    client.post(json!({ "jsonrpc": "2.0", "id": 9, "method": "ping" })).await;
    let answer = client.next().await;
    assert_eq!((&answer["id"], &answer["result"]), (&json!(9), &json!({})));
    client.initialize().await;
    marked(&client, 1, "mine").await;
    assert_eq!(client.text(1).await, "mine");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_probes_with_server_discover_reads_its_error_and_goes_on() {
    let server = server();
    let mut client = Client::open(&server).await;
    client.post(json!({ "jsonrpc": "2.0", "id": 1, "method": "server/discover" })).await;
    client.error(json!(1)).await;
    client.initialize().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reconnects_without_initialize_is_served() {
    let server = server();
    let mut client = Client::initialized(&server).await;
    marked(&client, 1, "before").await;
    assert_eq!(client.text(1).await, "before");
    drop(client);
    let mut client = Client::open(&server).await;
    let head =
        post(&client.events.uri).header("x-marker", "after").header("mcp-protocol-version", "2025-06-18");
    server.send(full(head, call(2, "whose").to_string())).await.assert_accepted();
    marked(&client, 3, "second").await;
    assert_eq!(client.text(2).await, "after", "and nothing of the made-up initialize");
    assert_eq!(client.text(3).await, "second");
    client.events.assert_silent();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_begins_with_a_notification_is_served() {
    let server = server();
    let mut client = Client::open(&server).await;
    client.post(notification("notifications/initialized")).await;
    marked(&client, 1, "mine").await;
    assert_eq!(client.text(1).await, "mine");
}

#[tokio::test(start_paused = true)]
async fn without_the_synthesized_initialize_rmcp_refuses_such_a_client() {
    let builder = SseServerTransport::builder("/messages/").synthesize_initialize(false);
    let server = Server::with_app(builder, app);
    let mut client = Client::open(&server).await;
    client.call(1, "whose").await;
    client.error(json!(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_lives_until_its_client_goes_and_rmcp_ends_with_it() {
    let server = server();
    let mut client = Client::initialized(&server).await;
    let handle = server.handle(&client.events);
    marked(&client, 1, "mine").await;
    client.text(1).await;
    drop(client);
    assert_eq!(handle.closed().await, mcp_sse::CloseReason::ClientGone);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_resumes_gets_the_answer_it_missed() {
    let server = server();
    let client = Client::initialized(&server).await;
    let (position, uri) = (client.events.position(1), client.events.uri.clone());
    drop(client);
    let head = post(&uri).header("x-marker", "while away");
    server.send(full(head, call(1, "whose").to_string())).await.assert_accepted();
    let mut client = Client { server: &server, events: server.resume(&position).await.unwrap() };
    assert_eq!(client.text(1).await, "while away");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_leaves_the_session_usable() {
    let server = server();
    let mut client = Client::initialized(&server).await;
    client.call(1, "panic").await;
    marked(&client, 2, "mine").await;
    assert_eq!(client.text(2).await, "mine");
}

#[tokio::test(start_paused = true)]
async fn a_result_over_the_limit_is_an_error_to_its_client_and_the_session_goes_on() {
    let builder = SseServerTransport::builder("/messages/").max_outbound_message_bytes(5000);
    let server = Server::with_app(builder, app);
    let mut client = Client::initialized(&server).await;
    client.call(1, "large").await;
    let error = client.error(json!(1)).await;
    assert!(error["message"].as_str().unwrap().contains("max_outbound_message_bytes"), "{error}");
    marked(&client, 2, "mine").await;
    assert_eq!(client.text(2).await, "mine");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_is_in_flight_no_longer() {
    let server = server();
    let mut client = Client::initialized(&server).await;
    client.call(1, "wait").await;
    assert_eq!(server.handle(&client.events).info().requests_in_flight, 1);
    let params = json!({ "requestId": 1 });
    client.post(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })).await;
    assert_eq!(server.handle(&client.events).info().requests_in_flight, 0);
    marked(&client, 2, "mine").await;
    let mut answer = client.next().await;
    if answer["id"] == 1 {
        answer = client.next().await; // rmcp may answer what was cancelled
    }
    assert_eq!(answer["id"], 2);
}

#[tokio::test(start_paused = true)]
async fn handlers_of_cancelled_calls_that_run_on_are_bounded() {
    const BOUND: i64 = 16; // the least
    let settings =
        SseServerTransport::builder("/messages/").requests_in_flight(1, 1 << 20).keep_alive(Duration::ZERO);
    let server = Server::with_app(settings, app);
    let mut client = Client::initialized(&server).await;
    for id in 1..=BOUND {
        client.call(id, "stubborn").await;
        idle().await;
        let params = json!({ "requestId": id });
        client.post(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })).await;
        idle().await;
    }
    // They count for as long as they take, not only for a while.
    pass(Duration::from_secs(31)).await;
    let refused = server.post(&client.events, call(100, "stubborn").to_string()).await;
    refused.assert_busy("Session is busy, try again");
    STUBBORN.add_permits(1);
    idle().await;
    marked(&client, 101, "again").await;
    assert_eq!(client.text(101).await, "again");
}
