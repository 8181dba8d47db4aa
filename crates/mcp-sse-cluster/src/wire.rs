//! What replicas say to each other, as bytes.
//!
//! Replicas of different versions meet while a new one is rolled out. So variants are only ever added at the end, what is
//! new about a request or an answer goes into `more`, and [`VERSION`] changes when that is not enough: what has another one
//! is not read.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use mcp_sse::{Body, ClientIp, Forwarded, Principal, ReplicaId};
use serde::{Deserialize, Serialize};

pub(crate) const VERSION: u8 = 1;
/// The most headers that are read. No server here takes as many.
const HEADERS: usize = 1_000;

/// What one replica asks of another.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ask {
    /// Who asks.
    pub(crate) caller: String,
    /// The number of the request there. What is asked again has the same.
    pub(crate) call: u64,
    pub(crate) what: What,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum What {
    /// Answer this.
    Request(Head, Bytes),
    /// A request whose body comes in parts: is there room for it?
    Begin { head: Head, length: u64, parts: u32 },
    /// One of them. The answer comes when all are there.
    Part { index: u32, bytes: Bytes },
    /// The next chunk of the stream that was the answer.
    Pull { chunk: u64 },
    /// Nobody reads the stream any more.
    End,
    /// Would a request be refused whose body, of this length, is still to come?
    Check { head: Head, length: u64 },
}

/// The head of a request, and what else is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) service: String,
    method: String,
    uri: String,
    headers: Vec<(String, Bytes)>,
    principal: Option<String>,
    client_ip: Option<IpAddr>,
    mount_prefix: String,
    /// What later versions may add.
    more: Bytes,
}

/// What is said to an [`Ask`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// The number of the request.
    pub(crate) call: u64,
    pub(crate) what: Said,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Said {
    Answer(Answer),
    /// It is there; go on.
    Go,
    Chunk {
        number: u64,
        bytes: Bytes,
    },
    /// There is no chunk yet.
    Nothing,
    /// The stream is over: as it should be, or broken off.
    Over {
        broken: bool,
    },
    /// Not taken, nor will it be: there is no room.
    Busy,
    /// Nothing is known of this request any more.
    Unknown,
    /// It is acted on, and has no answer yet.
    Working,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, Bytes)>,
    pub(crate) body: Bytes,
    /// The body is a stream, to be pulled.
    pub(crate) streams: bool,
    /// What later versions may add.
    more: Bytes,
}

/// What one replica tells all.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Announcement {
    pub(crate) replica: String,
    pub(crate) leaves: bool,
}

impl Ask {
    pub(crate) fn caller(&self) -> Option<ReplicaId> {
        self.caller.parse().ok()
    }
}

impl Head {
    /// Of a request for a service.
    pub(crate) fn of(service: &str, request: &Request<Bytes>) -> Self {
        let forwarded = request.extensions().get::<Forwarded>().cloned().unwrap_or_default();
        Self {
            service: service.to_owned(),
            method: request.method().to_string(),
            uri: request.uri().to_string(),
            headers: texts(request.headers()),
            principal: forwarded.principal.map(|principal| principal.as_str().to_owned()),
            client_ip: forwarded.client_ip.map(|ip| ip.0),
            mount_prefix: forwarded.mount_prefix,
            more: Bytes::new(),
        }
    }

    /// The request; `None` if it is none.
    pub(crate) fn request(self, body: Bytes) -> Option<Request<Bytes>> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.parse().ok()?;
        *request.uri_mut() = self.uri.parse().ok()?;
        *request.headers_mut() = headers(self.headers)?;
        let mut forwarded = Forwarded::new();
        forwarded.principal = self.principal.map(Principal::new);
        forwarded.client_ip = self.client_ip.map(ClientIp);
        forwarded.mount_prefix = self.mount_prefix;
        request.extensions_mut().insert(forwarded);
        Some(request)
    }
}

impl Answer {
    pub(crate) fn new(parts: &http::response::Parts, body: Bytes, streams: bool) -> Self {
        let more = Bytes::new();
        Self { status: parts.status.as_u16(), headers: texts(&parts.headers), body, streams, more }
    }

