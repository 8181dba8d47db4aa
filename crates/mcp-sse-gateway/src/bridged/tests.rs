//! Servers of either era, and those that are ill, on virtual time.

mod sessions;

use std::collections::VecDeque;

use http::HeaderMap;
use tokio::time::advance;

use super::*;
use crate::{bridge::Era, message::modern::Headers};

const TIME: Duration = Duration::from_secs(30);
/// How often all tasks get a turn before it is said that nothing happens any more.
const TURNS: usize = 100;
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#;
const REFUSAL: &str = r#"{"code":-32022,"message":"Unsupported protocol version","data":{"supported":["2026-07-28"],"requested":"2025-06-18"}}"#;
const GREETING: &str =
    r#"{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","version":"1"}}"#;
const DISCOVERED: &str = r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}"#;

// ---- servers --------------------------------------------------------------------------------------

/// Starts servers, each of which does what the next of these is.
struct Fake {
    next: VecDeque<Doing>,
    /// Of each that was started.
    started: Vec<Arc<Server>>,
}

/// What a server does with a message.
type Doing = Box<dyn Fn(&Message) -> Does + Send + Sync>;

enum Does {
    /// It says these.
    Says(Vec<String>),
    /// It dies.
    Dies,
    /// It takes nothing more.
    Blocks,
}

struct Server {
    doing: Doing,
    is_modern: bool,
    heard: Mutex<Vec<Incoming>>,
    /// What it will say.
    says: mpsc::Sender<Result<Message, Failure>>,
    closed: Mutex<Option<How>>,
    greeted: Mutex<Option<bool>>,
    /// As long as its halves are there.
    halves: Arc<()>,
}

impl Server {
    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().iter().map(|incoming| incoming.message.as_str().to_owned()).collect()
    }

    fn methods(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        heard.iter().map(|incoming| incoming.message.method().unwrap_or("an answer").to_owned()).collect()
    }

    fn closed(&self) -> Option<How> {
        *self.closed.lock().unwrap()
    }

    async fn says(&self, json: impl Into<String>) {
        self.says.send(Ok(parse(json))).await.unwrap();
    }

    async fn dies(&self, text: &str) {
        self.says.send(Err(Failure::new(text))).await.unwrap();
    }
}

