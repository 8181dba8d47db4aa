//! Remote servers over TLS: whom the gateway trusts.

use std::{net::SocketAddr, sync::Arc, thread};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

use crate::help::{Folder, INITIALIZE, Program};

/// An authority of the test's own.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn file(&self, folder: &Folder) -> String {
        folder.write("ca.pem", &self.0.pem())
    }

    /// Files of a certificate for this name, and of its key.
    pub(crate) fn files(&self, folder: &Folder, name: &str) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        [folder.write("cert.pem", &certificate.pem()), folder.write("key.pem", &key.serialize_pem())]
    }

    /// TLS in front of a server, until the test ends. The certificate is for this name.
    pub(crate) fn front(&self, name: &str, server: &str) -> SocketAddr {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let server = server.to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        thread::spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((socket, _)) = listener.accept().await {
                    let (acceptor, server) = (acceptor.clone(), server.clone());
                    tokio::spawn(async move {
                        let Ok(mut outside) = acceptor.accept(socket).await else { return };
                        let Ok(mut inside) = TcpStream::connect(server).await else { return };
                        let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                    });
                }
            });
        });
        address
    }
}

#[test]
fn a_server_with_a_certificate_of_a_trusted_authority_is_reached() {
    let (folder, authority) = (Folder::new(), Authority::new("one"));
    let remote = Program::gateway(&[]);
    let address = authority.front("localhost", &remote.address);
    let file = authority.file(&folder);
    for path in ["/sse", "/mcp"] {
        let url = format!("https://localhost:{}{path}", address.port());
        for trust in [&["--ca-file", &file][..], &["--insecure"]] {
            let mut arguments = vec!["--upstream", &url];
            arguments.extend(trust);
            let gateway = Program::start("serve", &arguments);
            let mut client = gateway.connect();
            client.initialize();
            client.echo(1, "over TLS");
        }
    }
}

#[test]
fn a_server_that_cannot_be_trusted_is_not_spoken_to() {
    let (folder, authority) = (Folder::new(), Authority::new("one"));
    let remote = Program::gateway(&[]);
    let file = authority.file(&folder);
    let stranger = folder.write("stranger.pem", &Authority::new("another").0.pem());
    let (right, wrong) =
        (authority.front("localhost", &remote.address), authority.front("example.com", &remote.address));
    for (address, trust, why) in [
        (right, None, "UnknownIssuer"),
        (right, Some(&stranger), "UnknownIssuer"),
        (wrong, Some(&file), "not valid for name"),
    ] {
        for path in ["/sse", "/mcp"] {
            let url = format!("https://localhost:{}{path}", address.port());
            let mut arguments = vec!["--upstream", &url];
            arguments.extend(trust.iter().flat_map(|file| ["--ca-file", file]));
            let gateway = Program::start("serve", &arguments);
            let mut client = gateway.connect();
            client.accepted(INITIALIZE);
            let answer = client.answer(0);
            assert!(answer.contains(r#""error""#) && answer.contains(why), "{answer}");
        }
    }
    assert!(remote.get("/readyz").contains(r#""sse":0"#));
}
