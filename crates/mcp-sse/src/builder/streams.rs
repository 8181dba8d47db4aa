//! The settings of streams: keep-alive, resuming, clients that do not read.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// A stream that was silent for this long gets a comment line, so that proxies do not cut it.
    /// Default: 15 s. Zero turns it off. Proxies cut silent streams at 60 s and more.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use mcp_sse::SseServerTransport;
    /// // For a proxy that cuts streams after 12 s of silence.
    /// let sse = SseServerTransport::builder("/messages/").keep_alive(Duration::from_secs(10)).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn keep_alive(mut self, every: Duration) -> Self {
        self.limits.keep_alive = (!every.is_zero()).then_some(every);
        self
    }

    /// How long clients are told to wait before they reconnect (`retry:`, in whole milliseconds).
    /// Default: 1 s; at most a year.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use http_body_util::BodyExt;
    /// # use mcp_sse::SseServerTransport;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
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

    /// How long a session waits for its client to come back with `Last-Event-ID`. Default: 30 s. Zero
    /// turns it off: a session ends with its stream, and events bear no ids. A session that waits keeps
    /// its app and its place under the cap, but makes room when the cap is reached.
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

    /// How many events, and how many bytes of them, stay in memory after they were sent, for a client
    /// that resumes. Default: 1,024 events, 256 KiB. They are forgotten when nothing was sent for a
    /// resume window. A client that missed more is answered 404 and starts anew. Zero will do: then only
    /// a client that missed nothing of what was sent can resume.
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

    /// How long a client may leave unread what waits for it, before its session ends. Default: 30 s.
    /// Progress is seen in steps of what the server buffers for a connection (up to some 100 KiB).
    ///
    /// The connection itself, with what the HTTP server buffers for it, is the server's: a full one is not
    /// polled any more and cannot be ended from here. Set `TCP_USER_TIMEOUT` on accepted sockets, to a
    /// little more than this, so that the kernel ends it.
    /// More than zero, at most a year.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use mcp_sse::SseServerTransport;
    /// // A client that does not read for 10 s is not worth its memory.
    /// let sse = SseServerTransport::builder("/messages/").stall_timeout(Duration::from_secs(10)).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.limits.stall_timeout = timeout;
        self
    }

    /// How much may wait for a client to read it, in messages and bytes; what is sent beyond goes to the
    /// [backlog](Self::outbound_backlog). Default: 1,024 messages, 512 KiB. A larger message passes when
    /// nothing else waits.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// // Results are small here, and sessions are many.
    /// let sse = SseServerTransport::builder("/messages/").outbound_queue(200, 256 * 1024).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn outbound_queue(mut self, messages: usize, bytes: usize) -> Self {
        (self.limits.outbound_messages, self.limits.outbound_bytes) = (messages, bytes);
        self
    }

    /// How much of what was sent may wait for room in the [queue](Self::outbound_queue), in messages and
    /// bytes: these are the messages whose `send` has not ended yet. Beyond, `send` fails with
    /// [`SendError::Full`](crate::SendError), and a response is replaced by a JSON-RPC error; and no further
    /// requests are taken from the client (503). Default: 1,024 messages, 16 MiB. A larger message may wait
    /// alone.
    ///
    /// An app that sends one message after the other, and waits for each, never meets this bound.
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

    /// The largest message that the app may send, in bytes. Default: 16 MiB. A larger response is
    /// replaced by a JSON-RPC error, and the app's `send` fails.
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
