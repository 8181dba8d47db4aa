//! What is wrong with the imports of a crate, and how to mend it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    floors::{Floors, Place},
    imports::{Imports, ThroughRoot},
    tree::Tree,
};

/// Files that import each other in a circle: one text for each set of them.
pub(super) fn circles(tree: &Tree, imports: &Imports) -> Vec<String> {
    let mut next: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &(from, to) in imports.keys() {
        next.entry(from).or_default().push(to);
    }
    let reached: Vec<BTreeSet<usize>> = (0..tree.files.len()).map(|file| reach(&next, file)).collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (file, reach) in reached.iter().enumerate() {
        if !reach.contains(&file) || seen.contains(&file) {
            continue;
        }
        let members: Vec<usize> =
            reach.iter().copied().filter(|other| reached[*other].contains(&file)).collect();
        seen.extend(members.iter().copied());
        found.push(circle(tree, imports, &members));
    }
    found
}

fn reach(next: &BTreeMap<usize, Vec<usize>>, from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![from];
    while let Some(file) = waiting.pop() {
        for &to in next.get(&file).into_iter().flatten() {
            if reached.insert(to) {
                waiting.push(to);
            }
        }
    }
    reached
}

fn circle(tree: &Tree, imports: &Imports, members: &[usize]) -> String {
    let names: Vec<&str> = members.iter().map(|file| tree.files[*file].path.as_str()).collect();
    let mut text = format!("{} import each other in a circle:", names.join(", "));
    let inside = |(from, to): &(usize, usize)| members.contains(from) && members.contains(to);
    let inside = || imports.iter().filter(|(edge, _)| inside(edge));
    for (edge, names) in inside() {
        text.push_str(&format!("\n    {}", import(tree, *edge, names)));
    }
    let least = inside().min_by_key(|(_, names)| names.len());
    if let Some(((from, to), names)) = least {
        let names: Vec<&str> = names.keys().map(String::as_str).collect();
        text.push_str(&format!(
            "\n  to mend it, cut the import of the fewest names: move {} out of {} into a file that both may import, or \
             let {} be given it by its caller",
            names.join(", "),
            tree.files[*to].path,
            tree.files[*from].path,
        ));
    }
    text
}

/// `a.rs:12 → b.rs (crate::b::X)`.
fn import(tree: &Tree, (from, to): (usize, usize), names: &BTreeMap<String, usize>) -> String {
    let line = names.values().min().copied().unwrap_or_default();
    let names: Vec<&str> = names.keys().map(String::as_str).collect();
    format!("{}:{line} → {} ({})", tree.files[from].path, tree.files[to].path, names.join(", "))
}

/// Imports from rooms that are not below, files that are in no room, and rooms in which no file is.
pub(super) fn upwards(tree: &Tree, imports: &Imports, floors: &Floors) -> Vec<String> {
    let mut found = Vec::new();
    let title = format!("{} {}", floors.package, floors.folder);
    let title = title.trim();
    for file in &tree.files {
        if floors.place(&file.path) == Place::Nowhere {
            found.push(format!(
                "{} is in no room: give it one in the floors of {title} in ARCHITECTURE.md",
                file.path
            ));
        }
    }
    let files: Vec<String> = tree.files.iter().map(|file| file.path.clone()).collect();
    for room in floors.empty_rooms(&files) {
        found.push(format!("the room {room} of {title} is not there: take it out of ARCHITECTURE.md"));
    }
    for (&edge, names) in imports {
        let (from, to) = (floors.place(&tree.files[edge.0].path), floors.place(&tree.files[edge.1].path));
        let import = || import(tree, edge, names);
        match (from, to) {
            (Place::Room(from, _), Place::Room(to, room)) if from < to => found.push(format!(
                "{}: upwards, from the floor of {} to {room} on the floor of {}; to mend it, move these names down, or the \
                 file up",
                import(),
                floors.floor(from),
                floors.floor(to),
            )),
            (Place::Room(from, room), Place::Room(to, other)) if from == to && room != other => found.push(format!(
                "{}: {room} and {other} are on one floor; to mend it, move these names to a lower one, or {room} to a higher \
                 one",
                import(),
            )),
            (Place::Room(..), Place::Top) => found.push(format!(
                "{}: upwards, to what is above all rooms; to mend it, move these names into a room",
                import(),
            )),
            _ => {}
        }
    }
    found
}

/// Imports through the crate's root.
pub(super) fn through_root(tree: &Tree, found: &[ThroughRoot]) -> Vec<String> {
    let one = |ThroughRoot { file, line, written, name }: &ThroughRoot| {
        let file = &tree.files[*file].path;
        format!("{file}:{line} takes {written} through the crate's root; to mend it, write {name}")
    };
    found.iter().map(one).collect()
}
