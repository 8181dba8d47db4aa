//! The deadline for a server's answer to `initialize`, whichever transport it speaks.
//!
//! Only the answer itself meets the deadline: other messages, such as log messages, are passed on and do not
//! count. If the client's first message is another request, any message from the server meets the deadline, since
//! it shows that the server runs; the answer to that request may take as long as it likes. If the first message is
//! no request, there is no deadline.

use std::time::Duration;

use mcp_sse::{Message, MessageKind, RequestId};
use tokio::time::{Instant, timeout_at};

use super::{Failure, Source};

/// A [`Source`] whose server has to answer by a deadline.
pub(crate) struct Greeted<'a, S> {
    source: &'a mut S,
    awaited: Option<Awaited>,
    until: Instant,
    /// The time between the start and the deadline, for the error.
    time: Duration,
}

enum Awaited {
    Initialize(RequestId),
    Anything,
}

impl<'a, S: Source> Greeted<'a, S> {
    /// `first` is what the client said first; the answer is due at `until`, `time` after the start.
    pub(crate) fn new(source: &'a mut S, first: Option<&Message>, until: Instant, time: Duration) -> Self {
        let awaited = first.and_then(|first| match first.kind() {
            MessageKind::Request { id, method } if &**method == "initialize" => {
                Some(Awaited::Initialize(id.clone()))
            }
            MessageKind::Request { .. } => Some(Awaited::Anything),
            MessageKind::Notification { .. } | MessageKind::Response { .. } => None,
        });
        Self { source, awaited, until, time }
    }

    fn heard(&mut self, heard: Result<&Message, &Failure>) {
        match (&self.awaited, heard.map(Message::kind)) {
            (Some(Awaited::Initialize(id)), Ok(MessageKind::Response { id: Some(of), is_error }))
                if of == id =>
            {
                self.source.greeted(!is_error);
            }
            (Some(Awaited::Anything), Ok(_)) => {}
            (Some(_), Err(_)) => self.source.greeted(false),
            _ => return,
        }
        self.awaited = None;
    }
}

impl<S: Source> Source for Greeted<'_, S> {
    async fn recv(&mut self) -> Result<Message, Failure> {
        if self.awaited.is_none() {
            return self.source.recv().await;
        }
        let heard = match timeout_at(self.until, self.source.recv()).await {
            Ok(heard) => heard,
            Err(_) => Err(self.source.silent(self.time)),
        };
        self.heard(heard.as_ref());
        heard
    }

    fn silent(&self, time: Duration) -> Failure {
        self.source.silent(time)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::clock;

    #[derive(Default)]
    struct Server {
        says: VecDeque<&'static str>,
        greeted: Option<bool>,
    }

    impl Source for Server {
        async fn recv(&mut self) -> Result<Message, Failure> {
            match self.says.pop_front() {
                Some(says) => Ok(Message::parse(says).unwrap()),
                None => std::future::pending().await,
            }
        }

        fn silent(&self, time: Duration) -> Failure {
            Failure::new(format!("silent for {time:?}"))
        }

        fn greeted(&mut self, successfully: bool) {
            self.greeted = Some(successfully);
        }
    }

    const LOG: &str = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;
    const ANSWER: &str = r#"{"jsonrpc":"2.0","id":0,"result":{}}"#;
    const ERROR: &str = r#"{"jsonrpc":"2.0","id":0,"error":{"code":1,"message":"m"}}"#;
    const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize"}"#;
    const CALL: &str = r#"{"jsonrpc":"2.0","id":0,"method":"tools/call"}"#;

    /// How many messages came through, whether the deadline ended the session, and what `greeted` was told.
    async fn heard(first: &str, says: &[&'static str]) -> (usize, bool, Option<bool>) {
        let mut server = Server { says: says.iter().copied().collect(), greeted: None };
        let time = Duration::from_secs(1);
        let first = Message::parse(first.to_owned()).unwrap();
        let mut count = 0;
        let ended = {
            let mut greeted = Greeted::new(&mut server, Some(&first), clock::now() + time, time);
            loop {
                match tokio::time::timeout(10 * time, greeted.recv()).await {
                    Ok(Ok(_)) => count += 1,
                    Ok(Err(failure)) => {
                        assert_eq!(failure.text, "silent for 1s");
                        break true;
                    }
                    Err(_) => break false,
                }
            }
        };
        (count, ended, server.greeted)
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_answer_to_initialize_is_one() {
        assert_eq!(heard(INITIALIZE, &[]).await, (0, true, Some(false)));
        assert_eq!(heard(INITIALIZE, &[LOG, LOG]).await, (2, true, Some(false)));
        assert_eq!(heard(INITIALIZE, &[LOG, ANSWER]).await, (2, false, Some(true)));
        assert_eq!(heard(INITIALIZE, &[ERROR]).await, (1, false, Some(false)));
    }

    #[tokio::test(start_paused = true)]
    async fn another_request_may_take_its_time_if_there_is_a_server() {
        assert_eq!(heard(CALL, &[LOG]).await, (1, false, None));
        assert_eq!(heard(CALL, &[]).await, (0, true, Some(false)));
        assert_eq!(heard(LOG, &[]).await, (0, false, None));
    }
}
