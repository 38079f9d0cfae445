//! The files of a crate and what each takes from the others, read with `syn`.
//!
//! A path counts wherever it stands: in a `use`, a type, an expression. A re-export (`pub use`)
//! passes a name on, so a path through it leads to the file that defines the name. Paths inside the
//! arguments of macros are ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Block, ImplItemFn, Item, ItemFn, ItemMod, ItemUse, TraitItemFn, UseTree, Visibility};

/// The segments of a module's path from the crate's root, which is empty.
type ModulePath = Vec<String>;

/// Re-exports that lead to re-exports are followed this many times.
const REEXPORTS_MAX: usize = 8;

/// One target of a crate: a library, a program, a test.
#[derive(Debug, Default)]
pub(super) struct Target {
    modules: BTreeMap<ModulePath, Module>,
    /// The functions of all files.
    pub(super) functions: Vec<Function>,
}

#[derive(Debug, Default)]
struct Module {
    file: PathBuf,
    /// Names that a `use` binds in this module, and the paths that they stand for.
    bindings: BTreeMap<String, Vec<String>>,
    /// Every path that the module's code names, as written.
    paths: Vec<Vec<String>>,
}

/// A function's place and length.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) file: PathBuf,
    pub(super) name: String,
    /// The line that it begins in, counted from 1.
    pub(super) line: usize,
    /// From its signature to its closing brace.
    pub(super) lines: usize,
}

/// The files that each file imports from.
pub(super) type Imports = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

impl Target {
    /// Reads the target whose root is `file` with all its modules; `read` returns a file's text, if it exists.
    pub(super) fn read(file: &Path, read: &impl Fn(&Path) -> Option<String>) -> Self {
        let mut target = Self::default();
        let folder = file.parent().unwrap().to_owned();
        target.add_file(file, &folder, &[], read);
        target
    }

    fn add_file(
        &mut self,
        file: &Path,
        folder: &Path,
        module: &[String],
        read: &impl Fn(&Path) -> Option<String>,
    ) {
        let text = read(file).unwrap_or_else(|| panic!("{}: no such file", file.display()));
        let syntax =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.add_items(&syntax.items, file, folder, module, read);
    }

    fn add_items(
        &mut self,
        items: &[Item],
        file: &Path,
        folder: &Path,
        module: &[String],
        read: &impl Fn(&Path) -> Option<String>,
    ) {
        let mut found = Finder { file, module: Module::default(), functions: &mut self.functions };
        found.module.file = file.to_owned();
        for item in items {
            found.visit_item(item);
        }
        let here = found.module;
        self.modules.insert(module.to_vec(), here);
        for item in items {
            let Item::Mod(child) = item else { continue };
            let name = child.ident.to_string();
            let path = [module, std::slice::from_ref(&name)].concat();
            let below = folder.join(&name);
            match &child.content {
                Some((_, items)) => self.add_items(items, file, &below, &path, read),
                None => self.add_child(child, folder, &path, read),
            }
        }
    }

    fn add_child(
        &mut self,
        child: &ItemMod,
        folder: &Path,
        path: &[String],
        read: &impl Fn(&Path) -> Option<String>,
    ) {
        let name = child.ident.to_string();
        let below = folder.join(&name);
        let files = match attribute_path(child) {
            Some(named) => vec![folder.join(named)],
            None => vec![folder.join(format!("{name}.rs")), below.join("mod.rs")],
        };
        let file = files.iter().find(|file| read(file).is_some());
        let file = file.unwrap_or_else(|| panic!("no file for the module {}", path.join("::")));
        self.add_file(file, &below, path, read);
    }

