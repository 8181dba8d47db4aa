//! Who may use the servers.
//!
//! | room | what lives there |
//! |---|---|
//! | `auth` | what the clients of a server need, as it is set |
//! | `key_file` | a file of keys, which is read again when it changes |
//! | `issuers` | authorization servers, whose tokens are accepted |
//! | `authenticator` | the two of them before one endpoint |
//! | `guards` | what all servers share, and what stands before one of them |
//! | `well_known` | documents by which clients find out who may give them a token |

mod auth;
mod authenticator;
mod guards;
mod issuers;
mod key_file;
mod well_known;

pub(crate) use self::{
    auth::{Auth, Jwks, Tokens},
    guards::{Guards, Protection, check},
    issuers::{Clients, Patience},
    key_file::KeyFile,
    well_known::{Documents, WellKnown},
};
