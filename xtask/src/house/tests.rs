//! The check itself, on small crates in memory.

use super::*;

const FLOORS: &str = "# Map\n```floors\nsmall\na, b\nroom/\nc\n```\n";

/// What is wrong with a crate of these files.
fn wrong(files: &[(&str, &str)], map: &str) -> String {
    let read = |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
    check("small", "lib.rs", &read, &floors::read(map)).err().unwrap_or_default()
}

/// The same, with what stands on the ground floor.
fn wrong_on_the_ground(files: &[(&str, &str)]) -> String {
    let rooms: Vec<_> = files.iter().filter_map(|(name, _)| name.strip_suffix(".rs")).collect();
    let rooms = rooms.iter().filter(|room| **room != "lib" && !room.contains('/')).copied();
    let one_a_floor: Vec<_> = rooms.collect();
    wrong(files, &format!("```floors\nsmall\n{}\n```", one_a_floor.join("\n")))
}

#[test]
fn a_crate_in_order_passes() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c; mod room; pub use a::A; pub use room::Inner;"),
        ("a.rs", "pub struct A;"),
        ("b.rs", "pub fn b() { std::mem::drop(1) }"),
        ("room/mod.rs", "mod inner; pub use self::inner::Inner; pub struct Outer;"),
        ("room/inner.rs", "use crate::a::A; pub struct Inner(A, super::Outer);"),
        ("c.rs", "use crate::room::Inner; fn c(_: Inner) -> crate::a::A { crate::b::b(); todo!() }"),
    ];
    assert_eq!(wrong(&files, FLOORS), "");
}

#[test]
fn two_files_that_import_each_other_are_a_circle_even_in_one_room() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c; mod room;"),
        ("a.rs", ""),
        ("b.rs", ""),
        ("c.rs", ""),
        ("room/mod.rs", "mod x;\nmod y;"),
        ("room/x.rs", "\nuse super::y::Y;\npub struct X;"),
        ("room/y.rs", "pub struct Y;\nfn f() -> super::x::X { super::x::X }"),
    ];
    let wrong = wrong(&files, FLOORS);
    assert!(wrong.contains("room/x.rs, room/y.rs import each other in a circle"), "{wrong}");
    assert!(wrong.contains("room/x.rs:2 → room/y.rs (crate::room::y::Y)"), "{wrong}");
    assert!(wrong.contains("room/y.rs:2 → room/x.rs (crate::room::x::X)"), "{wrong}");
    assert!(wrong.starts_with("1 mistakes"), "{wrong}");
}

#[test]
fn a_circle_may_go_through_several_files() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "pub struct A(crate::b::B);"),
        ("b.rs", "pub struct B(crate::c::C);"),
        ("c.rs", "pub type C = Box<crate::a::A>;"),
    ];
    let wrong = wrong_on_the_ground(&files);
    assert!(wrong.contains("a.rs, b.rs, c.rs import each other in a circle"), "{wrong}");
}

#[test]
fn an_import_from_a_higher_floor_the_same_floor_or_the_root_is_upwards() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c; mod room; pub struct Top;"),
        ("a.rs", "use crate::room::R;"),
        ("b.rs", "pub struct B;"),
        ("c.rs", "use crate::Top;"),
        ("room/mod.rs", "pub struct R;"),
    ];
    let found = wrong(&files, FLOORS);
    assert!(found.contains("a.rs:1 → room/mod.rs (crate::room::R): upwards"), "{found}");
    assert!(found.contains("c.rs:1 → lib.rs (crate::Top): upwards, to what is above"), "{found}");
    assert!(found.starts_with("2 mistakes"), "{found}");
    let files = [
        ("lib.rs", "mod a; mod b; mod c; mod room;"),
        ("a.rs", "fn a() { use crate::b::B; }"),
        ("b.rs", "pub struct B;"),
        ("c.rs", ""),
        ("room/mod.rs", ""),
    ];
    let found = wrong(&files, FLOORS);
    assert!(found.contains("a.rs:1 → b.rs (crate::b::B): a and b are on one floor"), "{found}");
}

#[test]
fn a_name_that_is_passed_on_is_imported_from_where_it_is_defined() {
    let files = [
        ("lib.rs", "mod a; mod c; mod room;"),
        ("a.rs", "use crate::room::Inner as Renamed;"),
        ("c.rs", ""),
        ("room/mod.rs", "mod inner; mod outer; pub use self::inner::*; pub use outer::Outer;"),
        ("room/inner.rs", "pub use super::outer::Inner;"),
        ("room/outer.rs", "pub struct Inner; pub struct Outer;"),
    ];
    let map = "```floors\nsmall\na\nroom/\nc\n```";
    assert!(wrong(&files, map).contains("a.rs:1 → room/outer.rs (crate::room::outer::Inner)"));
}

#[test]
fn a_module_that_uses_what_it_passes_on_imports_it() {
    let module = |uses: &str| {
        let module = format!("mod inner; pub use self::inner::Inner; pub struct Outer; {uses}");
        wrong_on_the_ground(&[
            ("lib.rs", "mod room;"),
            ("room.rs", &module),
            ("room/inner.rs", "pub struct Inner(super::Outer);"),
        ])
    };
    assert_eq!(module(""), "");
    assert!(module("fn f(_: Inner) {}").contains("circle"));
    assert!(module("fn f() { some_macro!(x = Inner::new()) }").contains("circle"));
}

