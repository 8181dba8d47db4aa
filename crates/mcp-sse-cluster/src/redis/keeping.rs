//! Keeps the connection: it is looked at again and again, and another is made when it is not there.

use std::{pin::pin, sync::Arc, time::Duration};

use ::redis::aio::MultiplexedConnection;
use tokio::time::{sleep, timeout};

use super::{
    connecting::Open,
    connection::{Line, Shared, lock},
    server::{hello, no_answer, said, standing},
};
use crate::clock;

/// How often the server is asked whether it is there, after how long without an answer the link counts as down, and how
/// much later the connection is given up.
const LOOK: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(3);

/// Keeps a connection: looks whether it is there, and makes another when it is not.
pub(super) async fn keep(shared: Arc<Shared>, mut open: Open) {
    loop {
        let why = shared.watch(&mut open).await;
        shared.is_down();
        drop(open);
        tracing::warn!(address = %shared.address, why, "the connection to Redis is lost; connecting again");
        open = shared.reopen().await;
        shared.is_up(&open);
        tracing::info!(address = %shared.address, "connected to Redis again");
    }
}

impl Shared {
    pub(super) fn is_up(&self, open: &Open) {
        let connection = Some(open.connection.clone());
        self.line.send_modify(|line| {
            *line = Line { number: line.number + 1, connection, up: Some(clock::now()) };
        });
    }

    fn is_down(&self) {
        self.line.send_modify(|line| (line.connection, line.up) = (None, None));
    }

    /// Looks at a connection until it is of no use, and says why.
    async fn watch(&self, open: &mut Open) -> String {
        loop {
            tokio::select! {
                _ = &mut open.driver.0 => return "it was closed".to_owned(),
                () = self.doubts.notified() => {}
                () = sleep(LOOK) => {}
            }
            if let Err(why) = self.look(open.connection.clone()).await {
                return why;
            }
            self.forget(&mut open.connection).await;
        }
    }

    /// Asks the server what it is. It is not asked again as long as it has not answered: the answer would come after the
    /// first one.
    async fn look(&self, mut connection: MultiplexedConnection) -> Result<(), String> {
        let mut asking = pin!(hello(&mut connection));
        let answer = match timeout(SOON, &mut asking).await {
            Ok(answer) => answer,
            Err(_) => {
                self.line.send_modify(|line| line.up = None);
                let late = timeout(LATE, &mut asking).await;
                late.map_err(|_| no_answer(SOON + LATE))?
            }
        };
        standing(&answer.map_err(|error| said(&error))?)?;
        self.line.send_if_modified(|line| {
            let was_down = line.up.is_none();
            line.up.get_or_insert_with(clock::now);
            was_down
        });
        Ok(())
    }

    /// Leaves the channels that nobody wants messages of any more.
    async fn forget(&self, connection: &mut MultiplexedConnection) {
        let mut unwanted = Vec::new();
        lock(&self.channels).retain(|name, channel| {
            channel.routes.retain(|route| route.intake.is_wanted());
            let is_wanted = !channel.routes.is_empty();
            if !is_wanted {
                unwanted.push(name.clone());
            }
            is_wanted
        });
        if !unwanted.is_empty() {
            // What fails is looked at next time.
            let _ = timeout(SOON, connection.unsubscribe(&unwanted[..])).await;
        }
    }
}
