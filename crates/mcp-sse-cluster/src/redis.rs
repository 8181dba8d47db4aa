//! A Redis server as the carrier: its channels, what is sent there, and the connection.
//!
//! | channel | what is sent there |
//! |---|---|
//! | `mcp-sse:CLUSTER:NAME.RUN` | calls of a replica: `1`, a number of 8 bytes, the length of a channel in 1 byte, the channel for the reply, the call |
//! | `mcp-sse:CLUSTER:NAME.RUN:replies` | replies to calls of this replica: `2`, the number, the reply |
//! | `mcp-sse:CLUSTER:all` | announcements |
//!
//! One connection of RESP3 does it all. It is kept here and not by the client's connection manager, because that takes
//! commands while it is not connected and sends them later, does not say whether it has subscribed again, and passes
//! messages through a queue without a bound.
//!
//! Invariants: the link is up only while a connection is there that has subscribed to everything and has answered what it
//! was asked last; nothing is handed to a connection that is not up.

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, ErrorKind, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError,
    RedisResult, Value,
    aio::{MultiplexedConnection, SendError},
};
use bytes::Bytes;
use mcp_sse::ReplicaId;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;

use crate::{
    address::{Address, Schemes},
    carrier::{BoxFuture, Carrier, Handler, Link, NoReply},
    clock,
    connect_error::ConnectError,
    connect_options::ConnectOptions,
    engine::{Engine, EngineOf},
    intake::{Dropped, Intake},
    replies::Replies,
    throttle::Throttle,
    tls,
};

const NAME: &str = "Redis";
const SCHEMES: Schemes = Schemes {
    names: &[("redis", false), ("rediss", true), ("valkey", false), ("valkeys", true)],
    port: 6379,
    // It is always RESP3.
    ignored: &["protocol"],
};
const EXPECTED: &str = "redis://HOST:PORT, or rediss://HOST:PORT for TLS, with :PASSWORD@ or USER:PASSWORD@ before the host if it wants one";

/// How long connecting for the first time may take, with all attempts, and until a subscription is confirmed.
const START: Duration = Duration::from_secs(5);
/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(2);
/// The pause before an attempt to connect again, and how long it gets.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How often the server is asked whether it is there, after how long without an answer the link counts as down, and how
/// much later the connection is given up.
const LOOK: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(3);
/// How many messages wait to be sent, and how many to be taken.
const TO_SEND: usize = 256;
const TO_TAKE: usize = 1_024;
/// How long a reply may wait to be sent. Nobody waits for it any longer.
const REPLY: Duration = Duration::from_secs(5);
/// How long leaving may take.
const LEAVE: Duration = Duration::from_secs(3);

/// A connection to a Redis server, or to one that speaks the same: an [`Engine`] for a [`Cluster`](crate::Cluster).
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use mcp_sse_cluster::{Cluster, Redis};
///
/// let redis = Redis::connect("redis://127.0.0.1:6379").await?;
/// let cluster = Cluster::new(redis, "web-1").await?;
/// # let _ = cluster;
/// # Ok(())
/// # }
/// ```
///
/// It needs Redis 6 or later, or Valkey, as one server: not a Redis Cluster, which does not say whether anybody got a
/// message, and not the address of a Sentinel. All replicas have to be at the same server, its master; one that becomes a
/// replica of another Redis is left. Only its publish/subscribe is used, and nothing is stored. A user needs the commands
/// `HELLO`, `PUBLISH`, `SUBSCRIBE` and `UNSUBSCRIBE`, and the channels `mcp-sse:*`, and no keys:
///
/// ```text
/// ACL SETUSER mcp-sse on >PASSWORD resetchannels &mcp-sse:* -@all +hello +publish +subscribe +unsubscribe
/// ```
///
/// Nobody else should listen to these channels, not even to look on: a message for a replica that is gone then looks as if
/// it was delivered, and is waited for.
///
/// It connects again by itself whenever the connection is lost, for ever, at least every 250 ms. A server that says nothing
/// when it is asked something is given up after 4 s. The connection is closed when the last clone and the last cluster of
/// it are dropped.
#[derive(Clone)]
pub struct Redis(Arc<Connected>);

/// What ends with the last clone.
struct Connected {
    shared: Arc<Shared>,
    /// Keeps the connection, and brings what comes to whom it is for.
    _tasks: [Task; 2],
}

