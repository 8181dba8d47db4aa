//! An answer over HTTP: JSON if nothing comes before it, or a stream of events that ends with it.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use mcp_sse::{Message, MessageKind, RequestId};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep, timeout},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    head::Admits,
    hosted::Call,
    refusals::{busy, json},
    server::Passed,
};
use crate::{
    answer::Answer,
    bridge::modern_client::{Fault, Out, error_code},
    clock,
    front::http::Figures,
    message::modern::code,
};

/// Stands beside an answer that is no refusal of ours, whatever its status is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FromServer;

/// Where the messages of an answer come from.
pub(super) enum Answers {
    /// A session of ours.
    Hosted(Call),
    Passed(Box<OfServer>),
}

pub(super) struct OfServer {
    pub(super) passed: Passed,
    pub(super) id: RequestId,
    pub(super) ends: Pin<Box<WaitForCancellationFutureOwned>>,
    pub(super) _counted: Option<InFlight>,
    pub(super) _place: OwnedSemaphorePermit,
}

/// Counts a request as one in flight until it is dropped.
pub(super) struct InFlight(Arc<Figures>);

impl InFlight {
    pub(super) fn new(figures: &Arc<Figures>) -> Self {
        figures.request();
        Self(Arc::clone(figures))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.answered(1);
    }
}

/// The next message of an answer.
enum Next {
    Before(Message),
    Last(Message),
}

impl Answers {
    /// `None` after the last one.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Next>> {
        match self {
            Self::Hosted(call) => Poll::Ready(ready!(call.poll_next(cx)).map(|out| match out {
                Out::Notification(message) => Next::Before(message),
                Out::Answer(answer) => Next::Last(answer.message()),
                Out::InputRequired(message) => Next::Last(message),
            })),
            Self::Passed(of) => {
                if let Poll::Ready(next) = of.passed.messages.poll_recv(cx) {
                    return Poll::Ready(next.map(|message| match message.kind() {
                        MessageKind::Response { .. } => Next::Last(message),
                        _ => Next::Before(message),
                    }));
                }
                ready!(of.ends.as_mut().poll(cx));
                let why = "the gateway is shutting down";
                Poll::Ready(Some(Next::Last(Fault::new(code::INTERNAL_ERROR, why).message(&of.id))))
            }
        }
    }

    async fn next(&mut self) -> Option<Next> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The status of an answer that nothing came before.
    fn status(&self, answer: &Message) -> StatusCode {
        match self {
            Self::Passed(of) if !of.passed.streams => of.passed.status,
            _ => status(answer),
        }
    }
}

pub(super) struct Answering {
    pub(super) answers: Answers,
    pub(super) admits: Admits,
    pub(super) keep_alive: Duration,
}

impl Answering {
    pub(super) async fn answer(self) -> Answer {
        let Self { mut answers, admits, keep_alive } = self;
        let streams = matches!(&answers, Answers::Passed(of) if of.passed.streams);
        if !admits.json || (streams && admits.stream) {
            return stream(Events::new(answers, keep_alive, None));
        }
        loop {
            let next = match (admits.stream, keep_alive.is_zero()) {
                (true, false) => timeout(keep_alive, answers.next()).await,
                _ => Ok(answers.next().await),
            };
            match next {
                // Those on the way may give up a response that does not begin.
                Err(_) => return stream(Events::new(answers, keep_alive, Some(comment()))),
                Ok(Some(Next::Before(message))) if admits.stream => {
                    return stream(Events::new(answers, keep_alive, Some(event(&message))));
                }
                // The client cannot read it.
                Ok(Some(Next::Before(_))) => {}
                Ok(Some(Next::Last(message))) => {
                    let mut answer = json(answers.status(&message), message.as_str().to_owned());
                    answer.extensions_mut().insert(FromServer);
                    return answer;
                }
                // It was ended by something that answers nobody.
                Ok(None) => return busy(None, "the session has ended; try again"),
            }
        }
    }
}

