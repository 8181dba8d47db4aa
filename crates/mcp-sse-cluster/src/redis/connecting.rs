//! A new connection, for the first time and again: it has subscribed to everything before it is used.

use std::{fmt, sync::Arc, time::Duration};

use ::redis::{
    AsyncConnectionConfig, PushInfo, RedisError,
    aio::{MultiplexedConnection, SendError},
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    connection::{PAUSE, START, Shared, Task},
    server::{NAME, hello, is_too_old, no_answer, received, said, standing},
};
use crate::{address::Address, connect_error::ConnectError, tls};

/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(2);
/// The longest pause before an attempt to connect again.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How many messages wait to be sent.
const TO_SEND: usize = 256;

/// A connection, until it is dropped.
pub(super) struct Open {
    pub(super) connection: MultiplexedConnection,
    /// Reads and writes. It ends when the connection does.
    pub(super) driver: Task,
}

impl Shared {
    /// Connects for the first time.
    pub(super) async fn start(&self) -> Result<Open, ConnectError> {
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
    pub(super) async fn reopen(&self) -> Open {
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
