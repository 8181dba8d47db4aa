//! A crate as the compiler sees it: its modules, the files that they are in, and what each name in them stands for.
//! Modules and items that are only there for tests are left out.

use std::{cell::Cell, collections::HashMap};

use syn::{
    Attribute, Expr, Item, ItemMod, ItemUse, Lit, Meta, Token, UseTree, Visibility, punctuated::Punctuated,
};

/// Names that import each other are given up after so many steps.
const STEPS: usize = 64;

pub(super) struct Tree {
    pub(super) files: Vec<File>,
    modules: Vec<Module>,
}

pub(super) struct File {
    /// Under `src`, with slashes.
    pub(super) path: String,
    pub(super) syntax: syn::File,
    /// The module that it is, an index.
    pub(super) module: usize,
}

struct Module {
    /// An index.
    file: usize,
    parent: Option<usize>,
    path: Vec<String>,
    /// There may be several, for one system each.
    names: HashMap<String, Vec<Name>>,
    globs: Vec<Vec<String>>,
    /// Modules within a file, by the line that they begin at.
    inline: HashMap<usize, usize>,
}

enum Name {
    /// Defined here.
    Item,
    Module(usize),
    Import(Vec<String>),
}

/// One name that a `use` brings in.
pub(super) struct Used {
    pub(super) path: Vec<String>,
    /// Under which name; `None` for all that is there.
    pub(super) name: Option<String>,
    pub(super) line: usize,
}

/// What a path stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The file that defines it, an index.
    pub(super) file: usize,
    /// The module that defines it, an index.
    pub(super) module: usize,
    /// From the crate on.
    pub(super) name: String,
    /// The path goes through a name that the crate's root only passes on.
    pub(super) through_root: bool,
}

impl Tree {
    /// Reads a crate from its root file; `read` gives the text of a file under `src`.
    pub(super) fn read(root: &str, read: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut tree = Self { files: Vec::new(), modules: Vec::new() };
        let text = read(root).ok_or_else(|| format!("{root} is not there"))?;
        tree.file(root.to_owned(), &text, None, Vec::new(), read)?;
        Ok(tree)
    }

    fn file(
        &mut self,
        path: String,
        text: &str,
        parent: Option<usize>,
        name: Vec<String>,
        read: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<usize>, String> {
        let mut syntax = syn::parse_file(text)
            .map_err(|error| format!("{path}:{}: {error}", error.span().start().line))?;
        if for_tests(&syntax.attrs) {
            return Ok(None);
        }
        let index = self.files.len();
        let module = self.module(index, parent, name);
        let items = std::mem::take(&mut syntax.items);
        let folder = folder_of_children(&path, parent.is_none());
        self.files.push(File { path, syntax, module });
        self.items(module, &items, &folder, read)?;
        self.files[index].syntax.items = items;
        Ok(Some(module))
    }

    fn module(&mut self, file: usize, parent: Option<usize>, path: Vec<String>) -> usize {
        let (names, globs, inline) = (HashMap::new(), Vec::new(), HashMap::new());
        self.modules.push(Module { file, parent, path, names, globs, inline });
        self.modules.len() - 1
    }

    fn items(
        &mut self,
        module: usize,
        items: &[Item],
        folder: &str,
        read: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), String> {
        for item in items.iter().filter(|item| !for_tests(attributes(item))) {
            match item {
                Item::Mod(child) => {
                    if let Some(found) = self.child(module, child, folder, read)? {
                        self.name(module, child.ident.to_string(), Name::Module(found));
                    }
                }
                Item::Use(item) => {
                    for Used { path, name, .. } in used(item) {
                        match name {
                            Some(name) => self.name(module, name, Name::Import(path)),
                            None => self.modules[module].globs.push(path),
                        }
                    }
                }
                item => {
                    if let Some(name) = name_of(item) {
                        self.name(module, name, Name::Item);
                    }
                }
            }
        }
        Ok(())
    }

    fn name(&mut self, module: usize, name: String, stands_for: Name) {
        self.modules[module].names.entry(name).or_default().push(stands_for);
    }

    fn child(
        &mut self,
        parent: usize,
        child: &ItemMod,
        folder: &str,
        read: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<usize>, String> {
        let name = child.ident.to_string();
        let mut path = self.modules[parent].path.clone();
        path.push(name.clone());
        let file = self.modules[parent].file;
        if let Some((_, items)) = &child.content {
            let module = self.module(file, Some(parent), path);
            self.modules[parent].inline.insert(child.ident.span().start().line, module);
            self.items(module, items, &format!("{folder}{name}/"), read)?;
            return Ok(Some(module));
        }
        let candidates = match path_attribute(&child.attrs) {
            Some(file_name) => {
                let (beside, _) = self.files[file].path.rsplit_once('/').unwrap_or_default();
                vec![if beside.is_empty() { file_name } else { format!("{beside}/{file_name}") }]
            }
            None => vec![format!("{folder}{name}.rs"), format!("{folder}{name}/mod.rs")],
        };
        for candidate in &candidates {
            if let Some(text) = read(candidate) {
                return self.file(candidate.clone(), &text, Some(parent), path, read);
            }
        }
        Err(format!("{}: mod {name}: there is no {}", self.files[file].path, candidates.join(", no ")))
    }

    /// The module that begins at this line of another's file.
    pub(super) fn inline(&self, module: usize, line: usize) -> Option<usize> {
        self.modules[module].inline.get(&line).copied()
    }

    /// Whether a module is inside of another, or the same.
    pub(super) fn is_inside(&self, mut module: usize, outer: usize) -> bool {
        while module != outer {
            match self.modules[module].parent {
                Some(parent) => module = parent,
                None => return false,
            }
        }
        true
    }

    /// What a path in a module stands for, if it is this crate's: nothing for what comes from other crates, and for
    /// modules themselves.
    pub(super) fn resolve(&self, module: usize, path: &[String]) -> Vec<Found> {
        let mut found = Vec::new();
        let search = Search { tree: self, file: self.modules[module].file, steps: Cell::new(STEPS) };
        search.path(module, path, false, &mut found);
        found
    }
}

struct Search<'a> {
    tree: &'a Tree,
    /// Who asks.
    file: usize,
    steps: Cell<usize>,
}

impl Search<'_> {
    fn path(&self, module: usize, path: &[String], through_root: bool, found: &mut Vec<Found>) {
        let Some(left) = self.steps.get().checked_sub(1) else { return };
        self.steps.set(left);
        let (mut at, mut rest) = (module, path);
        while let Some((first, more)) = rest.split_first() {
            at = match first.as_str() {
                "crate" => 0,
                "self" => at,
                "super" => match self.tree.modules[at].parent {
                    Some(parent) => parent,
                    None => return,
                },
                _ => break,
            };
            rest = more;
        }
        self.name(at, rest, through_root, found);
    }

