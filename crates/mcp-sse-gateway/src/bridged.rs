//! A server that may speak another era than its clients, as what stands behind a session.
//!
//! Clients of HTTP+SSE speak the legacy era, and most servers do. So a server is spoken to as its client speaks, until it
//! refuses an `initialize`: then it is started again and asked for the modern era before anything else, as some servers decide by
//! the first request which era they speak for the rest of their lives. What was found out is kept for its other sessions.
//!
//! A session that needs the translator has a task of its own, which moves messages between it and the server. One that needs none
//! has nothing of this but the eye on its `initialize`.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::request::Parts;
use mcp_sse::{Incoming, Message, MessageKind, RequestId};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    backend::{Backend, Failure, How, Sink, Source},
    bridge::{self, Core, Discovered, Era, Eras, Plan, Straight, Unlike},
    clock,
    message::{
        members::Members,
        modern::{LEGACY_VERSIONS, VERSION, code},
    },
};

/// Messages that wait in each direction, beyond what one message leads to.
const ROOM: usize = 16;
/// A server that takes nothing more gets this long to say why.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long a server that has refused an `initialize` may take to answer whether it speaks the other era.
const ASKED: Duration = Duration::from_secs(10);

/// A server that may speak another era than its clients.
pub(crate) struct Bridged<'a, B> {
    backend: B,
    eras: &'a Eras,
    start_timeout: Duration,
    /// Its client speaks the modern era.
    is_modern: bool,
}

impl<'a, B> Bridged<'a, B> {
    /// For a client that speaks the modern era, or one that does not.
    pub(crate) fn new(backend: B, eras: &'a Eras, start_timeout: Duration, is_modern: bool) -> Self {
        Self { backend, eras, start_timeout, is_modern }
    }

    pub(crate) fn inner(&mut self) -> &mut B {
        &mut self.backend
    }
}

/// The `initialize` that a server has not answered yet, if it matters how it answers.
type Watch = Arc<Mutex<Option<RequestId>>>;

pub(crate) enum BridgedSink<S> {
    Direct { sink: S, watch: Option<Watch> },
    Translated { to: mpsc::Sender<Incoming> },
}

pub(crate) enum BridgedSource<S: Sink, T: Source> {
    Direct { source: T, watch: Option<Watch>, eras: Eras },
    Translated { from: mpsc::Receiver<Result<Message, Failure>>, task: Task<S, T> },
}

/// What moves messages for one session; gives back the halves of its server when it has ended.
pub(crate) struct Task<S, T> {
    runs: JoinHandle<(S, T)>,
    ends: DropGuard,
}

impl<B> Backend for Bridged<'_, B>
where
    B: Backend,
    B::Sink: 'static,
    B::Source: 'static,
{
    type Sink = BridgedSink<B::Sink>;
    type Source = BridgedSource<B::Sink, B::Source>;

    async fn open(&mut self, head: &Parts) -> Result<(Self::Sink, Self::Source), Failure> {
        if self.is_modern {
            // What it says needs no translation.
            if B::OVER_HTTP
                && let Some(straight) = self.open_straight(head).await?
            {
                return Ok(straight);
            }
            let (sink, source) = self.backend.open(head).await?;
            if B::OVER_HTTP {
                // Its server may end the session for a question that it does not know.
                return Ok(between::<B>(Between::Legacy(Box::default()), sink, source, self.eras.clone()));
            }
            let direct = BridgedSink::Direct { sink, watch: None };
            return Ok((direct, BridgedSource::Direct { source, watch: None, eras: self.eras.clone() }));
        }
        let plan = self.eras.plan();
        if let Plan::Ask | Plan::Translated = plan
            && let Some(translated) = self.open_translated(head, plan).await?
        {
            return Ok(translated);
        }
        let plan = if plan == Plan::AsItIs { plan } else { Plan::Watched };
        let watch = (plan != Plan::AsItIs).then(Watch::default);
        let (sink, source) = self.backend.open(head).await?;
        let direct = BridgedSink::Direct { sink, watch: watch.clone() };
        Ok((direct, BridgedSource::Direct { source, watch, eras: self.eras.clone() }))
    }

    async fn untaken(&mut self, sink: &mut Self::Sink, source: &mut Self::Source) -> Vec<Message> {
        match (sink, source) {
            (BridgedSink::Direct { sink, .. }, BridgedSource::Direct { source, .. }) => {
                self.backend.untaken(sink, source).await
            }
            _ => Vec::new(),
        }
    }

    async fn close(&mut self, sink: Self::Sink, source: Self::Source, how: How) {
        match (sink, source) {
            (BridgedSink::Direct { sink, .. }, BridgedSource::Direct { source, .. }) => {
                self.backend.close(sink, source, how).await;
            }
            (to, BridgedSource::Translated { from, mut task }) => {
                // What is still on its way is delivered, as without a translator.
                drop((to, from));
                let ended = match timeout(LAST_WORDS, &mut task.runs).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        drop(task.ends);
                        task.runs.await
                    }
                };
                // It panics on nothing, and nobody aborts it.
                if let Ok((sink, source)) = ended {
                    self.backend.close(sink, source, how).await;
                }
            }
            (BridgedSink::Translated { .. }, BridgedSource::Direct { .. }) => {}
        }
    }
}

