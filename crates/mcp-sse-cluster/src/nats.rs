//! A NATS server as the carrier: its subjects, and what its client says of the connection.
//!
//! | subject | what is sent there |
//! |---|---|
//! | `mcp-sse.CLUSTER.NAME.RUN` | calls of a replica |
//! | `mcp-sse.CLUSTER.NAME.RUN.NUMBER` | the reply to a call that this replica has made, or that nobody takes it |
//! | `mcp-sse.CLUSTER.all` | announcements |
//!
//! Invariants: nothing is handed to the client while it is not connected, as it would send that later; and it waits for no
//! reply itself, as it would keep every one that does not come.

use std::{
    fmt,
    future::ready,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use async_nats::{
    Client, ConnectErrorKind, Event, Message, ServerAddr, Statistics, StatusCode, Subscriber,
    connection::State,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use mcp_sse::ReplicaId;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, interval, sleep, timeout, timeout_at},
};

use crate::{
    address::{Address, Schemes},
    carrier::{BoxFuture, Carrier, Handler, Link, MAX_BYTES, NoReply},
    clock,
    connect_error::ConnectError,
    connect_options::ConnectOptions,
    engine::{Engine, EngineOf},
    intake::Intake,
    replies::Replies,
    throttle::Throttle,
    tls,
};

const NAME: &str = "NATS";
const SCHEMES: Schemes = Schemes { names: &[("nats", false), ("tls", true)], port: 4222, ignored: &[] };
const EXPECTED: &str = "nats://HOST:PORT or tls://HOST:PORT, with USER:PASSWORD@ or TOKEN@ before the host if it wants one; several servers of one NATS cluster with commas between them";

/// How long connecting for the first time may take, with all attempts, and until a subscription is seen to work.
const START: Duration = Duration::from_secs(5);
/// The pause between these attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(2);
/// A server that says nothing for this long is asked whether it is there; the third time that it does not answer, the
/// connection is given up.
const PING: Duration = Duration::from_secs(2);
/// How many messages wait to be sent, and how many of a subscription to be taken.
const TO_SEND: usize = 256;
const TO_TAKE: usize = 1_024;
/// How long a reply may wait to be sent. Nobody waits for it any longer.
const REPLY: Duration = Duration::from_secs(5);
/// How long leaving may take.
const LEAVE: Duration = Duration::from_secs(3);
/// How often it is looked whether somebody still takes calls.
const LOOK: Duration = Duration::from_secs(1);

/// A connection to a NATS server, or to a cluster of them: an [`Engine`] for a [`Cluster`](crate::Cluster).
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use mcp_sse_cluster::{Cluster, Nats};
///
/// let nats = Nats::connect("nats://127.0.0.1:4222").await?;
/// let cluster = Cluster::new(nats, "web-1").await?;
/// # let _ = cluster;
/// # Ok(())
/// # }
/// ```
///
/// Plain NATS is enough, since 2.2: nothing is stored. A user needs permission to publish and to subscribe to
/// `mcp-sse.>`, or to `mcp-sse.CLUSTER.>`, and to nothing else. The server has to take messages of 512 KiB, which is half
/// of its default (`max_payload`).
///
/// It connects again by itself whenever the connection is lost, for ever, at least every 250 ms. A server that says
/// nothing is given up after 6 s. The connection is closed when the last clone and the last cluster of it are dropped.
#[derive(Clone)]
pub struct Nats {
    client: Client,
    seen: Arc<Seen>,
}

/// What has been seen of the connection.
#[derive(Debug)]
struct Seen {
    /// The servers, without a user.
    address: String,
    /// Counts connections; the client's own.
    statistics: OnceLock<Arc<Statistics>>,
    /// The count when it was last looked at, and since when there are so many.
    connected: Mutex<Option<(u64, Instant)>>,
    /// What the server said last that it does not like.
    complaint: Mutex<Option<String>>,
    complaints: Throttle,
    failures: Throttle,
    slow: Throttle,
}

