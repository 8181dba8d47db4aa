//! The head of the request that brought a message.

use std::sync::{Arc, OnceLock};

use http::{HeaderValue, header::CONTENT_LENGTH, request::Parts};

/// The head of a request. Requests of one connection that differ only in their length share it; a copy with
/// the right length is made when it is first asked for.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    parts: Arc<Parts>,
    /// The length that the request declares, if it differs from that in `parts`.
    length: Option<usize>,
    own: OnceLock<Arc<Parts>>,
}

impl Head {
    pub(crate) fn new(parts: impl Into<Arc<Parts>>) -> Self {
        Self { parts: parts.into(), length: None, own: OnceLock::new() }
    }

    /// The head of a request that differs from this one only in its length.
    pub(crate) fn with_length(&self, length: usize) -> Self {
        Self { parts: Arc::clone(&self.parts), length: Some(length), own: OnceLock::new() }
    }

    /// The parts, whose `Content-Length` may be another request's.
    pub(crate) fn but_for_length(&self) -> &Parts {
        &self.parts
    }

    pub(crate) fn parts(&self) -> &Parts {
        match self.length {
            None => &self.parts,
            Some(length) => self.own.get_or_init(|| Arc::new(with_length((*self.parts).clone(), length))),
        }
    }

    pub(crate) fn into_parts(self) -> Parts {
        match (self.own.into_inner(), self.length) {
            (Some(own), _) => Arc::unwrap_or_clone(own),
            (None, None) => Arc::unwrap_or_clone(self.parts),
            (None, Some(length)) => with_length(Arc::unwrap_or_clone(self.parts), length),
        }
    }
}

fn with_length(mut parts: Parts, length: usize) -> Parts {
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    parts
}