/// A task that ends when this is dropped.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is known of the connection, and used by all.
struct Shared {
    address: Address,
    login: RedisConnectionInfo,
    tls: Option<TlsConnector>,
    messages: mpsc::Sender<Received>,
    dropped: Arc<Dropped>,
    line: watch::Sender<Line>,
    /// Asks whoever keeps the connection to look at it.
    doubts: Notify,
    // Never held across an await.
    channels: Mutex<HashMap<String, Channel>>,
    failures: Throttle,
    refusals: Throttle,
}

/// The connection as it is now.
#[derive(Clone, Default)]
struct Line {
    /// Tells connections apart.
    number: u64,
    connection: Option<MultiplexedConnection>,
    /// Since when it is up, if it is.
    up: Option<Instant>,
}

/// A connection, until it is dropped.
struct Open {
    connection: MultiplexedConnection,
    /// Reads and writes. It ends when the connection does.
    driver: Task,
}

/// A message as it comes.
struct Received {
    channel: Vec<u8>,
    payload: Vec<u8>,
}

/// Whom messages of a channel are for.
#[derive(Default)]
struct Channel {
    /// Left channels are not subscribed to again; what is still on its way from there is taken.
    is_left: bool,
    routes: Vec<Route>,
}

#[derive(Clone)]
struct Route {
    intake: Arc<Intake>,
    what: What,
}

#[derive(Clone)]
enum What {
    Calls,
    Replies(Arc<Replies>),
    Announcements,
}

impl Redis {
    /// Connects to `redis://HOST:PORT`, or with TLS to `rediss://HOST:PORT`; the port is 6379 unless it is given. A
    /// password, `:PASSWORD@`, or a user with one, `USER:PASSWORD@`, stand before the host. `valkey://` and `valkeys://` are
    /// the same.
    ///
    /// Needs a tokio runtime. It tries for 5 s.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: the URL is not one of Redis, the server cannot be reached, does not let this client in, or is one
    /// that cannot connect replicas.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::connect_with(url, &ConnectOptions::new()).await
    }

    /// Connects as [`connect`](Self::connect) does, with files for TLS.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], also if a file cannot be used, or has no use with this URL.
    pub async fn connect_with(url: &str, options: &ConnectOptions) -> Result<Self, ConnectError> {
        let address = Address::parse(url, &SCHEMES).map_err(wrong_url)?;
        let login = login(&address)?;
        let tls = connector(&address, options).await?;
        let (messages, received) = mpsc::channel(TO_TAKE);
        let shared = Arc::new(Shared {
            address,
            login,
            tls,
            messages,
            dropped: Arc::default(),
            line: watch::Sender::new(Line::default()),
            doubts: Notify::new(),
            channels: Mutex::default(),
            failures: Throttle::default(),
            refusals: Throttle::default(),
        });
        let open = shared.start().await?;
        shared.is_up(&open);
        tracing::info!(address = %shared.address, "connected to Redis");
        let keeping = tokio::spawn(keep(Arc::clone(&shared), open));
        let bringing = tokio::spawn(bring(Arc::clone(&shared), received));
        Ok(Self(Arc::new(Connected { shared, _tasks: [Task(keeping), Task(bringing)] })))
    }

    /// The carrier of a cluster with this name, which has only letters, digits, `-` and `_`.
    pub(crate) fn in_cluster(&self, cluster: &str) -> RedisCarrier {
        RedisCarrier {
            redis: self.clone(),
            cluster: cluster.to_owned(),
            replies: Arc::default(),
            serving: OnceLock::new(),
            full: Throttle::default(),
        }
    }
}

impl EngineOf for Redis {
    fn carrier(&self, cluster: &str) -> Arc<dyn Carrier> {
        Arc::new(self.in_cluster(cluster))
    }

    fn name(&self) -> &'static str {
        NAME
    }
}

impl From<Redis> for Engine {
    fn from(redis: Redis) -> Self {
        Self(Arc::new(redis))
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.0.shared.address.to_string();
        f.debug_struct("Redis").field("address", &address).finish_non_exhaustive()
    }
}

// ---- connecting ------------------------------------------------------------------------------------------

fn wrong_url(why: String) -> ConnectError {
    ConnectError::Url { engine: NAME, why, expected: EXPECTED }
}

