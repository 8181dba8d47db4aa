//! A server that a test makes up: what it is asked, it remembers; what it answers, the test says.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use crate::help::PATIENCE;

/// A request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// The header lines, with names in small letters.
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
    pub(crate) bytes: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// The server, until the test ends.
pub(crate) struct Fake {
    pub(crate) address: String,
    asked: Arc<(Mutex<Vec<Asked>>, Condvar)>,
}

impl Fake {
    /// `answer` writes the answer; one that returns `false` closes the connection.
    pub(crate) fn start(answer: impl Fn(&Asked, &mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked: Arc<(Mutex<Vec<Asked>>, Condvar)> = Arc::default();
        let (answer, seen) = (Arc::new(answer), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let mut stream = stream;
                    while let Some(asked) = read(&mut reader) {
                        seen.0.lock().unwrap().push(asked.clone());
                        seen.1.notify_all();
                        if !answer(&asked, &mut stream) {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, asked }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits until enough was asked, and returns all of it.
    pub(crate) fn until(&self, what: &str, enough: impl Fn(&[Asked]) -> bool) -> Vec<Asked> {
        let asked = self.asked.0.lock().unwrap();
        let (asked, _) = self.asked.1.wait_timeout_while(asked, PATIENCE, |asked| !enough(asked)).unwrap();
        assert!(enough(&asked), "never {what}: {asked:#?}");
        asked.clone()
    }

    pub(crate) fn so_far(&self) -> Vec<Asked> {
        self.asked.0.lock().unwrap().clone()
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push(format!("{}: {value}", name.to_ascii_lowercase()));
    }
    let length = headers.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, path, headers, body: String::from_utf8_lossy(&body).into_owned(), bytes: body })
}

/// Writes a whole answer.
pub(crate) fn answer(stream: &mut TcpStream, status: &str, headers: &str, body: &str) -> bool {
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).is_ok()
}

/// Begins a stream of events, which ends with its connection.
pub(crate) fn begin_events(stream: &mut TcpStream) -> bool {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).is_ok()
}

/// Writes a piece of a stream.
pub(crate) fn write(stream: &mut TcpStream, text: &str) -> bool {
    stream.write_all(text.as_bytes()).is_ok()
}

/// Writes the last piece of a stream, which ends.
pub(crate) fn last(stream: &mut TcpStream, text: &str) -> bool {
    write(stream, text);
    false
}

pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","capabilities":{"own":{"x":1}},"serverInfo":{"name":"fake","version":"0","own":1},"own":[1.0]}}"#;

/// Streamable HTTP as far as a session goes: `others` answers what is neither `initialize` nor the end.
pub(crate) fn streamable_http(
    others: impl Fn(&Asked, &mut TcpStream) -> bool + Send + Sync + 'static,
) -> Fake {
    Fake::start(move |asked, stream| match &*asked.method {
        "POST" if asked.body.contains(r#""initialize""#) => {
            let headers = "content-type: application/json\r\nmcp-session-id: seven\r\n";
            answer(stream, "200 OK", headers, INITIALIZED)
        }
        "POST" if asked.body.contains("notifications/initialized") => answer(stream, "202 Accepted", "", ""),
        "DELETE" => answer(stream, "204 No Content", "", ""),
        _ => others(asked, stream),
    })
}

/// HTTP+SSE with one session: `first` is what stands on its stream after the answer to `initialize`, and then
/// the stream ends if `ends`.
pub(crate) fn sse(first: String, ends: bool) -> Fake {
    let open: Arc<Mutex<Option<TcpStream>>> = Arc::default();
    Fake::start(move |asked, stream| {
        let again = asked.header("last-event-id").is_some();
        match &*asked.method {
            "GET" if asked.header("x-bad").is_some() => answer(stream, "400 Bad Request", "", ""),
            "GET" => {
                *open.lock().unwrap() = stream.try_clone().ok();
                begin_events(stream) && (again || write(stream, "event: endpoint\ndata: /post\n\n"))
            }
            "POST" if asked.path != "/post" => answer(stream, "405 Method Not Allowed", "", ""),
            _ => {
                let initialize = asked.body.contains(r#""initialize""#);
                let accepted = answer(stream, "202 Accepted", "", "");
                if initialize && let Some(stream) = &mut *open.lock().unwrap() {
                    write(stream, &format!("id: 5\ndata: {INITIALIZED}\n\n{first}"));
                    if ends {
                        let _ = stream.shutdown(std::net::Shutdown::Both);
                    }
                }
                accepted
            }
        }
    })
}
