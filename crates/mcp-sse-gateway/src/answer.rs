//! Answers to requests that are a short text, whole and at once.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};

pub(crate) type Answer = Response<BoxBody<Bytes, Infallible>>;

pub(crate) fn answer(status: StatusCode, content_type: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::from(text).boxed());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    let mut response = Response::new(Full::from(format!("{body}\n")).boxed());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Answers GET and HEAD. Probes use any host name, so `Host` is not checked; the answers reveal nothing secret.
pub(crate) fn read_only<B>(request: &Request<B>, answer: impl FnOnce() -> Answer) -> Answer {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return answer();
    }
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

pub(crate) fn text(status: StatusCode, text: &'static str) -> Answer {
    let mut response = Response::new(Full::from(text).boxed());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
