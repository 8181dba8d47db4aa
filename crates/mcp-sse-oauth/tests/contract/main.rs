//! What is promised of tokens, keys and resources.

mod fetching;
mod help;
mod resources;
mod tokens;
