//! CORS: what a browser has to be told before a page of another origin may use the server. Only origins
//! that pass the check of `Origin` are told anything.
//!
//! Source: the WHATWG Fetch standard, "CORS protocol".

use http::{HeaderMap, HeaderValue, Method, header, request::Parts};

use super::security::Names;

/// How long a browser may remember a preflight's answer, in seconds; what browsers take at the most.
const MAX_AGE: &str = "7200";

/// What the response to a page of another origin needs.
#[derive(Clone, Debug)]
pub(crate) struct CorsHeaders {
    origin: HeaderValue,
}

impl CorsHeaders {
    /// Those for this request; `None` if it is not from a page, or from one that may not use the server.
    pub(crate) fn of(names: &Names, parts: &Parts) -> Option<Self> {
        let origin = parts.headers.get(header::ORIGIN)?;
        names.pass(&parts.uri, &parts.headers).then(|| Self { origin: origin.clone() })
    }

    /// Adds them to a response, be it a refusal: a page should see its status.
    pub(crate) fn add_to(self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.origin);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        let exposed = HeaderValue::from_static("mcp-session-id, mcp-protocol-version, www-authenticate");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// The headers of the answer to a preflight, if this is one that may pass.
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
    // Whatever the page wants to send: clients have headers of their own, and the server checks those it uses.
    if let Some(wanted) = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    headers.append(header::VARY, HeaderValue::from_static("access-control-request-headers"));
    cors.add_to(&mut headers);
    Some(headers)
}
