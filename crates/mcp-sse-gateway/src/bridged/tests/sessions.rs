//! Whole sessions, whose server is started again as often as it takes.

use super::*;
use crate::{
    front::{Gone, Receive, Reply},
    revive::{self, Begin, Keep},
};

struct Posts(mpsc::Receiver<Incoming>);

impl Receive for Posts {
    async fn recv(&mut self) -> Option<Incoming> {
        self.0.recv().await
    }
}

/// What the client hears.
#[derive(Clone, Default)]
struct Hears(Arc<Mutex<Vec<String>>>);

impl Reply for Hears {
    async fn send(&self, message: Message) -> Result<(), Gone> {
        self.0.lock().unwrap().push(message.as_str().to_owned());
        Ok(())
    }

    async fn fail(&self, text: &str) {
        self.0.lock().unwrap().push(format!("it ends: {text}"));
    }

    async fn idle(&self) {}

    async fn closed(&self) {
        std::future::pending::<()>().await;
    }
}

/// What a client hears in an hour that begins so, and how often its server is started.
async fn an_hour(
    eras: &Eras,
    servers: impl IntoIterator<Item = Doing>,
    says: impl IntoIterator<Item = String>,
) -> (Vec<String>, usize) {
    let (post, posts) = mpsc::channel(100);
    for says in says {
        post.send(incoming(says)).await.unwrap();
    }
    let (mut posts, hears) = (Posts(posts), Hears::default());
    let mut servers = bridged(eras, servers);
    let policy = Keep::default().policy(TIME, false).unwrap();
    let begin = Begin::First(Box::new(incoming(INITIALIZE)));
    let run = revive::run(&mut servers, policy, begin, &mut posts, &hears, |_| {}, false);
    let _ = timeout(Duration::from_secs(3_600), run).await;
    let heard = hears.0.lock().unwrap().clone();
    (heard, servers.backend.started.len())
}

fn often(server: impl Fn() -> Doing) -> Vec<Doing> {
    (0..500).map(|_| server()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_session_at_a_server_of_the_other_era_begins_with_one_answer() {
    let eras = Eras::new(Era::Auto);
    let (heard, starts) = an_hour(&eras, often(modern), [call(7)]).await;
    assert_eq!((heard.len(), starts), (2, 2), "{heard:?}");
    assert!(heard[0].contains(r#""id":0,"result":{"protocolVersion":"2025-06-18""#));
    assert_eq!(heard[1], result(&RequestId::from(7), r#"{"content":[]}"#));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_contradicts_itself_is_not_started_for_ever() {
    const TROUBLE: &str = r#"{"code":-32603,"message":"Internal error"}"#;
    const OTHER: &str = r#"{"code":-32022,"message":"m","data":{"supported":["2027-01-01"]}}"#;
    // It says that it speaks the other era, and does not.
    let denies = || discovers(|id| says(error(id, TROUBLE)));
    // It does until it is asked for something, and then it speaks neither.
    let turns: fn() -> Doing = || {
        answers(|method, id| match method {
            "initialize" => says(error(id, REFUSAL)),
            "server/discover" => says(result(id, DISCOVERED)),
            _ => says(error(id, OTHER)),
        })
    };
    for known_before in [false, true] {
        for server in [often(denies), often(turns)] {
            let eras = if known_before { known().await } else { Eras::new(Era::Auto) };
            let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned();
            let (heard, starts) = an_hour(&eras, server, [ready, call(7)]).await;
            assert!(starts <= 130, "in an hour it is started {starts} times");
            // Each is answered once; the end of the session answers what is open.
            let ends = heard.iter().filter(|said| said.starts_with("it ends: ")).count();
            for id in [0, 7] {
                let id = format!(r#""id":{id},"#);
                let answers = heard.iter().filter(|said| said.contains(&id)).count();
                assert!(answers == 1 || (answers == 0 && ends == 1), "{heard:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_put_back_to_the_era_before_is_spoken_to_as_its_client_speaks() {
    // What legacy servers answer to a question that they do not know.
    for unknown in [
        r#"{"code":-32601,"message":"Method not found"}"#,
        r#"{"code":-32602,"message":"Invalid request parameters","data":""}"#,
        r#"{"code":-32600,"message":"Bad Request: Missing session ID"}"#,
        r#"{"code":-32000,"message":"Bad Request: Server not initialized"}"#,
    ] {
        let eras = known().await;
        let put_back = || {
            answers(move |method, id| match method {
                "initialize" => says(result(id, GREETING)),
                "tools/call" => says(result(id, r#"{"content":[]}"#)),
                _ => says(error(id, unknown)),
            })
        };
        let (heard, starts) = an_hour(&eras, often(put_back), [call(7)]).await;
        assert_eq!(heard.first(), Some(&result(&RequestId::from(0), GREETING)), "{unknown}: {heard:?}");
        assert!(starts <= 5, "{starts}");
    }
}
