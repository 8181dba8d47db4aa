//! One table of the deadlines of all sessions, and one task that waits for the earliest.
//!
//! A session has at most one entry, which is guarded by the session's lock: `schedule` is called with that
//! lock held (lock order: session, then table). An entry that fires too early costs one check; so a deadline
//! that moves to a later time, as a keep-alive does with every message, does not touch the table.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};

use tokio::{sync::Notify, task::JoinHandle};

use crate::{clock, id::SessionId};

/// What has deadlines.
pub(crate) trait Due: Send + Sync + 'static {
    /// The timer that was set for `at` fired.
    fn on_timer(&self, at: Instant);
}

#[derive(Debug)]
pub(crate) struct Timers<S> {
    table: Mutex<Table<S>>,
    /// The earliest entry changed, or the table was stopped.
    changed: Notify,
}

#[derive(Debug)]
struct Table<S> {
    entries: BTreeMap<(Instant, SessionId), Weak<S>>,
    task: Option<JoinHandle<()>>,
    stopped: bool,
}

impl<S> Default for Timers<S> {
    fn default() -> Self {
        let table = Table { entries: BTreeMap::new(), task: None, stopped: false };
        Self { table: Mutex::new(table), changed: Notify::new() }
    }
}

impl<S> Timers<S> {
    fn lock(&self) -> MutexGuard<'_, Table<S>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the task.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_one();
    }
}

impl<S: Due> Timers<S> {
    /// Starts the task if it is not running (the first time, or after the runtime that it ran on was
    /// dropped).
    pub(crate) fn ensure_running(self: &Arc<Self>) {
        let mut table = self.lock();
        if table.task.as_ref().is_none_or(JoinHandle::is_finished) && !table.stopped {
            table.task = Some(tokio::spawn(Arc::clone(self).run()));
        }
    }

    /// Replaces a session's entry.
    pub(crate) fn schedule(
        &self,
        session: &Weak<S>,
        id: SessionId,
        old: Option<Instant>,
        new: Option<Instant>,
    ) {
        let mut table = self.lock();
        if let Some(old) = old {
            table.entries.remove(&(old, id));
        }
        if let Some(new) = new {
            let is_first = table.entries.first_key_value().is_none_or(|((first, _), _)| new < *first);
            table.entries.insert((new, id), session.clone());
            drop(table);
            if is_first {
                self.changed.notify_one();
            }
        }
    }

    async fn run(self: Arc<Self>) {
        loop {
            let now = clock::now();
            let (due, next) = {
                let mut table = self.lock();
                if table.stopped {
                    return;
                }
                let mut due = Vec::new();
                while let Some(entry) = table.entries.first_entry()
                    && entry.key().0 <= now
                    && due.len() < 64
                {
                    let (key, session) = entry.remove_entry();
                    due.push((key.0, session));
                }
                (due, table.entries.first_key_value().map(|((at, _), _)| *at))
            };
            if !due.is_empty() {
                for (at, session) in due {
                    if let Some(session) = session.upgrade() {
                        session.on_timer(at);
                    }
                }
                tokio::task::yield_now().await;
                continue;
            }
            match next {
                Some(at) => tokio::select! {
                    () = clock::sleep_until(at) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }
}
