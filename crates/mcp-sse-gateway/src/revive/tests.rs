//! What is held while there is no server, on virtual time.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::*;
use crate::front::Gone;

const TIME: Duration = Duration::from_secs(60);
const GREETING: &str =
    r#"{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"a","version":"1"}}"#;

/// A server that answers `initialize`, dies, and cannot be started again.
#[derive(Default)]
struct Mortal {
    starts: u32,
}

struct Takes(mpsc::Sender<Incoming>);
struct Says(mpsc::Receiver<Incoming>);

impl Backend for Mortal {
    type Sink = Takes;
    type Source = Says;

    async fn open(&mut self, _: &Parts) -> Result<(Takes, Says), Failure> {
        self.starts += 1;
        if self.starts > 1 {
            std::future::pending::<()>().await;
        }
        let (takes, says) = mpsc::channel(8);
        Ok((Takes(takes), Says(says)))
    }

    async fn untaken(&mut self, _: &mut Takes, _: &mut Says) -> Vec<Message> {
        Vec::new()
    }

    async fn close(&mut self, _: Takes, _: Says, _: How) {}
}

impl Sink for Takes {
    async fn send(&mut self, incoming: Incoming) -> Result<(), Failure> {
        self.0.send(incoming).await.map_err(|_| Failure::new("it takes no more"))
    }
}

impl Source for Says {
    async fn recv(&mut self) -> Result<Message, Failure> {
        loop {
            let Some(incoming) = self.0.recv().await else { return Err(Failure::new("it died")) };
            match incoming.message.kind() {
                MessageKind::Request { id, method } if &**method == "initialize" => {
                    let json = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{GREETING}}}"#);
                    return Ok(Message::parse(json).unwrap());
                }
                MessageKind::Request { .. } => return Err(Failure::new("it died")),
                _ => {}
            }
        }
    }

    fn silent(&self, _: Duration) -> Failure {
        Failure::new("silent")
    }
}

struct Posts(mpsc::Receiver<Incoming>);

impl Receive for Posts {
    async fn recv(&mut self) -> Option<Incoming> {
        self.0.recv().await
    }
}

/// What the client hears, and when.
#[derive(Clone, Default)]
struct Hears(Arc<Mutex<Vec<(Instant, Message)>>>);

impl Reply for Hears {
    async fn send(&self, message: Message) -> Result<(), Gone> {
        self.0.lock().unwrap().push((clock::now(), message));
        Ok(())
    }

    async fn fail(&self, _: &str) {}

    async fn idle(&self) {}

    async fn closed(&self) {
        std::future::pending::<()>().await;
    }
}

fn request(id: usize, method: &str) -> Incoming {
    let json = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{}}}}"#);
    Incoming::new(Message::parse(json).unwrap(), no_head())
}

#[tokio::test(start_paused = true)]
async fn each_request_that_is_held_waits_its_own_time_and_no_more_are_held_than_have_a_place() {
    const ALL: usize = 2 * HELD;
    let (post, posts) = mpsc::channel(ALL + 8);
    let hears = Hears::default();
    let heard = hears.clone();
    let session = tokio::spawn(async move {
        let policy = Keep::default().policy(TIME, false).unwrap();
        let (mut posts, mut mortal) = (Posts(posts), Mortal::default());
        let _ = run(
            &mut mortal,
            policy,
            Begin::First(Box::new(request(0, "initialize"))),
            &mut posts,
            &hears,
            |_| {},
            false,
        )
        .await;
    });
    let until = async |count: usize| {
        while heard.0.lock().unwrap().len() < count {
            tokio::time::advance(Duration::from_millis(100)).await;
            tokio::task::yield_now().await;
        }
    };
    until(1).await;
    post.send(request(1, "tools/call")).await.unwrap();
    until(2).await;
    let began = clock::now();
    for id in 2..2 + ALL {
        post.send(request(id, "tools/call")).await.unwrap();
    }
    for _ in 0..4 * ALL {
        tokio::task::yield_now().await;
    }
    // The rest stays in the client's queue, which has its own bound.
    assert_eq!(post.max_capacity() - post.capacity(), ALL - HELD);
    until(2 + HELD).await;
    let heard: Vec<_> = heard.0.lock().unwrap().iter().skip(2).take(HELD).cloned().collect();
    for (at, message) in heard {
        let waited = at.saturating_duration_since(began);
        assert!(
            waited >= TIME - Duration::from_secs(1) && waited < TIME + Duration::from_secs(2),
            "{waited:?}"
        );
        assert!(message.as_str().contains("the server is not back after"), "{message:?}");
    }
    session.abort();
}
