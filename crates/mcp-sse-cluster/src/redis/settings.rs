//! What the URL and the files say: who we are, and TLS.

use std::sync::Arc;

use ::redis::{ProtocolVersion, RedisConnectionInfo};
use tokio_rustls::TlsConnector;

use super::server::NAME;
use crate::{
    address::{Address, Schemes},
    connect_error::ConnectError,
    connect_options::ConnectOptions,
    tls,
};

pub(super) const SCHEMES: Schemes = Schemes {
    names: &[("redis", false), ("rediss", true), ("valkey", false), ("valkeys", true)],
    port: 6379,
    // It is always RESP3.
    ignored: &["protocol"],
};
const EXPECTED: &str = "redis://HOST:PORT, or rediss://HOST:PORT for TLS, with :PASSWORD@ or USER:PASSWORD@ before the host if it wants one";

pub(super) fn wrong_url(why: String) -> ConnectError {
    ConnectError::Url { engine: NAME, why, expected: EXPECTED }
}

/// What is said to the server first.
pub(super) fn login(address: &Address) -> Result<RedisConnectionInfo, ConnectError> {
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

pub(super) async fn connector(
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

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Address {
        Address::parse(url, &SCHEMES).unwrap()
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
}
