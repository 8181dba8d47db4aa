//! The `initialize` that the transport synthesizes for a client that reconnected without one.
//!
//! Today's TypeScript clients take the `endpoint` of a new stream as their address and go on with
//! `tools/call`. The app of the new session has never seen an `initialize` and would refuse all of their
//! requests. So if the first message of a session is something else, the transport sends the app an
//! `initialize`, and does not pass the response on to the client.

use bytes::Bytes;

use crate::{
    message::{Message, MessageKind, RequestId},
    session::{head::Head, incoming::Incoming},
};

/// The id of the synthesized request: a string that clients do not use as an id.
const ID: &str = "mcp-sse/synthesized-initialize";
/// The revision that defines this transport; assumed of a client that does not name one.
const OLDEST_VERSION: &str = "2024-11-05";
const VERSION_HEADER: &str = "mcp-protocol-version";

#[derive(Debug)]
pub(crate) enum Handshake {
    /// No message has come that decides whether one is needed.
    Undecided,
    /// The synthesized `initialize` waits for the app.
    Initialize(Box<Incoming>),
    /// The app has received it. Until it answers, all other messages are held back.
    Answer(Head),
    /// The app has answered; `notifications/initialized` waits for it.
    Initialized(Box<Incoming>),
    /// It is completed, or not needed, or turned off.
    Done,
}

impl Handshake {
    pub(crate) fn new(synthesize: bool) -> Self {
        if synthesize { Self::Undecided } else { Self::Done }
    }

    /// Inspects a message from the client before it is queued.
    pub(crate) fn on_client_message(&mut self, message: &Message, head: &Head) {
        if !matches!(self, Self::Undecided) {
            return;
        }
        match message.method() {
            // Allowed before `initialize`, so it decides nothing.
            Some("ping" | "server/discover") => {}
            Some("initialize") => *self = Self::Done,
            _ if message.names_its_protocol_version() => *self = Self::Done,
            _ => *self = Self::Initialize(Box::new(initialize(head))),
        }
    }

    /// Inspects a message from the app. `true`: it is the answer to the synthesized request, and must not
    /// reach the client.
    pub(crate) fn on_app_message(&mut self, message: &Message) -> bool {
        let Self::Answer(head) = self else { return false };
        let MessageKind::Response { id: Some(id), is_error } = message.kind() else { return false };
        if *id != RequestId::from(ID) {
            return false;
        }
        if *is_error {
            tracing::warn!("the app refused the initialize that was synthesized for a client that sent none");
            *self = Self::Done;
        } else {
            let head = head.clone();
            *self = Self::Initialized(Box::new(Incoming { message: initialized(), head }));
        }
        true
    }

    /// Whether it has no message for the app and holds none back.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self, Self::Undecided | Self::Done)
    }

    /// What the app gets next: a message of the handshake, nothing yet, or the next queued message.
    pub(crate) fn next(&mut self) -> Next {
        match std::mem::replace(self, Self::Done) {
            Self::Initialize(incoming) => {
                *self = Self::Answer(incoming.head.clone());
                Next::Message(incoming)
            }
            Self::Initialized(incoming) => Next::Message(incoming),
            Self::Answer(head) => {
                *self = Self::Answer(head);
                Next::Hold
            }
            Self::Undecided => {
                *self = Self::Undecided;
                Next::Queue
            }
            Self::Done => Next::Queue,
        }
    }
}

pub(crate) enum Next {
    Message(Box<Incoming>),
    Hold,
    Queue,
}

fn initialize(head: &Head) -> Incoming {
    let version = head
        .but_for_length()
        .headers
        .get(VERSION_HEADER)
        .and_then(|version| version.to_str().ok())
        .filter(|version| version.len() <= 32)
        .unwrap_or(OLDEST_VERSION);
    let json = serde_json::json!({
        "jsonrpc": "2.0",
        "id": ID,
        "method": "initialize",
        "params": {
            "protocolVersion": version,
            "capabilities": {},
            "clientInfo": { "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") },
        },
    });
    let kind = MessageKind::Request { id: RequestId::from(ID), method: "initialize".into() };
    Incoming { message: Message::from_trusted(json.to_string().into(), kind), head: head.clone() }
}

fn initialized() -> Message {
    const METHOD: &str = "notifications/initialized";
    let json = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    Message::from_trusted(json, MessageKind::Notification { method: METHOD.into() })
}
