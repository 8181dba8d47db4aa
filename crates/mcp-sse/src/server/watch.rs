//! What ends a connection on which only plain requests have come.

use std::{future::Future as _, pin::Pin, sync::atomic::Ordering, task::Context, time::Instant};

use tokio::{sync::futures::Notified, time::Sleep};

use super::inner::Inner;
use crate::clock;

/// What ends a connection from this side: the server ends, nothing happens on it, or what began does not
/// come whole.
pub(super) struct Watch<'a, 'n> {
    pub(super) drained: Pin<&'a mut Notified<'n>>,
    /// Never later than whatever is due; when it fires, that is looked at.
    pub(super) timer: Pin<&'a mut Sleep>,
    pub(super) idle_until: Instant,
    /// Both have the task's waker; it does not change.
    pub(super) registered: bool,
}

pub(super) enum Over {
    Closed,
    Late,
}

impl Watch<'_, '_> {
    /// `due`: until when what began may take. The timer is only set anew where it would come too late, not
    /// with each request.
    pub(super) fn over<S>(
        &mut self,
        inner: &Inner<S>,
        active: &mut bool,
        due: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Option<Over> {
        if !self.registered {
            self.registered = true;
            let _ = self.drained.as_mut().poll(cx);
            let _ = self.timer.as_mut().poll(cx);
        }
        if let Some(due) = due
            && due < self.timer.deadline().into_std()
        {
            self.timer.as_mut().reset(due.into());
            let _ = self.timer.as_mut().poll(cx);
        }
        if self.timer.is_elapsed() {
            let now = clock::now();
            if due.is_some_and(|due| due <= now) {
                return Some(Over::Late);
            }
            if std::mem::take(active) || due.is_some() {
                self.idle_until = clock::after(now, inner.idle_timeout);
            } else if self.idle_until <= now {
                return Some(Over::Closed);
            }
            let next = due.map_or(self.idle_until, |due| due.min(self.idle_until));
            self.timer.as_mut().reset(next.into());
            let _ = self.timer.as_mut().poll(cx);
        }
        // Looked at behind the registration: it is set before the waiters are woken.
        inner.draining.load(Ordering::Acquire).then_some(Over::Closed)
    }
}
