//! The check of how the files of a crate hang together: none import each other in a circle, none imports from a room that
//! is not below its own, and none takes through the crate's root what is defined elsewhere. The order of the rooms is that
//! of `ARCHITECTURE.md`.
//!
//! | room | what lives there |
//! |---|---|
//! | `tree` | modules, files and names |
//! | `imports` | who imports what |
//! | `floors` | the order of the rooms |
//! | `rules` | what is wrong |

mod floors;
mod imports;
mod rules;
#[cfg(test)]
mod tests;
mod tree;

use self::{floors::Floors, tree::Tree};
use crate::{report::Report, tools::root};

const CRATES: [(&str, &str); 6] = [
    ("mcp-sse", "crates/mcp-sse"),
    ("mcp-sse-oauth", "crates/mcp-sse-oauth"),
    ("mcp-sse-cluster", "crates/mcp-sse-cluster"),
    ("mcp-sse-gateway", "crates/mcp-sse-gateway"),
    ("mcp-sse-bench", "crates/mcp-sse-bench"),
    ("xtask", "xtask"),
];

pub(crate) fn run(report: &mut Report) {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap_or_default();
    let floors = floors::read(&map);
    for (package, folder) in CRATES {
        let source = root().join(folder).join("src");
        let read = |path: &str| std::fs::read_to_string(source.join(path)).ok();
        let top = ["lib.rs", "main.rs"].into_iter().find(|top| source.join(top).exists());
        let found = check(package, top.unwrap_or("lib.rs"), &read, &floors);
        report.part(&format!("house: {package}"), found);
    }
    for floors in &floors {
        if !CRATES.iter().any(|(package, _)| *package == floors.package) {
            let unknown = format!("ARCHITECTURE.md has floors of {}, which is no crate here", floors.package);
            report.part("house", Err(unknown));
        }
    }
}

/// Says what is wrong, or how much was looked at.
fn check(
    package: &str,
    top: &str,
    read: &dyn Fn(&str) -> Option<String>,
    floors: &[Floors],
) -> Result<String, String> {
    let tree = Tree::read(top, read)?;
    let (imports, through_root) = imports::all(&tree);
    let mut wrong = rules::circles(&tree, &imports);
    let own: Vec<&Floors> = floors.iter().filter(|floors| floors.package == package).collect();
    if !own.iter().any(|floors| floors.folder.is_empty()) {
        wrong.push(format!(
            "ARCHITECTURE.md has no floors of {package}: a block ```floors that begins with its name"
        ));
    }
    wrong.extend(own.iter().flat_map(|floors| rules::upwards(&tree, &imports, floors)));
    wrong.extend(rules::through_root(&tree, &through_root));
    if wrong.is_empty() {
        Ok(format!("{} files, {} imports, no circle and none upwards", tree.files.len(), imports.len()))
    } else {
        Err(format!("{} mistakes\n- {}", wrong.len(), wrong.join("\n- ")))
    }
}
