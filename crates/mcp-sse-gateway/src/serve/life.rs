//! A session over HTTP+SSE, which rests while its server is not needed: then it has no task, and takes as much memory as one
//! whose client has said nothing yet, beside what has to be known to go on.

use std::pin::Pin;

use mcp_sse::Session;

use super::{
    named::Entry,
    session::{Begun, Over},
};

pub(super) struct Life {
    /// Taken when it is over, before that is told.
    entry: Option<Entry>,
    over: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Life {
    /// `over` is called when it is over and does not count any more.
    pub(super) fn new(entry: Entry, over: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { entry: Some(entry), over: Some(Box::new(over)) }
    }

    /// Runs it until it ends, or rests.
    pub(super) fn run(self, mut session: Session, begun: Begun) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let Some(entry) = &self.entry else { return };
            let handle = session.handle().clone();
            entry.rests(None);
            let Over::Resting(state) = entry.run(&mut session, handle.clone(), begun).await else { return };
            entry.rests(Some(handle));
            // Somebody may have wanted it to end just now.
            if !entry.is_closing() {
                session.park(move |session| self.run(session, Begun::Before(state)));
            }
        })
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        drop(self.entry.take());
        if let Some(over) = self.over.take() {
            over();
        }
    }
}
