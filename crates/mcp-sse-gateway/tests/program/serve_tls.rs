//! TLS for clients: certificates, their renewal, and who comes with one.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};

use crate::help::{Folder, INITIALIZE, PATIENCE, PING, PROGRAM, Program, count, echo, refused};

const MCP: &str =
    "POST /mcp HTTP/1.1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json";

/// An authority of the test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in PEM and in DER.
struct Issued {
    certificate: String,
    key: String,
    der: (CertificateDer<'static>, PrivateKeyDer<'static>),
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let der = (certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()));
        Issued { certificate: certificate.pem(), key: key.serialize_pem(), der }
    }

    /// A client that trusts this authority, with a certificate of its own if there is one.
    fn client(&self, own: Option<&Issued>, protocols: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(Issued { der: (certificate, key), .. }) => {
                builder.with_client_auth_cert(vec![certificate.clone()], key.clone_key()).unwrap()
            }
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

impl Issued {
    fn write(&self, folder: &Folder) -> [String; 2] {
        [folder.write("cert.pem", &self.certificate), folder.write("key.pem", &self.key)]
    }
}

/// A connection.
struct Tls(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Tls {
    fn connect(program: &Program, config: &Arc<ClientConfig>) -> std::io::Result<Self> {
        let socket = TcpStream::connect(&program.address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let client = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(client, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self(BufReader::new(stream)))
    }

    fn say(&mut self, head: &str, body: &str) {
        let length = body.len();
        let request = format!("{head}\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}");
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
    }

    /// The answer to a request, whose connection ends with it.
    fn request(mut self, head: &str, body: &str) -> String {
        self.say(&format!("{head}\r\nconnection: close"), body);
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The data of the next event.
    fn data(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the stream ended");
            if let Some(data) = line.strip_prefix("data: ") {
                return data.trim_end().to_owned();
            }
        }
    }

    /// Reads on until a byte came so often, in however many chunks.
    fn hears(&mut self, byte: u8, times: usize) {
        let mut heard = 0;
        while heard < times {
            let bytes = self.0.fill_buf().unwrap();
            assert!(!bytes.is_empty(), "the stream ended after {heard}");
            let length = bytes.len();
            heard += bytes.iter().filter(|other| **other == byte).count();
            self.0.consume(length);
        }
        assert_eq!(heard, times);
    }

    fn certificate(&self) -> CertificateDer<'static> {
        self.0.get_ref().conn.peer_certificates().unwrap()[0].clone().into_owned()
    }

    fn protocol(&self) -> String {
        String::from_utf8(self.0.get_ref().conn.alpn_protocol().unwrap_or_default().to_vec()).unwrap()
    }
}

/// An open stream, its endpoint, and a connection for messages that stays open.
struct Session {
    stream: Tls,
    endpoint: String,
    posts: Tls,
}

impl Session {
    fn open(program: &Program, config: &Arc<ClientConfig>) -> Self {
        let mut stream = Tls::connect(program, config).unwrap();
        stream.say("GET /sse HTTP/1.1", "");
        let endpoint = stream.data();
        Self { stream, endpoint, posts: Tls::connect(program, config).unwrap() }
    }

    fn post(&mut self, message: &str) -> String {
        let head = format!("POST {} HTTP/1.1\r\ncontent-type: application/json", self.endpoint);
        self.posts.say(&head, message);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.posts.0.read_line(&mut head).unwrap(), 0);
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        self.posts.0.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
        head[9..12].to_owned()
    }

    fn initialize(&mut self) {
        assert_eq!(self.post(INITIALIZE), "202");
        assert!(self.stream.data().contains("mcp-sse demo"));
        assert_eq!(self.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#), "202");
    }

    fn echo(&mut self, id: u32, text: &str) {
        assert_eq!(self.post(&echo(id, text)), "202");
        let answer = self.stream.data();
        assert!(answer.contains(text), "{} bytes", answer.len());
    }
}

fn gateway(files: &[String; 2], more: &[&str]) -> Program {
    let [certificate, key] = files;
    Program::gateway(&[&["--tls-cert", certificate, "--tls-key", key], more].concat())
}

#[test]
fn everything_is_there_over_tls() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let gateway = gateway(&authority.issue("one").write(&folder), &["--keep-alive", "1s"]);
    assert!(gateway.greeting.contains("https://127.0.0.1:"), "{}", gateway.greeting);
    let client = authority.client(None, &[]);
    let mut session = Session::open(&gateway, &client);
    session.initialize();
    session.echo(1, "hello");
    // More than a record, and more than what the socket takes at once.
    assert_eq!(session.post(&echo(2, &"~".repeat(3_000_000))), "202");
    session.stream.hears(b'~', 3_000_000);
    let mut line = String::new();
    while !line.starts_with(':') {
        line.clear();
        session.stream.0.read_line(&mut line).unwrap();
    }
    session.echo(3, "after the keep-alive");
    let connect = || Tls::connect(&gateway, &client).unwrap();
    assert!(connect().request("GET /healthz HTTP/1.1", "").starts_with("HTTP/1.1 200"));
    assert!(connect().request(MCP, INITIALIZE).contains("mcp-sse demo"));
    // Answers that are asked for at once come in their order.
    let mut many = connect();
    let get = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    many.0.get_mut().write_all(get.repeat(50).as_bytes()).unwrap();
    assert_eq!(many.request("GET /healthz HTTP/1.1", "").matches("HTTP/1.1 200").count(), 51);
}

#[test]
fn clients_choose_http2_or_http1() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let gateway = gateway(&authority.issue("one").write(&folder), &[]);
    let protocol = |offered: &[&str]| {
        let config = authority.client(None, offered);
        Tls::connect(&gateway, &config).unwrap().protocol()
    };
    assert_eq!(protocol(&["http/1.1", "h2"]), "h2");
    assert_eq!(protocol(&["http/1.1"]), "http/1.1");
    assert_eq!(protocol(&[]), "");
    let mut http2 = Tls::connect(&gateway, &authority.client(None, &["h2"])).unwrap();
    http2.0.get_mut().write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut frame = [0; 9];
    http2.0.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4, "SETTINGS");
}

