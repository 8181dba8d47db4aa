//! Room for sessions: the bounds of the registry, and the sessions that are closed to make some.

use crate::session::{
    driver::{Common, Driver},
    registry::{Blocked, Full, Holder, Owner, Standing},
};

/// Takes a place for what opens, and a turn of its owner's.
pub(super) fn open(
    common: &Common,
    holder: &Holder<Driver>,
    standing: Standing,
    owner: &Owner,
) -> Result<(), Full> {
    let Common { limits, registry, observer } = common;
    registry
        .take_turn(owner, limits, standing.opened)
        .and_then(|()| make(|| registry.add(holder, standing, owner, limits)))
        .inspect_err(|full| observer.no_room(*full, owner, limits))
}

/// The client of a session says something, before it is taken. The first time, that takes room.
pub(super) fn speak(session: &Driver) -> Result<(), Full> {
    if session.has_spoken() {
        return Ok(());
    }
    let Common { limits, registry, observer } = &*session.common;
    make(|| registry.speak(session.id, limits))
        .inspect_err(|full| observer.no_room(*full, &Owner::default(), limits))?;
    session.set_spoken();
    Ok(())
}

/// Tries it, and makes room by closing sessions that give way.
fn make(attempt: impl Fn() -> Result<(), Blocked<Driver>>) -> Result<(), Full> {
    // Every round but the last closes one session that gave way; a few rounds are enough unless
    // others take the room at the same time.
    for _ in 0..8 {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(Blocked { full, gives_way: None }) => return Err(full),
            Err(Blocked { gives_way: Some(session), .. }) => session.give_way(),
        }
    }
    Err(Full::Sessions)
}
