//! The settings of messages and of the queues that they wait in.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// The largest body of a POST, in bytes; a larger one is answered 413. Default: 4 MiB.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// // No argument of a tool is larger than 64 KiB.
    /// let sse = SseServerTransport::builder("/messages/").max_body_bytes(64 * 1024).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.limits.body_bytes = bytes;
        self
    }

    /// How long the body of a POST may take to arrive; then 408. Default: 30 s.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use mcp_sse::SseServerTransport;
    /// // Clients are in the same data centre.
    /// let sse = SseServerTransport::builder("/messages/").body_timeout(Duration::from_secs(5)).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.limits.body_timeout = timeout;
        self
    }

    /// How much may wait for the app to take it, in messages and bytes (with their headers, and bodies
    /// that are being read). Default: 256 messages, 1 MiB. Beyond, a POST waits, then gets 503. A larger
    /// message passes when nothing else waits.
    ///
    /// While 16 messages wait, the next POST waits for its turn, at most 100 ms, before it joins the queue:
    /// a session that floods takes its turns beside the others.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// // Clients of this server ask one thing at a time.
    /// let sse = SseServerTransport::builder("/messages/").inbound_queue(32, 256 * 1024).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn inbound_queue(mut self, messages: usize, bytes: usize) -> Self {
        (self.limits.inbound_messages, self.limits.inbound_bytes) = (messages, bytes);
        self
    }

    /// How many requests, and how many bytes of them, may be unanswered in one session. Default: 256
    /// requests, 1 MiB. Beyond, a POST waits, then gets 503; responses and notifications still pass. A
    /// larger request passes when no other is in flight.
    ///
    /// A request that its client cancels is in flight no longer, though the app may still work on it. As many
    /// of those as of requests in flight, at least 16, are let be, and as many bytes of them; with more,
    /// further requests get 503. One counts until its handler ends (feature `rmcp-3`) or the app answers it, without rmcp at most for 30 s.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// // Each call holds a database connection.
    /// let sse = SseServerTransport::builder("/messages/").requests_in_flight(32, 256 * 1024).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn requests_in_flight(mut self, requests: usize, bytes: usize) -> Self {
        (self.limits.in_flight_requests, self.limits.in_flight_bytes) = (requests, bytes);
        self.limits.cancelled_requests = requests.max(16);
        self
    }

    /// How long a POST waits at one of these bounds before it gets 503 with `Retry-After`. Default: 1 s.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use mcp_sse::SseServerTransport;
    /// // A client that retries by itself is better told at once.
    /// let sse = SseServerTransport::builder("/messages/").queue_timeout(Duration::from_millis(200)).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.limits.queue_timeout = timeout;
        self
    }

    /// Whether a session whose client begins without `initialize` gets one from the transport. Default:
    /// yes. Today's TypeScript clients reconnect that way.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sse = SseServerTransport::builder("/messages/").synthesize_initialize(false).build()?;
    ///
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(mut session)) = sse.connect(&get).await else { panic!("refused") };
    /// # let uri = format!("http://localhost/messages/?session_id={}", session.handle().id().expose_hex());
    /// # let post = http::Request::post(uri).header("content-type", "application/json");
    /// // A client that begins with `tools/list`; by default the app would get an `initialize` first.
    /// let json = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    /// # assert_eq!(sse.post(post.body(json.to_owned())?).await.status(), 202);
    /// assert_eq!(session.recv().await.unwrap().message.method(), Some("tools/list"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn synthesize_initialize(mut self, synthesize: bool) -> Self {
        self.limits.synthesize_initialize = synthesize;
        self
    }
}
