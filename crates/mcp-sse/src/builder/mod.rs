//! The settings of a transport, each with its unit, range, default and cost.

mod endings;
mod messages;
mod sessions;
mod streams;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use crate::{
    admission::{Gate, Names, TransportSecuritySettings},
    auth::Authenticate,
    backplane::Backplane,
    clock,
    endpoint::{EndpointPath, Mount},
    error::ConfigError,
    limits::Limits,
    records::Records,
    session::Observer,
    transport::{Others, SseServerTransport},
};

impl SseServerTransport {
    /// A transport with default settings, whose clients post to `endpoint`, a relative path such as
    /// `/messages/`. A missing leading slash is added.
    ///
    /// ```
    /// use mcp_sse::SseServerTransport;
    ///
    /// let sse = SseServerTransport::new("/messages/")?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError::Endpoint`] if it is a full URL, a network-path reference (`//host/…`), or has a
    /// query, a fragment, dot segments or control characters.
    pub fn new(endpoint: &str) -> Result<Self, ConfigError> {
        Self::builder(endpoint).build()
    }

    /// A builder for a transport with other settings; `endpoint` is as in [`new`](Self::new).
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// // A setting that is out of its range is an error of `build`.
    /// let sse = SseServerTransport::builder("/messages/").max_sessions(500).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn builder(endpoint: &str) -> Builder {
        Builder::new(endpoint)
    }
}

