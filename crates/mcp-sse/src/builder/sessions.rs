//! Settings for how many sessions there may be, and whose.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// The maximum number of sessions. Default: 10,000; at least 1.
    ///
    /// When it is reached, a new session evicts another one
    /// ([`CloseReason::Evicted`](crate::CloseReason::Evicted)), the first that there is of:
    ///
    /// 1. one whose client has never posted a message and has left;
    /// 2. one whose client is connected but has not posted a message within
    ///    [`silent_grace`](Self::silent_grace): the oldest of the address that has most of these;
    /// 3. one whose client is away, the longest away first; a [`SessionPermit`](crate::SessionPermit) counts
    ///    as away after it was out of use for a [`resume_window`](Self::resume_window).
    ///
    /// If there is none, the new one gets 503 with `Retry-After`: a session whose client has posted a message
    /// and is connected is never evicted. At the limits per principal and per address, only sessions of that
    /// principal or address are evicted, in the same order, but regardless of which address has most.
    ///
    /// As many apps may still be running after their sessions closed (see [`app_grace`](Self::app_grace));
    /// with more, a GET gets 503 too.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sse = SseServerTransport::builder("/messages/").max_sessions(1).build()?;
    ///
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// let (first, _session) = sse.connect(&get).await;
    /// let (second, _) = sse.connect(&get).await;
    /// assert_eq!(first.status(), 200);
    /// assert_eq!((second.status().as_u16(), &second.headers()["retry-after"]), (503, &"1".parse()?));
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.limits.max_sessions = sessions;
        self
    }

    /// The maximum number of sessions of one [`Principal`](crate::Principal); beyond, one of its own is
    /// evicted, as at [`max_sessions`](Self::max_sessions). Default: 1,000; at least 1.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// // A user has at most 20 windows open.
    /// let sse = SseServerTransport::builder("/messages/").max_sessions_per_principal(20).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn max_sessions_per_principal(mut self, sessions: usize) -> Self {
        self.limits.max_sessions_per_principal = sessions;
        self
    }

    /// The maximum number of sessions of one address (for IPv6, a /64 network; see
    /// [`ClientIp`](crate::ClientIp)); beyond, one of its own is evicted, as at
    /// [`max_sessions`](Self::max_sessions). Default: 1,000; at least 1. Loopback addresses have no limit,
    /// nor have requests whose address is not known.
    ///
    /// The default lets 200 people behind one address have five servers open each. Behind a proxy, use
    /// `Server::trust_forwarded_for` or `Server::proxy_protocol`; otherwise all clients count as one address.
    ///
    /// ```
    /// # use mcp_sse::{ClientIp, SseServerTransport};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sse = SseServerTransport::builder("/messages/").max_sessions_per_address(1).build()?;
    ///
    /// let get = |ip| {
    ///     let mut get = http::Request::get("http://localhost/sse").body(()).unwrap();
    ///     get.extensions_mut().insert(ClientIp(ip));
    ///     get
    /// };
    /// let (one, two) = ("192.0.2.1".parse()?, "192.0.2.2".parse()?);
    /// let (_stream, _session) = sse.connect(&get(one)).await;
    /// assert_eq!(sse.connect(&get(one)).await.0.status(), 503);
    /// assert_eq!(sse.connect(&get(two)).await.0.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_sessions_per_address(mut self, sessions: usize) -> Self {
        self.limits.max_sessions_per_address = sessions;
        self
    }

    /// How many sessions one address may open per second, on average, with bursts of up to five seconds'
    /// worth. Default: 50, so 250 at once; at least 1. Beyond, a GET gets 503 with `Retry-After`. As with
    /// [`max_sessions_per_address`](Self::max_sessions_per_address), loopback addresses have no limit.
    ///
    /// The default lets the clients of 200 people behind one address reconnect at once after a restart. Up to
    /// 16,384 addresses are remembered, each until its whole burst is available again.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// // This server has only a few users.
    /// let sse = SseServerTransport::builder("/messages/").sessions_per_second_per_address(5).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn sessions_per_second_per_address(mut self, sessions: u32) -> Self {
        self.limits.sessions_per_second_per_address = sessions;
        self
    }

    /// A limit of their own for silent sessions, whose clients have not posted a message yet; they then do
    /// not count against [`max_sessions`](Self::max_sessions). Default: none, so they count with the others;
    /// at least 1.
    ///
    /// Use it if apps are expensive, such as child processes: the app is started at the first message, so a
    /// silent session has none. With this limit, a session counts against `max_sessions` from its first
    /// message on. If that limit is reached and no other session can be evicted, the POST with the first
    /// message gets 503 with `Retry-After`, and so does every GET in the meantime.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sse = SseServerTransport::builder("/messages/").max_sessions(1).max_silent_sessions(3).build()?;
    ///
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// let mut silent = Vec::new();
    /// for _ in 0..3 {
    ///     silent.push(sse.connect(&get).await);
    /// }
    /// assert!(silent.iter().all(|(response, _)| response.status() == 200));
    /// assert_eq!(sse.connect(&get).await.0.status(), 503);
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_silent_sessions(mut self, sessions: usize) -> Self {
        self.limits.max_silent_sessions = Some(sessions);
        self
    }

    /// How long a connected client has to post its first message before its session may be evicted. Default:
    /// 5 s; at most a year. Clients usually post as soon as their stream is open.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use mcp_sse::SseServerTransport;
    /// // Clients that connect over a slow link.
    /// let sse = SseServerTransport::builder("/messages/").silent_grace(Duration::from_secs(20)).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn silent_grace(mut self, grace: Duration) -> Self {
        self.limits.silent_grace = grace;
        self
    }
}
