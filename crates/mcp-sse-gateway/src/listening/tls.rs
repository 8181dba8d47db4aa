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
    sign::CertifiedKey,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::LazyConfigAcceptor;

use super::rewound::Rewound;
use crate::watched::Watched;

/// The first byte of a TLS connection: a record of a handshake.
const HANDSHAKE: u8 = 0x16;
/// The answer to plain HTTP.
const NOT_PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 50\r\nconnection: close\r\n\r\nThis port speaks TLS only: use https:// in the URL";
/// How long whoever got it may go on sending, so that the answer is not lost with what it sent.
const GOODBYE: Duration = Duration::from_secs(1);
/// How much of that is read.
const GOODBYE_BYTES: u64 = 64 * 1024;

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
        let config = RwLock::new(config(&files)?);
        Ok(Self { files, watched, config })
    }

    /// Reads the files again if they have changed; `at_once` reads them in any case. Blocks: files may be on a network.
    pub(crate) fn look(&self, at_once: bool) {
        if !self.watched.is_due(at_once) {
            return;
        }
        match config(&self.files) {
            Ok(config) => {
                *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
                tracing::info!(file = %self.files.certificate.display(), "certificate read");
            }
            Err(error) => tracing::error!("the certificate was not changed: {error}"),
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

/// Who a client's certificate is for.
fn subject(certificate: &CertificateDer<'_>) -> io::Result<Principal> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    let subject = parsed.subject().to_string();
    if subject.is_empty() {
        let text = "the client's certificate has no subject, so that it says not whose it is";
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(Principal::new(subject))
}

fn config(files: &Files) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let key = certified_key(files, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &files.client_authorities {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let shown = file.display();
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| format!("{shown}: not an authority: {error}"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| format!("{shown}: {error}"))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificate with its key, which must belong together.
fn certified_key(files: &Files, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let shown = files.key.display();
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| format!("cannot read a private key from {shown}: {error}"))?;
    CertifiedKey::from_der(certificates(&files.certificate)?, key, provider).map_err(|error| {
        format!(
            "the certificate in {} and the key in {shown} cannot be used: {error}",
            files.certificate.display()
        )
    })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let cannot =
        |error: &dyn std::fmt::Display| format!("cannot read certificates from {}: {error}", file.display());
    let all = CertificateDer::pem_file_iter(file).map_err(|error| cannot(&error))?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|error| cannot(&error))?;
    if all.is_empty() { Err(cannot(&"there is none in it, in PEM")) } else { Ok(all) }
}
