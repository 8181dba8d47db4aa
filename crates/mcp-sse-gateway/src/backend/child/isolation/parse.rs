//! Parsers for the settings.

use std::{path::Path, time::Duration};

use super::asked::Allowed;

/// A range of user ids, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

impl Range {
    pub(crate) fn len(self) -> usize {
        usize::try_from(self.to - self.from).unwrap_or(usize::MAX).saturating_add(1)
    }

    pub(crate) fn contains(self, user: u32) -> bool {
        (self.from..=self.to).contains(&user)
    }
}

/// `FROM-TO`.
pub(crate) fn range(text: &str) -> Result<Range, String> {
    let expected = || "expected FROM-TO, as in 20000-20999; each 1 or more".to_owned();
    let (from, to) = text.split_once('-').ok_or_else(expected)?;
    let number = |text: &str| text.parse().ok().filter(|&user| user > 0).ok_or_else(expected);
    let (from, to) = (number(from)?, number(to)?);
    // The system uses the last number for "none".
    if from > to || to == u32::MAX {
        return Err(expected());
    }
    Ok(Range { from, to })
}

/// `PATH`, `PATH:ro` or `PATH:rw`.
pub(crate) fn allowed_path(text: &str) -> Result<Allowed, String> {
    let (path, write) = match (text.strip_suffix(":ro"), text.strip_suffix(":rw")) {
        (Some(path), _) => (path, false),
        (_, Some(path)) => (path, true),
        (None, None) => (text, false),
    };
    let path = std::path::absolute(path).map_err(|_| "expected PATH, PATH:ro or PATH:rw".to_owned())?;
    there(&path)?;
    Ok(Allowed { path, write })
}

fn there(path: &Path) -> Result<(), String> {
    path.metadata().map(|_| ()).map_err(|error| format!("{path:?} cannot be used: {error}"))
}

/// A size in bytes: a number, optionally in KiB, MiB or GiB.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match text[digits.len()..].trim_start() {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        _ => 0,
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    number
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| "expected a number of bytes such as 536870912, 512MiB or 2GiB".to_owned())
}

/// CPU time, such as `90s` or `5m`, in seconds.
pub(crate) fn time(text: &str) -> Result<u64, String> {
    humantime::parse_duration(text)
        .map_err(|_| "expected a time such as 90s or 5m".to_owned())
        .and_then(seconds)
}

/// Whole seconds, at least one: the system's limit is in seconds.
pub(crate) fn seconds(time: Duration) -> Result<u64, String> {
    if time.is_zero() || time.subsec_nanos() > 0 {
        return Err("expected whole seconds, 1s or more".to_owned());
    }
    Ok(time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(bytes("1"), Ok(1));
        assert_eq!(bytes("512MiB"), Ok(512 << 20));
        assert_eq!(bytes("512M"), Ok(512 << 20));
        assert_eq!(bytes("2 GiB"), Ok(2 << 30));
        for wrong in ["", "0", "MiB", "1MB", "1.5G", "-1", "99999999999GiB", "1e3", "٣"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_on_a_processor_is_in_whole_seconds() {
        assert_eq!(time("90s"), Ok(90));
        assert_eq!(time("2m"), Ok(120));
        for wrong in ["", "0s", "1500ms", "90", "soon"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_range_has_no_root_and_is_not_empty() {
        assert_eq!(range("20000-20999"), Ok(Range { from: 20_000, to: 20_999 }));
        assert_eq!(range("1-1").map(Range::len), Ok(1));
        for wrong in ["", "1", "0-9", "9-8", "a-b", "-1-3", "1-4294967295", "1-99999999999"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_is_read_only_unless_it_says_otherwise() {
        assert_eq!(allowed_path("/"), Ok(Allowed { path: "/".into(), write: false }));
        assert_eq!(allowed_path("/:ro"), Ok(Allowed { path: "/".into(), write: false }));
        assert_eq!(allowed_path("/:rw"), Ok(Allowed { path: "/".into(), write: true }));
        assert!(allowed_path("/no such").unwrap_err().contains("/no such"));
        assert!(allowed_path("").is_err());
    }
}
