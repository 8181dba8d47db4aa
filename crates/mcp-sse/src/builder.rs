//! The settings of a transport, each with its unit, range, default and what it can cost.

mod sessions;

use std::time::Duration;

use crate::{
    admission::{Names, TransportSecuritySettings},
    clock,
    endpoint::{EndpointPath, Mount},
    error::ConfigError,
    limits::Limits,
    transport::SseServerTransport,
};

impl SseServerTransport {
    /// A transport with default settings, whose clients post to `endpoint`, a relative path such as
    /// `/messages/`. A missing leading slash is added.
    ///
    /// ```
    /// use mcp_sse::SseServerTransport;
    ///
    /// let error = SseServerTransport::new("https://example.com/messages/").unwrap_err();
    /// assert!(error.to_string().contains("expected a relative path"));
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError::Endpoint`] if it is a full URL, a network-path reference (`//host/…`), or has a
    /// query, a fragment, dot segments or control characters.
    pub fn new(endpoint: &str) -> Result<Self, ConfigError> {
        Self::builder(endpoint).build()
    }

    /// A transport with settings of your own.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// // What is wrong shows when it is built.
    /// let builder = SseServerTransport::builder("/messages/").max_sessions(0);
    /// assert!(builder.build().is_err());
    /// ```
    pub fn builder(endpoint: &str) -> Builder {
        Builder::new(endpoint)
    }
}

/// Settings of a [`SseServerTransport`]; made by [`SseServerTransport::builder`].
///
/// With the defaults, the messages of one session take at most 18.75 MiB, as long as none is larger than the
/// bound that it counts against:
///
/// | what | bytes | setting |
/// |---|---|---|
/// | waiting for the app | 1 MiB | [`inbound_queue`](Self::inbound_queue) |
/// | requests in flight, which the app holds | 1 MiB | [`requests_in_flight`](Self::requests_in_flight) |
/// | waiting for the client | 0.5 MiB | [`outbound_queue`](Self::outbound_queue) |
/// | sent, and waiting for room there | 16 MiB | [`outbound_backlog`](Self::outbound_backlog) |
/// | kept for a client that resumes | 0.25 MiB | [`replay_buffer`](Self::replay_buffer) |
///
/// A message that is larger than a bound passes alone and takes its own size instead: at most 4 MiB from the
/// client, 16 MiB from the app; so the sum can become 40.25 MiB. An app that waits for each message that it
/// sends has one in the backlog, not 16 MiB of them. Not in these figures: what the app keeps otherwise, for one
/// the requests that it still works on though their client has cancelled them, which have a bound like that of
/// the requests in flight.
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
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    endpoint: String,
    security: TransportSecuritySettings,
    mount_prefix: Option<String>,
    trust_forwarded_prefix: bool,
    cors: bool,
    limits: Limits,
}

