#![doc = include_str!("../README.md")]
//!
//! # Rooms
//!
//! | room | what lives there |
//! |---|---|
//! | `server` | an authorization server: what is known of a token |
//! | `resource`, `metadata` | a resource that needs tokens; what it says of itself |
//! | `keys` | the keys over time: fetched, kept, gone (`schedule`: when; `source`: where from; `key_set`, `key`) |
//! | `token`, `cache` | one token, read strictly; those that were verified |
//! | `urls`, `clock`, `error` | URLs that stay as they were given; the clocks; errors in settings |

mod cache;
mod clock;
mod error;
mod key;
mod key_set;
mod keys;
mod metadata;
mod resource;
mod schedule;
mod server;
mod source;
mod token;
mod urls;

pub use reqwest;

pub use self::{
    error::OAuthConfigError,
    metadata::{MetadataService, public_json},
    resource::ProtectedResource,
    server::{AuthorizationServer, AuthorizationServerBuilder},
};
