//! Answers to requests that are refused, as JSON-RPC errors.

use http::{HeaderValue, StatusCode, header};
use mcp_sse::RequestId;

use crate::{
    answer::{Answer, answer},
    bridge::modern_client::Fault,
    front::http::Refusal,
    message::modern::code,
};

pub(super) fn json(status: StatusCode, text: String) -> Answer {
    let mut answer = answer(status, "application/json", text);
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The status that the specification has for an error.
pub(super) fn status_of(code: i32) -> StatusCode {
    if code == code::METHOD_NOT_FOUND { StatusCode::NOT_FOUND } else { StatusCode::BAD_REQUEST }
}

pub(super) fn refused(status: StatusCode, id: Option<&RequestId>, fault: &Fault) -> Answer {
    json(status, fault.json(id))
}

pub(super) fn busy(id: Option<&RequestId>, why: &str) -> Answer {
    let mut answer = refused(StatusCode::SERVICE_UNAVAILABLE, id, &Fault::new(code::INTERNAL_ERROR, why));
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

pub(super) fn unread(refusal: &Refusal, id: Option<&RequestId>) -> Answer {
    let (status, why) = refusal.says();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        return busy(id, &why);
    }
    let code = match refusal {
        Refusal::NoMessage(why) if !why.contains("batches") => -32700,
        _ => code::INVALID_REQUEST,
    };
    refused(status, id, &Fault::new(code, why))
}
