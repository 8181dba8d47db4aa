//! rmcp without a transport: what its own work costs, which no transport can take away. Messages are
//! handed over in memory, ready made; nothing is read, written or sent.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rmcp::{
    RoleServer, ServiceExt as _,
    model::{ClientJsonRpcMessage, JsonRpcMessage, ServerJsonRpcMessage},
    transport::Transport,
};
use serde_json::json;

use super::ours::Echoing;

/// Hands over what is in the queue, and counts what comes back.
struct Memory(Arc<Counts>);

#[derive(Default)]
struct Counts {
    queue: Mutex<VecDeque<ClientJsonRpcMessage>>,
    queued: tokio::sync::Notify,
    answers: AtomicU64,
    notifications: AtomicU64,
    answered: tokio::sync::Notify,
}

impl Transport<RoleServer> for Memory {
    type Error = io::Error;

    fn send(&mut self, item: ServerJsonRpcMessage) -> impl Future<Output = io::Result<()>> + Send + 'static {
        if matches!(item, JsonRpcMessage::Response(_)) {
            self.0.answers.fetch_add(1, Ordering::Relaxed);
            self.0.answered.notify_one();
        } else {
            self.0.notifications.fetch_add(1, Ordering::Relaxed);
        }
        std::future::ready(Ok(()))
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            if let Some(message) = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
                return Some(message);
            }
            self.0.queued.notified().await;
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Counts {
    fn push(&self, json: serde_json::Value) -> io::Result<()> {
        let message = serde_json::from_value(json).map_err(io::Error::other)?;
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(message);
        self.queued.notify_one();
        Ok(())
    }
}

/// One session, its `initialize` done.
async fn session() -> io::Result<Arc<Counts>> {
    let counts = Arc::<Counts>::default();
    counts.push(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"},
    }}))?;
    let memory = Memory(Arc::clone(&counts));
    tokio::spawn(async move {
        if let Ok(server) = Echoing::new().serve(memory).await {
            let _ = server.waiting().await;
        }
    });
    counts.answered.notified().await;
    counts.push(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))?;
    tokio::task::yield_now().await;
    counts.queue.lock().unwrap_or_else(PoisonError::into_inner).shrink_to_fit();
    Ok(counts)
}

/// Calls a second, one in flight.
pub(crate) async fn calls(time: Duration) -> io::Result<f64> {
    let counts = session().await?;
    let start = crate::load::now();
    let mut id = 1;
    while start.elapsed() < time {
        for _ in 0..100 {
            id += 1;
            counts.push(json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
                "name": "echo", "arguments": {"message": "xxxxxxxxxxxxxxxx"},
            }}))?;
            counts.answered.notified().await;
        }
    }
    Ok(f64::from(id - 1) / start.elapsed().as_secs_f64())
}

/// Notifications a second of one call.
pub(crate) async fn progress(steps: u32) -> io::Result<f64> {
    let counts = session().await?;
    let start = crate::load::now();
    counts.push(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "_meta": {"progressToken": 1}, "name": "progress", "arguments": {"steps": steps},
    }}))?;
    counts.answered.notified().await;
    let told = counts.notifications.load(Ordering::Relaxed);
    if told != u64::from(steps) {
        return Err(io::Error::other(format!("{told} notifications instead of {steps}")));
    }
    Ok(f64::from(steps) / start.elapsed().as_secs_f64())
}

/// KiB of resident memory that an idle session takes, after `initialize`.
pub(crate) async fn idle(sessions: usize) -> io::Result<f64> {
    let resident = || crate::process::resident(std::process::id());
    drop(session().await?);
    let before = resident()?;
    let mut kept = Vec::new();
    for _ in 0..sessions {
        kept.push(session().await?);
    }
    Ok(resident()?.saturating_sub(before) as f64 / kept.len() as f64)
}
