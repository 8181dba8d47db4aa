//! Carries messages between a client and its server until one of them ends.

use std::time::Duration;

use futures_util::FutureExt as _;
use mcp_sse::Incoming;
use tokio::time::timeout;

use crate::{
    backend::{Failure, Sink, Source},
    front::{Gone, Receive, Reply},
};

/// What is still queued for a server when its client is gone gets this long to be delivered; and a server
/// that takes nothing more, to say why.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// And a client that has closed its side, to hear the answers.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client is gone.
    Client,
    /// The server ended or failed; requests that wait are not answered yet.
    Server(Failure),
}

/// `first` is a message that was taken from the client already.
pub(crate) async fn relay(
    first: Option<Incoming>,
    receiver: &mut impl Receive,
    reply: &impl Reply,
    sink: &mut impl Sink,
    source: &mut impl Source,
) -> End {
    let up = async {
        let mut next = first;
        loop {
            let Some(first) = (match next.take() {
                Some(incoming) => Some(incoming),
                None => receiver.recv().await,
            }) else {
                return Ok(());
            };
            send(first, receiver, sink).await?;
        }
    };
    tokio::pin!(up);
    let mut said: Option<Result<(), Failure>> = None;
    {
        let down = async {
            loop {
                match source.recv().await {
                    Ok(message) => {
                        if reply.send(message).await == Err(Gone) {
                            return End::Client;
                        }
                    }
                    Err(failure) => return End::Server(failure),
                }
            }
        };
        tokio::pin!(down);
        let ended = tokio::select! {
            end = &mut down => Some(end),
            ended = &mut up => { said = Some(ended); None }
            () = reply.closed() => None,
        };
        match (ended, &said) {
            (Some(End::Server(failure)), _) => return End::Server(failure),
            // The client has said its last, and may still want to hear.
            (None, Some(Ok(()))) => {
                let heard = async {
                    tokio::select! {
                        end = &mut down => end,
                        () = reply.idle() => End::Client,
                        () = reply.closed() => End::Client,
                    }
                };
                return timeout(LAST_ANSWERS, heard).await.unwrap_or(End::Client);
            }
            // The server takes nothing more; why, it says soon.
            (None, Some(Err(failure))) => {
                let failure = failure.clone();
                return timeout(LAST_WORDS, down).await.unwrap_or(End::Server(failure));
            }
            (Some(End::Client) | None, _) => {}
        }
    }
    // The client is gone. What it sent last may be a cancellation, or have an effect that it counts on. What
    // the server says meanwhile nobody hears, but it must not wait for that.
    let unheard = async { while source.recv().await.is_ok() {} };
    let _ = timeout(LAST_WORDS, async {
        tokio::select! {
            _ = &mut up => {}
            () = unheard => {}
        }
    })
    .await;
    End::Client
}

