//! A remote server and how to reach it: what all its sessions share.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use url::Url;

use crate::{
    backend::{Failure, How},
    traces::Carried,
};

/// Which transport a remote server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Detect it
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
    /// Names of the headers that are copied from the client's requests.
    pub(crate) headers_from_client: Vec<HeaderName>,
    pub(crate) client: reqwest::Client,
    pub(crate) message_bytes: usize,
    /// Maximum number of unanswered requests per session.
    pub(crate) requests_in_flight: usize,
    pub(crate) start_timeout: Duration,
    /// The transport that was detected.
    pub(crate) found: Found,
}

/// The transport that the last successful `initialize` used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found(Arc<Mutex<Option<Kind>>>);

impl Found {
    pub(super) fn get(&self) -> Option<Kind> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets it; whether it has changed.
    pub(super) fn set(&self, kind: Option<Kind>) -> bool {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), kind) != kind
    }
}

/// Headers that belong to the connection or to the transport itself, and are not passed on.
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

/// Whether a header may be set on requests to a remote server, or copied to them.
pub(crate) fn may_pass(name: &HeaderName) -> bool {
    !OWN.contains(&name.as_str())
}

impl Remote {
    /// The headers to send with a request on behalf of a client's request with this head.
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

    /// The same, with what lets the server continue the request's trace.
    pub(super) fn headers_of_message(&self, parts: &Parts) -> HeaderMap {
        let mut headers = self.headers_for(parts);
        if let Some(carried) = parts.extensions.get::<Carried>() {
            for (name, value) in carried.headers() {
                headers.insert(name, value);
            }
        }
        headers
    }

    pub(super) fn silent(&self, time: Duration) -> Failure {
        Failure::of(How::NotStarted, format!("{} did not answer within {time:?}", self.name()))
    }

    /// Its URL, without the parts that may be secret.
    pub(crate) fn name(&self) -> String {
        let mut url = self.url.clone();
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_query(None);
        url.set_fragment(None);
        url.to_string()
    }
}
