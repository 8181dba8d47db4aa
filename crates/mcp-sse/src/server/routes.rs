//! Which path is which endpoint, changed while the server runs.

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

/// Which path is which endpoint of a [`Server`](crate::Server); can be changed while it serves. Clones are the same table.
///
/// What is taken out is gone for new requests; open streams stay. `/@a` and `/%40a` are the same path here,
/// since clients write either; a path may also be given as plain text, `/my server/sse` say.
///
/// ```
/// use mcp_sse::{Server, SseServerTransport};
///
/// let server = Server::new();
/// let routes = server.routes();
/// // Later, while it serves:
/// let sse = SseServerTransport::new("/messages/")?;
/// routes.sse("/sse", sse.connect_sse(|_session| async {}));
/// routes.messages("/messages/", sse.handle_post_message());
/// assert!(routes.remove("/sse") && !routes.remove("/sse"));
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
    /// Opens streams at `path`, exactly this one.
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

    /// Takes messages at `path`, exactly this one.
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

    /// Takes a path out; whether it was there.
    ///
    /// ```
    /// assert!(!mcp_sse::Server::new().routes().remove("/sse"));
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
        // Before the lock is given back: who finds a change finds its number too.
        self.0.generation.fetch_add(1, Ordering::Release);
        result
    }

    /// Another number after each change. What was found after the number was read is as new as the number,
    /// or newer.
    pub(super) fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    pub(super) fn find(&self, path: &str) -> Option<Endpoint> {
        let paths = self.0.paths.read().unwrap_or_else(PoisonError::into_inner);
        // Most paths are the same in either way, and those that are not ours may cost a little.
        paths.get(path).or_else(|| paths.get(&*canonical(path))).cloned()
    }
}
