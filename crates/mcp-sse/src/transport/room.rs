//! Room for sessions: asks the registry for it, and closes sessions to make it.

use crate::session::{
    driver::{Common, Driver},
    registry::{Blocked, Full, Holder, Owner, Standing},
};

/// Takes a place for a new session, and counts it in its owner's rate.
pub(super) fn open(
    common: &Common,
    holder: &Holder<Driver>,
    standing: Standing,
    owner: &Owner,
) -> Result<(), Full> {
    let Common { limits, registry, observers, .. } = common;
    registry
        .take_turn(owner, limits, standing.opened)
        .and_then(|()| make(|| registry.add(holder, standing, owner, limits)))
        .inspect_err(|full| observers.no_room(*full, owner, limits))
}

/// Makes a session count as one that is not silent any more, before its first message is accepted. That needs
/// room.
pub(super) fn speak(session: &Driver) -> Result<(), Full> {
    if session.has_spoken() {
        return Ok(());
    }
    let Common { limits, registry, observers, .. } = &*session.common;
    make(|| registry.speak(session.id, limits))
        .inspect_err(|full| observers.no_room(*full, &Owner::default(), limits))?;
    session.set_spoken();
    Ok(())
}

/// Repeats the attempt until it succeeds, closing in each round the session that is to make room.
fn make(attempt: impl Fn() -> Result<(), Blocked<Driver>>) -> Result<(), Full> {
    // Usually one round closes a session and the next one succeeds. It takes more only if other requests take
    // the room at the same time.
    for _ in 0..8 {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(Blocked { full, gives_way: None }) => return Err(full),
            Err(Blocked { gives_way: Some(session), .. }) => session.give_way(),
        }
    }
    Err(Full::Sessions)
}