    /// Returns the imports between the target's files.
    pub(super) fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (module, contents) in &self.modules {
            let files = contents.paths.iter().filter_map(|path| self.file_of(module, path, 0));
            let others = files.filter(|file| **file != contents.file).cloned();
            imports.entry(contents.file.clone()).or_default().extend(others);
        }
        imports
    }

    /// Returns the file that defines what `path`, written in `module`, names; `None` outside the target.
    fn file_of(&self, module: &ModulePath, path: &[String], followed: usize) -> Option<&PathBuf> {
        let (mut here, rest) = self.start_of(module, path)?;
        for (at, segment) in rest.iter().enumerate() {
            let child = [here.as_slice(), std::slice::from_ref(segment)].concat();
            if self.modules.contains_key(&child) {
                here = child;
                continue;
            }
            let bound = self.modules[&here].bindings.get(segment);
            if let Some(target) = bound.filter(|_| followed < REEXPORTS_MAX) {
                let target = [target.as_slice(), &rest[at + 1..]].concat();
                return self.file_of(&here, &target, followed + 1);
            }
            break;
        }
        Some(&self.modules[&here].file)
    }

    /// Returns the module that a path starts from, and the segments that follow.
    fn start_of<'a>(
        &self,
        module: &ModulePath,
        path: &'a [String],
    ) -> Option<(ModulePath, &'a [String])> {
        match path.first()?.as_str() {
            "crate" => Some((ModulePath::new(), &path[1..])),
            "self" => Some((module.clone(), &path[1..])),
            "super" => {
                let ups = path.iter().take_while(|segment| *segment == "super").count();
                let parent = module.len().checked_sub(ups)?;
                Some((module[..parent].to_vec(), &path[ups..]))
            }
            first => {
                let child = [module.as_slice(), &[first.to_owned()]].concat();
                self.modules.contains_key(&child).then(|| (module.clone(), path))
            }
        }
    }
}

/// The file that `#[path = "…"]` names.
fn attribute_path(module: &ItemMod) -> Option<String> {
    let attribute = module.attrs.iter().find(|attribute| attribute.path().is_ident("path"))?;
    let syn::Meta::NameValue(value) = &attribute.meta else { return None };
    let syn::Expr::Lit(literal) = &value.value else { return None };
    let syn::Lit::Str(text) = &literal.lit else { return None };
    Some(text.value())
}

/// Collects the paths and functions of one module, and leaves its child modules alone.
struct Finder<'a> {
    file: &'a Path,
    module: Module,
    functions: &'a mut Vec<Function>,
}

impl Finder<'_> {
    fn add_function(&mut self, name: &syn::Ident, block: &Block) {
        let (start, end) = (name.span().start().line, end_of(block));
        self.functions.push(Function {
            file: self.file.to_owned(),
            name: name.to_string(),
            line: start,
            lines: end + 1 - start,
        });
    }
}

/// The line of a block's closing brace.
fn end_of(block: &Block) -> usize {
    block.brace_token.span.close().end().line
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_reexport = !matches!(item.vis, Visibility::Inherited);
        for (name, path) in flatten(&item.tree) {
            if !is_reexport {
                self.module.paths.push(path.clone());
            }
            if let Some(name) = name {
                self.module.bindings.insert(name, path);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string());
            self.module.paths.push(segments.collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.add_function(&item.sig.ident, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.add_function(&item.sig.ident, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = &item.default {
            self.add_function(&item.sig.ident, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// The names that a `use` binds, each with its whole path; a glob binds no name.
fn flatten(tree: &UseTree) -> Vec<(Option<String>, Vec<String>)> {
    let mut found = Vec::new();
    let mut open = vec![(Vec::new(), tree)];
    while let Some((prefix, tree)) = open.pop() {
        let with = |name: String| [prefix.as_slice(), &[name]].concat();
        match tree {
            UseTree::Path(path) => open.push((with(path.ident.to_string()), &path.tree)),
            UseTree::Group(group) => {
                open.extend(group.items.iter().map(|item| (prefix.clone(), item)));
            }
            UseTree::Glob(_) => found.push((None, prefix)),
            UseTree::Name(name) if name.ident == "self" => {
                found.push((prefix.last().cloned(), prefix));
            }
            UseTree::Name(name) => {
                found.push((Some(name.ident.to_string()), with(name.ident.to_string())));
            }
            UseTree::Rename(rename) => {
                found.push((Some(rename.rename.to_string()), with(rename.ident.to_string())));
            }
        }
    }
    found
}