/// What is said to the server first.
fn login(address: &Address) -> Result<RedisConnectionInfo, ConnectError> {
    let mut login = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        // Needs a permission of its own.
        .set_skip_set_lib_name();
    match (&address.user, &address.password) {
        (Some(user), Some(password)) => login = login.set_username(user).set_password(password),
        (None, Some(password)) => login = login.set_password(password),
        (None, None) => {}
        (Some(_), None) => return Err(wrong_url("has a user and no password".to_owned())),
    }
    if !address.path.is_empty() {
        let database = address.path.parse::<i64>();
        login = login.set_db(database.map_err(|_| wrong_url("has a path that is no database".to_owned()))?);
    }
    Ok(login)
}

async fn connector(
    address: &Address,
    options: &ConnectOptions,
) -> Result<Option<TlsConnector>, ConnectError> {
    let useless = |what: &str| {
        let why = format!("has no use for {what}");
        Err(ConnectError::Setting { engine: NAME, why })
    };
    if options.credentials_file.is_some() {
        return useless("a credentials file; expected the user and the password in the URL");
    }
    if address.is_tls {
        let config = tls::client_config(NAME, options).await?;
        return Ok(Some(TlsConnector::from(Arc::new(config))));
    }
    if options.ca_file.is_some() || options.client_certificate.is_some() {
        return useless("certificates without TLS; expected a URL that begins with rediss://");
    }
    Ok(None)
}

impl Shared {
    /// Connects for the first time.
    async fn start(&self) -> Result<Open, ConnectError> {
        let mut last = None;
        let trying = async {
            loop {
                match self.open().await {
                    Err(error @ ConnectError::Unreachable { .. }) => last = Some(error),
                    opened => return opened,
                }
                sleep(PAUSE).await;
            }
        };
        let opened = timeout(START, trying).await;
        opened.unwrap_or_else(|_| Err(last.unwrap_or_else(|| self.no_answer(START))))
    }

