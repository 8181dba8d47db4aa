//! Which path is which endpoint. Can be changed while the server runs.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    endpoint::canonical,
    service::{ConnectSse, HandlePostMessage},
};

/// Which path is which endpoint of a [`Server`](crate::Server). Can be changed while the server runs; clones
/// are the same table.
///
/// Changes apply to new requests; open streams stay open. Paths that differ only in their percent-encoding,
/// such as `/@a` and `/%40a`, are the same path. A path may also be given as plain text, such as `/my
/// server/sse`.
///
/// ```
/// use mcp_sse::{Server, SseServerTransport};
///
/// let server = Server::new();
/// let routes = server.routes();
/// // Later, while it runs: add a transport …
/// let sse = SseServerTransport::new("/messages/")?;
/// routes.sse("/sse", sse.connect_sse(|_session| async {}));
/// routes.messages("/messages/", sse.handle_post_message());
/// // … and open no more streams of it. Its open ones go on.
/// assert!(routes.remove("/sse"));
/// # Ok::<(), mcp_sse::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Routes(Arc<Table>);

#[derive(Debug, Default)]
struct Table {
    paths: RwLock<HashMap<Box<str>, Endpoint>>,
    /// Counts the changes.
    generation: AtomicU64,
}

#[derive(Clone, Debug)]
pub(super) enum Endpoint {
    Connect(ConnectSse),
    Post(HandlePostMessage),
}

impl Routes {
    /// Opens streams at exactly this path. Replaces an endpoint that is there.
    ///
    /// ```
    /// # use mcp_sse::{Server, SseServerTransport};
    /// # let sse = SseServerTransport::new("/messages/")?;
    /// Server::new().routes().sse("/sse", sse.connect_sse(|_session| async {}));
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn sse(&self, path: &str, service: ConnectSse) {
        self.insert(path, Endpoint::Connect(service));
    }

    /// Accepts messages at exactly this path. Replaces an endpoint that is there.
    ///
    /// ```
    /// # use mcp_sse::{Server, SseServerTransport};
    /// # let sse = SseServerTransport::new("/messages/")?;
    /// Server::new().routes().messages("/messages/", sse.handle_post_message());
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn messages(&self, path: &str, service: HandlePostMessage) {
        self.insert(path, Endpoint::Post(service));
    }

    /// Removes a path; returns whether it was there.
    ///
    /// ```
    /// # use mcp_sse::{Server, SseServerTransport};
    /// # let sse = SseServerTransport::new("/messages/")?;
    /// # let server = Server::new().mount("/sse", &sse, |_session| async {});
    /// // Open no more streams; messages are still accepted.
    /// assert!(server.routes().remove("/sse"));
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    #[must_use = "it says whether the path was there"]
    pub fn remove(&self, path: &str) -> bool {
        self.change(|paths| paths.remove(&*canonical(path)).is_some())
    }

    fn insert(&self, path: &str, endpoint: Endpoint) {
        self.change(|paths| drop(paths.insert(canonical(path).into(), endpoint)));
    }

    fn change<R>(&self, change: impl FnOnce(&mut HashMap<Box<str>, Endpoint>) -> R) -> R {
        let mut paths = self.0.paths.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut paths);
        // Before the lock is released, so that whoever sees the change sees its number too.
        self.0.generation.fetch_add(1, Ordering::Release);
        result
    }

    /// A number that differs after each change. What is found after reading the number is at least as new as
    /// it.
    pub(super) fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    pub(super) fn find(&self, path: &str) -> Option<Endpoint> {
        let paths = self.0.paths.read().unwrap_or_else(PoisonError::into_inner);
        // Most paths are canonical already; only the others, and those that are not endpoints, cost the
        // conversion.
        paths.get(path).or_else(|| paths.get(&*canonical(path))).cloned()
    }
}