#[test]
fn whoever_speaks_no_tls_is_told_and_whoever_says_half_is_not_waited_for() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let gateway = gateway(&authority.issue("one").write(&folder), &["--header-timeout", "1s"]);
    for (path, body) in [("/sse", ""), ("/messages/", &*"x".repeat(20_000))] {
        let answer = gateway.request(&format!("POST {path} HTTP/1.1"), body);
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.ends_with("use https:// in the URL"),
            "{answer}"
        );
        let length = answer.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        assert_eq!(answer.split("\r\n\r\n").nth(1).unwrap().len().to_string(), length);
    }
    for said in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"", b"\x16"] {
        let mut socket = TcpStream::connect(&gateway.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(said).unwrap();
        assert_eq!(socket.read(&mut [0; 100]).unwrap(), 0, "{said:?}");
    }
    // Neither is anything else.
    let mut socket = TcpStream::connect(&gateway.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(b"\x00garbage").unwrap();
    assert_eq!(socket.read(&mut [0; 100]).unwrap_or(0), 0);
    let mut session = Session::open(&gateway, &authority.client(None, &[]));
    session.initialize();
}

#[test]
fn a_certificate_that_is_renewed_is_taken_and_one_that_is_wrong_is_not() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let first = authority.issue("first");
    let gateway = gateway(&first.write(&folder), &[]);
    let client = authority.client(None, &[]);
    let certificate = || Tls::connect(&gateway, &client).unwrap().certificate();
    let mut session = Session::open(&gateway, &client);
    session.initialize();
    assert_eq!(certificate(), first.der.0);
    // Half of a pair, a half file, none at all.
    let second = authority.issue("second");
    folder.write("cert.pem", &second.certificate);
    gateway.log.until("the mismatch", |log| count(log, "the certificate was not changed") == 1);
    folder.write("key.pem", &second.key[..100]);
    gateway.log.until("the half", |log| count(log, "the certificate was not changed") == 2);
    std::fs::remove_file(folder.path("key.pem")).unwrap();
    gateway.signal("-HUP");
    gateway.log.until("the loss", |log| count(log, "the certificate was not changed") >= 3);
    assert_eq!(certificate(), first.der.0);
    folder.write("key.pem", &second.key);
    gateway.log.until_says("certificate read");
    assert_eq!(certificate(), second.der.0);
    session.echo(1, "the stream stays");
}