    /// The response, with this body in place of its own; `None` if it is none.
    pub(crate) fn response(self, body: Body) -> Option<Response<Body>> {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(self.status).ok()?;
        *response.headers_mut() = headers(self.headers)?;
        Some(response)
    }
}

fn texts(headers: &HeaderMap) -> Vec<(String, Bytes)> {
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), Bytes::copy_from_slice(value.as_bytes()))
    };
    headers.iter().map(text).collect()
}

fn headers(texts: Vec<(String, Bytes)>) -> Option<HeaderMap> {
    if texts.len() > HEADERS {
        return None;
    }
    let mut headers = HeaderMap::try_with_capacity(texts.len()).ok()?;
    for (name, value) in texts {
        let value = HeaderValue::from_maybe_shared(value).ok()?;
        headers.try_append(HeaderName::from_bytes(name.as_bytes()).ok()?, value).ok()?;
    }
    Some(headers)
}

/// As bytes.
pub(crate) fn write(message: &impl Serialize) -> Bytes {
    // It fails for no type here: none has a length that is not known before.
    postcard::to_stdvec(message).unwrap_or_default().into()
}

/// From bytes, all of them.
pub(crate) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (message, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nothing_else_is() {
        let mut request =
            Request::post("/messages/?session_id=1&at=a.b").header("x", "1").body(Bytes::from("{}")).unwrap();
        let mut forwarded = Forwarded::new();
        forwarded.principal = Some(Principal::new("ä\nb"));
        forwarded.client_ip = Some(ClientIp([192, 0, 2, 1].into()));
        forwarded.mount_prefix = "/api".to_owned();
        request.extensions_mut().insert(forwarded.clone());
        let ask = Ask {
            caller: "a.0123456789abcdef".to_owned(),
            call: 7,
            what: What::Request(Head::of("sse", &request), request.body().clone()),
        };
        let bytes = write(&ask);
        let same: Ask = read(&bytes).unwrap();
        assert_eq!(same, ask);
        let What::Request(head, body) = same.what else { panic!("{:?}", same.what) };
        let same = head.request(body).unwrap();
        assert_eq!(
            (same.uri(), same.headers(), same.body()),
            (request.uri(), request.headers(), request.body())
        );
        assert_eq!(same.extensions().get::<Forwarded>(), Some(&forwarded));
        assert_eq!(read::<Ask>(&bytes[..bytes.len() - 1]), None);
        assert_eq!(read::<Ask>(&[&bytes[..], b"x"].concat()), None);
    }

    /// Other versions of this crate read these bytes.
    #[test]
    fn the_bytes_stay_what_they_are() {
        let ask = |what| write(&Ask { caller: "a.0".to_owned(), call: 300, what });
        assert_eq!(&ask(What::Pull { chunk: 1 })[..], b"\x03a.0\xac\x02\x03\x01");
        assert_eq!(&ask(What::End)[..], b"\x03a.0\xac\x02\x04");
        assert_eq!(&ask(What::Part { index: 2, bytes: "xy".into() })[..], b"\x03a.0\xac\x02\x02\x02\x02xy");
        let reply = |what| write(&Reply { call: 1, what });
        assert_eq!(&reply(Said::Go)[..], b"\x01\x01");
        assert_eq!(&reply(Said::Chunk { number: 3, bytes: "xy".into() })[..], b"\x01\x02\x03\x02xy");
        assert_eq!(&reply(Said::Over { broken: true })[..], b"\x01\x04\x01");
        assert_eq!(&reply(Said::Unknown)[..], b"\x01\x06");
        let (parts, ()) = Response::builder().status(202).body(()).unwrap().into_parts();
        let answer = Answer::new(&parts, "ok".into(), false);
        assert_eq!(&reply(Said::Answer(answer))[..], b"\x01\x00\xca\x01\x00\x02ok\x00\x00");
        assert_eq!(&reply(Said::Working)[..], b"\x01\x07");
        let gone = Announcement { replica: "a.0".to_owned(), leaves: true };
        assert_eq!(&write(&gone)[..], b"\x03a.0\x01");
    }
}