type Halves<B> =
    (BridgedSink<<B as Backend>::Sink>, BridgedSource<<B as Backend>::Sink, <B as Backend>::Source>);

impl<B> Bridged<'_, B>
where
    B: Backend,
    B::Sink: 'static,
    B::Source: 'static,
{
    /// Speaks the modern era to the server as its client does; `None` if it does not know it.
    async fn open_straight(&mut self, head: &Parts) -> Result<Option<Halves<B>>, Failure> {
        let is_known = self.eras.modern() == Some(true);
        if !is_known && !self.eras.is_worth_asking() {
            return Ok(None);
        }
        let (mut sink, mut source) = self.backend.open_modern(head).await?;
        if !is_known {
            let time = self.start_timeout.min(ASKED);
            let (speaks, failure) = match timeout(time, discover::<B>(&mut sink, &mut source, head)).await {
                Ok(Ok(Ok(_))) => (Some(true), None),
                Ok(Ok(Err(Unlike { is_certain, .. }))) => (is_certain.then_some(false), None),
                Ok(Err(failure)) => (None, Some(failure).filter(|failure| failure.how == How::NotStarted)),
                Err(_) => (None, None),
            };
            if let Some(speaks) = speaks {
                self.eras.set_modern(speaks);
            }
            if speaks != Some(true) {
                self.backend.close(sink, source, How::Idle).await;
                return failure.map_or(Ok(None), Err);
            }
        }
        Ok(Some(between::<B>(Between::Straight(Box::default()), sink, source, self.eras.clone())))
    }

    /// Speaks the modern era to the server; `None` if it does not know it, and need not.
    async fn open_translated(&mut self, head: &Parts, plan: Plan) -> Result<Option<Halves<B>>, Failure> {
        let (mut sink, mut source) = self.backend.open_modern(head).await?;
        let time = if plan == Plan::Ask { self.start_timeout.min(ASKED) } else { self.start_timeout };
        let discovered = match timeout(time, discover::<B>(&mut sink, &mut source, head)).await {
            Ok(Ok(discovered)) => discovered,
            // Some servers end when they are asked anything but `initialize` first.
            Ok(Err(failure)) if plan == Plan::Ask => Err(Unlike { why: failure.text, is_certain: true }),
            Ok(Err(failure)) => {
                self.backend.close(sink, source, failure.how).await;
                return Err(failure);
            }
            Err(_) if plan == Plan::Ask => {
                let why = format!("it did not answer server/discover within {time:?}");
                Err(Unlike { why, is_certain: true })
            }
            Err(_) => {
                let failure = source.silent(time);
                self.backend.close(sink, source, How::NotStarted).await;
                return Err(failure);
            }
        };
        match discovered {
            Ok(discovered) => {
                source.greeted(true);
                if self.eras.is_modern() {
                    tracing::info!(
                        "the server speaks revision {VERSION} and no handshake: its clients' messages are translated"
                    );
                }
                let core = Core::new(discovered, B::OVER_HTTP, head.clone());
                let core = Between::Translated(Box::new(core));
                Ok(Some(between::<B>(core, sink, source, self.eras.clone())))
            }
            Err(Unlike { why, is_certain }) => {
                self.backend.close(sink, source, How::Idle).await;
                if self.eras.is(Era::Modern) {
                    let text = format!("the server does not speak revision {VERSION} as it should: {why}");
                    return Err(Failure::of(How::NotStarted, text));
                }
                if plan == Plan::Translated && !is_certain {
                    tracing::info!("the server may not speak revision {VERSION} any more: {why}");
                    self.eras.forget();
                    return Ok(None);
                }
                tracing::info!("the server does not speak revision {VERSION} either: {why}");
                self.eras.is_legacy();
                Ok(None)
            }
        }
    }
}

