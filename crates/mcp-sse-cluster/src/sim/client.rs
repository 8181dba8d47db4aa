//! A client that does what clients do, notes all of it, and checks it in the end.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Request;
use http_body_util::BodyExt as _;
use mcp_sse::{Body, Principal};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tower::ServiceExt as _;

use super::world::{Replica, World};
use crate::clock;

/// The longest that a POST may take.
const LONGEST: Duration = Duration::from_secs(6);

pub(super) struct Client {
    world: World,
    name: String,
    principal: Option<Principal>,
    uri: String,
    heard: Arc<Heard>,
    next: u64,
    /// What was posted, in order, with the answer.
    posted: Vec<Posted>,
    reader: tokio::task::JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Posted {
    number: u64,
    is_request: bool,
    /// `None`: the replica died.
    status: Option<u16>,
    /// Whether another one was on its way at the same time.
    beside: bool,
}

/// What came on the stream.
#[derive(Default)]
struct Heard {
    answers: Mutex<BTreeMap<u64, u32>>,
    over: Mutex<Option<&'static str>>,
    /// Break the stream, and resume it.
    breaks: Notify,
}

impl Client {
    pub(super) async fn open(world: &World, number: u64) -> Self {
        let name = format!("c{number}");
        let principal = (number % 2 == 1).then(|| Principal::new(name.clone()));
        let replica = world.any();
        let heard = Arc::new(Heard::default());
        let (mut stream, uri, id) = loop {
            let replica = world.any();
            let response = get(world, &replica, principal.as_ref(), None).await;
            world.check(response.status() == 200, || format!("{name}: {}", response.status()));
            let mut stream = Stream::new(response.into_body(), replica);
            // It may die before the first event.
            if let Some((id, uri)) = stream.next(&heard).await {
                break (stream, uri, id);
            }
        };
        drop(replica);
        world.note(&format!("{name} is at r{}", stream.replica.number));
        let reader = {
            let (world, heard, name, principal) =
                (world.clone(), Arc::clone(&heard), name.clone(), principal.clone());
            tokio::spawn(async move {
                let mut last = id;
                loop {
                    while let Some((id, data)) = stream.next(&heard).await {
                        check_id(&world, &name, &last, &id);
                        last = id;
                        note_answer(&world, &name, &heard, &data);
                    }
                    match resume(&world, &name, principal.as_ref(), &last).await {
                        Ok(resumed) => stream = resumed,
                        Err(why) => {
                            world.note(&format!("{name} is over: {why}"));
                            *heard.over.lock().expect("no panic") = Some(why);
                            return;
                        }
                    }
                }
            })
        };
        let world = world.clone();
        Self { world, name, principal, uri, heard, next: 1, posted: Vec::new(), reader }
    }

