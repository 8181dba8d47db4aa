//! What an app receives from its client.

use super::head::Head;
use crate::message::Message;

/// A message from the client, with the head of the request that brought it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// # let (_stream, Some(mut session)) = sse.connect(&get).await else { panic!("refused") };
/// # let uri = format!("http://localhost/messages/?session_id={}", session.handle().id().expose_hex());
/// # let post = http::Request::post(uri).header("content-type", "application/json");
/// # let post = post.header("x-tenant", "seven");
/// # let json = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
/// # assert_eq!(sse.post(post.body(json.to_owned())?).await.status(), 202);
/// // The client posted a `ping` with the header `x-tenant: seven`.
/// let incoming = session.recv().await.unwrap();
/// assert_eq!(incoming.message.method(), Some("ping"));
/// assert_eq!(incoming.parts().headers["x-tenant"], "seven");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Incoming {
    /// The message.
    pub message: Message,
    pub(crate) head: Head,
}

impl Incoming {
    /// A message as if a POST with this head had brought it, for tests of an app and for apps that also serve
    /// clients of other transports.
    ///
    /// ```
    /// use mcp_sse::{Incoming, Message};
    ///
    /// let (parts, ()) = http::Request::post("/messages/").header("x-tenant", "seven").body(())?.into_parts();
    /// let incoming = Incoming::new(Message::parse(r#"{"jsonrpc":"2.0","method":"m"}"#)?, parts);
    /// assert_eq!(incoming.parts().headers["x-tenant"], "seven");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(message: Message, parts: http::request::Parts) -> Self {
        Self { message, head: Head::new(parts) }
    }

    /// Method, URI, headers and extensions of the POST, where a tool can read headers and the
    /// [`Principal`](crate::Principal).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(mut session)) = sse.connect(&get).await else { panic!("refused") };
    /// # let uri = format!("http://localhost/messages/?session_id={}", session.handle().id().expose_hex());
    /// # let post = http::Request::post(uri).header("content-type", "application/json");
    /// # let json = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    /// # assert_eq!(sse.post(post.body(json.to_owned())?).await.status(), 202);
    /// let incoming = session.recv().await.unwrap();
    /// assert_eq!(incoming.parts().method, http::Method::POST);
    /// # Ok(())
    /// # }
    /// ```
    pub fn parts(&self) -> &http::request::Parts {
        self.head.parts()
    }

    /// The extensions of the POST, as [`parts`](Self::parts) has them. Requests of one connection may share their head,
    /// of which `parts` has to make a copy; this never does.
    ///
    /// ```
    /// use mcp_sse::{Incoming, Message, Principal};
    ///
    /// let (parts, ()) = http::Request::post("/messages/").extension(Principal::new("alice")).body(())?.into_parts();
    /// let incoming = Incoming::new(Message::parse(r#"{"jsonrpc":"2.0","method":"m"}"#)?, parts);
    /// assert_eq!(incoming.extensions().get::<Principal>().map(Principal::as_str), Some("alice"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn extensions(&self) -> &http::Extensions {
        &self.head.but_for_length().extensions
    }
}