    /// Connects again, as long as it takes.
    async fn reopen(&self) -> Open {
        let mut pause = PAUSE;
        loop {
            sleep(pause).await;
            match self.open().await {
                Ok(open) => return open,
                Err(error) => {
                    if self.failures.may_log() {
                        tracing::warn!(%error, "Redis cannot be connected to; trying again");
                    }
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A new connection, which has subscribed to everything.
    async fn open(&self) -> Result<Open, ConnectError> {
        let opened = timeout(CONNECT, Box::pin(self.try_open())).await;
        opened.unwrap_or_else(|_| Err(self.no_answer(CONNECT)))
    }

    async fn try_open(&self) -> Result<Open, ConnectError> {
        let Address { host, port, .. } = &self.address;
        let tcp = TcpStream::connect((host.as_str(), *port)).await;
        let tcp = tcp.map_err(|error| self.unreachable(&error))?;
        // What is sent is waited for.
        tcp.set_nodelay(true).map_err(|error| self.unreachable(&error))?;
        let mut open = match &self.tls {
            None => self.speak(tcp).await?,
            Some(tls) => {
                let name =
                    ServerName::try_from(host.clone()).map_err(|error| self.no_tls(error.to_string()))?;
                let encrypted = tls.connect(name, tcp).await.map_err(|error| match tls::fault(&error) {
                    Some(why) => self.no_tls(why),
                    None => self.unreachable(&error),
                })?;
                self.speak(encrypted).await?
            }
        };
        let hello = hello(&mut open.connection).await.map_err(|error| self.refused(&error))?;
        standing(&hello).map_err(|why| self.unsuitable(why))?;
        let channels = self.wanted();
        if !channels.is_empty() {
            let subscribed = open.connection.subscribe(&channels[..]).await;
            subscribed.map_err(|error| self.refused(&error))?;
        }
        Ok(open)
    }

    async fn speak<S>(&self, stream: S) -> Result<Open, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (messages, dropped) = (self.messages.clone(), Arc::clone(&self.dropped));
        let config = AsyncConnectionConfig::new()
            // Whoever waits has a deadline.
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(TO_SEND)
            .set_push_sender(move |push: PushInfo| -> Result<(), SendError> {
                // Called by whoever reads the connection, which must not wait.
                if let Some(received) = received(push)
                    && messages.try_send(received).is_err()
                {
                    dropped.one(NAME, "they come faster than they are taken");
                }
                Ok(())
            });
        let opened = MultiplexedConnection::new_with_config(&self.login, stream, config).await;
        let (connection, driver) = opened.map_err(|error| self.refused(&error))?;
        Ok(Open { connection, driver: Task(tokio::spawn(driver)) })
    }

    fn unreachable(&self, why: &dyn fmt::Display) -> ConnectError {
        ConnectError::Unreachable { engine: NAME, address: self.address.to_string(), why: why.to_string() }
    }

    fn no_answer(&self, within: Duration) -> ConnectError {
        self.unreachable(&no_answer(within))
    }

    fn no_tls(&self, why: String) -> ConnectError {
        ConnectError::Tls { engine: NAME, address: self.address.to_string(), why }
    }

    fn unsuitable(&self, why: String) -> ConnectError {
        ConnectError::Unsuitable { engine: NAME, address: self.address.to_string(), why }
    }

    /// What the error of a command means.
    fn refused(&self, error: &RedisError) -> ConnectError {
        if is_too_old(error) {
            let why = "it does not speak RESP3; expected Redis 6 or later".to_owned();
            return self.unsuitable(why);
        }
        let why = said(error);
        match error.code() {
            Some("WRONGPASS" | "NOAUTH" | "NOPERM" | "DENIED") => {
                ConnectError::Refused { engine: NAME, address: self.address.to_string(), why }
            }
            _ => self.unreachable(&why),
        }
    }
}

fn no_answer(within: Duration) -> String {
    format!("no answer within {} s", within.as_secs())
}

/// An old server repeats what it does not know, which has the password in it.
fn is_too_old(error: &RedisError) -> bool {
    error.kind() == ErrorKind::RESP3NotSupported
        || error.code() == Some("NOPROTO")
        || error.detail().is_some_and(|detail| detail.starts_with("unknown command"))
}

/// What an error says.
fn said(error: &RedisError) -> String {
    error.detail().map_or_else(|| error.to_string(), str::to_owned)
}

/// Whether the server has answered, and that it does not do what it was asked.
fn is_refusal(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// Asks the server what it is. It changes nothing on a connection that speaks RESP3 already.
async fn hello(connection: &mut MultiplexedConnection) -> RedisResult<Value> {
    ::redis::cmd("HELLO").arg("3").query_async(connection).await
}

/// Whether a server that says this of itself can connect replicas.
fn standing(hello: &Value) -> Result<(), String> {
    match field(hello, "mode") {
        Some("standalone") | None => {}
        Some(mode) => {
            return Err(format!("it runs in the mode {mode:?}; expected one server, \"standalone\""));
        }
    }
    match field(hello, "role") {
        Some("master") | None => Ok(()),
        Some(role) => Err(format!("it is a {role:?}; expected the master, where all replicas have to be")),
    }
}

fn field<'a>(map: &'a Value, name: &str) -> Option<&'a str> {
    let Value::Map(fields) = map else { return None };
    let (_, value) = fields.iter().find(|(key, _)| text(key) == Some(name))?;
    text(value)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// The message in what the server sends by itself, if it is one.
fn received(push: PushInfo) -> Option<Received> {
    if push.kind != PushKind::Message {
        return None;
    }
    let mut data = push.data.into_iter();
    match (data.next(), data.next()) {
        (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) => {
            Some(Received { channel, payload })
        }
        _ => None,
    }
}

// ---- the connection --------------------------------------------------------------------------------------

/// Keeps a connection: looks whether it is there, and makes another when it is not.
async fn keep(shared: Arc<Shared>, mut open: Open) {
    loop {
        let why = shared.watch(&mut open).await;
        shared.is_down();
        drop(open);
        tracing::warn!(address = %shared.address, why, "the connection to Redis is lost; connecting again");
        open = shared.reopen().await;
        shared.is_up(&open);
        tracing::info!(address = %shared.address, "connected to Redis again");
    }
}

impl Shared {
    fn is_up(&self, open: &Open) {
        let connection = Some(open.connection.clone());
        self.line.send_modify(|line| {
            *line = Line { number: line.number + 1, connection, up: Some(clock::now()) };
        });
    }

    fn is_down(&self) {
        self.line.send_modify(|line| (line.connection, line.up) = (None, None));
    }

    /// The connection, whether or not it is up.
    fn line(&self) -> Line {
        self.line.borrow().clone()
    }

    /// This connection may not be there any more: it counts as down until it has answered.
    fn doubt(&self, number: u64) {
        let doubted = self.line.send_if_modified(|line| line.number == number && line.up.take().is_some());
        if doubted {
            self.doubts.notify_one();
        }
    }

    /// Looks at a connection until it is of no use, and says why.
    async fn watch(&self, open: &mut Open) -> String {
        loop {
            tokio::select! {
                _ = &mut open.driver.0 => return "it was closed".to_owned(),
                () = self.doubts.notified() => {}
                () = sleep(LOOK) => {}
            }
            if let Err(why) = self.look(open.connection.clone()).await {
                return why;
            }
            self.forget(&mut open.connection).await;
        }
    }

    /// Asks the server what it is. It is not asked again as long as it has not answered: the answer would come after the
    /// first one.
    async fn look(&self, mut connection: MultiplexedConnection) -> Result<(), String> {
        let mut asking = pin!(hello(&mut connection));
        let answer = match timeout(SOON, &mut asking).await {
            Ok(answer) => answer,
            Err(_) => {
                self.line.send_modify(|line| line.up = None);
                let late = timeout(LATE, &mut asking).await;
                late.map_err(|_| no_answer(SOON + LATE))?
            }
        };
        standing(&answer.map_err(|error| said(&error))?)?;
        self.line.send_if_modified(|line| {
            let was_down = line.up.is_none();
            line.up.get_or_insert_with(clock::now);
            was_down
        });
        Ok(())
    }

    /// Leaves the channels that nobody wants messages of any more.
    async fn forget(&self, connection: &mut MultiplexedConnection) {
        let mut unwanted = Vec::new();
        lock(&self.channels).retain(|name, channel| {
            channel.routes.retain(|route| route.intake.is_wanted());
            let is_wanted = !channel.routes.is_empty();
            if !is_wanted {
                unwanted.push(name.clone());
            }
            is_wanted
        });
        if !unwanted.is_empty() {
            // What fails is looked at next time.
            let _ = timeout(SOON, connection.unsubscribe(&unwanted[..])).await;
        }
    }

    /// The channels to subscribe to.
    fn wanted(&self) -> Vec<String> {
        let channels = lock(&self.channels);
        channels.iter().filter(|(_, channel)| !channel.is_left).map(|(name, _)| name.clone()).collect()
    }

    /// Whom a message of this channel is for.
    fn routes(&self, channel: &[u8]) -> Vec<Route> {
        let Ok(name) = str::from_utf8(channel) else { return Vec::new() };
        lock(&self.channels).get(name).map(|channel| channel.routes.clone()).unwrap_or_default()
    }

    /// Subscribes to channels which all later connections subscribe to, too.
    async fn subscribe(&self, channels: &[String]) -> Result<(), String> {
        let mut lines = self.line.subscribe();
        let subscribing = async {
            loop {
                let connection = match lines.wait_for(|line| line.up.is_some()).await {
                    Ok(line) => line.connection.clone(),
                    Err(_) => return Err("it is closed".to_owned()),
                };
                if let Some(mut connection) = connection {
                    match connection.subscribe(channels).await {
                        Ok(()) => return Ok(()),
                        Err(error) if is_refusal(&error) => return Err(said(&error)),
                        // The connection is lost, and there will be another.
                        Err(_) => {}
                    }
                }
                sleep(PAUSE).await;
            }
        };
        let subscribed = timeout(START, subscribing).await;
        subscribed.unwrap_or_else(|_| Err(no_answer(START)))
    }

    /// Sends a reply on its way. One that cannot be sent is lost, and asked for again.
    async fn reply(&self, channel: &str, number: u64, bytes: &[u8]) {
        let Some(mut connection) = self.line().connection else { return };
        let payload = reply(number, bytes);
        let sent = timeout(REPLY, publish(&mut connection, channel, &payload)).await;
        if let Ok(Err(error)) = sent {
            self.refuses(&error);
        }
    }

    fn refuses(&self, error: &RedisError) {
        if is_refusal(error) && self.refusals.may_log() {
            tracing::warn!(address = %self.address, why = said(error), "Redis refuses to publish a message");
        }
    }
}

/// Publishes something, and says how many got it.
async fn publish(connection: &mut MultiplexedConnection, channel: &str, payload: &[u8]) -> RedisResult<u64> {
    ::redis::cmd("PUBLISH").arg(channel).arg(payload).query_async(connection).await
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Brings what comes to whom it is for.
async fn bring(shared: Arc<Shared>, mut messages: mpsc::Receiver<Received>) {
    while let Some(Received { channel, payload }) = messages.recv().await {
        let payload = Bytes::from(payload);
        for Route { intake, what } in shared.routes(&channel) {
            match what {
                What::Announcements => intake.announced(payload.clone()),
                What::Replies(replies) => match read_reply(payload.clone()) {
                    Some((number, bytes)) => replies.give(number, Ok(bytes)),
                    None => intake.drops("it is no reply"),
                },
                What::Calls => match read_call(payload.clone()) {
                    Some(Call { number, reply_to, bytes }) => {
                        let shared = Arc::clone(&shared);
                        intake.take(bytes, move |bytes| async move {
                            shared.reply(&reply_to, number, &bytes).await;
                        });
                    }
                    None => intake.drops("it is no call"),
                },
            }
        }
    }
}

// ---- what is sent ----------------------------------------------------------------------------------------

const CALL: u8 = b'1';
const REPLIED: u8 = b'2';
/// Before the names of all channels.
const PREFIX: &str = "mcp-sse:";

#[derive(Debug, PartialEq, Eq)]
struct Call {
    number: u64,
    reply_to: String,
    bytes: Bytes,
}

/// `None`: the name of the channel is too long.
fn call(number: u64, reply_to: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u8::try_from(reply_to.len()).ok()?;
    let mut payload = Vec::with_capacity(1 + 8 + 1 + reply_to.len() + bytes.len());
    payload.push(CALL);
    payload.extend_from_slice(&number.to_be_bytes());
    payload.push(length);
    payload.extend_from_slice(reply_to.as_bytes());
    payload.extend_from_slice(bytes);
    Some(payload)
}

fn read_call(mut payload: Bytes) -> Option<Call> {
    if cut(&mut payload, 1)?[0] != CALL {
        return None;
    }
    let number = read_number(&mut payload)?;
    let length = cut(&mut payload, 1)?[0];
    let reply_to = cut(&mut payload, usize::from(length))?;
    let reply_to = str::from_utf8(&reply_to).ok()?;
    // A reply is sent to a replica and nowhere else.
    reply_to.starts_with(PREFIX).then(|| Call { number, reply_to: reply_to.to_owned(), bytes: payload })
}

fn reply(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(1 + 8 + bytes.len());
    payload.push(REPLIED);
    payload.extend_from_slice(&number.to_be_bytes());
    payload.extend_from_slice(bytes);
    payload
}

fn read_reply(mut payload: Bytes) -> Option<(u64, Bytes)> {
    if cut(&mut payload, 1)?[0] != REPLIED {
        return None;
    }
    let number = read_number(&mut payload)?;
    Some((number, payload))
}

fn read_number(payload: &mut Bytes) -> Option<u64> {
    let bytes = cut(payload, 8)?;
    <[u8; 8]>::try_from(&bytes[..]).ok().map(u64::from_be_bytes)
}

/// The first so many bytes, which are taken away.
fn cut(payload: &mut Bytes, length: usize) -> Option<Bytes> {
    (payload.len() >= length).then(|| payload.split_to(length))
}

fn calls_channel(cluster: &str, replica: &ReplicaId) -> String {
    format!("{PREFIX}{cluster}:{replica}")
}

fn replies_channel(cluster: &str, replica: &ReplicaId) -> String {
    format!("{PREFIX}{cluster}:{replica}:replies")
}

/// No replica's: those have a dot.
fn announcements_channel(cluster: &str) -> String {
    format!("{PREFIX}{cluster}:all")
}

// ---- the carrier -----------------------------------------------------------------------------------------

/// Redis for one cluster.
pub(crate) struct RedisCarrier {
    redis: Redis,
    cluster: String,
    replies: Arc<Replies>,
    serving: OnceLock<Serving>,
    full: Throttle,
}

/// The replica that this is the carrier of.
struct Serving {
    calls: String,
    replies: String,
    intake: Arc<Intake>,
}

impl RedisCarrier {
    fn shared(&self) -> &Arc<Shared> {
        &self.redis.0.shared
    }

    async fn begin(&self, calls: String, replies: String, handler: Weak<dyn Handler>) -> Result<(), String> {
        let intake = Arc::new(Intake::new(NAME, handler));
        let all = [calls.clone(), replies.clone(), announcements_channel(&self.cluster)];
        if self.serving.set(Serving { calls, replies, intake: Arc::clone(&intake) }).is_err() {
            return Err("it is in use already".to_owned());
        }
        {
            let mut channels = lock(&self.shared().channels);
            let what = [What::Calls, What::Replies(Arc::clone(&self.replies)), What::Announcements];
            for (name, what) in all.iter().zip(what) {
                let intake = Arc::clone(&intake);
                channels.entry(name.clone()).or_default().routes.push(Route { intake, what });
            }
        }
        self.shared().subscribe(&all).await
    }

    async fn ask(&self, to: &ReplicaId, bytes: Bytes, within: Duration) -> Result<Bytes, NoReply> {
        let Some(serving) = self.serving.get() else { return Err(NoReply::NotSent) };
        let Line { number, connection: Some(mut connection), up: Some(_) } = self.shared().line() else {
            return Err(NoReply::NotSent);
        };
        let expected = self.replies.expect();
        let payload =
            expected.as_ref().and_then(|expected| call(expected.number(), &serving.replies, &bytes));
        let (Some(mut expected), Some(payload)) = (expected, payload) else {
            if self.full.may_log() {
                tracing::warn!(
                    engine = NAME,
                    "a call to another replica is not made: too many are under way"
                );
            }
            return Err(NoReply::NotSent);
        };
        let channel = calls_channel(&self.cluster, to);
        let mut is_published = false;
        let asking = async {
            let receivers = publish(&mut connection, &channel, &payload).await?;
            is_published = true;
            Ok::<_, RedisError>(if receivers == 0 { Err(NoReply::Nobody) } else { expected.reply().await })
        };
        let asked = timeout(within, asking).await;
        match asked {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) if is_refusal(&error) => {
                self.shared().refuses(&error);
                Err(NoReply::NotSent)
            }
            Err(_) if is_published => Err(NoReply::Silence),
            // Whether the server has got it is not known.
            Ok(Err(_)) | Err(_) => {
                self.shared().doubt(number);
                Err(NoReply::Silence)
            }
        }
    }
}

impl Carrier for RedisCarrier {
    fn name(&self) -> &'static str {
        NAME
    }

    fn link(&self) -> Link {
        let up = self.shared().line.borrow().up;
        up.map_or(Link::Down, Link::Up)
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
            if let Line { connection: Some(mut connection), up: Some(_), .. } = self.shared().line() {
                let published = publish(&mut connection, &announcements_channel(&self.cluster), &bytes).await;
                if let Err(error) = published {
                    self.shared().refuses(&error);
                }
            }
        })
    }

