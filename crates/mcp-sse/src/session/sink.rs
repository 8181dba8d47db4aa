//! A session as a `Stream` and a `Sink`, for apps that do not use rmcp.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::{
    driver::PendingSend,
    error::{CloseReason, SendError},
    handle::{Session, SessionReceiver},
    incoming::Incoming,
};
use crate::message::Message;

impl Stream for SessionReceiver {
    type Item = Incoming;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        self.session.poll_recv(cx)
    }
}

impl Stream for Session {
    type Item = Incoming;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        self.receiver.session.poll_recv(cx)
    }
}

/// `start_send` sends one message; `poll_ready` and `poll_flush` wait until it is in the session's queue.
///
/// ```
/// use futures_util::SinkExt;
/// use mcp_sse::{Message, SendError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// # let (_stream, Some(mut session)) = sse.connect(&get).await else { panic!("refused") };
/// let message = Message::parse(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#)?;
/// SinkExt::send(&mut session, message.clone()).await?;
/// SinkExt::close(&mut session).await?; // ends the session
/// let late = SinkExt::send(&mut session, message).await;
/// assert!(matches!(late, Err(SendError::Closed(_))));
/// # Ok(())
/// # }
/// ```
impl Sink<Message> for Session {
    type Error = SendError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.poll_flush(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), SendError> {
        let this = self.get_mut();
        this.sending = PendingSend::start(&this.handle.session, message)?;
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let this = self.get_mut();
        let Some(sending) = &mut this.sending else { return Poll::Ready(Ok(())) };
        let polled = sending.poll(cx);
        if polled.is_ready() {
            this.sending = None;
        }
        polled
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut *this).poll_flush(cx);
        if polled.is_ready() {
            this.handle.session.close(CloseReason::AppEnded);
        }
        polled
    }
}