#[test]
fn what_is_taken_through_the_root_is_told_where_it_is() {
    let files = [
        ("lib.rs", "mod a; mod b; pub use self::a::A;"),
        ("a.rs", "pub struct A;"),
        ("b.rs", "fn f() {\n crate::A; super::A; crate::a::A; }"),
    ];
    let wrong = wrong_on_the_ground(&files);
    assert!(
        wrong.contains("b.rs:2 takes crate::A through the crate's root; to mend it, write crate::a::A"),
        "{wrong}"
    );
    assert!(wrong.contains("b.rs:2 takes super::A"), "{wrong}");
    assert!(wrong.starts_with("2 mistakes"), "{wrong}");
}

#[test]
fn tests_may_import_what_they_like() {
    let a = "#[cfg(test)] mod tests; #[cfg(test)] use crate::b::B; #[cfg(all(test, unix))] mod more { use crate::b::B; } \
             struct A; impl A { #[cfg(test)] fn f(_: crate::b::B) {} }";
    let files = [("lib.rs", "mod a; mod b;"), ("a.rs", a), ("b.rs", "pub struct B;")];
    assert_eq!(wrong_on_the_ground(&files), "");
    let files = [("lib.rs", "mod a; mod b;"), ("a.rs", "#[cfg(not(test))] use crate::b::B;"), files[2]];
    assert!(wrong_on_the_ground(&files).contains("upwards"));
}

#[test]
fn imports_are_found_wherever_paths_stand() {
    for (how, text) in [
        ("in a type", "struct A(Vec<crate::b::B>);"),
        ("in a pattern", "fn f() { if let super::b::B { .. } = x {} }"),
        ("after an import of its module", "use crate::b; fn f() { b::B::new() }"),
        ("after one in a function", "fn f() { use crate::b; b::B::new() }"),
        ("in a macro", "fn f() { println!(\"{}\", crate::b::B) }"),
        ("in an attribute", "#[arg(value_parser = crate::b::B)] struct A;"),
        ("in a module of the file", "mod inner { use super::super::b::B; }"),
        ("in a macro of the crate", "macro_rules! m { () => { $crate::b::B } }"),
    ] {
        let files = [("lib.rs", "mod a; mod b;"), ("a.rs", text), ("b.rs", "pub struct B;")];
        assert!(wrong_on_the_ground(&files).contains("(crate::b::B): upwards"), "{how}");
    }
}

#[test]
fn names_of_variables_other_crates_and_modules_are_no_imports() {
    let text = "use std::fmt; mod b2 {} fn f(b: u8) { let x = b.b; fmt::b(); ::b::B; log!(b = 1, x: b); }";
    let files = [("lib.rs", "mod a; mod b;"), ("a.rs", text), ("b.rs", "pub struct B; pub fn b() {}")];
    assert_eq!(wrong_on_the_ground(&files), "");
}

#[test]
fn every_file_is_in_a_room_and_every_room_has_a_file() {
    let files = [("lib.rs", "mod a; mod d;"), ("a.rs", ""), ("d.rs", "")];
    let wrong = wrong(&files, FLOORS);
    assert!(wrong.contains("d.rs is in no room"), "{wrong}");
    assert!(wrong.contains("the room b of small is not there"), "{wrong}");
    assert!(!wrong.contains("the room a "), "{wrong}");
}

#[test]
fn a_crate_without_floors_is_told_so() {
    assert!(wrong(&[("lib.rs", "")], "").contains("ARCHITECTURE.md has no floors of small"));
}

#[test]
fn a_folder_may_have_floors_of_its_own_and_the_inner_of_two_rooms_counts() {
    let files = [
        ("lib.rs", "mod a; mod room;"),
        ("a.rs", "use crate::room::low::Low;"),
        ("room/mod.rs", "pub mod low; mod high; struct Here(high::High);"),
        ("room/low.rs", "pub struct Low(super::high::High);"),
        ("room/high.rs", "pub struct High;"),
    ];
    let map = "```floors\nsmall\nroom/low\na\nroom/\n```\n```floors\nsmall room/\nlow\nhigh\n```";
    let wrong = wrong(&files, map);
    assert!(
        wrong.contains(
            "room/low.rs:1 → room/high.rs (crate::room::high::High): upwards, from the floor of low"
        )
    );
    assert!(wrong.contains("from the floor of room/low to room/"), "{wrong}");
    assert!(wrong.starts_with("2 mistakes"), "{wrong}");
}

#[test]
fn the_file_of_a_folder_is_above_its_rooms_unless_it_is_named() {
    let files = [
        ("lib.rs", "mod room;"),
        ("room/mod.rs", "mod inner; pub struct Word;"),
        ("room/inner.rs", "use super::Word;"),
    ];
    let with = |floors: &str| format!("```floors\nsmall\nroom/\n```\n```floors\nsmall room/\n{floors}\n```");
    assert!(wrong(&files, &with("inner")).contains("upwards, to what is above all rooms"));
    assert_eq!(wrong(&files, &with("mod\ninner")), "");
}

#[test]
fn a_file_that_is_not_there_or_not_rust_is_a_mistake() {
    assert!(wrong(&[("lib.rs", "mod a;")], FLOORS).contains("lib.rs: mod a: there is no a.rs, no a/mod.rs"));
    assert!(wrong(&[("lib.rs", "\nfn {")], FLOORS).contains("lib.rs:2: "));
    let with_path = [("lib.rs", "#[path = \"elsewhere.rs\"] mod a;"), ("elsewhere.rs", "")];
    assert!(wrong(&with_path, "```floors\nsmall\nelsewhere\n```").is_empty());
}
