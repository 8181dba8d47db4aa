//! TLS: certificates, which are read again when their files change, and the handshake.
//!
//! Invariant: files that cannot be taken change nothing. Connections that are open keep the certificate that they began
//! with.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use mcp_sse::{Principal, Socket};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{Acceptor, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::LazyConfigAcceptor;
use x509_parser::objects::{oid_registry, oid2abbrev};

use super::rewound::Rewound;
use crate::watched::{self, Failure, Watched};

/// The first byte of a TLS connection: a record of a handshake.
const HANDSHAKE: u8 = 0x16;
/// The answer to plain HTTP.
const NOT_PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 50\r\nconnection: close\r\n\r\nThis port speaks TLS only: use https:// in the URL";
/// How long whoever got it may go on sending, so that the answer is not lost with what it sent.
const GOODBYE: Duration = Duration::from_secs(1);
/// How much of what it sends then is read, in bytes.
const GOODBYE_BYTES: u64 = 64 * 1024;
/// The largest file, in bytes; of a larger one, the rest is not read.
const LARGEST: u64 = 4 * 1024 * 1024;

/// The files.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Authorities; then clients need a certificate of one of them.
    pub(crate) client_authorities: Option<PathBuf>,
}

/// TLS for the connections of a server.
#[derive(Debug)]
pub(crate) struct Tls {
    files: Files,
    watched: Watched,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    pub(crate) fn new(files: Files) -> Result<Self, String> {
        let all = [&files.certificate, &files.key].into_iter().chain(&files.client_authorities);
        let watched = Watched::new(all.cloned().collect());
        let config = RwLock::new(config(&files).map_err(Failure::into_text)?);
        Ok(Self { files, watched, config })
    }

    /// Reads the files again if they have changed; `at_once` reads them in any case. Blocks: files may be on a network.
    pub(crate) fn look(&self, at_once: bool) {
        let looked = self.watched.look(at_once, || {
            let config = config(&self.files)?;
            *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
            tracing::info!(file = %self.files.certificate.display(), "certificate read");
            Ok(())
        });
        if let Err(error) = looked {
            tracing::error!("the certificate was not changed: {error}");
        }
    }

    /// Makes the handshake of a connection. A Unix socket stays as it is: whoever connects to it is on this machine.
    pub(crate) async fn handshake(&self, mut socket: Socket) -> io::Result<Socket> {
        if socket.is_unix() {
            return Ok(socket);
        }
        let first = socket.read_u8().await?;
        if first != HANDSHAKE {
            return Err(refuse(socket, first).await);
        }
        let start =
            LazyConfigAcceptor::new(Acceptor::default(), Rewound { first: Some(first), socket }).await?;
        // As it is now, not as it was when the connection was opened.
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        let stream = start.into_stream(config).await?;
        let principal = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(subject);
        let socket = Socket::over(stream);
        Ok(match principal {
            Some(principal) => socket.with_principal(principal?),
            None => socket,
        })
    }
}

/// Answers whoever does not speak TLS, and reads what it still sends for a while.
async fn refuse(mut socket: Socket, first: u8) -> io::Error {
    // The first letter of a method.
    let is_http = first.is_ascii_uppercase();
    let goodbye = async {
        if is_http {
            socket.write_all(NOT_PLAIN).await?;
        }
        socket.shutdown().await?;
        tokio::io::copy(&mut (&mut socket).take(GOODBYE_BYTES), &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    io::Error::new(
        io::ErrorKind::InvalidData,
        if is_http { "plain HTTP on a port with TLS" } else { "not TLS" },
    )
}

/// Who a client's certificate is for: its subject, written so that two subjects never look the same (as in RFC 4514).
fn subject(certificate: &CertificateDer<'_>) -> io::Result<Principal> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| wrong(error.to_string()))?;
    let mut subject = String::new();
    for (index, part) in parsed.subject().iter_rdn().enumerate() {
        for (nth, attribute) in part.iter().enumerate() {
            subject.push_str(match (index, nth) {
                (0, 0) => "",
                (_, 0) => ", ",
                _ => " + ",
            });
            let oid = attribute.attr_type();
            match oid2abbrev(oid, oid_registry()) {
                Ok(name) => subject.push_str(name),
                Err(_) => subject.push_str(&oid.to_id_string()),
            }
            subject.push('=');
            let value = attribute.as_str().map_err(|_| {
                wrong("the subject of the client's certificate has a part that is not text".to_owned())
            })?;
            for character in value.chars() {
                if ",+=\\\"<>;#".contains(character) {
                    subject.push('\\');
                }
                subject.push(character);
            }
        }
    }
    if subject.is_empty() {
        return Err(wrong(
            "the client's certificate has no subject, so that it says not whose it is".to_owned(),
        ));
    }
    Ok(Principal::new(subject))
}

fn config(files: &Files) -> Result<Arc<ServerConfig>, Failure> {
    let provider = Arc::new(ring::default_provider());
    let key = certified_key(files, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Wrong(error.to_string()))?;
    let builder = match &files.client_authorities {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let wrong = |why: &dyn std::fmt::Display| Failure::Wrong(format!("{}: {why}", file.display()));
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| wrong(&format!("not an authority: {error}")))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| wrong(&error))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificate with its key, which must belong together.
fn certified_key(files: &Files, provider: &CryptoProvider) -> Result<CertifiedKey, Failure> {
    let shown = files.key.display();
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|error| Failure::Wrong(format!("cannot read a private key from {shown}: {error}")))?;
    CertifiedKey::from_der(certificates(&files.certificate)?, key, provider).map_err(|error| {
        let certificate = files.certificate.display();
        Failure::Wrong(format!(
            "the certificate in {certificate} and the key in {shown} cannot be used: {error}"
        ))
    })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        Failure::Wrong(format!("cannot read certificates from {}: {why}", file.display()))
    };
    let text = read(file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| wrong(&error))?;
    if all.is_empty() { Err(wrong(&"there is none in it, in PEM")) } else { Ok(all) }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    watched::read(file, LARGEST, |_| Ok(()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn subject_of(parts: &[(DnType, &str)]) -> io::Result<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        subject(certificate.der()).map(|principal| principal.as_str().to_owned())
    }

    #[test]
    fn a_subject_is_text_and_no_two_look_the_same() {
        let (name, organization) = (DnType::CommonName, DnType::OrganizationName);
        let of = |parts: &[(DnType, &str)]| subject_of(parts).unwrap();
        assert_eq!(of(&[(name.clone(), "alice")]), "CN=alice");
        assert_eq!(of(&[(name.clone(), "Alice A.")]), "CN=Alice A.");
        assert_eq!(of(&[(name.clone(), "alice"), (organization, "Corp")]), "CN=alice, O=Corp");
        assert_eq!(of(&[(name, "alice, O=Corp")]), r"CN=alice\, O\=Corp");
        assert!(subject_of(&[]).is_err());
    }
}
