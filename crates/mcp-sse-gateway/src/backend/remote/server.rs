//! A remote server and how to reach it: what all its sessions have in common.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use url::Url;

use crate::backend::Failure;

/// Which transport a remote server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Ask it
    Auto,
    /// Streamable HTTP
    #[value(aliases = ["streamable-http", "streamablehttp", "streamableHttp"])]
    Http,
    /// HTTP+SSE, the transport of revision 2024-11-05
    Sse,
}

/// A remote server and how to reach it.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) url: Url,
    pub(crate) kind: Kind,
    /// Sent with every request.
    pub(crate) headers: HeaderMap,
    /// Taken over from the client's requests, by name.
    pub(crate) headers_from_client: Vec<HeaderName>,
    pub(crate) client: reqwest::Client,
    pub(crate) message_bytes: usize,
    /// Requests of a session that may be unanswered.
    pub(crate) requests_in_flight: usize,
    pub(crate) start_timeout: Duration,
    /// What it turned out to speak.
    pub(crate) found: Found,
}

/// Which transport a server speaks, as the last successful `initialize` has shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found(Arc<Mutex<Option<Kind>>>);

impl Found {
    pub(super) fn get(&self) -> Option<Kind> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether that is new.
    pub(super) fn set(&self, kind: Option<Kind>) -> bool {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), kind) != kind
    }
}

/// Headers that belong to a connection or to the transport itself: they are not passed on.
const OWN: [&str; 13] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "last-event-id",
    "mcp-protocol-version",
    "mcp-session-id",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Whether a header may be set for, or taken over into, requests to a remote server.
pub(crate) fn may_pass(name: &HeaderName) -> bool {
    !OWN.contains(&name.as_str())
}

impl Remote {
    /// The headers for a request that a client's request with this head causes.
    pub(super) fn headers_for(&self, parts: &Parts) -> HeaderMap {
        let mut headers = self.headers.clone();
        for name in &self.headers_from_client {
            let values: Vec<HeaderValue> = parts.headers.get_all(name).iter().cloned().collect();
            if let Some((first, others)) = values.split_first() {
                headers.insert(name.clone(), first.clone());
                for other in others {
                    headers.append(name.clone(), other.clone());
                }
            }
        }
        headers
    }

    pub(super) fn silent(&self, time: Duration) -> Failure {
        Failure::new(format!("{} did not answer within {time:?}", self.name()))
    }

    /// Where it is, without what may be secret.
    pub(crate) fn name(&self) -> String {
        let mut url = self.url.clone();
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_query(None);
        url.set_fragment(None);
        url.to_string()
    }
}
