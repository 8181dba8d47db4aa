//! The order of a crate's rooms, as `ARCHITECTURE.md` has it.
//!
//! A fenced block with the language tag `floors` names a crate, and then its rooms, a floor a line from the ground up:
//!
//! ```text
//! mcp-sse
//! clock, error
//! admission/
//! ```
//!
//! `clock` is `src/clock.rs` with the files of its modules, `admission/` the folder `src/admission`. Of rooms within each
//! other the inner one counts. After the crate's name may stand a folder, `mcp-sse transport/`: then these are the floors
//! within it, and the rooms' names begin there. The root file of a crate, and a folder's `mod.rs`, are above all others,
//! unless they are named (`mod`).

/// One block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Floors {
    pub(super) package: String,
    /// Under `src`; with a slash at its end, or empty for all of it.
    pub(super) folder: String,
    floors: Vec<Vec<String>>,
}

/// Where a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// Outside of the folder that the block is about.
    Elsewhere,
    /// In no room.
    Nowhere,
    Room(usize, &'a str),
    /// The root file, or the folder's own.
    Top,
}

/// Reads all blocks of a text.
pub(super) fn read(text: &str) -> Vec<Floors> {
    let mut all = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line != "```floors" {
            continue;
        }
        let block: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        let mut block = block.into_iter().filter(|line| !line.is_empty());
        let Some(title) = block.next() else { continue };
        let (package, folder) = title.split_once(' ').unwrap_or((title, ""));
        let rooms = |line: &str| line.split(',').map(|room| room.trim().to_owned()).collect();
        all.push(Floors {
            package: package.to_owned(),
            folder: folder.trim().to_owned(),
            floors: block.map(rooms).collect(),
        });
    }
    all
}

impl Floors {
    pub(super) fn place(&self, file: &str) -> Place<'_> {
        let Some(rest) = file.strip_prefix(&*self.folder) else { return Place::Elsewhere };
        let rooms = self.floors.iter().enumerate().flat_map(|(floor, rooms)| {
            let covering = rooms.iter().filter(|room| covers(room, rest));
            covering.map(move |room| (floor, room.as_str()))
        });
        // The innermost.
        let innermost = rooms.max_by_key(|(_, room)| room.trim_end_matches('/').len());
        match (innermost, &*self.folder, rest) {
            (Some((floor, room)), ..) => Place::Room(floor, room),
            (None, "", "lib.rs" | "main.rs") | (None, _, "mod.rs") => Place::Top,
            (None, ..) => Place::Nowhere,
        }
    }

    /// The rooms that no file is in.
    pub(super) fn empty_rooms<'a>(&'a self, files: &'a [String]) -> impl Iterator<Item = &'a str> {
        self.floors.iter().flatten().map(String::as_str).filter(|room| {
            !files.iter().any(|file| file.strip_prefix(&*self.folder).is_some_and(|rest| covers(room, rest)))
        })
    }

    /// The rooms of a floor, as they are written.
    pub(super) fn floor(&self, floor: usize) -> String {
        self.floors.get(floor).map(|rooms| rooms.join(", ")).unwrap_or_default()
    }
}

fn covers(room: &str, file: &str) -> bool {
    let Some(rest) = file.strip_prefix(room.trim_end_matches('/')) else { return false };
    rest.starts_with('/') || (rest == ".rs" && !room.ends_with('/'))
}