    /// Does something.
    pub(super) async fn step(&mut self) {
        match self.world.below(20) {
            0..=10 => {
                let is_request = self.world.chance(70);
                let length = if self.world.chance(20) { 5_000 } else { 10 };
                self.post(is_request, length).await;
            }
            11..=13 => {
                // Several at once: no order among them.
                let all: Vec<_> = (0..3).map(|_| self.number()).collect();
                let posts = all
                    .iter()
                    .map(|number| self.send(*number, true, 10, self.uri.clone(), self.principal.clone()));
                let statuses = futures_util::future::join_all(posts).await;
                for (number, status) in all.into_iter().zip(statuses) {
                    self.posted.push(Posted { number, is_request: true, status, beside: true });
                }
            }
            14..=15 => {
                self.heard.breaks.notify_one();
                self.world.note(&format!("{} breaks its stream", self.name));
            }
            16 => {
                let number = self.number();
                let stranger = Some(Principal::new("mallory"));
                let status = self.send(number, true, 10, self.uri.clone(), stranger).await;
                self.world.check(matches!(status, None | Some(404 | 503 | 504)), || {
                    format!("a stranger got {status:?}")
                });
                // It must never be seen, whatever was answered.
                self.posted.push(Posted { number, is_request: false, status: Some(404), beside: true });
            }
            17 => {
                let number = self.number();
                let bad = ["at=r0.0000000000000000", "at=%2a", "at=", "at=%3e.x", "x=y"];
                let at = bad[self.world.below(bad.len() as u64) as usize];
                let uri = format!("{}&{at}", self.uri.split("&at=").next().unwrap_or_default());
                let status = self.send(number, true, 10, uri, self.principal.clone()).await;
                self.posted.push(Posted { number, is_request: true, status, beside: true });
            }
            _ => sleep(Duration::from_millis(self.world.below(3_000))).await,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    async fn post(&mut self, is_request: bool, length: usize) {
        let number = self.number();
        let status = self.send(number, is_request, length, self.uri.clone(), self.principal.clone()).await;
        self.posted.push(Posted { number, is_request, status, beside: false });
    }

    /// Posts to any replica; the status.
    async fn send(
        &self,
        number: u64,
        is_request: bool,
        length: usize,
        uri: String,
        principal: Option<Principal>,
    ) -> Option<u16> {
        let Self { world, name, .. } = self;
        let id = if is_request { format!(r#""id":{number},"#) } else { String::new() };
        let fill = "x".repeat(length);
        let json = format!(
            r#"{{"jsonrpc":"2.0",{id}"method":"test","params":{{"whose":"{name}","number":{number},"fill":"{fill}"}}}}"#
        );
        let mut request = Request::post(format!("http://localhost{uri}"))
            .header("content-type", "application/json")
            .body(json)
            .expect("a request");
        if let Some(principal) = principal {
            request.extensions_mut().insert(principal);
        }
        let replica = world.any();
        let dead = replica.dead.clone();
        let began = clock::now();
        let status = tokio::select! {
            biased;
            () = dead.waits() => None,
            response = replica.transport.post(request) => Some(response.status().as_u16()),
        };
        let took = began.elapsed();
        world.note(&format!("{name} posts {number} at r{}: {status:?} after {took:?}", replica.number));
        world.check(took <= LONGEST, || format!("{name}: {number} took {took:?}"));
        status
    }

    /// Checks what has become of everything.
    pub(super) async fn ends(self) {
        let Self { world, name, heard, posted, reader, .. } = self;
        reader.abort();
        let over = *heard.over.lock().expect("no panic");
        let seen = world.seen().get(&name).cloned().unwrap_or_default();
        let answers = heard.answers.lock().expect("no panic").clone();
        let count = |number: u64| seen.iter().filter(|seen| **seen == number).count();
        for Posted { number, is_request, status, .. } in &posted {
            let (times, answered) = (count(*number), answers.get(number).copied().unwrap_or_default());
            let shown = || {
                format!(
                    "{name}: {number} was answered {status:?}, seen {times} times, {answered} answers, over {over:?}"
                )
            };
            world.check(times <= 1 && answered <= 1, shown);
            match status {
                Some(202) => {
                    world.check(times == 1 || over.is_some(), shown);
                    world.check(!is_request || answered == 1 || over.is_some(), shown);
                }
                // A session that is gone is gone for its client too, or is about to be.
                Some(404) if over.is_some() => {}
                Some(404 | 503 | 400) => world.check(times == 0, shown),
                Some(504) | None => {}
                Some(other) => world.fail(&format!("{name}: {number} was answered {other}")),
            }
        }
        let in_order: Vec<u64> = posted
            .iter()
            .filter(|posted| posted.status == Some(202) && !posted.beside)
            .map(|posted| posted.number)
            .collect();
        let as_seen: Vec<u64> = seen.iter().copied().filter(|number| in_order.contains(number)).collect();
        world.check(as_seen.is_sorted(), || format!("{name}: seen in this order: {as_seen:?}"));
    }
}

async fn get(
    world: &World,
    replica: &Replica,
    principal: Option<&Principal>,
    last: Option<&str>,
) -> http::Response<Body> {
    let mut get = Request::get("http://localhost/sse");
    if let Some(last) = last {
        get = get.header("last-event-id", last);
    }
    let mut get = get.body(()).expect("a request");
    if let Some(principal) = principal {
        get.extensions_mut().insert(principal.clone());
    }
    let (world, dead) = (world.clone(), replica.dead.clone());
    let service = replica.transport.connect_sse(move |session| world.clone().app(session, dead.clone()));
    service.oneshot(get).await.expect("it never fails")
}

/// Resumes a stream, wherever the load balancer leads, until it is said that there is none.
async fn resume(
    world: &World,
    name: &str,
    principal: Option<&Principal>,
    last: &str,
) -> Result<Stream, &'static str> {
    for _ in 0..100 {
        sleep(Duration::from_millis(100 + world.below(400))).await;
        let replica = world.any();
        let dead = replica.dead.clone();
        let response = tokio::select! {
            biased;
            () = dead.waits() => continue,
            response = get(world, &replica, principal, Some(last)) => response,
        };
        world.note(&format!("{name} resumes at r{}: {}", replica.number, response.status()));
        match response.status().as_u16() {
            200 => {
                let mut stream = Stream::new(response.into_body(), replica);
                // It begins with the endpoint, or it says when to come again.
                if let Some((_, data)) = stream.next(&Heard::default()).await
                    && data.starts_with('/')
                {
                    return Ok(stream);
                }
            }
            404 => return Err("404"),
            other => world.fail(&format!("{name}: a resumption was answered {other}")),
        }
    }
    world.fail(&format!("{name} can neither resume nor hears that it is over"))
}

fn note_answer(world: &World, name: &str, heard: &Heard, data: &str) {
    if data.contains("-32000") {
        // The session ends, and says so for what has no answer.
        return;
    }
    let is_own = data.contains(&format!(r#""whose":"{name}""#));
    world.check(is_own, || format!("{name} got {data}"));
    let number = data.split(r#""number":"#).nth(1).and_then(|rest| rest.split('}').next()?.parse().ok());
    let number = number.unwrap_or_else(|| world.fail(&format!("{name} got {data}")));
    *heard.answers.lock().expect("no panic").entry(number).or_default() += 1;
}

/// Events are numbered without gaps.
fn check_id(world: &World, name: &str, last: &str, id: &str) {
    let sequence = |id: &str| id.split(':').nth(1).and_then(|sequence| sequence.parse::<u64>().ok());
    let is_next = sequence(last).zip(sequence(id)).is_some_and(|(last, id)| id == last + 1);
    world.check(is_next, || format!("{name}: {id} comes after {last}"));
}

/// A stream of events.
struct Stream {
    body: Body,
    replica: Replica,
    buffer: String,
}

impl Stream {
    fn new(body: Body, replica: Replica) -> Self {
        Self { body, replica, buffer: String::new() }
    }

    /// The next event: its id and its data; `None` when the stream is over, or was broken.
    async fn next(&mut self, heard: &Heard) -> Option<(String, String)> {
        loop {
            while let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let line = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned()
                };
                let (id, data, is_comment) = (line("id: "), line("data: "), event.starts_with(':'));
                self.buffer = rest.to_owned();
                if !is_comment {
                    return Some((id, data));
                }
            }
            let dead = self.replica.dead.clone();
            let frame = tokio::select! {
                biased;
                () = dead.waits() => return None,
                () = heard.breaks.notified() => return None,
                // A proxy would have given up.
                frame = timeout(Duration::from_secs(300), self.body.frame()) => frame.ok()??,
            };
            let data = frame.ok()?.into_data().ok()?;
            self.buffer.push_str(std::str::from_utf8(&data).ok()?);
        }
    }
}