struct Takes(Arc<Server>, #[expect(dead_code, reason = "counted")] Arc<()>);
struct Says(Arc<Server>, mpsc::Receiver<Result<Message, Failure>>);

impl Fake {
    fn new(servers: impl IntoIterator<Item = Doing>) -> Self {
        Self { next: servers.into_iter().collect(), started: Vec::new() }
    }

    fn start(&mut self, is_modern: bool) -> (Takes, Says) {
        let doing = self.next.pop_front().expect("one server less");
        let (says, said) = mpsc::channel(1_000);
        let halves = Arc::new(());
        let server = Arc::new(Server {
            doing,
            is_modern,
            heard: Mutex::default(),
            says,
            closed: Mutex::default(),
            greeted: Mutex::default(),
            halves: halves.clone(),
        });
        self.started.push(server.clone());
        (Takes(server.clone(), halves), Says(server, said))
    }

    fn last(&self) -> &Arc<Server> {
        self.started.last().unwrap()
    }
}

impl Backend for Fake {
    type Sink = Takes;
    type Source = Says;

    async fn open(&mut self, _: &Parts) -> Result<(Takes, Says), Failure> {
        Ok(self.start(false))
    }

    async fn open_modern(&mut self, _: &Parts) -> Result<(Takes, Says), Failure> {
        Ok(self.start(true))
    }

    async fn untaken(&mut self, sink: &mut Takes, _: &mut Says) -> Vec<Message> {
        sink.0.heard.lock().unwrap().iter().map(|incoming| incoming.message.clone()).collect()
    }

    async fn close(&mut self, sink: Takes, source: Says, how: How) {
        assert!(Arc::ptr_eq(&sink.0, &source.0));
        assert!(sink.0.closed.lock().unwrap().replace(how).is_none(), "closed once");
    }
}

/// The same, as one that is reached over HTTP.
struct Remote(Fake);

impl Backend for Remote {
    type Sink = Takes;
    type Source = Says;
    const OVER_HTTP: bool = true;

    async fn open(&mut self, head: &Parts) -> Result<(Takes, Says), Failure> {
        self.0.open(head).await
    }

    async fn open_modern(&mut self, head: &Parts) -> Result<(Takes, Says), Failure> {
        self.0.open_modern(head).await
    }

    async fn untaken(&mut self, sink: &mut Takes, source: &mut Says) -> Vec<Message> {
        self.0.untaken(sink, source).await
    }

    async fn close(&mut self, sink: Takes, source: Says, how: How) {
        self.0.close(sink, source, how).await;
    }
}

impl Sink for Takes {
    async fn send(&mut self, incoming: Incoming) -> Result<(), Failure> {
        let Self(server, _) = self;
        match (server.doing)(&incoming.message) {
            Does::Blocks => std::future::pending().await,
            Does::Dies => {
                let _ = server.says.send(Err(Failure::new("it died of that"))).await;
                return Err(Failure::new("it takes no more"));
            }
            Does::Says(says) => {
                server.heard.lock().unwrap().push(incoming);
                for says in says {
                    server.says(says).await;
                }
            }
        }
        Ok(())
    }
}

impl Source for Says {
    async fn recv(&mut self) -> Result<Message, Failure> {
        self.1.recv().await.expect("the server holds the other end")
    }

    fn silent(&self, time: Duration) -> Failure {
        Failure::of(How::NotStarted, format!("silent for {time:?}"))
    }

    fn greeted(&mut self, successfully: bool) {
        *self.0.greeted.lock().unwrap() = Some(successfully);
    }
}

fn parse(json: impl Into<String>) -> Message {
    let json = json.into();
    Message::parse(json.clone()).unwrap_or_else(|error| panic!("{error}: {json}"))
}

fn result(id: &RequestId, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

fn error(id: &RequestId, error: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

fn says(says: String) -> Does {
    Does::Says(vec![says])
}

/// A server that answers each request so.
fn answers(answer: impl Fn(&str, &RequestId) -> Does + Send + Sync + 'static) -> Doing {
    Box::new(move |message| match message.kind() {
        MessageKind::Request { id, method } => answer(method, id),
        _ => Does::Says(Vec::new()),
    })
}

fn legacy() -> Doing {
    answers(|method, id| match method {
        "initialize" => says(result(id, GREETING)),
        "tools/call" => says(result(id, r#"{"content":[]}"#)),
        _ => says(error(id, r#"{"code":-32601,"message":"Method not found"}"#)),
    })
}

/// One that refuses the handshake with this error, and does not know the other era.
fn refuses_with(refusal: &'static str) -> Doing {
    answers(move |method, id| match method {
        "initialize" => says(error(id, refusal)),
        _ => says(error(id, r#"{"code":-32601,"message":"Method not found"}"#)),
    })
}

fn modern() -> Doing {
    answers(|method, id| match method {
        "initialize" => says(error(id, REFUSAL)),
        "server/discover" => says(result(id, DISCOVERED)),
        "tools/call" => says(result(id, r#"{"resultType":"complete","content":[]}"#)),
        "subscriptions/listen" => Does::Says(Vec::new()),
        _ => says(error(id, r#"{"code":-32601,"message":"Method not found"}"#)),
    })
}

/// One that answers `server/discover` so, and is a modern one otherwise.
fn discovers(answer: impl Fn(&RequestId) -> Does + Send + Sync + 'static) -> Doing {
    let modern = modern();
    Box::new(move |message| match message.kind() {
        MessageKind::Request { id, method } if &**method == "server/discover" => answer(id),
        _ => modern(message),
    })
}

// ---- sessions -------------------------------------------------------------------------------------

fn head() -> Parts {
    http::Request::new(()).into_parts().0
}

fn incoming(json: impl Into<String>) -> Incoming {
    Incoming::new(parse(json), head())
}

fn call(id: usize) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"t"}}}}"#)
}

fn bridged(eras: &Eras, servers: impl IntoIterator<Item = Doing>) -> Bridged<'_, Fake> {
    Bridged::new(Fake::new(servers), eras, TIME, false)
}

type Half = (BridgedSink<Takes>, BridgedSource<Takes, Says>);

async fn open(bridged: &mut Bridged<'_, Fake>) -> Half {
    bridged.open(&head()).await.expect("it opens")
}

fn is_translated((sink, _): &Half) -> bool {
    matches!(sink, BridgedSink::Translated { .. })
}

/// What the session's client hears next.
async fn hears((_, source): &mut Half) -> Result<String, Failure> {
    source.recv().await.map(|message| message.as_str().to_owned())
}

async fn asks(half: &mut Half, json: impl Into<String>) -> Result<String, Failure> {
    half.0.send(incoming(json)).await?;
    hears(half).await
}

/// All tasks have done what they can for now.
async fn settles() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

/// Known as a modern server.
async fn known() -> Eras {
    let eras = Eras::new(Era::Auto);
    let mut servers = bridged(&eras, [modern(), modern()]);
    let mut half = open(&mut servers).await;
    assert_eq!(asks(&mut half, INITIALIZE).await.unwrap_err().how, How::OtherEra);
    servers.close(half.0, half.1, How::OtherEra).await;
    let half = open(&mut servers).await;
    assert!(is_translated(&half));
    servers.close(half.0, half.1, How::Idle).await;
    assert_eq!(eras.plan(), Plan::Translated);
    eras
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_initialize_is_spoken_to_as_its_client_speaks() {
    let eras = Eras::new(Era::Auto);
    let mut servers = bridged(&eras, [legacy()]);
    let mut half = open(&mut servers).await;
    assert!(!is_translated(&half) && !servers.backend.last().is_modern);
    let id = RequestId::from(0);
    assert_eq!(asks(&mut half, INITIALIZE).await, Ok(result(&id, GREETING)));
    // What it refuses otherwise is no matter of eras.
    let ping = r#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#;
    assert!(asks(&mut half, ping).await.unwrap().contains("-32601"));
    assert_eq!(servers.untaken(&mut half.0, &mut half.1).await.len(), 2);
    half.0.send_all(vec![incoming(call(7)), incoming(call(8))]).await.unwrap();
    for id in [7, 8] {
        assert_eq!(hears(&mut half).await, Ok(result(&RequestId::from(id), r#"{"content":[]}"#)));
    }
    servers.close(half.0, half.1, How::Ended).await;
    assert_eq!(servers.backend.last().closed(), Some(How::Ended));
    assert_eq!((eras.plan(), eras.modern()), (Plan::Watched, None));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_it_is_started_again_and_asked_before_anything_else() {
    let eras = Eras::new(Era::Auto);
    let mut servers = bridged(&eras, [modern(), modern(), modern()]);
    let mut half = open(&mut servers).await;
    let failure = asks(&mut half, INITIALIZE).await.unwrap_err();
    assert_eq!(failure, Failure::of(How::OtherEra, "the server refuses the handshake"));
    servers.close(half.0, half.1, failure.how).await;
    let mut half = open(&mut servers).await;
    let server = servers.backend.last().clone();
    assert!(is_translated(&half) && server.is_modern);
    assert_eq!(
        server.heard(),
        [concat!(
            r#"{"jsonrpc":"2.0","id":"mcp-sse-discover","method":"server/discover","params":{"_meta":{"#,
            r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
            r#""io.modelcontextprotocol/clientCapabilities":{}}}}"#
        )]
    );
    assert_eq!(*server.greeted.lock().unwrap(), Some(true));
    let answer = r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"s","version":"1"}}"#;
    assert_eq!(asks(&mut half, INITIALIZE).await, Ok(result(&RequestId::from(0), answer)));
    assert_eq!(asks(&mut half, call(7)).await, Ok(result(&RequestId::from(7), r#"{"content":[]}"#)));
    servers.close(half.0, half.1, How::Idle).await;
    assert_eq!((server.closed(), Arc::strong_count(&server.halves)), (Some(How::Idle), 1));
    // The next session need not find it out.
    let half = open(&mut servers).await;
    assert!(is_translated(&half));
    servers.close(half.0, half.1, How::Idle).await;
    assert_eq!(servers.backend.started.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn over_http_what_is_asked_first_has_its_headers() {
    let eras = Eras::new(Era::Modern);
    let mut servers = Bridged::new(Remote(Fake::new([modern()])), &eras, TIME, false);
    let mut parts = head();
    parts.headers.insert("authorization", http::HeaderValue::from_static("Bearer x"));
    let Ok(half) = servers.open(&parts).await else { panic!("it opens") };
    let server = servers.inner().0.last().clone();
    let heard = server.heard.lock().unwrap()[0].clone();
    assert_eq!(heard.parts().headers["authorization"], "Bearer x");
    let headers: &HeaderMap = &heard.parts().extensions.get::<Headers>().unwrap().0;
    assert_eq!(headers["mcp-method"], "server/discover");
    servers.close(half.0, half.1, How::Idle).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_server_says_before_it_has_answered_is_not_its_answer() {
    let eras = Eras::new(Era::Modern);
    let chatty = discovers(|id| {
        Does::Says(vec![
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#
                .to_owned(),
            r#"{"jsonrpc":"2.0","id":"mcp-sse-discover","method":"ping"}"#.to_owned(),
            r#"{"jsonrpc":"2.0","id":7,"result":{}}"#.to_owned(),
            r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"m"}}"#.to_owned(),
            result(id, DISCOVERED),
        ])
    });
    let mut servers = bridged(&eras, [chatty]);
    assert!(is_translated(&open(&mut servers).await));
}

// ---- what a server may do instead of an answer ----------------------------------------------------

/// Answers to the question that are none of a modern server.
const NONSENSE: [&str; 7] = [
    "{}",
    r#"{"supportedVersions":[]}"#,
    r#"{"supportedVersions":["2025-11-25","2027-01-01"]}"#,
    r#"{"supportedVersions":"2026-07-28"}"#,
    r#"{"supportedVersions":["2026-07-28"],"supportedVersions":["2026-07-28"]}"#,
    "[]",
    "null",
];

#[tokio::test(start_paused = true)]
async fn a_server_that_speaks_neither_is_left_to_its_client() {
    let refusal = r#"{"code":-32601,"message":"Method not found"}"#;
    for nonsense in NONSENSE {
        let eras = Eras::new(Era::Auto);
        let asked = discovers(move |id| says(result(id, nonsense)));
        let mut servers = bridged(&eras, [refuses_with(refusal), asked, refuses_with(refusal)]);
        let mut half = open(&mut servers).await;
        assert!(asks(&mut half, INITIALIZE).await.is_err());
        let mut half = open(&mut servers).await;
        assert!(!is_translated(&half), "{nonsense}");
        let asked = &servers.backend.started[1];
        assert_eq!((asked.closed(), asked.methods()), (Some(How::Idle), vec!["server/discover".to_owned()]));
        // It was asked just now.
        assert_eq!(asks(&mut half, INITIALIZE).await, Ok(error(&RequestId::from(0), refusal)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_it_is_modern_has_to_be() {
    for nonsense in NONSENSE {
        let eras = Eras::new(Era::Auto);
        let asked = discovers(move |id| says(result(id, nonsense)));
        let mut servers = bridged(&eras, [refuses_with(REFUSAL), asked, refuses_with(REFUSAL)]);
        let mut half = open(&mut servers).await;
        assert!(asks(&mut half, INITIALIZE).await.is_err());
        match servers.open(&head()).await {
            Err(failure) => assert_eq!(failure.how, How::NotStarted),
            // It says that it is of another revision after all.
            Ok(half) => assert!(!is_translated(&half), "{nonsense}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_said_to_be_modern_has_to_be() {
    for nonsense in NONSENSE {
        let eras = Eras::new(Era::Modern);
        let mut servers = bridged(&eras, [discovers(move |id| says(result(id, nonsense)))]);
        let Err(failure) = servers.open(&head()).await else { panic!("it opens: {nonsense}") };
        assert_eq!(failure.how, How::NotStarted);
        assert!(failure.text.contains("as it should"), "{failure}");
        assert!(servers.backend.last().closed().is_some());
    }
    // And one that is said to be legacy is not asked.
    let eras = Eras::new(Era::Legacy);
    let mut servers = bridged(&eras, [modern()]);
    let mut half = open(&mut servers).await;
    assert_eq!(asks(&mut half, INITIALIZE).await, Ok(error(&RequestId::from(0), REFUSAL)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    // One that has refused, and may know no such question.
    let eras = Eras::new(Era::Auto);
    let silent = || discovers(|_| Does::Says(Vec::new()));
    let refusal = r#"{"code":-32602,"message":"Invalid params"}"#;
    let mut servers = bridged(&eras, [refuses_with(refusal), silent(), refuses_with(refusal)]);
    let mut half = open(&mut servers).await;
    assert!(asks(&mut half, INITIALIZE).await.is_err());
    let began = clock::now();
    let half = open(&mut servers).await;
    assert_eq!((clock::now() - began, is_translated(&half)), (ASKED, false));
    assert_eq!(servers.backend.started[1].closed(), Some(How::Idle));
    // One that is known, or set: that takes nothing, or says nothing.
    let blocks: fn() -> Doing = || discovers(|_| Does::Blocks);
    for (eras, server) in
        [(known().await, silent()), (known().await, blocks()), (Eras::new(Era::Modern), silent())]
    {
        let mut servers = bridged(&eras, [server]);
        let began = clock::now();
        let Err(failure) = servers.open(&head()).await else { panic!("it opens") };
        assert_eq!(failure, Failure::of(How::NotStarted, "silent for 30s"));
        assert_eq!(clock::now() - began, TIME);
        assert_eq!(servers.backend.last().closed(), Some(How::NotStarted));
        assert_eq!(eras.plan(), Plan::Translated, "that it is ill says nothing of what it speaks");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_of_the_question_does_not_speak_the_other_era() {
    let eras = Eras::new(Era::Auto);
    let refusal = r#"{"code":-32602,"message":"Invalid params"}"#;
    let dies = || discovers(|_| Does::Dies);
    let mut servers = bridged(&eras, [refuses_with(refusal), dies(), legacy(), legacy()]);
    let mut half = open(&mut servers).await;
    assert!(asks(&mut half, INITIALIZE).await.is_err());
    // Another session begins as ever.
    for _ in 0..2 {
        let mut half = open(&mut servers).await;
        assert_eq!(asks(&mut half, INITIALIZE).await, Ok(result(&RequestId::from(0), GREETING)));
    }
    // That one which is known dies is a failure of this session.
    let eras = known().await;
    let mut servers = bridged(&eras, [dies()]);
    let Err(failure) = servers.open(&head()).await else { panic!("it opens") };
    assert_eq!(failure, Failure::new("it died of that"));
    assert!(servers.backend.last().closed().is_some());
    assert_eq!(eras.plan(), Plan::Translated);
}

#[tokio::test(start_paused = true)]
async fn one_clients_trouble_is_not_that_of_others() {
    // A server that is known to be modern refuses one client: it has no rights, or asks too often.
    for trouble in [
        r#"{"code":-32000,"message":"the server did not answer the request: HTTP 401 Unauthorized"}"#,
        r#"{"code":-32603,"message":"Internal error"}"#,
        r#"{"code":429,"message":"slow down"}"#,
    ] {
        for refusal in [REFUSAL, r#"{"code":-32601,"message":"Method not found"}"#] {
            let refuses = |message: &Message| match message.kind() {
                MessageKind::Request { id, method } if &**method == "initialize" => {
                    Some(says(error(id, refusal)))
                }
                _ => None,
            };
            let well = || -> Doing {
                let modern = modern();
                Box::new(move |message| refuses(message).unwrap_or_else(|| modern(message)))
            };
            let ill = discovers(move |id| says(error(id, trouble)));
            let ill: Doing = Box::new(move |message| refuses(message).unwrap_or_else(|| ill(message)));
            let eras = known().await;
            let mut servers = bridged(&eras, [ill, well(), well(), well()]);
            // Whatever becomes of the first.
            drop(servers.open(&head()).await);
            let mut half = open(&mut servers).await;
            let answer = match asks(&mut half, INITIALIZE).await {
                Ok(answer) => answer,
                Err(_) => {
                    half = open(&mut servers).await;
                    asks(&mut half, INITIALIZE).await.unwrap()
                }
            };
            assert!(answer.contains(r#""result""#), "{trouble}: {answer}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_clients_mistake_does_not_decide_for_others() {
    // A server of both eras, one of whose clients sends an `initialize` that is none.
    let both = || {
        answers(|method, id| match method {
            "server/discover" => says(result(id, DISCOVERED)),
            "initialize" if *id == RequestId::from(66) => {
                says(error(id, r#"{"code":-32602,"message":"Invalid params"}"#))
            }
            "initialize" => says(result(id, GREETING)),
            _ => says(error(id, r#"{"code":-32601,"message":"Method not found"}"#)),
        })
    };
    let eras = Eras::new(Era::Auto);
    let mut servers = bridged(&eras, [both(), both(), both(), both()]);
    let mut good = open(&mut servers).await;
    assert_eq!(asks(&mut good, INITIALIZE).await, Ok(result(&RequestId::from(0), GREETING)));
    let mut bad = open(&mut servers).await;
    let mistake = r#"{"jsonrpc":"2.0","id":66,"method":"initialize","params":{"protocolVersion":7}}"#;
    if asks(&mut bad, mistake).await.is_err() {
        let _ = servers.open(&head()).await;
    }
    let half = open(&mut servers).await;
    assert!(!is_translated(&half), "it answers an initialize that is one");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_refused_is_asked_again_after_a_while() {
    let eras = Eras::new(Era::Auto);
    let refusal = r#"{"code":-32602,"message":"Invalid params"}"#;
    let refuses = || refuses_with(refusal);
    let mut servers = bridged(&eras, [refuses(), refuses(), refuses(), refuses(), refuses(), modern()]);
    let mut half = open(&mut servers).await;
    assert_eq!(asks(&mut half, INITIALIZE).await.unwrap_err().how, How::OtherEra);
    // One is asked, and the next is for the client.
    let mut half = open(&mut servers).await;
    assert_eq!(asks(&mut half, INITIALIZE).await, Ok(error(&RequestId::from(0), refusal)));
    advance(Duration::from_secs(59)).await;
    let mut half = open(&mut servers).await;
    assert_eq!(asks(&mut half, INITIALIZE).await, Ok(error(&RequestId::from(0), refusal)));
    advance(Duration::from_secs(1)).await;
    let mut half = open(&mut servers).await;
    assert_eq!(asks(&mut half, INITIALIZE).await.unwrap_err().how, How::OtherEra);
    // It was changed meanwhile.
    assert!(is_translated(&open(&mut servers).await));
    assert!(servers.backend.next.is_empty());
}

// ---- in the middle of a session -------------------------------------------------------------------

async fn translated<'a>(eras: &'a Eras, server: Doing) -> (Bridged<'a, Fake>, Half, Arc<Server>) {
    let mut servers = bridged(eras, [server]);
    let mut half = open(&mut servers).await;
    assert!(asks(&mut half, INITIALIZE).await.is_ok());
    let server = servers.backend.last().clone();
    (servers, half, server)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_speak_the_revision_any_more_is_spoken_to_otherwise() {
    let eras = known().await;
    let changed = answers(|method, id| match method {
        "server/discover" => says(result(id, DISCOVERED)),
        "subscriptions/listen" => Does::Says(Vec::new()),
        _ => says(error(id, r#"{"code":-32022,"message":"m","data":{"supported":["2027-01-01"]}}"#)),
    });
    let (mut servers, mut half, server) = translated(&eras, changed).await;
    assert!(asks(&mut half, call(7)).await.unwrap().contains("-32603"));
    assert_eq!(hears(&mut half).await.unwrap_err().how, How::OtherEra);
    servers.close(half.0, half.1, How::OtherEra).await;
    assert_eq!(server.closed(), Some(How::OtherEra));
    assert_eq!(eras.plan(), Plan::Watched);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_only_looks_like_that_is_a_calls() {
    let eras = known().await;
    let server = answers(|method, id| match method {
        "server/discover" => says(result(id, DISCOVERED)),
        "subscriptions/listen" => Does::Says(Vec::new()),
        // Of a server behind it, say.
        _ => says(error(id, r#"{"code":-32022,"message":"m","data":{"supported":["2026-07-28"]}}"#)),
    });
    let (_, mut half, _) = translated(&eras, server).await;
    for id in 7..9 {
        assert!(asks(&mut half, call(id)).await.unwrap().contains("\"error\""));
    }
    assert_eq!(eras.plan(), Plan::Translated);
}

#[tokio::test(start_paused = true)]
async fn what_a_server_has_said_before_it_died_is_still_heard() {
    let eras = known().await;
    let (mut servers, mut half, server) = translated(&eras, modern()).await;
    for number in 0..100 {
        let note = format!(r#"{{"jsonrpc":"2.0","method":"notifications/x","params":{{"n":{number}}}}}"#);
        server.says(note).await;
    }
    server.dies("exit status: 1").await;
    for number in 0..100 {
        assert!(hears(&mut half).await.unwrap().contains(&format!(r#""n":{number}}}"#)));
    }
    assert_eq!(hears(&mut half).await, Err(Failure::new("exit status: 1")));
    assert_eq!(hears(&mut half).await, Err(Failure::new("the server is gone")));
    assert!(half.0.send(incoming(call(7))).await.is_err());
    servers.close(half.0, half.1, How::Failed).await;
    assert_eq!(server.closed(), Some(How::Failed));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_nothing_more_may_say_why() {
    // It dies of a call, and says so; or says nothing.
    let eras = known().await;
    let (_, mut half, _) = translated(
        &eras,
        answers(|method, id| match method {
            "server/discover" => says(result(id, DISCOVERED)),
            _ => Does::Dies,
        }),
    )
    .await;
    assert_eq!(asks(&mut half, call(7)).await, Err(Failure::new("it died of that")));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_full_takes_no_more_than_has_a_place_and_is_heard_all_the_same() {
    let eras = known().await;
    let (mut servers, mut half, server) = translated(
        &eras,
        answers(|method, id| match method {
            "server/discover" => says(result(id, DISCOVERED)),
            _ => Does::Blocks,
        }),
    )
    .await;
    let mut taken = 0;
    while timeout(Duration::from_secs(1), half.0.send(incoming(call(taken)))).await.is_ok() {
        taken += 1;
        assert!(taken < 1_000, "it takes everything");
    }
    assert!(taken >= ROOM);
    server.says(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#).await;
    assert!(hears(&mut half).await.unwrap().contains("notifications/x"));
    // And it can be closed.
    let began = clock::now();
    servers.close(half.0, half.1, How::Idle).await;
    assert!(clock::now() - began <= LAST_WORDS);
    assert_eq!((server.closed(), Arc::strong_count(&server.halves)), (Some(How::Idle), 1));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hears_nothing_stops_its_server_only() {
    let eras = known().await;
    let (mut servers, half, server) = translated(&eras, modern()).await;
    let note = || parse(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
    let mut said = 0;
    loop {
        settles().await;
        match server.says.try_send(Ok(note())) {
            Ok(()) => said += 1,
            Err(_) => break,
        }
        assert!(said < 10_000, "everything is taken");
    }
    // What waits here is no more than what has a place.
    assert!(said <= server.says.max_capacity() + 3 * ROOM, "{said}");
    let began = clock::now();
    servers.close(half.0, half.1, How::Idle).await;
    assert!(clock::now() - began <= LAST_WORDS);
    assert_eq!(server.closed(), Some(How::Idle));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_and_takes_nothing_is_still_heard_and_closed() {
    let eras = known().await;
    let (mut servers, mut half, server) = translated(
        &eras,
        answers(|method, id| match method {
            "server/discover" => says(result(id, DISCOVERED)),
            _ => Does::Blocks,
        }),
    )
    .await;
    for id in 0..5_000 {
        server.says(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#)).await;
    }
    server.says(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#).await;
    let heard = timeout(TIME, hears(&mut half)).await.expect("what waits for it stops nothing");
    assert!(heard.unwrap().contains("notifications/x"));
    servers.close(half.0, half.1, How::Idle).await;
    assert_eq!(server.closed(), Some(How::Idle));
}

/// On a thread of its own, as one that spins cannot be stopped.
#[test]
fn a_server_that_takes_nothing_and_asks_when_its_client_has_gone_is_closed() {
    let (done, ends) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let eras = known().await;
            let (mut servers, mut half, server) = translated(
                &eras,
                answers(|method, id| match method {
                    "server/discover" => says(result(id, DISCOVERED)),
                    _ => Does::Blocks,
                }),
            )
            .await;
            // Its listen and a call are being written for ever; nothing else waits.
            half.0.send(incoming(call(7))).await.unwrap();
            settles().await;
            let asks = async {
                settles().await;
                server.says(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
            };
            tokio::join!(servers.close(half.0, half.1, How::Idle), asks);
            assert_eq!(server.closed(), Some(How::Idle));
        });
        done.send(()).unwrap();
    });
    ends.recv_timeout(Duration::from_secs(20)).expect("it ends");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_dropped_takes_its_server_with_it() {
    let eras = known().await;
    let (_, half, server) = translated(&eras, modern()).await;
    assert!(Arc::strong_count(&server.halves) > 1);
    drop(half);
    settles().await;
    assert_eq!(Arc::strong_count(&server.halves), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_client_has_said_before_it_left_is_delivered() {
    let eras = known().await;
    let (mut servers, mut half, server) = translated(&eras, modern()).await;
    for id in 0..8 {
        half.0.send(incoming(call(id))).await.unwrap();
    }
    servers.close(half.0, half.1, How::Idle).await;
    let calls = server.methods().iter().filter(|method| *method == "tools/call").count();
    assert_eq!(calls, 8);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_ended_what_it_tells_of_is_asked_again_in_time() {
    let eras = known().await;
    let (_, mut half, server) = translated(&eras, modern()).await;
    half.0.send(incoming(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)).await.unwrap();
    settles().await;
    assert_eq!(server.methods(), ["server/discover", "subscriptions/listen"]);
    let id = server.heard.lock().unwrap()[1].message.id().unwrap().clone();
    server.says(result(&id, "{}")).await;
    settles().await;
    advance(Duration::from_millis(900)).await;
    settles().await;
    assert_eq!(server.methods().len(), 2);
    advance(Duration::from_millis(200)).await;
    settles().await;
    assert_eq!(server.methods(), ["server/discover", "subscriptions/listen", "subscriptions/listen"]);
}