impl Nats {
    /// Connects to `nats://HOST:PORT`, or with TLS to `tls://HOST:PORT`; the port is 4222 unless it is given. A user and a
    /// password, `USER:PASSWORD@`, or a token, `TOKEN@`, stand before the host. Several servers of one NATS cluster have
    /// commas between them; the user of the first is that of all, and TLS for one is TLS for all.
    ///
    /// Needs a tokio runtime. It tries for 5 s.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: the URL is not one of NATS, the server cannot be reached, or does not let this client in.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::connect_with(url, &ConnectOptions::new()).await
    }

    /// Connects as [`connect`](Self::connect) does, with files. They count for `nats://` too, where the server asks for TLS.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], also if a file cannot be used.
    pub async fn connect_with(url: &str, options: &ConnectOptions) -> Result<Self, ConnectError> {
        let addresses = addresses(url)?;
        let shown = addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(",");
        let servers: Result<Vec<ServerAddr>, _> =
            addresses.iter().map(|address| address.to_string().parse::<ServerAddr>()).collect();
        let servers = servers.map_err(|error| wrong_url(format!("cannot be used: {error}")))?;
        let seen = Arc::new(Seen::new(shown));
        let settings = settings(&addresses, options, &seen).await?;
        let client = start(&servers, &settings, &seen.address).await?;
        let _ = seen.statistics.set(client.statistics());
        let most = client.max_payload();
        if most < MAX_BYTES {
            return Err(ConnectError::Unsuitable {
                engine: NAME,
                address: seen.address.clone(),
                why: format!(
                    "it takes messages of {most} bytes; expected a max_payload of at least {MAX_BYTES}"
                ),
            });
        }
        Ok(Self { client, seen })
    }

    /// The carrier of a cluster with this name, which has only letters, digits, `-` and `_`.
    pub(crate) fn in_cluster(&self, cluster: &str) -> NatsCarrier {
        NatsCarrier {
            nats: self.clone(),
            cluster: cluster.to_owned(),
            replies: Arc::default(),
            serving: OnceLock::new(),
            full: Throttle::default(),
        }
    }

    fn link(&self) -> Link {
        // The client's own word, which it gives before it takes anything to send over a new connection.
        if self.client.connection_state() == State::Connected {
            Link::Up(self.seen.since())
        } else {
            Link::Down
        }
    }
}

impl EngineOf for Nats {
    fn carrier(&self, cluster: &str) -> Arc<dyn Carrier> {
        Arc::new(self.in_cluster(cluster))
    }

    fn name(&self) -> &'static str {
        NAME
    }
}

impl From<Nats> for Engine {
    fn from(nats: Nats) -> Self {
        Self(Arc::new(nats))
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("address", &self.seen.address).finish_non_exhaustive()
    }
}

// ---- connecting ------------------------------------------------------------------------------------------

fn wrong_url(why: String) -> ConnectError {
    ConnectError::Url { engine: NAME, why, expected: EXPECTED }
}

/// The servers that a URL names, of which only the first may have a user.
fn addresses(url: &str) -> Result<Vec<Address>, ConnectError> {
    let all: Result<Vec<_>, _> = url.split(',').map(|url| Address::parse(url.trim(), &SCHEMES)).collect();
    let all = all.map_err(wrong_url)?;
    if all.iter().any(|address| !address.path.is_empty()) {
        return Err(wrong_url("has a path, which means nothing here".to_owned()));
    }
    let user = |address: &Address| (address.user.clone(), address.password.clone());
    let first = all.first().map(user).unwrap_or_default();
    if all.iter().skip(1).map(user).any(|other| other != first && other != (None, None)) {
        return Err(wrong_url("has different users for servers of one cluster".to_owned()));
    }
    Ok(all)
}

async fn settings(
    addresses: &[Address],
    options: &ConnectOptions,
    seen: &Arc<Seen>,
) -> Result<async_nats::ConnectOptions, ConnectError> {
    let tls = tls::client_config(NAME, options).await?;
    let noticed = Arc::clone(seen);
    let settings = async_nats::ConnectOptions::new()
        .name(concat!("mcp-sse-cluster ", env!("CARGO_PKG_VERSION")))
        .connection_timeout(CONNECT)
        .ping_interval(PING)
        .max_reconnects(None::<usize>)
        .reconnect_delay_callback(reconnect_delay)
        .client_capacity(TO_SEND)
        .subscription_capacity(TO_TAKE)
        // Also for servers of its cluster that it tells of, whose addresses come without a scheme.
        .require_tls(addresses.iter().any(|address| address.is_tls))
        .tls_client_config(tls)
        .event_callback(move |event| {
            noticed.notice(&event);
            ready(())
        });
    // It does not look at the user of a URL, and may log the URL.
    let user = addresses.first().map(|first| (first.user.clone(), first.password.clone()));
    let settings = match user {
        Some((Some(user), Some(password))) => settings.user_and_password(user, password),
        Some((Some(token), None)) => settings.token(token),
        Some((None, Some(_))) => return Err(wrong_url("has a password and no user".to_owned())),
        Some((None, None)) | None => settings,
    };
    match &options.credentials_file {
        Some(file) => {
            let text = credentials(file).await?;
            settings.credentials(&text).map_err(|error| tls::wrong(file, &error))
        }
        None => Ok(settings),
    }
}

