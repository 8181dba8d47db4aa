//! A session: one client's conversation, a pair of bounded queues that outlives its connections.
//!
//! | room | what lives there |
//! |---|---|
//! | `error` | why a session closed, why a message was not sent |
//! | `head`, `incoming` | the head of the request that brought a message; both together |
//! | `core` | the state machine, without IO and without a clock, and its parts |
//! | `kept`, `marks` | what is written of a session that may be revived elsewhere, and of which sessions there is something to write |
//! | `registry` | id → session, the caps, which session makes room |
//! | `timers` | one table of all deadlines |
//! | `facts` | what is reported about sessions, and to whom |
//! | `driver` | the core behind a lock; wakes tasks, sets timers, updates the registry, starts the app |
//! | `stream` | a reader of a session's log |
//! | `handle`, `sink` | what users hold |
//! | `app` | running the app |

mod app;
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "what only a stream on its socket asks for"))]
pub(crate) mod core;
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "only our server goes the quick way"))]
pub(crate) mod driver;
mod error;
pub(crate) mod facts;
mod handle;
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "only our server shares heads"))]
pub(crate) mod head;
mod incoming;
pub(crate) mod kept;
pub(crate) mod marks;
#[cfg(test)]
mod model_test;
pub(crate) mod registry;
mod sink;
pub(crate) mod stream;
mod timers;

pub(crate) use self::app::spawn_app;
pub use self::{
    error::{CloseReason, SendError},
    facts::{ObservedSession, Observer, Refusal, SessionFact, SessionFigures},
    handle::{NotKept, Revived, Session, SessionHandle, SessionInfo, SessionReceiver},
    incoming::Incoming,
};