    fn serve(&self, me: &ReplicaId, handler: Weak<dyn Handler>) -> BoxFuture<'_, Result<(), String>> {
        let (calls, replies) = (calls_channel(&self.cluster, me), replies_channel(&self.cluster, me));
        Box::pin(self.begin(calls, replies, handler))
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(serving) = self.serving.get() else { return };
            if let Some(channel) = lock(&self.shared().channels).get_mut(&serving.calls) {
                channel.is_left = true;
            }
            let leaving = async {
                if let Some(mut connection) = self.shared().line().connection {
                    let _ = connection.unsubscribe(&serving.calls).await;
                }
                serving.intake.finish().await;
            };
            let _ = timeout(LEAVE, leaving).await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn address(url: &str) -> Address {
        Address::parse(url, &SCHEMES).unwrap()
    }

    #[test]
    fn channels_name_the_cluster_and_the_replica() {
        let replica: ReplicaId = "web-1.0123456789abcdef".parse().unwrap();
        assert_eq!(calls_channel("main", &replica), "mcp-sse:main:web-1.0123456789abcdef");
        assert_eq!(replies_channel("main", &replica), "mcp-sse:main:web-1.0123456789abcdef:replies");
        assert_eq!(announcements_channel("main"), "mcp-sse:main:all");
    }

