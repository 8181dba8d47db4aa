//! What the URL and the files say, as settings of the client.

use std::{future::ready, path::Path, sync::Arc, time::Duration};

use super::connection::{NAME, Seen};
use crate::{
    address::{Address, Schemes},
    connect_error::ConnectError,
    connect_options::ConnectOptions,
    tls,
};

const SCHEMES: Schemes = Schemes { names: &[("nats", false), ("tls", true)], port: 4222, ignored: &[] };
const EXPECTED: &str = "nats://HOST:PORT or tls://HOST:PORT, with USER:PASSWORD@ or TOKEN@ before the host if it wants one; several servers of one NATS cluster with commas between them";

/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(2);
/// A server that says nothing for this long is asked whether it is there; the third time that it does not answer, the
/// connection is given up.
const PING: Duration = Duration::from_secs(2);
/// How many messages wait to be sent, and how many of a subscription to be taken.
const TO_SEND: usize = 256;
const TO_TAKE: usize = 1_024;

pub(super) fn wrong_url(why: String) -> ConnectError {
    ConnectError::Url { engine: NAME, why, expected: EXPECTED }
}

/// The servers that a URL names, of which only the first may have a user.
pub(super) fn addresses(url: &str) -> Result<Vec<Address>, ConnectError> {
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

pub(super) async fn settings(
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

#[cfg(test)]
mod tests {
    use super::*;

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
