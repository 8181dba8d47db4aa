mod model;
mod scenes;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use super::*;
use crate::{bridge::modern_client::calls::Out, clock};

const GREETING: &str = r#"{"protocolVersion":"2025-11-25","serverInfo":{"name":"s","version":"1"},"capabilities":{"logging":{},"tools":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true}}}"#;
const ALL: &str = r#"{"elicitation":{},"roots":{},"sampling":{}}"#;

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn parsed(json: &str) -> Message {
    Message::parse(json.to_owned()).unwrap()
}

fn about(capabilities: &str) -> About {
    About { info: None, capabilities: capabilities.into() }
}

fn asked(id: &str, method: &str, params: &str, meta: &str, capabilities: &str) -> Arc<Asked> {
    let json = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{capabilities}{meta}}}}}}}"#
    );
    // The same for all, so that requests can be told to be the same.
    thread_local!(static SECRET: RandomState = RandomState::new());
    SECRET.with(|secret| Arc::new(Asked::read(&parsed(&json), secret).unwrap()))
}

/// A host, and what its server and its clients see.
struct World {
    host: Host<()>,
    now: Instant,
    minted: usize,
    may_mint: bool,
}

impl World {
    fn new(plan: Plan, capabilities: &str) -> Self {
        let bounds = Bounds { requests: 8, start_timeout: Duration::from_secs(20) };
        let now = clock::now();
        Self { host: Host::new(about(capabilities), plan, bounds, now), now, minted: 0, may_mint: true }
    }

    /// A legacy server that has been greeted, by the first request, which is answered.
    fn legacy(capabilities: &str) -> Self {
        let mut this = Self::new(Plan::Legacy, capabilities);
        let call = this.ask("0", "server/discover", "", "");
        let initialize = this.sent();
        this.answer(&initialize, GREETING);
        assert_eq!(this.sent().method(), Some("notifications/initialized"));
        assert!(this.got(call).contains("supportedVersions"));
        this
    }

    fn ask(&mut self, id: &str, method: &str, params: &str, meta: &str) -> i64 {
        self.try_ask(id, method, params, meta).unwrap()
    }

    fn try_ask(&mut self, id: &str, method: &str, params: &str, meta: &str) -> Result<i64, Refused> {
        let capabilities = self.host.about.capabilities.clone();
        self.host.ask(asked(id, method, params, meta, &capabilities), (), false, self.now)
    }

    fn call(&mut self, id: &str) -> i64 {
        self.ask(id, "tools/call", r#""name":"t","#, "")
    }

    fn resume(&mut self, key: i64, id: &str, state: &str, responses: &str) -> Result<(), Refused> {
        let capabilities = self.host.about.capabilities.clone();
        let params = format!(r#""name":"t","requestState":"{state}","inputResponses":{responses},"#);
        self.host.resume(key, &asked(id, "tools/call", &params, "", &capabilities), (), self.now)
    }

    fn try_sent(&mut self) -> Option<Message> {
        match self.host.poll_outgoing(&Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(outgoing)) => Some(outgoing.message().unwrap()),
            Poll::Ready(None) | Poll::Pending => None,
        }
    }

    fn sent(&mut self) -> Message {
        self.try_sent().unwrap()
    }

    fn says(&mut self, json: &str) {
        self.host.says(parsed(json), self.now);
    }

    fn answer(&mut self, request: &Message, result: &str) {
        let id = request.id().unwrap();
        self.says(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
    }

    fn question(&mut self, id: &str, method: &str) {
        self.says(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{}}}}"#));
    }

    fn poll(&mut self, key: i64, waker: &Waker) -> Poll<Option<Out>> {
        let (minted, may_mint) = (self.minted, self.may_mint);
        let next = self.host.poll_next(key, &Context::from_waker(waker), self.now, || {
            may_mint.then(|| State::new(format!("state-{minted}")))
        });
        self.minted += 1;
        next
    }

    fn next(&mut self, key: i64) -> Option<Out> {
        match self.poll(key, Waker::noop()) {
            Poll::Ready(out) => out,
            Poll::Pending => None,
        }
    }

    /// What a client gets, as text.
    fn got(&mut self, key: i64) -> String {
        match self.next(key).unwrap() {
            Out::Notification(message) | Out::InputRequired(message) => message.as_str().to_owned(),
            Out::Answer(answer) => answer.message().as_str().to_owned(),
        }
    }

    /// The same when all questions have come that come together.
    fn gathered(&mut self, key: i64) -> String {
        self.nothing(key);
        self.passes(GATHERED);
        self.got(key)
    }

    fn nothing(&mut self, key: i64) {
        assert!(self.poll(key, Waker::noop()).is_pending());
    }

    fn silent(&mut self) {
        assert!(self.try_sent().is_none());
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
        self.host.due(self.now);
    }
}
