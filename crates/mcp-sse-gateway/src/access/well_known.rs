//! Documents that anybody may read, by which clients find out who may give them a token.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use mcp_sse_oauth::{MetadataService, public_json};
use tower_service::Service;

use super::guards::{Guards, Protection};
use crate::encoded::encoded;

const RESOURCE: &str = "/.well-known/oauth-protected-resource";
const ISSUER: &str = "/.well-known/oauth-authorization-server";

/// One of the documents, as a service.
#[derive(Clone)]
pub(crate) enum WellKnown {
    Resource(MetadataService),
    /// The authorization server's metadata.
    Issuer(Bytes),
}

impl WellKnown {
    /// The document at the path of a request, if it is one. `protections` are those of all servers, with `None` for one
    /// that anybody may use.
    pub(crate) fn find<'a>(
        path: &str,
        guards: &Guards,
        protections: impl Iterator<Item = Option<&'a Protection>>,
    ) -> Option<Self> {
        if path == ISSUER {
            return guards.issuer_metadata().map(Self::Issuer);
        }
        let rest = path.strip_prefix(RESOURCE)?.trim_end_matches('/');
        let protections: Vec<_> = protections.collect();
        if let ("", [only]) = (rest, &protections[..]) {
            return (*only)?.resources().next().map(|(_, resource)| Self::Resource(resource.metadata()));
        }
        let (rest, path) = (encoded(rest), encoded(path.trim_end_matches('/')));
        let mut resources = protections.into_iter().flatten().flat_map(Protection::resources);
        // With the prefix that a proxy strips from other requests, or without it.
        let found = resources.find(|(own, resource)| {
            own.trim_end_matches('/') == rest
                || resource.metadata().paths().iter().any(|own| encoded(own) == path)
        });
        found.map(|(_, resource)| Self::Resource(resource.metadata()))
    }
}

impl<B> Service<Request<B>> for WellKnown {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(match self {
            Self::Resource(metadata) => metadata.answer(request.method(), request.uri(), request.headers()),
            Self::Issuer(metadata) => public_json(request.method(), metadata.clone()),
        }))
    }
}

/// The documents of one server, and nothing else.
#[derive(Clone)]
pub(crate) struct Documents {
    pub(crate) guards: Arc<Guards>,
    pub(crate) protection: Option<Arc<Protection>>,
}

impl<B> Service<Request<B>> for Documents {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let protections = std::iter::once(self.protection.as_deref());
        match WellKnown::find(request.uri().path(), &self.guards, protections) {
            Some(mut document) => document.call(request),
            None => {
                let mut nothing = Response::new(Full::from("there is nothing here\n"));
                *nothing.status_mut() = StatusCode::NOT_FOUND;
                ready(Ok(nothing))
            }
        }
    }
}
