//! CORS: what a browser has to be told before a page of another origin may use the server. Only origins
//! that pass the check of `Origin` are told anything.

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};

use super::security::Names;
use crate::body::Body;

/// How long a browser may remember a preflight's answer, in seconds; what browsers take at the most.
const MAX_AGE: &str = "7200";

/// A request that passed the checks of [`SseServerTransport::guard`](crate::SseServerTransport::guard).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sse = mcp_sse::SseServerTransport::builder("/messages/").cors(true).build()?;
/// let request = http::Request::get("http://localhost/mcp").header("origin", "http://localhost:5173");
/// let (parts, ()) = request.body(())?.into_parts();
///
/// let guarded = sse.guard(&parts).expect("it is from a loopback page");
/// let mut response = http::Response::new("hello");
/// guarded.finish(response.headers_mut());
/// assert_eq!(response.headers()["access-control-allow-origin"], "http://localhost:5173");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "the response wants the headers that `finish` adds"]
pub struct Guarded {
    origin: Option<HeaderValue>,
}

impl Guarded {
    pub(crate) fn new(cors: bool, parts: &Parts) -> Self {
        let origin = parts.headers.get(header::ORIGIN).filter(|_| cors).cloned();
        Self { origin }
    }

    /// Adds the CORS headers, if the transport sends them and the request came from a page.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let (parts, ()) = http::Request::get("http://localhost/mcp").body(())?.into_parts();
    /// let mut response = http::Response::new("hello");
    /// sse.guard(&parts).expect("it is for localhost").finish(response.headers_mut());
    /// # Ok(())
    /// # }
    /// ```
    pub fn finish(self, headers: &mut HeaderMap) {
        let Some(origin) = self.origin else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        let exposed = HeaderValue::from_static("mcp-session-id, mcp-protocol-version, www-authenticate");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// The answer to a preflight, if this is one that may pass.
pub(crate) fn preflight(names: &Names, parts: &Parts) -> Option<Response<Body>> {
    let asks = parts.method == Method::OPTIONS
        && parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        && parts.headers.contains_key(header::ORIGIN);
    if !asks || !names.pass(&parts.uri, &parts.headers) {
        return None;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET, POST, DELETE");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    // Whatever the page wants to send: clients have headers of their own, and the server checks those it uses.
    if let Some(wanted) = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    headers.append(header::VARY, HeaderValue::from_static("access-control-request-headers"));
    Guarded::new(true, parts).finish(headers);
    Some(response)
}

/// Adds the CORS headers to an answer of our own, be it a refusal: a page should see its status.
pub(crate) fn finish(names: &Names, parts: &Parts, response: &mut Response<Body>) {
    if parts.headers.contains_key(header::ORIGIN) && names.pass(&parts.uri, &parts.headers) {
        Guarded::new(true, parts).finish(response.headers_mut());
    }
}
