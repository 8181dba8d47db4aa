//! DNS-rebinding protection: which host names the server answers to, and which web pages may use it.

use std::sync::Arc;

use http::{HeaderMap, Uri, header};

use super::{
    authority::{Authority, Origin, Pattern},
    rejection::Rejection,
};
use crate::{clock, error::ConfigError, throttle::Throttle};

/// Which `Host` and `Origin` headers are allowed, as a protection against DNS rebinding.
///
/// A web page that rebinds its own name to your address can reach a server that listens on loopback. So both
/// headers are checked against lists: comparing `Origin` with `Host` would not help, because the attacker
/// controls both. By default loopback names are allowed, on any port, and nothing else. (The reference
/// implementation is unprotected by default.)
///
/// An entry matches exactly (`mcp.example.com`, `127.0.0.1:8000`); if it ends in `:*`, it matches with any
/// port and without one. An origin has a scheme: `https://app.example.com`. A request without `Origin` does
/// not come from a web page and is allowed; one without `Host` is refused.
///
/// ```
/// use mcp_sse::{SseServerTransport, TransportSecuritySettings};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sse = SseServerTransport::builder("/messages/")
///     .security(
///         TransportSecuritySettings::default()
///             .with_allowed_hosts(["mcp.example.com"])
///             .with_allowed_origins(["https://app.example.com"]),
///     )
///     .build()?;
///
/// let get = |host: &str| http::Request::get("/sse").header("host", host).body(());
/// assert_eq!(sse.connect(&get("mcp.example.com")?).await.0.status(), 200);
/// assert_eq!(sse.connect(&get("evil.example")?).await.0.status(), 421);
/// assert_eq!(sse.connect(&get("localhost")?).await.0.status(), 421); // the list replaces the default
/// # let page = http::Request::get("http://mcp.example.com/sse").header("origin", "https://evil.example");
/// # assert_eq!(sse.connect(&page.body(())?).await.0.status(), 403);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportSecuritySettings {
    /// Whether `Host` and `Origin` are checked at all.
    enable_dns_rebinding_protection: bool,
    allowed_hosts: Vec<String>,
    allowed_origins: Vec<String>,
}

impl TransportSecuritySettings {
    /// No checks at all: any web page that a user opens can use the server. Use it only if something in front
    /// of the server checks `Host` and `Origin`.
    pub fn dangerously_unprotected() -> Self {
        Self { enable_dns_rebinding_protection: false, ..Self::default() }
    }

    /// Allows these hosts instead of the default, which is `localhost`, `127.0.0.1` and `[::1]`, each with any port.
    #[must_use]
    pub fn with_allowed_hosts<T: Into<String>>(mut self, hosts: impl IntoIterator<Item = T>) -> Self {
        self.allowed_hosts = hosts.into_iter().map(Into::into).collect();
        self
    }

    /// Allows pages of these origins instead of the default, which is the same names with `http` and `https`, each
    /// with any port.
    #[must_use]
    pub fn with_allowed_origins<T: Into<String>>(mut self, origins: impl IntoIterator<Item = T>) -> Self {
        self.allowed_origins = origins.into_iter().map(Into::into).collect();
        self
    }
}

const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

impl Default for TransportSecuritySettings {
    fn default() -> Self {
        Self {
            enable_dns_rebinding_protection: true,
            allowed_hosts: LOOPBACK.map(|host| format!("{host}:*")).into(),
            allowed_origins: ["http", "https"]
                .iter()
                .flat_map(|scheme| LOOPBACK.map(|host| format!("{scheme}://{host}:*")))
                .collect(),
        }
    }
}

/// The settings, parsed.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    enabled: bool,
    hosts: Vec<Pattern<Authority>>,
    origins: Vec<Pattern<Origin>>,
    /// Limits the log lines about refusals; shared by all endpoints.
    lines: Arc<Throttle>,
}

impl Names {
    /// No checks.
    pub(crate) fn unprotected() -> Self {
        Self { enabled: false, hosts: Vec::new(), origins: Vec::new(), lines: Arc::new(Throttle::new()) }
    }

    pub(crate) fn new(settings: &TransportSecuritySettings) -> Result<Self, ConfigError> {
        let host = |entry: &String| {
            Pattern::<Authority>::parse(entry).ok_or_else(|| ConfigError::AllowedHost(entry.clone()))
        };
        let origin = |entry: &String| {
            Pattern::<Origin>::parse(entry).ok_or_else(|| ConfigError::AllowedOrigin(entry.clone()))
        };
        Ok(Self {
            enabled: settings.enable_dns_rebinding_protection,
            hosts: settings.allowed_hosts.iter().map(host).collect::<Result<_, _>>()?,
            origins: settings.allowed_origins.iter().map(origin).collect::<Result<_, _>>()?,
            lines: Arc::new(Throttle::new()),
        })
    }

    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Rejection> {
        if let Some(came) = self.refused_host(uri, headers) {
            self.log(|left_out| tracing::warn!(
                host = %shorten(came),
                left_out,
                "refused: this Host is not allowed; if clients should reach the server under this name, add it to allowed_hosts (of the program: --allowed-host)"
            ));
            return Err(Rejection::InvalidHost);
        }
        if let Some(came) = self.refused_origin(headers) {
            self.log(|left_out| tracing::warn!(
                origin = %shorten(came),
                left_out,
                "refused: this Origin is not allowed; if pages from there should use the server, add it to allowed_origins (of the program: --allowed-origin)"
            ));
            return Err(Rejection::InvalidOrigin);
        }
        Ok(())
    }

    /// Untrusted clients can cause these lines: the first ones are written, those of a flood only counted.
    fn log(&self, line: impl FnOnce(u64)) {
        if let Some(left_out) = self.lines.line(clock::now()) {
            line(left_out);
        }
    }

    /// The same checks, without logging.
    pub(super) fn pass(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        self.refused_host(uri, headers).is_none() && self.refused_origin(headers).is_none()
    }

    /// The host that is not allowed. HTTP/2 has it in the URI; if the URI and the header have one, both must
    /// pass.
    fn refused_host<'a>(&self, uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
        if !self.enabled {
            return None;
        }
        let mut of_header = headers.get_all(header::HOST).iter();
        let header = of_header.next().map(|value| value.to_str().unwrap_or("(not ASCII)"));
        let of_uri = uri.authority().map(http::uri::Authority::as_str);
        let passes = |name: &str| {
            Authority::parse(name).is_some_and(|name| self.hosts.iter().any(|entry| entry.matches(&name)))
        };
        if of_header.next().is_some() {
            return Some("(several)");
        }
        if header.is_none() && of_uri.is_none() {
            return Some("(none)");
        }
        [header, of_uri].into_iter().flatten().find(|name| !passes(name))
    }

    fn refused_origin<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        if !self.enabled {
            return None;
        }
        let mut values = headers.get_all(header::ORIGIN).iter();
        let text = values.next()?.to_str().unwrap_or("(not ASCII)");
        let passes =
            Origin::parse(text).is_some_and(|origin| self.origins.iter().any(|entry| entry.matches(&origin)));
        (!passes || values.next().is_some()).then_some(text)
    }
}

/// Makes untrusted text fit for a log line: short, and without control characters.
fn shorten(text: &str) -> String {
    let shown: String = text.chars().take(128).collect();
    let dots = if shown.len() < text.len() { "…" } else { "" };
    format!("{}{dots}", shown.escape_debug())
}
