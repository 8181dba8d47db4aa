//! Finds a value inside JSON that was checked, without decoding what is beside it.

use std::ops::Range;

use super::{
    envelope::name_bytes,
    scan::{Malformed, Scanner},
};

/// The value that `path` leads to from the object `json`, by the names of members. `None` if it is not there, or
/// a name on the way is there twice: readers of JSON differ in which one counts.
pub(super) fn find(json: &[u8], path: &[&str]) -> Option<Range<usize>> {
    find_from(json, &mut Scanner::new(json), path).ok()?
}

fn find_from(
    json: &[u8],
    scanner: &mut Scanner<'_>,
    path: &[&str],
) -> Result<Option<Range<usize>>, Malformed> {
    let Some((name, rest)) = path.split_first() else { return scanner.value().map(Some) };
    if scanner.peek() != Some(b'{') {
        return scanner.value().map(|_| None);
    }
    scanner.take(b'{');
    let (mut found, mut times) = (None, 0);
    while !scanner.take(b'}') {
        let is_next = name_bytes(json, &scanner.name()?).is_some_and(|found| *found == *name.as_bytes());
        if is_next {
            times += 1;
            found = find_from(json, scanner, rest)?;
        } else {
            scanner.value()?;
        }
        scanner.take(b',');
    }
    Ok(found.filter(|_| times == 1))
}
