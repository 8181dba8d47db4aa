//! Connecting for the first time. Later the client does it by itself.

use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ServerAddr};
use tokio::time::{sleep, timeout_at};

use super::connection::{NAME, START};
use crate::{clock, connect_error::ConnectError, tls};

/// The pause between attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Connects for the first time.
pub(super) async fn start(
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