async fn credentials(file: &Path) -> Result<String, ConnectError> {
    let path = file.to_owned();
    let read = tokio::task::spawn_blocking(move || tls::read(&path)).await;
    let bytes = read.unwrap_or_else(|error| Err(tls::wrong(file, &error)))?;
    String::from_utf8(bytes).map_err(|_| tls::wrong(file, &"expected a credentials file, found no text"))
}

/// Before each attempt to connect again, as so many came before it.
fn reconnect_delay(attempts: usize) -> Duration {
    Duration::from_millis(match attempts {
        0 | 1 => 100,
        2 => 200,
        _ => 250,
    })
}

/// Connects for the first time.
async fn start(
    servers: &[ServerAddr],
    settings: &async_nats::ConnectOptions,
    address: &str,
) -> Result<Client, ConnectError> {
    let until = clock::now() + START;
    let mut last = None;
    let unreachable = |why: Option<String>| ConnectError::Unreachable {
        engine: NAME,
        address: address.to_owned(),
        why: why.unwrap_or_else(|| format!("no answer within {} s", START.as_secs())),
    };
    while clock::now() < until {
        let attempt = Box::pin(settings.clone().connect(servers));
        let error = match timeout_at(until, attempt).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(error)) => error,
            Err(_) => break,
        };
        let (address, why) = (address.to_owned(), error.to_string());
        let fault = tls::fault(&error);
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                return Err(ConnectError::Refused { engine: NAME, address, why });
            }
            kind if kind == ConnectErrorKind::Tls || fault.is_some() => {
                return Err(ConnectError::Tls { engine: NAME, address, why: fault.unwrap_or(why) });
            }
            _ => last = Some(why),
        }
        sleep(PAUSE).await;
    }
    Err(unreachable(last))
}

// ---- the connection --------------------------------------------------------------------------------------

impl Seen {
    fn new(address: String) -> Self {
        Self {
            address,
            statistics: OnceLock::new(),
            connected: Mutex::default(),
            complaint: Mutex::default(),
            complaints: Throttle::default(),
            failures: Throttle::default(),
            slow: Throttle::default(),
        }
    }

    /// Since when the connection is there. It may be said a little late, never too early.
    fn since(&self) -> Instant {
        let connects = self.statistics.get().map_or(0, |counts| counts.connects.load(Ordering::Relaxed));
        let mut connected = lock(&self.connected);
        match *connected {
            Some((counted, since)) if counted == connects => since,
            _ => {
                let since = clock::now();
                *connected = Some((connects, since));
                since
            }
        }
    }