/// Asks a server for the modern era. The inner error says why it does not speak it.
async fn discover<B: Backend>(
    sink: &mut B::Sink,
    source: &mut B::Source,
    head: &Parts,
) -> Result<Result<Discovered, Unlike>, Failure> {
    let id = RequestId::from("mcp-sse-discover");
    if let Err(failure) = sink.send(bridge::discover(&id, B::OVER_HTTP.then_some(head))).await {
        // Why it takes nothing, it says soon.
        let why = timeout(LAST_WORDS, async {
            loop {
                if let Err(why) = source.recv().await {
                    return why;
                }
            }
        });
        return Err(why.await.unwrap_or(failure));
    }
    loop {
        let heard = source.recv().await?;
        if matches!(heard.kind(), MessageKind::Response { id: Some(of), .. } if *of == id) {
            return Ok(Discovered::read(&heard));
        }
    }
}

/// What stands between a client and its server.
enum Between {
    Translated(Box<Core>),
    Straight(Box<Straight>),
    /// The server speaks the legacy era only, and its client, which has asked for the other one, is told so.
    Legacy(Box<Queues>),
}

#[derive(Default)]
struct Queues {
    to_server: VecDeque<Incoming>,
    to_client: VecDeque<Message>,
}

impl Queues {
    fn client(&mut self, incoming: Incoming) {
        match incoming.message.kind() {
            MessageKind::Request { id, method } if &**method == "server/discover" => {
                self.to_client.push_back(Message::error(id, code::METHOD_NOT_FOUND, "Method not found"));
            }
            _ => self.to_server.push_back(incoming),
        }
    }
}

impl Between {
    fn client(&mut self, incoming: Incoming) {
        match self {
            Self::Translated(core) => core.client(incoming, clock::now()),
            Self::Straight(straight) => straight.client(incoming),
            Self::Legacy(queues) => queues.client(incoming),
        }
    }

    fn server(&mut self, message: Message) {
        match self {
            Self::Translated(core) => core.server(message, clock::now()),
            Self::Straight(straight) => straight.server(message),
            Self::Legacy(queues) => queues.to_client.push_back(message),
        }
    }

    fn poll_server(&mut self) -> Option<Incoming> {
        match self {
            Self::Translated(core) => core.poll_server(),
            Self::Straight(straight) => straight.poll_server(),
            Self::Legacy(queues) => queues.to_server.pop_front(),
        }
    }

    fn poll_client(&mut self) -> Option<Message> {
        match self {
            Self::Translated(core) => core.poll_client(),
            Self::Straight(straight) => straight.poll_client(),
            Self::Legacy(queues) => queues.to_client.pop_front(),
        }
    }

    fn waiting(&self) -> (usize, usize) {
        match self {
            Self::Translated(core) => core.waiting(),
            Self::Straight(straight) => straight.waiting(),
            Self::Legacy(queues) => (queues.to_server.len(), queues.to_client.len()),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Translated(core) => core.deadline(),
            Self::Straight(_) | Self::Legacy(_) => None,
        }
    }

