//! What the files of a crate import from each other: each reference in one file to an item that another defines.
//!
//! A `mod` is none, and neither is a `pub use` by which a module passes on what is inside of it, unless it uses the name
//! itself. What a name that is passed on stands for counts as an import from the file that defines it. Methods and fields
//! are not seen: their types are.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Block, ImplItem, Item, ItemMod, ItemUse, Macro, MetaList, Path, Stmt, TraitItem,
    visit::{self, Visit},
};

use super::tree::{Found, Tree, attributes, for_tests, is_passed_on, name_of, used};

/// The names that one file imports from another, with the line of the first reference, by the indices of both files.
pub(super) type Imports = BTreeMap<(usize, usize), BTreeMap<String, usize>>;

/// An import through the crate's root, of something that is only passed on there.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ThroughRoot {
    /// An index.
    pub(super) file: usize,
    pub(super) line: usize,
    pub(super) written: String,
    /// Where it is defined.
    pub(super) name: String,
}

/// Both kinds.
pub(super) fn all(tree: &Tree) -> (Imports, Vec<ThroughRoot>) {
    let mut found = (Imports::new(), Vec::new());
    for (index, file) in tree.files.iter().enumerate() {
        let mut reader =
            Reader { tree, file: index, module: file.module, scopes: Vec::new(), found: &mut found };
        reader.visit_file(&file.syntax);
    }
    found.1.sort();
    found.1.dedup();
    found
}

struct Reader<'a> {
    tree: &'a Tree,
    file: usize,
    module: usize,
    /// Names of blocks: what they import, or `None` for what they define.
    scopes: Vec<BTreeMap<String, Option<Vec<String>>>>,
    found: &'a mut (Imports, Vec<ThroughRoot>),
}

impl Reader<'_> {
    fn path(&mut self, path: &[String], line: usize) {
        let Some(first) = path.first() else { return };
        let local = self.scopes.iter().rev().find_map(|scope| scope.get(first));
        let resolved = match local {
            Some(None) => return,
            Some(Some(import)) => {
                let path: Vec<String> = import.iter().chain(&path[1..]).cloned().collect();
                self.tree.resolve(self.module, &path)
            }
            None => self.tree.resolve(self.module, path),
        };
        for found in resolved {
            self.note(found, path, line);
        }
    }

    fn note(&mut self, found: Found, path: &[String], line: usize) {
        if found.file == self.file {
            return;
        }
        // Once for a `use`, not for what then comes from it.
        if found.through_root && matches!(path[0].as_str(), "crate" | "self" | "super") {
            let written = path.join("::");
            self.found.1.push(ThroughRoot { file: self.file, line, written, name: found.name.clone() });
        }
        let names = self.found.0.entry((self.file, found.file)).or_default();
        let first = names.entry(found.name).or_insert(line);
        *first = line.min(*first);
    }

    /// Paths of two names and more, and names that begin as those of types do; nothing else can be told from the names
    /// of fields and variables.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: usize, wanted: char| matches!(tokens.get(at), Some(TokenTree::Punct(found)) if found.as_char() == wanted);
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let begins = at;
                    let mut path = vec![first.to_string()];
                    while is(at + 1, ':') && is(at + 2, ':') {
                        let Some(TokenTree::Ident(next)) = tokens.get(at + 3) else { break };
                        path.push(next.to_string());
                        at += 3;
                    }
                    let continues = begins > 0 && (is(begins - 1, '.') || is(begins - 1, ':'));
                    // `x: y` is no path.
                    let continues =
                        continues && !(is(begins - 1, ':') && !(begins > 1 && is(begins - 2, ':')));
                    let is_type = path[0].starts_with(|first: char| first.is_ascii_uppercase());
                    if !continues && (path.len() > 1 || is_type) {
                        self.path(&path, first.span().start().line);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes: &[Attribute] = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            _ => &[],
        };
        if !for_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        let attributes: &[Attribute] = match item {
            TraitItem::Const(item) => &item.attrs,
            TraitItem::Fn(item) => &item.attrs,
            TraitItem::Type(item) => &item.attrs,
            _ => &[],
        };
        if !for_tests(attributes) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let Some(module) = self.tree.inline(self.module, item.ident.span().start().line) else { return };
        let outer = std::mem::replace(&mut self.module, module);
        let scopes = std::mem::take(&mut self.scopes);
        visit::visit_item_mod(self, item);
        (self.module, self.scopes) = (outer, scopes);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for used in used(item) {
            // Of a glob, what is taken is found where it is used.
            let Some(_) = used.name else { continue };
            for found in self.tree.resolve(self.module, &used.path) {
                let passes_on = is_passed_on(item) && self.tree.is_inside(found.module, self.module);
                if !passes_on {
                    self.note(found, &used.path, used.line);
                }
            }
        }
    }

    fn visit_block(&mut self, block: &'ast Block) {
        let mut scope = BTreeMap::new();
        for statement in &block.stmts {
            match statement {
                Stmt::Item(Item::Use(item)) => {
                    let named = used(item).into_iter().filter_map(|used| Some((used.name?, Some(used.path))));
                    scope.extend(named);
                }
                Stmt::Item(item) => scope.extend(name_of(item).map(|name| (name, None))),
                _ => {}
            }
        }
        self.scopes.push(scope);
        visit::visit_block(self, block);
        self.scopes.pop();
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.leading_colon.is_none()
            && let Some(first) = path.segments.first()
        {
            let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.path(&names, first.ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        visit::visit_macro(self, item);
        self.tokens(item.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &'ast MetaList) {
        visit::visit_meta_list(self, list);
        self.tokens(list.tokens.clone());
    }
}