impl Builder {
    pub(crate) fn new(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            security: TransportSecuritySettings::default(),
            mount_prefix: None,
            trust_forwarded_prefix: false,
            cors: false,
            limits: Limits::default(),
        }
    }

    // ---- where it is reached ------------------------------------------------------------------------

    /// DNS-rebinding protection. Default: on, for loopback names only.
    ///
    /// ```
    /// use mcp_sse::{SseServerTransport, TransportSecuritySettings};
    ///
    /// let settings = TransportSecuritySettings {
    ///     allowed_hosts: vec!["mcp.example.com".into()],
    ///     ..Default::default()
    /// };
    /// assert!(SseServerTransport::builder("/messages/").security(settings).build().is_ok());
    /// ```
    pub fn security(mut self, settings: TransportSecuritySettings) -> Self {
        self.security = settings;
        self
    }

    /// The path that the transport is mounted under, e.g. `/api`; the `endpoint` event puts it before the
    /// endpoint. Default: what a nested axum router took off the path (feature `axum`), else none. The
    /// empty string means none, whatever the router says.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// assert!(SseServerTransport::builder("/messages/").mount_prefix("/api").build().is_ok());
    ///
    /// let error = SseServerTransport::builder("/messages/").mount_prefix("//evil").build().unwrap_err();
    /// assert!(error.to_string().contains("is not a path"));
    /// ```
    pub fn mount_prefix(mut self, prefix: &str) -> Self {
        self.mount_prefix = Some(prefix.to_owned());
        self
    }

    /// Whether the header `X-Forwarded-Prefix` is put before the mount prefix. Default: no. Only turn it
    /// on behind a proxy that sets the header or takes it away: whoever can set it decides where a client
    /// posts to on this origin.
    ///
    /// ```
    /// # use http_body_util::BodyExt;
    /// # use mcp_sse::SseServerTransport;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
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

    /// Whether pages of other origins get CORS headers, preflights included; default: no. Only origins that
    /// [`security`](Self::security) lets pass get any. Source: the WHATWG Fetch standard, "CORS protocol".
    ///
    /// ```
    /// use mcp_sse::SseServerTransport;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
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

    // ---- streams ------------------------------------------------------------------------------------

    /// A stream that was silent for this long gets a comment line, so that proxies do not cut it.
    /// Default: 15 s. Zero turns it off. Proxies cut silent streams at 60 s and more.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use mcp_sse::SseServerTransport;
    /// assert!(SseServerTransport::builder("/messages/").keep_alive(Duration::from_secs(10)).build().is_ok());
    ///
    /// let error = SseServerTransport::builder("/messages/").keep_alive(Duration::MAX).build().unwrap_err();
    /// assert_eq!(error.to_string(), "keep_alive must be at most a year");
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
    /// assert!(SseServerTransport::builder("/messages/").resume_window(Duration::ZERO).build().is_ok());
    ///
    /// let error = SseServerTransport::builder("/messages/").resume_window(Duration::MAX).build().unwrap_err();
    /// assert_eq!(error.to_string(), "resume_window must be at most a year");
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
    /// assert!(SseServerTransport::builder("/messages/").replay_buffer(200, 64 * 1024).build().is_ok());
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
    /// assert!(SseServerTransport::builder("/messages/").stall_timeout(Duration::from_secs(10)).build().is_ok());
    ///
    /// let error = SseServerTransport::builder("/messages/").stall_timeout(Duration::ZERO).build().unwrap_err();
    /// assert_eq!(error.to_string(), "stall_timeout must be more than zero");
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
    /// assert!(SseServerTransport::builder("/messages/").outbound_queue(200, 256 * 1024).build().is_ok());
    ///
    /// let error = SseServerTransport::builder("/messages/").outbound_queue(200, 0).build().unwrap_err();
    /// assert_eq!(error.to_string(), "outbound_queue must be at least 1");
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
    /// assert!(SseServerTransport::builder("/messages/").outbound_backlog(100, 1024 * 1024).build().is_ok());
    ///
    /// let error = SseServerTransport::builder("/messages/").outbound_backlog(0, 1024).build().unwrap_err();
    /// assert_eq!(error.to_string(), "outbound_backlog must be at least 1");
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
    /// assert!(SseServerTransport::builder("/messages/").max_outbound_message_bytes(1024 * 1024).build().is_ok());
    ///
    /// let error = SseServerTransport::builder("/messages/").max_outbound_message_bytes(0).build().unwrap_err();
    /// assert_eq!(error.to_string(), "max_outbound_message_bytes must be at least 1");
    /// ```
    pub fn max_outbound_message_bytes(mut self, bytes: usize) -> Self {
        self.limits.outbound_message_bytes = bytes;
        self
    }

    // ---- messages from clients ----------------------------------------------------------------------

    /// The largest body of a POST, in bytes; a larger one is answered 413. Default: 4 MiB.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// assert!(SseServerTransport::builder("/messages/").max_body_bytes(64 * 1024).build().is_ok());
    ///
    /// let error = SseServerTransport::builder("/messages/").max_body_bytes(0).build().unwrap_err();
    /// assert_eq!(error.to_string(), "max_body_bytes must be at least 1");
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
    /// assert!(SseServerTransport::builder("/messages/").body_timeout(Duration::from_secs(5)).build().is_ok());
    ///
    /// let error = SseServerTransport::builder("/messages/").body_timeout(Duration::MAX).build().unwrap_err();
    /// assert_eq!(error.to_string(), "body_timeout must be at most a year");
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
    /// assert!(SseServerTransport::builder("/messages/").inbound_queue(32, 256 * 1024).build().is_ok());
    ///
    /// let error = SseServerTransport::builder("/messages/").inbound_queue(0, 256 * 1024).build().unwrap_err();
    /// assert_eq!(error.to_string(), "inbound_queue must be at least 1");
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
    /// further requests get 503. One counts until its handler ends (feature `rmcp`) or the app answers it, without rmcp at most for 30 s.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// assert!(SseServerTransport::builder("/messages/").requests_in_flight(32, 256 * 1024).build().is_ok());
    ///
    /// let error = SseServerTransport::builder("/messages/").requests_in_flight(0, 256 * 1024).build().unwrap_err();
    /// assert_eq!(error.to_string(), "requests_in_flight must be at least 1");
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
    /// assert!(SseServerTransport::builder("/messages/").queue_timeout(Duration::from_millis(200)).build().is_ok());
    ///
    /// let error = SseServerTransport::builder("/messages/").queue_timeout(Duration::MAX).build().unwrap_err();
    /// assert_eq!(error.to_string(), "queue_timeout must be at most a year");
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

    // ---- how sessions end ---------------------------------------------------------------------------

    /// How long an app may go on after its session closed, before it is dropped. Default: 30 s.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use mcp_sse::SseServerTransport;
    /// assert!(SseServerTransport::builder("/messages/").app_grace(Duration::from_secs(5)).build().is_ok());
    ///
    /// let error = SseServerTransport::builder("/messages/").app_grace(Duration::MAX).build().unwrap_err();
    /// assert_eq!(error.to_string(), "app_grace must be at most a year");
    /// ```
    pub fn app_grace(mut self, grace: Duration) -> Self {
        self.limits.app_grace = grace;
        self
    }

    /// Over how long a time a shutdown spreads the ends of the streams. Default: 1 s; never longer than
    /// the shutdown's deadline.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use mcp_sse::SseServerTransport;
    /// assert!(SseServerTransport::builder("/messages/").shutdown_spread(Duration::from_secs(10)).build().is_ok());
    ///
    /// let error = SseServerTransport::builder("/messages/").shutdown_spread(Duration::MAX).build().unwrap_err();
    /// assert_eq!(error.to_string(), "shutdown_spread must be at most a year");
    /// ```
    pub fn shutdown_spread(mut self, spread: Duration) -> Self {
        self.limits.shutdown_spread = spread;
        self
    }

    /// Makes the transport.
    ///
    /// ```
    /// use mcp_sse::{ConfigError, SseServerTransport};
    ///
    /// let error = SseServerTransport::builder("/messages/").max_sessions(0).build().unwrap_err();
    /// assert_eq!(error, ConfigError::OutOfRange { setting: "max_sessions", expected: "at least 1" });
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError`] says which setting is wrong, what came and what is expected.
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
        Ok(SseServerTransport::from_parts(
            EndpointPath::parse(&self.endpoint)?,
            Mount::new(self.mount_prefix.as_deref(), self.trust_forwarded_prefix)?,
            Names::new(&self.security)?,
            self.cors,
            self.limits,
        ))
    }
}
