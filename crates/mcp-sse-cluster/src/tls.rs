//! TLS to an engine.
//!
//! Invariant: it has a provider of its own, and neither needs nor sets that of the process.

use std::{
    error::Error,
    fmt,
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::{connect_error::ConnectError, connect_options::ConnectOptions};

/// The largest file, in bytes; of a larger one, the rest is not read.
const LARGEST: u64 = 4 * 1024 * 1024;

/// The configuration of a client with these files.
pub(crate) async fn client_config(
    engine: &'static str,
    options: &ConnectOptions,
) -> Result<ClientConfig, ConnectError> {
    let options = options.clone();
    // The files may be on a network, and those of the system are many.
    let reading = tokio::task::spawn_blocking(move || config(engine, &options));
    reading.await.unwrap_or_else(|error| Err(setting(engine, &error)))
}

fn config(engine: &'static str, options: &ConnectOptions) -> Result<ClientConfig, ConnectError> {
    let mut roots = RootCertStore::empty();
    // Where the system has none, or some that cannot be read, the handshake says whom it does not trust.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = &options.ca_file {
        for certificate in certificates(file)? {
            let added = roots.add(certificate);
            added.map_err(|error| wrong(file, &format!("expected certificates of authorities: {error}")))?;
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| setting(engine, &error))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &options.client_certificate else {
        return Ok(builder.with_no_client_auth());
    };
    let parsed = PrivateKeyDer::from_pem_slice(&read(key)?);
    let parsed = parsed.map_err(|error| wrong(key, &format!("expected a private key in PEM: {error}")))?;
    let config = builder.with_client_auth_cert(certificates(certificate)?, parsed);
    config.map_err(|error| {
        wrong(certificate, &format!("cannot be used with the key in {}: {error}", key.display()))
    })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let text = read(file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| wrong(file, &format!("expected certificates in PEM: {error}")))?;
    if all.is_empty() { Err(wrong(file, &"expected certificates in PEM, found none")) } else { Ok(all) }
}

/// Reads a file; blocks.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, ConnectError> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|open| open.take(LARGEST).read_to_end(&mut bytes));
    read.map_err(|error| wrong(file, &error))?;
    Ok(bytes)
}

/// A file that cannot be used.
pub(crate) fn wrong(file: &Path, why: &dyn fmt::Display) -> ConnectError {
    ConnectError::File { file: file.display().to_string(), why: why.to_string() }
}

fn setting(engine: &'static str, why: &dyn fmt::Display) -> ConnectError {
    ConnectError::Setting { engine, why: format!("cannot be connected to with TLS: {why}") }
}

/// What went wrong with TLS, if that is what an error is about. Trying again is no use then.
pub(crate) fn fault(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(fault) = error.downcast_ref::<rustls::Error>() {
            return Some(fault.to_string());
        }
        // The source of an IO error is not the error that it wraps, but that one's source.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_tls_is_found_in_what_wraps_it() {
        let fault_in = |error: io::Error| fault(&error);
        let inner = || rustls::Error::General("unknown".to_owned());
        let expected = Some(inner().to_string());
        assert_eq!(fault_in(io::Error::other(inner())), expected);
        assert_eq!(fault_in(io::Error::other(io::Error::other(inner()))), expected);
        assert_eq!(fault_in(io::Error::from(io::ErrorKind::ConnectionRefused)), None);
        assert_eq!(fault_in(io::Error::other("other")), None);
    }

    #[test]
    fn a_file_that_is_wrong_is_named() {
        let options = ConnectOptions::new().ca_file("/nowhere/ca.pem");
        let error = config("NATS", &options).map(drop).unwrap_err();
        assert!(matches!(&error, ConnectError::File { file, .. } if file == "/nowhere/ca.pem"), "{error}");
        let options = ConnectOptions::new().ca_file(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        let error = config("NATS", &options).map(drop).unwrap_err();
        assert!(error.to_string().ends_with("expected certificates in PEM, found none"), "{error}");
        assert!(config("NATS", &ConnectOptions::new()).is_ok());
    }
}