#[test]
fn files_that_cannot_be_taken_are_refused_at_the_start() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let [certificate, key] = authority.issue("one").write(&folder);
    let other = folder.write("other.pem", &authority.issue("other").key);
    let empty = folder.write("empty.pem", "");
    let none = folder.path("none.pem");
    let refused_with = |certificate: &str, key: &str, more: &[&str]| {
        let options = ["serve", "--tls-cert", certificate, "--tls-key", key];
        refused(&[&options[..], more, &["--", PROGRAM, "demo", "--stdio"]].concat())
    };
    assert!(refused_with(&none, &key, &[]).contains("cannot read "));
    assert!(refused_with(&empty, &key, &[]).contains("there is none in it"));
    assert!(refused_with(&certificate, &none, &[]).contains("cannot read "));
    assert!(refused_with(&certificate, &empty, &[]).contains("cannot read a private key from"));
    let mismatch = refused_with(&certificate, &other, &[]);
    assert!(mismatch.contains("cannot be used"), "{mismatch}");
    assert!(!mismatch.contains("PRIVATE"), "{mismatch}");
    assert!(refused_with(&certificate, &key, &["--tls-client-ca", &empty]).contains("there is none in it"));
    assert!(refused(&["serve", "--tls-cert", &certificate, "--", "sh"]).contains("--tls-key"));
    assert!(refused(&["serve", "--tls-client-ca", &certificate, "--", "sh"]).contains("--tls-cert"));
}

#[test]
fn a_clients_certificate_says_who_it_is() {
    let (folder, authority, stranger) = (Folder::new(), Authority::new(), Authority::new());
    let files = authority.issue("one").write(&folder);
    let ca = folder.write("ca.pem", &authority.0.pem());
    let gateway = gateway(&files, &["--tls-client-ca", &ca]);
    let (alice, bob) = (authority.issue("alice"), authority.issue("bob"));
    let (as_alice, as_bob) = (authority.client(Some(&alice), &[]), authority.client(Some(&bob), &[]));
    let mut session = Session::open(&gateway, &as_alice);
    session.initialize();
    let post = format!("POST {} HTTP/1.1\r\ncontent-type: application/json", session.endpoint);
    let ask = |config| Tls::connect(&gateway, config).unwrap();
    assert!(ask(&as_bob).request(&post, PING).starts_with("HTTP/1.1 404"));
    assert!(ask(&as_alice).request(&post, PING).starts_with("HTTP/1.1 202"));
    assert!(session.stream.data().contains(r#""id":9"#));
    let answer = ask(&as_alice).request(MCP, INITIALIZE);
    let line = answer.lines().find(|line| line.starts_with("mcp-session-id:")).unwrap();
    let mcp = format!("{MCP}\r\n{line}");
    assert!(ask(&as_bob).request(&mcp, PING).starts_with("HTTP/1.1 404"));
    assert!(ask(&as_alice).request(&mcp, PING).starts_with("HTTP/1.1 200"));
    // Without one, and with one of somebody else's. TLS 1.3 says so with the first answer.
    let foreign = stranger.issue("alice");
    for config in [authority.client(None, &[]), authority.client(Some(&foreign), &[])] {
        let refused = Tls::connect(&gateway, &config).and_then(|mut connection| {
            connection.0.get_mut().write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
            connection.0.read_exact(&mut [0; 1])
        });
        assert!(refused.is_err());
    }
    session.echo(1, "still here");
}
