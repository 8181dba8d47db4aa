//! The lines that wait to be written, and the places for more.
//!
//! Invariant: there are as many places as there were at first, but for those that permits hold and those of lines that wait
//! or are being written.

use std::{
    cell::RefCell,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Semaphore;

thread_local! {
    /// Where this thread writes its next line, so that the lock is held for no more than a copy.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
pub(super) struct Lines {
    places: Semaphore,
    /// How many places there are.
    all: usize,
    waiting: Mutex<Waiting>,
    /// Is told of the first line that waits, and of what changes once it is closed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    count: usize,
    closed: bool,
}

impl Lines {
    pub(super) fn new(places: usize) -> Arc<Self> {
        let all = places.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            places: Semaphore::new(all),
            all,
            waiting: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of a line. Waits for ever once it is closed.
    pub(super) async fn place(self: &Arc<Self>) -> Permit {
        match self.places.acquire().await {
            Ok(place) => {
                place.forget();
                Permit::new(self)
            }
            Err(_) => std::future::pending().await,
        }
    }

    pub(super) fn place_now(self: &Arc<Self>) -> Option<Permit> {
        self.places.try_acquire().ok()?.forget();
        Some(Permit::new(self))
    }

    /// From now on there are no more places. The lines of those who have one are still taken.
    pub(super) fn close(&self) {
        self.places.close();
        self.lock().closed = true;
        self.changed.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits for a line; `false` if there will be none.
    pub(super) fn wait(&self) -> bool {
        let mut waiting = self.lock();
        loop {
            if waiting.count > 0 {
                return true;
            }
            if waiting.closed && self.places.available_permits() == self.all {
                return false;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes all that wait; returns how many these are. Their places are free again when they are `written`.
    pub(super) fn take(&self, bytes: &mut Vec<u8>) -> usize {
        let mut waiting = self.lock();
        std::mem::swap(&mut waiting.bytes, bytes);
        std::mem::take(&mut waiting.count)
    }

    /// So many of those that were taken do not need their places any more.
    pub(super) fn written(&self, count: usize) {
        self.places.add_permits(count);
    }
}

/// The place of a line that may be written. If it is dropped without one, the place is free again.
#[derive(Debug)]
pub(crate) struct Permit {
    lines: Arc<Lines>,
    used: bool,
}

impl Permit {
    fn new(lines: &Arc<Lines>) -> Self {
        Self { lines: Arc::clone(lines), used: false }
    }

    pub(super) fn write(mut self, put: impl FnOnce(&mut Vec<u8>)) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            put(line);
            let mut waiting = self.lines.lock();
            waiting.bytes.extend_from_slice(line);
            waiting.count += 1;
            let is_first = waiting.count == 1;
            drop(waiting);
            self.used = true;
            if is_first {
                self.lines.changed.notify_one();
            }
        });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.used {
            self.lines.places.add_permits(1);
            // It may have been the last.
            if self.lines.is_closed() {
                self.lines.changed.notify_one();
            }
        }
    }
}
