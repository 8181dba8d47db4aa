//! Where a part of a text stands in it, so that the rest can stay as it is.

use std::ops::Range;

/// The place of `part`, which was taken out of `whole`; `None` if it was not.
pub(crate) fn place(whole: &[u8], part: &str) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let range = start..start.checked_add(part.len())?;
    (whole.get(range.clone()) == Some(part.as_bytes())).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_where_it_was_taken_from() {
        let whole = "a b a";
        assert_eq!(place(whole.as_bytes(), &whole[4..]), Some(4..5));
        assert_eq!(place(whole.as_bytes(), &String::from("elsewhere")), None);
    }
}
