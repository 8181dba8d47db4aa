//! What the demo serves other than SSE: documents that lead clients to a token, and the page.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use http::Request;
use http_body_util::BodyExt;
use tower_service::Service;

use crate::{
    access::Documents,
    answer::Answer,
    page::{self, Page, Served},
};

#[derive(Clone)]
pub(super) struct Beside {
    pub(super) documents: Documents,
    /// `None` if there is no page.
    pub(super) page: Option<Paths>,
}

/// Where the server is.
#[derive(Clone)]
pub(super) struct Paths {
    pub(super) sse: Arc<str>,
    pub(super) messages: Arc<str>,
    pub(super) public_url: Option<Arc<str>>,
}

impl Beside {
    fn page(&self, request: &Request<()>) -> Option<Answer> {
        let Paths { sse, messages, public_url } = self.page.as_ref()?;
        let protection = self.documents.protection.as_deref();
        let served = Served { name: "", sse, messages, mcp: None, protection };
        page::answer(request, Page::Clients).or_else(|| page::list(request, [served], public_url.as_deref()))
    }
}

impl<B> Service<Request<B>> for Beside {
    type Response = Answer;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let request = request.map(|_| ());
        let answer = self.page(&request).unwrap_or_else(|| {
            let read = self.documents.call(request).into_inner();
            read.unwrap_or_else(|never| match never {}).map(BodyExt::boxed)
        });
        ready(Ok(answer))
    }
}
