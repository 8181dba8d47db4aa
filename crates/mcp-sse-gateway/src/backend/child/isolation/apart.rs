//! The users and folders that all children share, and the lease that one child has on them.

use std::{path::PathBuf, sync::Arc};

use tokio::{runtime::Handle, time::Instant};

use super::{
    super::{command::Command, strays::Strays},
    confine::Confinement,
    folder::{self, Folders},
    parse::Range,
    paths,
    users::Users,
};

/// The pool of users, and the folders.
#[derive(Debug)]
pub(in super::super) struct Apart {
    users: Option<Users>,
    folders: Folders,
    /// Where processes that clear up are registered, so that they are not taken for strays.
    strays: Arc<Strays>,
}

/// The user and the folder of one child; dropping it gives them back. To be dropped when the child is gone.
#[derive(Debug)]
pub(in super::super) struct Lease {
    apart: Arc<Apart>,
    user: Option<u32>,
    folder: Option<PathBuf>,
    pub(in super::super) confinement: Confinement,
    runtime: Handle,
}

impl Apart {
    pub(in super::super) fn new(users: Option<Range>, strays: Arc<Strays>) -> Arc<Self> {
        let users = users.map(Users::new);
        Arc::new(Self { users, folders: Folders::default(), strays })
    }

    /// To be called when no child is left.
    pub(in super::super) fn close(&self) {
        self.folders.close();
    }

    /// Takes a user and makes a folder, as far as this child needs them.
    pub(in super::super) async fn lease(
        self: &Arc<Self>,
        command: &Command,
        deadline: Instant,
    ) -> Result<Lease, String> {
        let user = match &self.users {
            Some(users) => Some(users.take(deadline).await?),
            None => None,
        };
        let isolation = &command.isolation;
        let confinement =
            Confinement { user, own_domain: isolation.own_domain, sandbox: None, limits: isolation.limits };
        let runtime = Handle::current();
        let mut lease = Lease { apart: Arc::clone(self), user, folder: None, confinement, runtime };
        if user.is_none() && isolation.sandbox.is_none() {
            return Ok(lease);
        }
        let command = command.clone();
        let made = tokio::task::spawn_blocking(move || {
            let folder = lease.apart.folders.make(user, &lease.apart.strays);
            let folder = folder.map_err(|error| format!("cannot make its temporary folder: {error}"))?;
            lease.confinement.sandbox =
                command.isolation.sandbox.as_ref().map(|sandbox| paths::rules(&command, sandbox, &folder));
            lease.folder = Some(folder);
            Ok(lease)
        });
        made.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl Lease {
    /// Sets the child's variables that name its folder.
    pub(in super::super) fn apply(&self, command: &Command, prepared: &mut tokio::process::Command) {
        let Some(folder) = &self.folder else { return };
        // The inherited home belongs to another user, and is closed to this one.
        let home = self.user.is_some().then_some("HOME");
        let names = ["TMPDIR", "TMP", "TEMP"].into_iter().chain(home);
        for name in names.filter(|name| !command.sets(name)) {
            prepared.env(name, folder);
        }
    }

    /// Waits until all is given back. Ends the processes that the child's user still runs.
    pub(in super::super) async fn give_back(mut self) {
        if let Some(work) = self.take() {
            work.await;
        }
    }

    fn take(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let (user, folder) = (self.user.take(), self.folder.take());
        if user.is_none() && folder.is_none() {
            return None;
        }
        let apart = Arc::clone(&self.apart);
        Some(async move {
            if let Some(folder) = folder {
                folder::remove(&apart.strays, user, &folder).await;
            }
            if let (Some(users), Some(user)) = (&apart.users, user) {
                users.give_back(user, &apart.strays).await;
            }
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(work) = self.take() {
            self.runtime.spawn(work);
        }
    }
}
