//! How much memory all programs take.

/// The most processes that are looked at.
#[cfg(target_os = "linux")]
const MOST: usize = 10_000;

/// The resident memory of everything that was started here, in bytes. Reads `/proc`, so it blocks for a while where
/// there are many.
#[cfg(target_os = "linux")]
pub(crate) fn of_programs() -> Option<u64> {
    of(super::descendants::own_children())
}

/// The same of these programs, given by the processes that keep them.
#[cfg(target_os = "linux")]
pub(crate) fn of_kept_by(keepers: &[u32]) -> Option<u64> {
    let pids = keepers.iter().filter_map(|&pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
    of(pids.collect())
}

#[cfg(target_os = "linux")]
fn of(mut next: Vec<rustix::process::Pid>) -> Option<u64> {
    let page = rustix::param::page_size() as u64;
    let (mut seen, mut pages) = (0, 0_u64);
    while let Some(pid) = next.pop() {
        seen += 1;
        if seen > MOST {
            return None;
        }
        let folder = std::path::Path::new("/proc").join(pid.as_raw_nonzero().to_string());
        // It may have ended meanwhile.
        let memory = std::fs::read_to_string(folder.join("statm")).unwrap_or_default();
        pages += memory.split(' ').nth(1).and_then(|resident| resident.parse::<u64>().ok()).unwrap_or(0);
        next.extend(super::descendants::children_of(pid));
    }
    Some(pages * page)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn of_programs() -> Option<u64> {
    None
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn of_kept_by(_: &[u32]) -> Option<u64> {
    None
}
