//! Asking all other replicas.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use mcp_sse::{Backplane as _, Forwarded, ReplicaId};

use super::{ADMIN, Replicas};

/// How many are asked at a time, how long each may take, and how much each may say.
const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST: usize = 4 * 1024 * 1024;

/// What each of the others answers; `None`: nothing, or too much.
pub(crate) async fn ask_all(
    replicas: &Replicas,
    method: &Method,
    path: &str,
) -> Vec<(ReplicaId, Option<(StatusCode, Bytes)>)> {
    let asked = replicas.others().into_iter().map(|replica| async move {
        let answer = tokio::time::timeout(PATIENCE, ask(replicas, &replica, method, path)).await;
        (replica, answer.ok().flatten())
    });
    stream::iter(asked).buffered(AT_ONCE).collect().await
}

async fn ask(
    replicas: &Replicas,
    replica: &ReplicaId,
    method: &Method,
    path: &str,
) -> Option<(StatusCode, Bytes)> {
    let request = Request::builder().method(method).uri(path).extension(Forwarded::new());
    let request = request.body(Bytes::new()).ok()?;
    let response = replicas.backplane().forward(replica, ADMIN, request).await.ok()?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, LONGEST).collect().await.ok()?;
    Some((head.status, body.to_bytes()))
}
