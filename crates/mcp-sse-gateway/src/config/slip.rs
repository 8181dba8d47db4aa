//! Keys that are misspelled.

/// Whether a key is most likely a misspelling of this one. Very short keys are not, since clients have their own.
pub(super) fn is_slip(key: &str, known: &str) -> bool {
    let slips = if known.len() <= 4 { 1 } else { 2 };
    key.len() > 2 && strsim::damerau_levenshtein(known, key) <= slips
}