    #[test]
    fn a_call_is_read_as_it_was_written() {
        let payload = call(258, "mcp-sse:a", b"\0call").unwrap();
        assert_eq!(payload, b"1\0\0\0\0\0\0\x01\x02\x09mcp-sse:a\0call");
        let expected =
            Call { number: 258, reply_to: "mcp-sse:a".to_owned(), bytes: Bytes::from_static(b"\0call") };
        assert_eq!(read_call(Bytes::from(payload.clone())), Some(expected));
        // The call itself may be empty.
        let head = payload.len() - b"\0call".len();
        for length in 0..head {
            assert_eq!(read_call(Bytes::copy_from_slice(&payload[..length])), None);
        }
        assert!(read_call(Bytes::copy_from_slice(&payload[..head])).is_some());
        assert_eq!(call(0, &"x".repeat(256), b""), None);
    }

    #[test]
    fn a_reply_goes_to_no_other_channel() {
        for channel in ["other", "", "mcp-ss"] {
            assert_eq!(read_call(Bytes::from(call(1, channel, b"call").unwrap())), None);
        }
    }

    #[test]
    fn a_reply_is_read_as_it_was_written() {
        let payload = reply(u64::MAX, b"reply");
        assert_eq!(read_reply(Bytes::from(payload.clone())), Some((u64::MAX, Bytes::from_static(b"reply"))));
        for length in 0..9 {
            assert_eq!(read_reply(Bytes::copy_from_slice(&payload[..length])), None);
        }
        assert_eq!(read_reply(Bytes::from(call(1, "mcp-sse:a", b"").unwrap())), None);
        assert_eq!(read_call(Bytes::from(payload)), None);
    }