    fn name(&self, at: usize, path: &[String], through_root: bool, found: &mut Vec<Found>) {
        let Some((first, rest)) = path.split_first() else { return };
        let module = &self.tree.modules[at];
        let Some(names) = module.names.get(first) else {
            for glob in &module.globs {
                let path: Vec<String> = glob.iter().chain(path).cloned().collect();
                self.path(at, &path, through_root, found);
            }
            return;
        };
        for name in names {
            match name {
                Name::Item => {
                    let name = module.path.iter().chain([first]).map(String::as_str).collect::<Vec<_>>();
                    let name = format!("crate::{}", name.join("::"));
                    let item = Found { file: module.file, module: at, name, through_root };
                    if !found.contains(&item) {
                        found.push(item);
                    }
                }
                Name::Module(module) => self.name(*module, rest, through_root, found),
                Name::Import(import) => {
                    let path: Vec<String> = import.iter().chain(rest).cloned().collect();
                    let passed_on = at == 0 && module.file != self.file;
                    self.path(at, &path, through_root || passed_on, found);
                }
            }
        }
    }
}

/// Where the files of a file's modules are: a folder with a slash at its end.
fn folder_of_children(path: &str, is_root: bool) -> String {
    match path.rsplit_once('/') {
        _ if is_root => String::new(),
        Some((folder, "mod.rs")) => format!("{folder}/"),
        _ => format!("{}/", path.trim_end_matches(".rs")),
    }
}

/// What a `use` brings in. A path that begins with `::` is another crate's.
pub(super) fn used(item: &ItemUse) -> Vec<Used> {
    let mut all = Vec::new();
    let start = item.leading_colon.iter().map(|_| "::".to_owned()).collect();
    flatten(&item.tree, start, &mut all);
    all
}

fn flatten(tree: &UseTree, mut path: Vec<String>, all: &mut Vec<Used>) {
    match tree {
        UseTree::Path(inner) => {
            path.push(inner.ident.to_string());
            flatten(&inner.tree, path, all);
        }
        UseTree::Name(inner) => {
            let name = inner.ident.to_string();
            if name != "self" {
                path.push(name);
            }
            let line = inner.ident.span().start().line;
            all.push(Used { name: path.last().cloned(), path, line });
        }
        UseTree::Rename(inner) => {
            let name = inner.ident.to_string();
            if name != "self" {
                path.push(name);
            }
            let line = inner.ident.span().start().line;
            all.push(Used { path, name: Some(inner.rename.to_string()), line });
        }
        UseTree::Glob(inner) => {
            all.push(Used { path, name: None, line: inner.star_token.spans[0].start().line });
        }
        UseTree::Group(inner) => {
            for tree in &inner.items {
                flatten(tree, path.clone(), all);
            }
        }
    }
}

pub(super) fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether it is passed on to others.
pub(super) fn is_passed_on(item: &ItemUse) -> bool {
    !matches!(item.vis, Visibility::Inherited)
}

/// Whether it is only there for tests.
pub(super) fn for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            list.parse_args::<Meta>().is_ok_and(|condition| never_without_tests(&condition))
        }
        meta => meta.path().is_ident("test"),
    })
}

fn never_without_tests(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) => {
            let inner = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
            let inner = inner.unwrap_or_default();
            if list.path.is_ident("all") {
                inner.iter().any(never_without_tests)
            } else {
                list.path.is_ident("any") && !inner.is_empty() && inner.iter().all(never_without_tests)
            }
        }
        Meta::NameValue(_) => false,
    }
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("path") => match &meta.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    })
}
