//! The translator for modern clients at a legacy server, without IO: a session of ours with the server, and the requests of
//! clients that are answered in it. To a modern program the same requests are passed on, with ids of our own.
//!
//! | room | what lives there |
//! |---|---|
//! | `canonical` | JSON that is the same text whenever it means the same |
//! | `fault` | what is wrong with a request |
//! | `state` | what stands for a request that its client has to send again |
//! | `asked` | a client's request, read and found to be well-formed |
//! | `words` | messages in the words of the other era |
//! | `calls` | a request that has no answer yet, and what waits for its client |
//! | `host` | the session that requests are answered in |

mod asked;
mod calls;
mod canonical;
mod fault;
mod host;
mod state;
mod words;

pub(crate) use self::{
    asked::{About, Asked},
    calls::Out,
    fault::Fault,
    host::{Bounds, Host, Plan, Refused},
    state::State,
    words::{discover, error_code, is_modern},
};
