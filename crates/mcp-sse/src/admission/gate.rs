//! The way in: `Host`, `Origin` and, if there is an authenticator, who the request comes from.

use std::{fmt, pin::Pin, sync::Arc};

use http::{header, request::Parts};

use super::{Names, Rejection};
use crate::auth::{Authenticate, Authentication, Grant};

/// What a request has to pass first.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) names: Arc<Names>,
    authenticate: Option<Arc<dyn Authenticate>>,
}

/// A request that may go on to the other checks.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) parts: Parts,
    /// From the authenticator, or from a layer in front.
    pub(crate) grant: Option<Grant>,
    /// Whether `Host` and `Origin` have been checked.
    named: bool,
}

/// Whether a request may enter.
#[allow(clippy::large_enum_variant, reason = "taken apart at once")]
pub(crate) enum Entry {
    Known(Result<Entered, Rejection>),
    /// The authenticator has to ask.
    Pending(Pin<Box<dyn Future<Output = Result<Entered, Rejection>> + Send>>),
}

impl Gate {
    pub(crate) fn new(names: Names) -> Self {
        Self { names: Arc::new(names), authenticate: None }
    }

    #[must_use]
    pub(crate) fn with(mut self, authenticate: Arc<dyn Authenticate>) -> Self {
        self.authenticate = Some(authenticate);
        self
    }

    /// Without an authenticator, every request enters, and `Host` and `Origin` are checked later, in the order of the
    /// wire contract. With one, a stranger learns nothing before it has said who it is, but which names are served.
    pub(crate) fn enter(&self, mut parts: Parts) -> Entry {
        let Some(authenticate) = &self.authenticate else {
            let grant = parts.extensions.get().cloned();
            return Entry::Known(Ok(Entered { parts, grant, named: false }));
        };
        if let Err(rejection) = self.names.check(&parts.uri, &parts.headers) {
            return Entry::Known(Err(rejection));
        }
        for name in [header::AUTHORIZATION.as_str(), "x-api-key"] {
            if let header::Entry::Occupied(mut values) = parts.headers.entry(name) {
                // So that nothing shows it by accident.
                values.iter_mut().for_each(|value| value.set_sensitive(true));
            }
        }
        match authenticate.authenticate(&parts) {
            Authentication::Done(Ok(grant)) => Entry::Known(Ok(Entered::with(parts, grant))),
            Authentication::Done(Err(denial)) => Entry::Known(Err(Rejection::Denied(Box::new(denial)))),
            Authentication::Pending(answer) => Entry::Pending(Box::pin(async move {
                answer
                    .await
                    .map(|grant| Entered::with(parts, grant))
                    .map_err(|denial| Rejection::Denied(Box::new(denial)))
            })),
        }
    }
}

impl Entered {
    fn with(mut parts: Parts, grant: Grant) -> Self {
        parts.extensions.insert(grant.principal().clone());
        parts.extensions.insert(grant.clone());
        Self { parts, grant: Some(grant), named: true }
    }

    /// Checks `Host` and `Origin`, if that was not done before the request was let in.
    pub(crate) fn check_names(&self, names: &Names) -> Result<(), Rejection> {
        let Self { parts, named, .. } = self;
        if *named { Ok(()) } else { names.check(&parts.uri, &parts.headers) }
    }
}

impl Entry {
    pub(crate) async fn wait(self) -> Result<Entered, Rejection> {
        match self {
            Self::Known(known) => known,
            Self::Pending(pending) => pending.await,
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("names", &self.names).finish_non_exhaustive()
    }
}