/// Sends a message, and with it those that wait already.
async fn send<S: Sink>(first: Incoming, receiver: &mut impl Receive, sink: &mut S) -> Result<(), Failure> {
    let mut bytes = first.message.as_bytes().len();
    let mut together = vec![first];
    while bytes < S::AT_ONCE
        // At its end it says so again.
        && let Some(Some(incoming)) = receiver.recv().now_or_never()
    {
        bytes += incoming.message.as_bytes().len();
        together.push(incoming);
    }
    sink.send_all(together).await
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use mcp_sse::Message;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;

    struct Client {
        says: mpsc::Receiver<Incoming>,
    }

    struct Heard {
        messages: Mutex<Vec<String>>,
        gone: CancellationToken,
        idle: CancellationToken,
    }

    struct Server {
        takes: usize,
        taken: Vec<String>,
    }

    struct Says(mpsc::Receiver<Result<Message, Failure>>);

    impl Receive for Client {
        async fn recv(&mut self) -> Option<Incoming> {
            self.says.recv().await
        }
    }

    impl Reply for Heard {
        async fn send(&self, message: Message) -> Result<(), Gone> {
            self.messages.lock().unwrap().push(message.as_str().to_owned());
            if self.gone.is_cancelled() { Err(Gone) } else { Ok(()) }
        }

        async fn fail(&self, _: &str) {}

        async fn idle(&self) {
            self.idle.cancelled().await;
        }

        async fn closed(&self) {
            self.gone.cancelled().await;
        }
    }

    impl Sink for Server {
        async fn send(&mut self, incoming: Incoming) -> Result<(), Failure> {
            if self.takes == self.taken.len() {
                return Err(Failure::new("no more input"));
            }
            self.taken.push(incoming.message.as_str().to_owned());
            Ok(())
        }
    }

    impl Source for Says {
        async fn recv(&mut self) -> Result<Message, Failure> {
            match self.0.recv().await {
                Some(said) => said,
                None => std::future::pending().await,
            }
        }

        fn silent(&self, _: Duration) -> Failure {
            Failure::new("silent")
        }
    }

    fn note(method: &str) -> Message {
        Message::parse(format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#)).unwrap()
    }

    fn incoming(method: &str) -> Incoming {
        Incoming::new(note(method), http::Request::new(()).into_parts().0)
    }

    struct Setup {
        client: Client,
        heard: Heard,
        server: Server,
        says: Says,
        client_says: mpsc::Sender<Incoming>,
        server_says: mpsc::Sender<Result<Message, Failure>>,
    }

    fn setup(takes: usize) -> Setup {
        let (client_says, says) = mpsc::channel(8);
        let (server_says, server) = mpsc::channel(8);
        Setup {
            client: Client { says },
            heard: Heard {
                messages: Mutex::default(),
                gone: CancellationToken::new(),
                idle: CancellationToken::new(),
            },
            server: Server { takes, taken: Vec::new() },
            says: Says(server),
            client_says,
            server_says,
        }
    }

    impl Setup {
        async fn run(&mut self) -> End {
            let Self { client, heard, server, says, .. } = self;
            relay(Some(incoming("first")), client, heard, server, says).await
        }
    }

    /// What it was sent together.
    struct Together(Vec<usize>);

    impl Sink for Together {
        const AT_ONCE: usize = 90;

        async fn send(&mut self, incoming: Incoming) -> Result<(), Failure> {
            self.send_all(vec![incoming]).await
        }

        async fn send_all(&mut self, incoming: Vec<Incoming>) -> Result<(), Failure> {
            self.0.push(incoming.len());
            Ok(())
        }
    }

    #[tokio::test]
    async fn messages_that_wait_are_sent_together_up_to_a_bound() {
        let (client_says, says) = mpsc::channel(8);
        let (mut client, mut together) = (Client { says }, Together(Vec::new()));
        // Of 33 bytes each.
        for _ in 0..3 {
            client_says.send(incoming("note")).await.unwrap();
        }
        send(incoming("note"), &mut client, &mut together).await.unwrap();
        send(client.recv().await.unwrap(), &mut client, &mut together).await.unwrap();
        assert_eq!(together.0, [3, 1]);
    }

    #[tokio::test]
    async fn what_is_queued_when_the_client_ends_is_still_delivered() {
        let mut setup = setup(9);
        setup.client_says.send(incoming("last")).await.unwrap();
        setup.heard.gone.cancel();
        (setup.client_says, _) = mpsc::channel(1);
        assert_eq!(setup.run().await, End::Client);
        assert_eq!(setup.server.taken.len(), 2);
    }

    #[tokio::test]
    async fn a_client_that_closes_its_side_still_hears_its_answers() {
        let mut setup = setup(9);
        (setup.client_says, _) = mpsc::channel(1);
        let (says, idle) = (setup.server_says.clone(), setup.heard.idle.clone());
        let server = async {
            tokio::task::yield_now().await;
            says.send(Ok(note("answer"))).await.unwrap();
            while says.capacity() < says.max_capacity() {
                tokio::task::yield_now().await;
            }
            idle.cancel();
        };
        let (end, ()) = tokio::join!(setup.run(), server);
        assert_eq!(end, End::Client);
        assert_eq!(setup.heard.messages.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_server_that_takes_no_more_is_asked_why() {
        let mut setup = setup(0);
        setup.server_says.send(Ok(note("dying"))).await.unwrap();
        setup.server_says.send(Err(Failure::new("exit status: 1"))).await.unwrap();
        assert_eq!(setup.run().await, End::Server(Failure::new("exit status: 1")));
        assert_eq!(setup.heard.messages.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn and_if_it_does_not_say_that_is_the_reason() {
        let mut setup = setup(0);
        assert_eq!(setup.run().await, End::Server(Failure::new("no more input")));
    }

    #[tokio::test]
    async fn a_client_that_is_gone_ends_it_whatever_the_server_does() {
        let mut setup = setup(9);
        setup.heard.gone.cancel();
        setup.server_says.send(Ok(note("hello"))).await.unwrap();
        assert_eq!(setup.run().await, End::Client);
    }
}
