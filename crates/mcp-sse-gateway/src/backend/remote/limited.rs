//! Events over the limit in what a Streamable HTTP server answers: rmcp's client breaks the stream off there.
//! The request is told why.

use futures_util::{StreamExt as _, stream::BoxStream};
use sse_stream::{Error as SseError, Sse};

use super::transport::chain;
use crate::oversized::INTERNAL_ERROR;
use mcp_sse::{Message, RequestId};

/// The answer to a request, with an error in the place of an event over the limit.
pub(super) fn answer(
    events: BoxStream<'static, Result<Sse, SseError>>,
    id: RequestId,
    limit: usize,
) -> BoxStream<'static, Result<Sse, SseError>> {
    let over = move |error: &SseError| {
        // Its type is rmcp's own.
        chain(error).contains("exceeded the maximum size").then(|| {
            let text = format!("the server's answer is over the limit of {limit}; raise --max-message-bytes if it should pass");
            tracing::warn!("{text}");
            let data = Message::error(&id, INTERNAL_ERROR, &text).as_str().to_owned();
            Sse { data: Some(data), ..Sse::default() }
        })
    };
    events
        .map(move |event| match event {
            Err(error) => over(&error).ok_or(error),
            Ok(event) => Ok(event),
        })
        .boxed()
}