    /// Something happened to the connection.
    fn notice(&self, event: &Event) {
        let address = &*self.address;
        match event {
            Event::Connected => {
                self.since();
                tracing::info!(address, "connected to NATS");
            }
            Event::Disconnected => {
                tracing::warn!(address, "the connection to NATS is lost; connecting again");
            }
            Event::LameDuckMode => tracing::info!(address, "this server of NATS is about to stop"),
            Event::SlowConsumer(_) => {
                if self.slow.may_log() {
                    tracing::warn!(
                        address,
                        "messages of other replicas are dropped: they come faster than they are taken"
                    );
                }
            }
            Event::ServerError(error) => {
                let error = error.to_string();
                if self.complaints.may_log() {
                    tracing::warn!(address, error, "NATS refuses something");
                }
                *lock(&self.complaint) = Some(error);
            }
            Event::ClientError(error) => {
                if self.failures.may_log() {
                    tracing::warn!(address, %error, "NATS cannot be connected to; trying again");
                }
            }
            Event::Draining | Event::Closed => {}
        }
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// ---- the carrier -----------------------------------------------------------------------------------------

/// NATS for one cluster.
pub(crate) struct NatsCarrier {
    nats: Nats,
    cluster: String,
    replies: Arc<Replies>,
    serving: OnceLock<Serving>,
    full: Throttle,
}

/// The replica that this is the carrier of.
struct Serving {
    subject: String,
    intake: Arc<Intake>,
    leave: mpsc::Sender<oneshot::Sender<()>>,
}

/// The subject of calls of a replica.
fn subject(cluster: &str, replica: &ReplicaId) -> String {
    format!("mcp-sse.{cluster}.{}.{}", replica.name(), replica.run())
}

/// The subject of a reply.
fn reply_subject(caller: &str, number: u64) -> String {
    format!("{caller}.{number}")
}

/// The number of the call that a reply is for.
fn number(subject: &str) -> Option<u64> {
    subject.rsplit_once('.')?.1.parse().ok()
}

impl NatsCarrier {
    async fn subscribe(&self, subject: String) -> Result<Subscriber, String> {
        let subscribing = timeout(START, self.nats.client.subscribe(subject)).await;
        subscribing.map_err(|_| "it is not connected".to_owned())?.map_err(|error| error.to_string())
    }

    async fn begin(&self, subject: String, handler: Weak<dyn Handler>) -> Result<(), String> {
        *lock(&self.nats.seen.complaint) = None;
        let intake = Arc::new(Intake::new(NAME, handler));
        let (leave, leaving) = mpsc::channel(1);
        let serving = Serving { subject: subject.clone(), intake: Arc::clone(&intake), leave };
        if self.serving.set(serving).is_err() {
            return Err("it is in use already".to_owned());
        }
        let taking = Taking {
            client: self.nats.client.clone(),
            calls: self.subscribe(subject.clone()).await?,
            replies: self.subscribe(format!("{subject}.*")).await?,
            announcements: self.subscribe(format!("mcp-sse.{}.all", self.cluster)).await?,
            intake,
            expected: Arc::clone(&self.replies),
        };
        tokio::spawn(taking.run(leaving));
        self.prove(&subject).await
    }

    /// Sends something to itself. When it is back, the server has all subscriptions that were made before.
    async fn prove(&self, subject: &str) -> Result<(), String> {
        let Some(mut expected) = self.replies.expect() else {
            return Err("too much is under way".to_owned());
        };
        let back = reply_subject(subject, expected.number());
        let came = timeout(START, async {
            self.nats.client.publish(back, Bytes::new()).await.map_err(|error| error.to_string())?;
            expected.reply().await.map(drop).map_err(|_| "it is closed".to_owned())
        });
        came.await.unwrap_or_else(|_| {
            let complaint = lock(&self.nats.seen.complaint).take();
            Err(match complaint {
                Some(complaint) => complaint,
                None => format!("what was sent to {subject} is not back within {} s", START.as_secs()),
            })
        })
    }

    async fn ask(&self, to: &ReplicaId, bytes: Bytes, within: Duration) -> Result<Bytes, NoReply> {
        let Some(serving) = self.serving.get() else { return Err(NoReply::NotSent) };
        if self.link() == Link::Down {
            return Err(NoReply::NotSent);
        }
        let Some(mut expected) = self.replies.expect() else {
            if self.full.may_log() {
                tracing::warn!(
                    engine = NAME,
                    "a call to another replica is not made: too many are under way"
                );
            }
            return Err(NoReply::NotSent);
        };
        let reply = reply_subject(&serving.subject, expected.number());
        let mut is_sent = false;
        let asking = async {
            // As long as this waits, nothing is handed over.
            let sending = self.nats.client.publish_with_reply(subject(&self.cluster, to), reply, bytes);
            if let Err(error) = sending.await {
                // The client looks at the size, and at whether it is closed, before it takes anything.
                if self.full.may_log() {
                    tracing::warn!(engine = NAME, %error, "a call to another replica is not made");
                }
                return Err(NoReply::NotSent);
            }
            is_sent = true;
            expected.reply().await
        };
        let reply = timeout(within, asking).await;
        match reply {
            Ok(reply) => reply,
            Err(_) if is_sent => Err(NoReply::Silence),
            Err(_) => Err(NoReply::NotSent),
        }
    }
}

impl Carrier for NatsCarrier {
    fn name(&self) -> &'static str {
        NAME
    }

    fn link(&self) -> Link {
        self.nats.link()
    }

    fn call<'a>(
        &'a self,
        to: &'a ReplicaId,
        bytes: Bytes,
        within: Duration,
    ) -> BoxFuture<'a, Result<Bytes, NoReply>> {
        Box::pin(self.ask(to, bytes, within))
    }

    fn announce(&self, bytes: Bytes) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // It would be late after the connection is back.
            if self.link() != Link::Down {
                let _ = self.nats.client.publish(format!("mcp-sse.{}.all", self.cluster), bytes).await;
            }
        })
    }

    fn serve(&self, me: &ReplicaId, handler: Weak<dyn Handler>) -> BoxFuture<'_, Result<(), String>> {
        let subject = subject(&self.cluster, me);
        Box::pin(self.begin(subject, handler))
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(serving) = self.serving.get() else { return };
            let leaving = async {
                let (done, taken) = oneshot::channel();
                if serving.leave.send(done).await.is_ok() {
                    let _ = taken.await;
                }
                serving.intake.finish().await;
                // The replies are on their way when this is through.
                let _ = self.nats.client.flush().await;
            };
            let _ = timeout(LEAVE, leaving).await;
        })
    }
}

