//! CORS: the headers that a browser needs before it lets a page of another origin use the server. Only
//! allowed origins get any.
//!
//! Source: the WHATWG Fetch standard, "CORS protocol".

use http::{HeaderMap, HeaderValue, Method, header, request::Parts};

use super::security::Names;

/// How long a browser may cache the answer to a preflight, in seconds; the longest that browsers accept.
const MAX_AGE: &str = "7200";

/// The headers of a response to a page of another origin.
#[derive(Clone, Debug)]
pub(crate) struct CorsHeaders {
    origin: HeaderValue,
}

impl CorsHeaders {
    /// The headers for this request; `None` if it is not from a page, or from a page whose origin is not
    /// allowed.
    pub(crate) fn of(names: &Names, parts: &Parts) -> Option<Self> {
        let origin = parts.headers.get(header::ORIGIN)?;
        names.pass(&parts.uri, &parts.headers).then(|| Self { origin: origin.clone() })
    }

    /// Adds the headers to a response. A refusal gets them too, so that the page can read its status.
    pub(crate) fn add_to(self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.origin);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        let exposed = HeaderValue::from_static("mcp-session-id, mcp-protocol-version, www-authenticate");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// The headers of the answer, if the request is a preflight from an allowed origin.
pub(crate) fn preflight(names: &Names, parts: &Parts) -> Option<HeaderMap> {
    let asks = parts.method == Method::OPTIONS
        && parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        && parts.headers.contains_key(header::ORIGIN);
    if !asks {
        return None;
    }
    let cors = CorsHeaders::of(names, parts)?;
    let mut headers = HeaderMap::new();
    let methods = HeaderValue::from_static("GET, POST, DELETE");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    // All headers that the page asks for: clients have their own, and the server checks those that it uses.
    if let Some(wanted) = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    headers.append(header::VARY, HeaderValue::from_static("access-control-request-headers"));
    cors.add_to(&mut headers);
    Some(headers)
}
