//! Settings for streams: keep-alive, resuming, clients that do not read.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// How long a stream may be idle before a comment line is sent on it, so that proxies keep it open.
    /// Default: 15 s; at most a year; zero turns it off. Common proxies close idle streams after 60 s or
    /// more.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use mcp_sse::SseServerTransport;
    /// // The proxy closes streams that are idle for 12 s.
    /// let sse = SseServerTransport::builder("/messages/").keep_alive(Duration::from_secs(10)).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn keep_alive(mut self, every: Duration) -> Self {
        self.limits.keep_alive = (!every.is_zero()).then_some(every);
        self
    }

    /// How long clients are told to wait before they reconnect (the `retry` field, in whole milliseconds).
    /// Default: 1 s; at most a year.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use http_body_util::BodyExt;
    /// # use mcp_sse::SseServerTransport;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let sse = SseServerTransport::builder("/messages/").reconnect_delay(Duration::from_millis(2500)).build()?;
    ///
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (stream, _session) = sse.connect(&get).await;
    /// # let event = stream.into_body().frame().await.unwrap()?.into_data().unwrap();
    /// # let event = std::str::from_utf8(&event)?;
    /// // The stream's first event.
    /// assert!(event.contains("retry: 2500\n"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn reconnect_delay(mut self, delay: Duration) -> Self {
        self.limits.reconnect_delay = delay;
        self
    }

    /// How long a session waits for its client to come back with `Last-Event-ID`. Default: 30 s; at most a
    /// year. Zero turns it off: a session ends with its stream, and events have no ids. A session that waits
    /// keeps its app and counts against [`max_sessions`](Self::max_sessions), but may be evicted when that is
    /// reached.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use mcp_sse::SseServerTransport;
    /// // Clients on phones may be away for five minutes.
    /// let sse = SseServerTransport::builder("/messages/").resume_window(Duration::from_secs(300)).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn resume_window(mut self, window: Duration) -> Self {
        self.limits.resume_window = window;
        self
    }

    /// How many events, in number and in bytes, stay in memory after they were sent, for a client that
    /// resumes. Default: 1,024 events, 256 KiB. They are dropped when nothing was sent for a
    /// [`resume_window`](Self::resume_window). A client that missed more gets 404 and starts a new session.
    /// With zero, only a client that missed nothing can resume.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// // 200 events or 64 KiB, whichever is reached first.
    /// let sse = SseServerTransport::builder("/messages/").replay_buffer(200, 64 * 1024).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn replay_buffer(mut self, events: usize, bytes: usize) -> Self {
        (self.limits.replay_events, self.limits.replay_bytes) = (events, bytes);
        self
    }

    /// How long a client may read nothing of what waits for it before its session ends.
    /// Default: 30 s; more than zero, at most a year. Progress is seen only in steps of what the HTTP server
    /// buffers for a connection (up to about 100 KiB).
    ///
    /// This ends the session, not the connection: an HTTP server does not poll the body of a response while
    /// the connection's buffers are full. Set `TCP_USER_TIMEOUT` on accepted sockets to a little more than
    /// this, so that the kernel ends such a connection. (`Server` does: see `Server::tcp_user_timeout`.)
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use mcp_sse::SseServerTransport;
    /// // Free the memory of clients that do not read for 10 s.
    /// let sse = SseServerTransport::builder("/messages/").stall_timeout(Duration::from_secs(10)).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.limits.stall_timeout = timeout;
        self
    }

    /// How much may wait for a client to read it, in messages and in bytes; what is sent beyond goes to the
    /// [backlog](Self::outbound_backlog). Default: 1,024 messages, 512 KiB; at least 1 of each. A larger
    /// message passes when nothing else waits.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// // There are many sessions, and results are small.
    /// let sse = SseServerTransport::builder("/messages/").outbound_queue(200, 256 * 1024).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn outbound_queue(mut self, messages: usize, bytes: usize) -> Self {
        (self.limits.outbound_messages, self.limits.outbound_bytes) = (messages, bytes);
        self
    }

    /// How much may wait for room in the [queue](Self::outbound_queue), in messages and in bytes: the
    /// messages whose `send` has not completed yet. Default: 1,024 messages, 16 MiB; at least 1 of each. A
    /// larger message may wait alone.
    ///
    /// At the limit, `send` fails with [`SendError::Full`](crate::SendError::Full), a response is replaced by
    /// a JSON-RPC error, and further requests of the client get 503. An app that waits for each `send` never
    /// reaches it.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// // An app that waits for each `send` needs no more.
    /// let sse = SseServerTransport::builder("/messages/").outbound_backlog(100, 1024 * 1024).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn outbound_backlog(mut self, messages: usize, bytes: usize) -> Self {
        (self.limits.backlog_messages, self.limits.backlog_bytes) = (messages, bytes);
        self
    }

    /// The largest message that the app may send, in bytes. Default: 16 MiB; at least 1. For a larger one
    /// `send` fails with [`SendError::TooLarge`](crate::SendError::TooLarge); a response is replaced by a
    /// JSON-RPC error.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// // No tool of this server returns more than 1 MiB.
    /// let sse = SseServerTransport::builder("/messages/").max_outbound_message_bytes(1024 * 1024).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn max_outbound_message_bytes(mut self, bytes: usize) -> Self {
        self.limits.outbound_message_bytes = bytes;
        self
    }
}