/// Takes what comes for a replica, until nobody wants it any more. The client subscribes again after each break.
struct Taking {
    client: Client,
    calls: Subscriber,
    replies: Subscriber,
    announcements: Subscriber,
    intake: Arc<Intake>,
    expected: Arc<Replies>,
}

impl Taking {
    async fn run(mut self, mut leaving: mpsc::Receiver<oneshot::Sender<()>>) {
        let mut look = interval(LOOK);
        let mut takes_calls = true;
        let mut left: Option<oneshot::Sender<()>> = None;
        while self.intake.is_wanted() {
            tokio::select! {
                call = self.calls.next(), if takes_calls => match call {
                    Some(call) => self.call(call),
                    // Those that were on their way have come.
                    None => {
                        takes_calls = false;
                        left = None;
                    }
                },
                reply = self.replies.next() => {
                    let Some(reply) = reply else { break };
                    self.reply(reply);
                }
                announcement = self.announcements.next() => {
                    let Some(announcement) = announcement else { break };
                    self.intake.announced(announcement.payload);
                }
                Some(done) = leaving.recv() => {
                    // Dropped when no more calls come.
                    if takes_calls {
                        let _ = timeout(LOOK, self.calls.drain()).await;
                        left = Some(done);
                    }
                }
                _ = look.tick() => {}
            }
        }
        drop(left);
    }

    fn call(&self, call: Message) {
        let Some(to) = call.reply else {
            self.intake.drops("it does not say where its reply belongs");
            return;
        };
        let client = self.client.clone();
        self.intake.take(call.payload, move |reply| async move {
            // What cannot be sent in time is lost, and asked for again.
            let _ = timeout(REPLY, client.publish(to, reply)).await;
        });
    }

    fn reply(&self, reply: Message) {
        let Some(number) = number(&reply.subject) else { return };
        // Said by the server, in the place of a reply.
        let is_nobody = reply.status == Some(StatusCode::NO_RESPONDERS);
        self.expected.give(number, if is_nobody { Err(NoReply::Nobody) } else { Ok(reply.payload) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_name_the_cluster_the_replica_and_the_call() {
        let replica: ReplicaId = "web-1.0123456789abcdef".parse().unwrap();
        let subject = subject("main", &replica);
        assert_eq!(subject, "mcp-sse.main.web-1.0123456789abcdef");
        let reply = reply_subject(&subject, 7);
        assert_eq!(reply, "mcp-sse.main.web-1.0123456789abcdef.7");
        assert_eq!(number(&reply), Some(7));
        assert_eq!(number(&format!("{subject}.x")), None);
    }

    #[test]
    fn a_url_may_name_several_servers_and_one_user() {
        let all = addresses("nats://user:geheim@a:1, nats://b,tls://[::1]:3").unwrap();
        let shown: Vec<_> = all.iter().map(Address::to_string).collect();
        assert_eq!(shown, ["nats://a:1", "nats://b:4222", "tls://[::1]:3"]);
        assert_eq!(all[0].password.as_deref(), Some("geheim"));
        for url in
            ["redis://a", "nats://a,", "nats://a/path", "nats://a:geheim@a,nats://b:geheim@b", "a:4222", ""]
        {
            let error = addresses(url).unwrap_err();
            assert!(matches!(error, ConnectError::Url { .. }), "{url}");
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
        assert!(addresses("nats://a:geheim@a,nats://a:geheim@b").is_ok());
    }

    #[test]
    fn it_is_tried_again_at_least_four_times_a_second() {
        let delays: Vec<_> = (1..=5).map(|attempts| reconnect_delay(attempts).as_millis()).collect();
        assert_eq!(delays, [100, 200, 250, 250, 250]);
        assert_eq!(reconnect_delay(usize::MAX).as_millis(), 250);
    }
}
