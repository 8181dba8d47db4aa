//! The metadata of a resource (RFC 9728), by which clients find its authorization server.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use mcp_sse::Body;
use serde::Serialize;
use tower_service::Service;

use crate::{resource::ProtectedResource, urls};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Answers GET with the metadata of a resource. See [`ProtectedResource::metadata`].
#[derive(Clone, Debug)]
pub struct MetadataService(ProtectedResource);

/// What clients look at.
#[derive(Serialize)]
struct Document<'a> {
    resource: &'a str,
    authorization_servers: [&'a str; 1],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    scopes_supported: &'a [String],
    bearer_methods_supported: [&'a str; 1],
}

impl ProtectedResource {
    /// A tower service that answers with the metadata of the resource (RFC 9728), to anybody and to pages of any
    /// origin. Serve it at [`MetadataService::paths`].
    pub fn metadata(&self) -> MetadataService {
        MetadataService(self.clone())
    }
}

impl MetadataService {
    /// The paths that it belongs to, such as `/.well-known/oauth-protected-resource/sse`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths: Vec<_> = self
            .0
            .0
            .places
            .iter()
            .map(|place| format!("{WELL_KNOWN}{}", urls::split(&place.url).1.trim_end_matches('/')))
            .collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// The answer to a request, which is the same at any path.
    pub fn answer(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let inner = &self.0.0;
        let document = Document {
            resource: &inner.place(headers, uri).url,
            authorization_servers: [inner.server.issuer()],
            scopes_supported: &inner.scopes,
            bearer_methods_supported: ["header"],
        };
        public_json(method, serde_json::to_vec(&document).unwrap_or_default().into())
    }
}

/// The answer to a request for a public document: to GET and HEAD, and to preflights of pages of any origin.
pub fn public_json(method: &Method, json: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    // It is public, and pages that are clients read it from their own origins.
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    match *method {
        Method::GET | Method::HEAD => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            if method == Method::GET {
                *response.body_mut() = Full::new(json);
            }
        }
        Method::OPTIONS => {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET"));
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"));
            *response.status_mut() = StatusCode::NO_CONTENT;
        }
        _ => {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        }
    }
    response
}

impl<B> Service<Request<B>> for MetadataService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let response = self.answer(request.method(), request.uri(), request.headers());
        ready(Ok(response.map(Body::new)))
    }
}
