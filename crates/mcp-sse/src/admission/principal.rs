//! Whom a session belongs to.

use std::{
    any::Any,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// Whom a request comes from, as an authentication layer in front of the transport found out.
///
/// The layer puts it into the request's extensions. The session that a `GET` opens belongs to its
/// principal for its whole life: every POST and every reconnect is checked, and to anyone else (also to a
/// request without a principal) the session does not exist.
///
/// Any comparable id will do: a user name, a tenant and a key, a number.
///
/// ```
/// use mcp_sse::Principal;
///
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(Principal::new("alice".to_owned()));
///
/// let principal = request.extensions().get::<Principal>().unwrap();
/// assert_eq!(principal.downcast_ref::<String>().unwrap(), "alice");
/// assert_eq!(*principal, Principal::new("alice".to_owned()));
/// assert_ne!(*principal, Principal::new(7));
/// ```
///
/// `Debug` does not show it: it may be a secret.
#[derive(Clone)]
pub struct Principal(Arc<dyn Id>);

trait Id: Any + Send + Sync {
    fn equals(&self, other: &dyn Id) -> bool;
    fn hash_into(&self, state: &mut dyn Hasher);
}

impl<T: Any + Eq + Hash + Send + Sync> Id for T {
    fn equals(&self, other: &dyn Id) -> bool {
        (other as &dyn Any).downcast_ref::<T>().is_some_and(|other| self == other)
    }

    fn hash_into(&self, mut state: &mut dyn Hasher) {
        self.hash(&mut state);
    }
}

impl Principal {
    /// A principal with this id. Principals with ids of different types are different.
    ///
    /// ```
    /// use mcp_sse::Principal;
    ///
    /// let principal = Principal::new(("tenant 7", "alice"));
    /// assert_eq!(principal, Principal::new(("tenant 7", "alice")));
    /// assert_ne!(Principal::new(7_u32), Principal::new(7_u64));
    /// ```
    pub fn new<T: Eq + Hash + Send + Sync + 'static>(id: T) -> Self {
        Self(Arc::new(id))
    }

    /// The id, if it is a `T`.
    ///
    /// ```
    /// # use mcp_sse::Principal;
    /// let principal = Principal::new(7_u32);
    /// assert_eq!(principal.downcast_ref::<u32>(), Some(&7));
    /// assert_eq!(principal.downcast_ref::<String>(), None);
    /// ```
    pub fn downcast_ref<T: 'static>(&self) -> Option<&T> {
        (&*self.0 as &dyn Any).downcast_ref()
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.0.equals(&*other.0)
    }
}

impl Eq for Principal {}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash_into(state);
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Principal(…)")
    }
}