    #[test]
    fn only_a_single_master_will_do() {
        let says = |mode: &str, role: &str| {
            let fields = vec![
                (bulk("server"), bulk("redis")),
                (bulk("proto"), Value::Int(3)),
                (bulk("mode"), bulk(mode)),
                (Value::SimpleString("role".to_owned()), bulk(role)),
            ];
            standing(&Value::Map(fields))
        };
        assert_eq!(says("standalone", "master"), Ok(()));
        assert!(says("cluster", "master").unwrap_err().contains("cluster"));
        assert!(says("sentinel", "master").is_err());
        assert!(says("standalone", "replica").unwrap_err().contains("master"));
        // Others that speak RESP3 may say less.
        assert_eq!(standing(&Value::Map(Vec::new())), Ok(()));
        assert_eq!(standing(&Value::Okay), Ok(()));
    }

    #[test]
    fn only_messages_are_received() {
        let push = |kind, data| received(PushInfo { kind, data }).map(|it| (it.channel, it.payload));
        let data = vec![bulk("channel"), bulk("payload")];
        let expected = Some((b"channel".to_vec(), b"payload".to_vec()));
        assert_eq!(push(PushKind::Message, data.clone()), expected);
        assert_eq!(push(PushKind::Message, vec![bulk("channel")]), None);
        assert_eq!(push(PushKind::Subscribe, data), None);
        assert_eq!(push(PushKind::Disconnection, Vec::new()), None);
    }