    fn due(&mut self) {
        if let Self::Translated(core) = self {
            core.due(clock::now());
        }
    }

    fn refuses_revision(&self) -> bool {
        matches!(self, Self::Translated(core) if core.refuses_revision())
    }
}

/// Starts what moves the messages of a session through what stands between.
fn between<B>(core: Between, mut sink: B::Sink, mut source: B::Source, eras: Eras) -> Halves<B>
where
    B: Backend,
    B::Sink: 'static,
    B::Source: 'static,
{
    let (to, from_client) = mpsc::channel(ROOM);
    let (to_client, from) = mpsc::channel(ROOM);
    let stop = CancellationToken::new();
    let ends = stop.clone().drop_guard();
    let run = async move {
        tokio::select! {
            () = moves(core, &mut sink, &mut source, from_client, to_client, &eras) => {}
            () = stop.cancelled() => {}
        }
        (sink, source)
    };
    let runs = tokio::spawn(tracing::Instrument::instrument(run, tracing::Span::current()));
    let task = Task { runs, ends };
    (BridgedSink::Translated { to }, BridgedSource::Translated { from, task })
}

/// Moves messages until one side has ended.
async fn moves<S: Sink, T: Source>(
    mut core: Between,
    sink: &mut S,
    source: &mut T,
    mut from_client: mpsc::Receiver<Incoming>,
    to_client: mpsc::Sender<Result<Message, Failure>>,
    eras: &Eras,
) {
    let (batches, mut to_send) = mpsc::channel::<Vec<Incoming>>(1);
    let writes = async {
        while let Some(batch) = to_send.recv().await {
            sink.send_all(batch).await?;
        }
        Ok::<_, Failure>(())
    };
    tokio::pin!(writes);
    // Why nothing more can be written, and until when the server may say it better.
    let mut unwritten: Option<(Failure, Instant)> = None;
    let mut batches = Some(batches);
    // Its client has gone: what is left for the server is delivered.
    let mut is_last = false;
    // And hears nothing more.
    let mut is_unheard = false;
    let failure = loop {
        if is_last || is_unheard {
            while core.poll_client().is_some() {}
        }
        let (for_server, for_client) = core.waiting();
        if is_last && for_server == 0 {
            // Ends the writing.
            batches = None;
        }
        let deadline = core.deadline();
        let last_words = unwritten.as_ref().map(|(_, until)| *until);
        tokio::select! {
            incoming = from_client.recv(), if for_server < ROOM && !is_last => match incoming {
                Some(incoming) => core.client(incoming),
                None => is_last = true,
            },
            heard = source.recv(), if for_client < ROOM => match heard {
                Ok(message) => {
                    core.server(message);
                    if core.refuses_revision() {
                        eras.is_legacy();
                        let text = format!("the server does not speak revision {VERSION} any more");
                        break Failure::of(How::OtherEra, text);
                    }
                }
                Err(failure) => break failure,
            },
            permit = to_client.reserve(), if for_client > 0 => match permit {
                Ok(permit) => {
                    if let Some(message) = core.poll_client() {
                        permit.send(Ok(message));
                    }
                }
                Err(_) => is_unheard = true,
            },
            permit = room(batches.as_ref()), if for_server > 0 && batches.is_some() && unwritten.is_none() => {
                if let Some(permit) = permit {
                    permit.send(batch::<S>(&mut core));
                }
            }
            written = &mut writes, if unwritten.is_none() => match written {
                Ok(()) => return,
                Err(_) if is_last => return,
                Err(failure) => unwritten = Some((failure, clock::now() + LAST_WORDS)),
            },
            () = sleep_until(last_words.unwrap_or_else(clock::now)), if last_words.is_some() => {
                if let Some((failure, _)) = unwritten.take() {
                    break failure;
                }
            }
            () = sleep_until(deadline.unwrap_or_else(clock::now)), if deadline.is_some() => core.due(),
        }
    };
    while let Some(message) = core.poll_client() {
        if to_client.send(Ok(message)).await.is_err() {
            return;
        }
    }
    let _ = to_client.send(Err(failure)).await;
}

