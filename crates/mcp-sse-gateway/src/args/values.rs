//! Parsers for values that several options share.

use std::time::Duration;

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text);
    let time = time.map_err(|_| "expected a time such as 500ms, 15s or 2m".to_owned())?;
    // Deadlines are computed as now plus one of these; a year cannot overflow them.
    if time > Duration::from_secs(365 * 24 * 3600) {
        Err("expected a year at the most".to_owned())
    } else {
        Ok(time)
    }
}

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| "expected a whole number, 1 or more".to_owned())
}
