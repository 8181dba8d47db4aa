//! The settings of who may have how many sessions.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// How many sessions there may be. Default: 10,000; at least 1.
    ///
    /// Beyond, another session makes room ([`CloseReason::Evicted`](crate::CloseReason)), in this order; if
    /// none can, the new one gets 503 with `Retry-After`:
    ///
    /// 1. one whose client has never said anything (no POST brought a message) and has left;
    /// 2. one whose client has never said anything for longer than [`silent_grace`](Self::silent_grace): of
    ///    the address with most of those, the oldest;
    /// 3. one whose client is away, the longest away first; a [`SessionPermit`](crate::SessionPermit) counts as
    ///    that when it was out of use for a [`resume_window`](Self::resume_window).
    ///
    /// A client that has said something and is there never makes room. At the bounds per principal and per
    /// address, sessions of the same principal or address make room in the same order, without regard to
    /// which address has most.
    ///
    /// As many apps of sessions that are closed may still be at their end (see
    /// [`app_grace`](Self::app_grace)); beyond, a GET gets 503 too.
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

    /// The same for the sessions of one [`Principal`](crate::Principal). Default: 1,000.
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

    /// How many sessions one address may have ([`ClientIp`](crate::ClientIp); of IPv6 a /64 network); beyond, one
    /// of its own makes room, as at [`max_sessions`](Self::max_sessions). Default: 1,000; at least 1. Loopback addresses are not bounded, nor are
    /// requests of which the address is not known.
    ///
    /// The default lets 200 people behind one address have five servers open each. Behind a proxy, have
    /// `Server::trust_forwarded_for` or `Server::proxy_protocol` say who the clients are, or all of them
    /// count as one.
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

    /// How many sessions one address may open a second, on average; what it has not used comes back, up to
    /// five seconds' worth. Default: 50, so 250 at once; at least 1. Beyond: 503 with `Retry-After`. As with
    /// [`max_sessions_per_address`](Self::max_sessions_per_address), loopback addresses are not bounded.
    ///
    /// The default lets the clients of 200 people behind one address come back at once after a restart. Up
    /// to 16,384 addresses are remembered, each for as long as it has not all its turns again.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// // For a server that only a few people use.
    /// let sse = SseServerTransport::builder("/messages/").sessions_per_second_per_address(5).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn sessions_per_second_per_address(mut self, sessions: u32) -> Self {
        self.limits.sessions_per_second_per_address = sessions;
        self
    }

    /// A bound of their own for sessions in which nothing was said yet, which then do not count against
    /// [`max_sessions`](Self::max_sessions). Default: none, they count with the others; at least 1.
    ///
    /// For apps that cost much, as programs do: a client that only listens costs no app. With it, a session
    /// counts against `max_sessions` from its first message on. If there is no room then and no other
    /// session makes any, that POST gets 503 with `Retry-After`; a GET gets it too for as long as that would
    /// be so.
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

    /// How long a session in which nothing was said yet is left alone before it makes room at a cap. Default:
    /// 5 s; at most a year. Clients say something as soon as they have their stream.
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