/// The settings of an [`SseServerTransport`]; created by [`SseServerTransport::builder`].
///
/// With the defaults, the messages of one session take at most 18.75 MiB, as long as none is larger than the
/// bound that it counts against:
///
/// | what | bytes | setting |
/// |---|---|---|
/// | waiting for the app | 1 MiB | [`inbound_queue`](Self::inbound_queue) |
/// | requests in flight, held by the app | 1 MiB | [`requests_in_flight`](Self::requests_in_flight) |
/// | waiting for the client | 0.5 MiB | [`outbound_queue`](Self::outbound_queue) |
/// | sent, and waiting for room in that queue | 16 MiB | [`outbound_backlog`](Self::outbound_backlog) |
/// | kept for a client that resumes | 0.25 MiB | [`replay_buffer`](Self::replay_buffer) |
///
/// A message that is larger than a bound passes when it is the only one there, and takes its own size
/// instead: at most 4 MiB from the client, 16 MiB from the app. So the sum can reach 40.25 MiB. An app that
/// waits for each `send` has one message in the backlog, not 16 MiB of them.
///
/// These figures leave out what the app itself keeps, such as cancelled requests that it still works on;
/// those have the same bound as the requests in flight.
///
/// ```
/// use std::time::Duration;
/// use mcp_sse::SseServerTransport;
///
/// let sse = SseServerTransport::builder("/messages/")
///     .keep_alive(Duration::from_secs(10))
///     .max_sessions(500)
///     .build()?;
/// # drop(sse);
/// # Ok::<(), mcp_sse::ConfigError>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    endpoint: String,
    security: TransportSecuritySettings,
    mount_prefix: Option<String>,
    trust_forwarded_prefix: bool,
    cors: bool,
    authenticate: Option<Arc<dyn Authenticate>>,
    observer: Option<Arc<dyn Observer>>,
    others: Others,
    limits: Limits,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("endpoint", &self.endpoint)
            .field("security", &self.security)
            .field("cors", &self.cors)
            .field("authenticates", &self.authenticate.is_some())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            security: TransportSecuritySettings::default(),
            mount_prefix: None,
            trust_forwarded_prefix: false,
            cors: false,
            authenticate: None,
            observer: None,
            others: Others::default(),
            limits: Limits::default(),
        }
    }

    /// Which `Host` and `Origin` headers are allowed (DNS-rebinding protection). Default: loopback names
    /// only.
    ///
    /// ```
    /// use mcp_sse::{SseServerTransport, TransportSecuritySettings};
    ///
    /// let settings = TransportSecuritySettings::default().with_allowed_hosts(["mcp.example.com"]);
    /// let sse = SseServerTransport::builder("/messages/").security(settings).build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn security(mut self, settings: TransportSecuritySettings) -> Self {
        self.security = settings;
        self
    }

    /// The path that the transport is mounted under, such as `/api`; the `endpoint` event puts it before the
    /// endpoint. Default: the prefix that a nested axum router stripped (feature `axum`), else none. The
    /// empty string means none, also in a nested router.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// // Behind a proxy that strips `/api` from the path: clients post to /api/messages/.
    /// let sse = SseServerTransport::builder("/messages/").mount_prefix("/api").build()?;
    /// # drop(sse);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn mount_prefix(mut self, prefix: &str) -> Self {
        self.mount_prefix = Some(prefix.to_owned());
        self
    }

    /// Whether the value of `X-Forwarded-Prefix` is put before the mount prefix. Default: no. Turn it on only
    /// behind a proxy that sets or removes the header: whoever can set it decides where on this origin a
    /// client posts to.
    ///
    /// ```
    /// # use http_body_util::BodyExt;
    /// # use mcp_sse::SseServerTransport;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let sse = SseServerTransport::builder("/messages/").trust_forwarded_prefix(true).build()?;
    ///
    /// # let get = http::Request::get("http://localhost/sse");
    /// let get = get.header("x-forwarded-prefix", "/team").body(())?;
    /// let (stream, _session) = sse.connect(&get).await;
    /// # let event = stream.into_body().frame().await.unwrap()?.into_data().unwrap();
    /// # let event = std::str::from_utf8(&event)?;
    /// // The stream's first event.
    /// assert!(event.contains("data: /team/messages/?session_id="));
    /// # Ok(())
    /// # }
    /// ```
    pub fn trust_forwarded_prefix(mut self, trust: bool) -> Self {
        self.trust_forwarded_prefix = trust;
        self
    }

    /// Whether pages of other origins get CORS headers, and answers to their preflights. Default: no. Only
    /// origins that [`security`](Self::security) allows get any. Source: the WHATWG Fetch standard, "CORS
    /// protocol".
    ///
    /// ```
    /// use mcp_sse::SseServerTransport;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let sse = SseServerTransport::builder("/messages/").cors(true).build()?;
    /// let get = http::Request::get("http://localhost:8000/sse").header("origin", "http://localhost:5173");
    /// let (response, _session) = sse.connect(&get.body(())?).await;
    /// assert_eq!(response.headers()["access-control-allow-origin"], "http://localhost:5173");
    /// # Ok(())
    /// # }
    /// ```
    pub fn cors(mut self, cors: bool) -> Self {
        self.cors = cors;
        self
    }

    /// Who requests come from: each needs a [`Grant`](crate::Grant) of this authenticator, or is refused before
    /// anything of its body is read. A session belongs to the [`Principal`](crate::Principal) that opened it.
    /// Default: none; then a layer in front may put a `Principal` into the extensions.
    ///
    /// The order of the checks is then: `Host` and `Origin`, preflights, this, and all others. See
    /// [`Authenticate`] for an example.
    pub fn authenticate(mut self, authenticate: impl Authenticate) -> Self {
        self.authenticate = Some(Arc::new(authenticate));
        self
    }

    /// Who is told what happens to sessions, and of refused requests, for metrics. Default: only the log is.
    ///
    /// See [`Observer`] for an example.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Connects the transport with other replicas of the same server: each of them takes messages for the sessions of
    /// all, so that a load balancer may send a request anywhere. Default: there are no others.
    ///
    /// The endpoint that clients are told has `&at=NAME.RUN` then, and the ids of events end with it. Where a session is
    /// at another replica, that one answers as if the request had come there, with three answers more: 404 if it is gone;
    /// 503 with `Retry-After` if it cannot be reached, or too much is on its way to it (256 requests, of them 64 for one
    /// session and 128 from one address; 16 MiB of bodies over 64 KiB for all replicas, 4 MiB of them for one session or from
    /// one address), and has not got the message; 504 if it does not answer and may have
    /// taken the message, which it does once at most. All replicas need the same settings, endpoints and authenticator, which
    /// has to be the transport's own ([`authenticate`](Self::authenticate)) if clients get new tokens during a session; of a
    /// request's extensions, only the [`Principal`](crate::Principal) and the [`ClientIp`](crate::ClientIp) cross.
    ///
    /// Give one backplane to one transport, and to those made of it by
    /// [`with_endpoint`](SseServerTransport::with_endpoint). See the crate `mcp-sse-cluster` for examples.
    pub fn backplane(mut self, backplane: Arc<dyn Backplane>) -> Self {
        self.others.backplane = Some(backplane);
        self
    }

    /// Keeps sessions here, so that another replica can revive them when this one is gone: those of which the app says so, by
    /// [`SessionHandle::keep`](crate::SessionHandle::keep). Needs a [`backplane`](Self::backplane). Default: a session ends
    /// with its replica.
    ///
    /// A session is revived by its client, which comes back with `Last-Event-ID` at any replica, as browsers do. It has to be
    /// the same principal. A message that comes first, for a session whose replica is gone, waits for that for up to 3 s.
    /// Messages for a session whose client is away are accepted only if the record says that it is still here: 503 while that
    /// cannot be known.
    pub fn revive(mut self, records: Arc<dyn Records>) -> Self {
        self.others.records = Some(records);
        self
    }

    /// Builds the transport.
    ///
    /// ```
    /// use mcp_sse::SseServerTransport;
    ///
    /// # let from_the_command_line = 500;
    /// match SseServerTransport::builder("/messages/").max_sessions(from_the_command_line).build() {
    ///     Ok(sse) => drop(sse), // mount it
    ///     // for example "max_sessions must be at least 1"
    ///     Err(error) => eprintln!("cannot start: {error}"),
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: a setting is out of its range; it says which one, what was given and what is expected.
    pub fn build(self) -> Result<SseServerTransport, ConfigError> {
        let positive = [
            ("max_sessions", self.limits.max_sessions),
            ("max_sessions_per_principal", self.limits.max_sessions_per_principal),
            ("max_sessions_per_address", self.limits.max_sessions_per_address),
            ("sessions_per_second_per_address", self.limits.sessions_per_second_per_address as usize),
            ("max_silent_sessions", self.limits.max_silent_sessions.unwrap_or(1)),
            ("max_body_bytes", self.limits.body_bytes),
            ("max_outbound_message_bytes", self.limits.outbound_message_bytes),
            ("inbound_queue", self.limits.inbound_messages.min(self.limits.inbound_bytes)),
            ("requests_in_flight", self.limits.in_flight_requests.min(self.limits.in_flight_bytes)),
            ("outbound_queue", self.limits.outbound_messages.min(self.limits.outbound_bytes)),
            ("outbound_backlog", self.limits.backlog_messages.min(self.limits.backlog_bytes)),
        ];
        if let Some((setting, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::OutOfRange { setting, expected: "at least 1" });
        }
        let times = [
            ("keep_alive", self.limits.keep_alive.unwrap_or_default()),
            ("reconnect_delay", self.limits.reconnect_delay),
            ("resume_window", self.limits.resume_window),
            ("stall_timeout", self.limits.stall_timeout),
            ("body_timeout", self.limits.body_timeout),
            ("queue_timeout", self.limits.queue_timeout),
            ("app_grace", self.limits.app_grace),
            ("silent_grace", self.limits.silent_grace),
            ("shutdown_spread", self.limits.shutdown_spread),
        ];
        if let Some((setting, _)) = times.into_iter().find(|(_, time)| *time > clock::FAR) {
            return Err(ConfigError::OutOfRange { setting, expected: "at most a year" });
        }
        if self.limits.stall_timeout.is_zero() {
            return Err(ConfigError::OutOfRange { setting: "stall_timeout", expected: "more than zero" });
        }
        if self.others.records.is_some() && self.others.backplane.is_none() {
            return Err(ConfigError::ReviveWithoutBackplane);
        }
        let gate = Gate::new(Names::new(&self.security)?);
        let gate = match self.authenticate {
            Some(authenticate) => gate.with(authenticate),
            None => gate,
        };
        Ok(SseServerTransport::from_parts(
            EndpointPath::parse(&self.endpoint)?,
            Mount::new(self.mount_prefix.as_deref(), self.trust_forwarded_prefix)?,
            gate,
            self.cors,
            self.limits,
            self.observer,
            self.others,
        ))
    }
}
