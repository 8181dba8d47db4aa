//! A session over HTTP+SSE.

use http::request::Parts;
use mcp_sse::{Incoming, Message, SendError, Session, SessionHandle};

use super::{Gone, Receive, Reply};

impl Receive for &mut Session {
    async fn recv(&mut self) -> Option<Incoming> {
        Session::recv(self).await
    }
}

impl Reply for SessionHandle {
    async fn send(&self, message: Message) -> Result<(), Gone> {
        match Self::send(self, message).await {
            Err(SendError::Closed(_)) => Err(Gone),
            Err(error) => {
                // The client got an error in its place.
                tracing::warn!(%error, "a message from the server was not sent");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn fail(&self, text: &str) {
        self.close_with_error(text);
    }

    async fn idle(&self) {}

    fn keep(&self, state: String) {
        if let Err(error) = Self::keep(self, state) {
            tracing::warn!(%error, "this session ends with its replica");
        }
    }

    fn revived(&self) -> Option<(&str, &Parts)> {
        Self::revived(self).map(|revived| (revived.state, revived.parts))
    }

    async fn closed(&self) {
        Self::closed(self).await;
    }
}