/// That of an answer: an unknown method is as good as an unknown path.
fn status(answer: &Message) -> StatusCode {
    if !matches!(answer.kind(), MessageKind::Response { is_error: true, .. }) {
        return StatusCode::OK;
    }
    match error_code(answer).unwrap_or_default() {
        code::METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        code::HEADER_MISMATCH | code::MISSING_CLIENT_CAPABILITY | code::UNSUPPORTED_PROTOCOL_VERSION => {
            StatusCode::BAD_REQUEST
        }
        _ => StatusCode::OK,
    }
}

fn stream(events: Events) -> Answer {
    let mut answer = Response::new(events.boxed());
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer
}

fn comment() -> Bytes {
    Bytes::from_static(b": keep-alive\n\n")
}

/// A message as an event. Line ends, and what some clients take for such, stand in JSON only between its parts, or can be written
/// in another way.
fn event(message: &Message) -> Bytes {
    let json = message.as_str();
    let mut event = String::with_capacity(json.len() + 24);
    event.push_str("event: message\ndata: ");
    let mut rest = json;
    while let Some(at) = rest.find(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']) {
        let (before, after) = rest.split_at(at);
        event.push_str(before);
        let mut after = after.chars();
        event.push_str(match after.next() {
            Some('\u{85}') => "\\u0085",
            Some('\u{2028}') => "\\u2028",
            Some('\u{2029}') => "\\u2029",
            _ => " ",
        });
        rest = after.as_str();
    }
    event.push_str(rest);
    event.push_str("\n\n");
    event.into()
}

/// The events of a response. If they are dropped before the last one, the client has gone.
struct Events {
    answers: Option<Answers>,
    first: Option<Bytes>,
    keep_alive: Duration,
    silence: Pin<Box<Sleep>>,
}

impl Events {
    fn new(answers: Answers, keep_alive: Duration, first: Option<Bytes>) -> Self {
        Self { answers: Some(answers), first, keep_alive, silence: Box::pin(sleep(keep_alive)) }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let Some(answers) = &mut self.answers else { return Poll::Ready(None) };
        if let Poll::Ready(next) = answers.poll_next(cx) {
            return Poll::Ready(match next {
                Some(Next::Before(message)) => Some(event(&message)),
                Some(Next::Last(message)) => {
                    self.answers = None;
                    Some(event(&message))
                }
                None => {
                    self.answers = None;
                    None
                }
            });
        }
        if self.keep_alive.is_zero() {
            return Poll::Pending;
        }
        ready!(self.silence.as_mut().poll(cx));
        Poll::Ready(Some(comment()))
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = ready!(self.poll_event(cx));
        if next.is_some() && !self.keep_alive.is_zero() {
            let until = clock::now() + self.keep_alive;
            self.silence.as_mut().reset(until);
        }
        Poll::Ready(next.map(|event| Ok(Frame::data(event))))
    }

    fn is_end_stream(&self) -> bool {
        self.answers.is_none() && self.first.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_one_line_of_data() {
        let message =
            Message::parse("{\"jsonrpc\":\"2.0\",\r\n\"method\":\"a\u{2028}b\u{85}\u{2029}\"\n}").unwrap();
        assert_eq!(
            event(&message),
            "event: message\ndata: {\"jsonrpc\":\"2.0\",  \"method\":\"a\\u2028b\\u0085\\u2029\" }\n\n"
        );
    }

    #[test]
    fn the_status_says_what_is_wrong_with_a_request() {
        let of = |code: i32| status(&Message::error(&RequestId::from(1), code, "m")).as_u16();
        assert_eq!([-32601, -32020, -32021, -32022, -32602, -32050].map(of), [404, 400, 400, 400, 200, 200]);
        assert_eq!(status(&Message::result(&RequestId::from(1), &()).unwrap()), StatusCode::OK);
    }
}