async fn room(batches: Option<&mpsc::Sender<Vec<Incoming>>>) -> Option<mpsc::Permit<'_, Vec<Incoming>>> {
    batches?.reserve().await.ok()
}

/// What is sent together.
fn batch<S: Sink>(core: &mut Between) -> Vec<Incoming> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while let Some(incoming) = core.poll_server() {
        bytes += incoming.message.as_bytes().len();
        batch.push(incoming);
        if bytes >= S::AT_ONCE {
            break;
        }
    }
    batch
}

impl<S: Sink> Sink for BridgedSink<S> {
    const AT_ONCE: usize = S::AT_ONCE;

    async fn send(&mut self, incoming: Incoming) -> Result<(), Failure> {
        match self {
            Self::Direct { sink, watch } => {
                watched(watch.as_ref(), &incoming.message);
                sink.send(incoming).await
            }
            Self::Translated { to } => {
                to.send(incoming).await.map_err(|_| Failure::new("the server takes nothing more"))
            }
        }
    }

    async fn send_all(&mut self, incoming: Vec<Incoming>) -> Result<(), Failure> {
        match self {
            Self::Direct { sink, watch } => {
                for incoming in &incoming {
                    watched(watch.as_ref(), &incoming.message);
                }
                sink.send_all(incoming).await
            }
            Self::Translated { .. } => {
                for incoming in incoming {
                    self.send(incoming).await?;
                }
                Ok(())
            }
        }
    }
}

/// Whether an answer to `initialize` names a revision, and one that is later than those with a handshake.
fn names_no_legacy_version(answer: &Message) -> bool {
    let version = Members::read(answer.as_str())
        .and_then(|whole| whole.get("result").and_then(Members::read)?.text("protocolVersion"));
    version.is_some_and(|version| LEGACY_VERSIONS.last().is_some_and(|last| *version > **last))
}

/// Keeps an eye on an `initialize`.
fn watched(watch: Option<&Watch>, message: &Message) {
    if let Some(watch) = watch
        && let MessageKind::Request { id, method } = message.kind()
        && &**method == "initialize"
    {
        *watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.clone());
    }
}

impl<S: Sink, T: Source> Source for BridgedSource<S, T> {
    async fn recv(&mut self) -> Result<Message, Failure> {
        match self {
            Self::Direct { source, watch, eras } => {
                let message = source.recv().await?;
                if let Some(watch) = watch
                    && let MessageKind::Response { id: Some(id), is_error } = message.kind()
                {
                    let is_it = watch
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .take_if(|initialize| initialize == id)
                        .is_some();
                    match (is_it, is_error) {
                        (true, false) if names_no_legacy_version(&message) && eras.prefers_modern() => {
                            let text = "the server answers the handshake with a revision that has none";
                            return Err(Failure::of(How::OtherEra, text));
                        }
                        (true, false) if source.is_stateless() && eras.prefers_modern() => {
                            let text = "the server keeps no sessions for clients with a handshake";
                            return Err(Failure::of(How::OtherEra, text));
                        }
                        (true, false) => eras.takes_initialize(),
                        (true, true) if eras.refuses_initialize(&message) => {
                            return Err(Failure::of(How::OtherEra, "the server refuses the handshake"));
                        }
                        _ => {}
                    }
                }
                Ok(message)
            }
            Self::Translated { from, .. } => match from.recv().await {
                Some(said) => said,
                None => Err(Failure::new("the server is gone")),
            },
        }
    }

    fn silent(&self, time: Duration) -> Failure {
        match self {
            Self::Direct { source, .. } => source.silent(time),
            Self::Translated { .. } => {
                Failure::of(How::NotStarted, format!("the server did not answer within {time:?}"))
            }
        }
    }

    fn greeted(&mut self, successfully: bool) {
        if let Self::Direct { source, .. } = self {
            source.greeted(successfully);
        }
    }
}

#[cfg(test)]
mod tests;