    #[test]
    fn a_login_is_what_the_url_says_and_always_resp3() {
        let login_of = |url| login(&address(url));
        let found = login_of("redis://user:pass%2Fword@host/2?protocol=resp2").unwrap();
        assert_eq!((found.username(), found.password()), (Some("user"), Some("pass/word")));
        assert_eq!((found.protocol(), found.db()), (ProtocolVersion::RESP3, 2));
        let found = login_of("redis://:password@host").unwrap();
        assert_eq!((found.username(), found.password(), found.db()), (None, Some("password"), 0));
        for url in ["redis://user@host", "redis://host/x"] {
            assert!(matches!(login_of(url), Err(ConnectError::Url { .. })), "{url}");
        }
    }

    #[tokio::test]
    async fn files_that_have_no_use_are_refused() {
        for (url, options) in [
            ("redis://host", ConnectOptions::new().ca_file("ca.pem")),
            ("redis://host", ConnectOptions::new().client_certificate("a", "b")),
            ("rediss://host", ConnectOptions::new().credentials_file("a.creds")),
        ] {
            let error = connector(&address(url), &options).await.map(drop).unwrap_err();
            assert!(matches!(error, ConnectError::Setting { engine: "Redis", .. }), "{error}");
        }
        assert!(connector(&address("redis://host"), &ConnectOptions::new()).await.unwrap().is_none());
    }

    #[test]
    fn an_old_server_is_told_by_what_it_does_not_know_and_its_words_are_not_repeated() {
        let error = |text: &str| {
            let value = ::redis::parse_redis_value(text.as_bytes()).unwrap();
            value.extract_error().unwrap_err()
        };
        for text in [
            "-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'geheim'\r\n",
            "-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n",
            "-NOPROTO unsupported protocol version\r\n",
        ] {
            assert!(is_too_old(&error(text)), "{text}");
        }
        let refused = error("-WRONGPASS invalid username-password pair or user is disabled.\r\n");
        assert!(!is_too_old(&refused) && is_refusal(&refused));
        assert_eq!(said(&refused), "invalid username-password pair or user is disabled.");
        assert_eq!(refused.code(), Some("WRONGPASS"));
    }
}
