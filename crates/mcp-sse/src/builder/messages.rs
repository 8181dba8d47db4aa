//! Settings for messages from clients and the queues that they wait in.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// The largest body of a POST, in bytes; a larger one gets 413. Default: 4 MiB; at least 1.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// // No tool takes more than 64 KiB of arguments.
    /// let sse = SseServerTransport::builder("/messages/").max_body_bytes(64 * 1024).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.limits.body_bytes = bytes;
        self
    }

    /// How long the body of a POST may take to arrive before the POST gets 408. Default: 30 s; at most a
    /// year.
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

    /// How much may wait for the app, in messages and in bytes, which include headers and bodies that are
    /// being read. Default: 256 messages, 1 MiB; at least 1 of each. At the limit a POST waits for up to
    /// [`queue_timeout`](Self::queue_timeout), then gets 503. A larger message passes when nothing else
    /// waits.
    ///
    /// While 16 messages wait, the next POST waits up to 100 ms before it joins the queue, so that a session
    /// that floods takes turns with the others.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// // Clients of this server send one request at a time.
    /// let sse = SseServerTransport::builder("/messages/").inbound_queue(32, 256 * 1024).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn inbound_queue(mut self, messages: usize, bytes: usize) -> Self {
        (self.limits.inbound_messages, self.limits.inbound_bytes) = (messages, bytes);
        self
    }

    /// How many requests of a session may be unanswered at a time, in number and in bytes. Default: 256
    /// requests, 1 MiB; at least 1 of each. At the limit a POST waits for up to
    /// [`queue_timeout`](Self::queue_timeout), then gets 503; responses and notifications still pass. A
    /// larger request passes when no other is in flight.
    ///
    /// A request that its client cancels is no longer in flight, though the app may still be working on it.
    /// Such requests have the same limits, but a number of at least 16; beyond, further requests get 503.
    /// Each counts until its handler ends (feature `rmcp-3`) or the app answers it; without rmcp, for at most
    /// 30 s.
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

    /// How long a POST waits at [`inbound_queue`](Self::inbound_queue) and
    /// [`requests_in_flight`](Self::requests_in_flight) together before it gets 503 with `Retry-After`.
    /// Default: 1 s; at most a year.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use mcp_sse::SseServerTransport;
    /// // These clients retry by themselves, so they should hear of it soon.
    /// let sse = SseServerTransport::builder("/messages/").queue_timeout(Duration::from_millis(200)).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.limits.queue_timeout = timeout;
        self
    }

    /// Whether the transport sends the app an `initialize` of its own if the client starts without one.
    /// Default: yes, because today's TypeScript clients reconnect that way.
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
    /// // The client starts with `tools/list`; by default the app would get an `initialize` first.
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
