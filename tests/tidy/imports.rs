//! Who imports whom among the files of a crate.
//!
//! An import is a path that begins with `crate`, `self`, `super`, a child module or an imported
//! name, in a `use` or in code. It goes to the file that defines what is named: imports on the way
//! are followed.
//!
//! ```text
//!   // src/lib.rs          // src/tiles.rs           // src/ntt/visit.rs
//!   pub use a::Tiles;      pub use layout::Layout;   use crate::tiles::Layout;
//!   hands on               hands on                  imports src/tiles/layout.rs
//! ```
//!
//! What a file hands on (`pub use`) and does not use itself is no import of its own. Not seen are
//! methods of a type whose name is not said, and what macros make of their words.

use crate::source::Source;
use std::collections::{BTreeMap, HashMap};

/// How often a name may be handed on before the search for its file ends.
const HOPS_MAX: usize = 8;

/// Pairs of modules of which the first imports the second, with the first place where.
pub(crate) type Imports<'a> = BTreeMap<(&'a str, &'a str), String>;

/// The imports of the files `sources`, which are the modules `names`.
pub(crate) fn imports_of<'a>(names: &'a [String], sources: &[Source]) -> Imports<'a> {
    let imports = Crate::of(names, sources).imports();
    let named = imports.iter().map(|((from, to), line)| {
        let place = format!("{}:{line}", sources[*from].name);
        ((names[*from].as_str(), names[*to].as_str()), place)
    });
    named.collect()
}

/// Where a module is: a file, and the inline modules in it.
type Place = (usize, Vec<String>);

/// A crate's files by module.
struct Crate<'a> {
    sources: &'a [Source],
    modules: HashMap<Vec<String>, Place>,
    paths: Vec<Vec<String>>,
}

impl<'a> Crate<'a> {
    fn of(names: &[String], sources: &'a [Source]) -> Self {
        let path_of = |name: &String| match name.as_str() {
            "lib" | "main" => Vec::new(),
            name => name.split('/').map(str::to_owned).collect::<Vec<_>>(),
        };
        let paths: Vec<Vec<String>> = names.iter().map(path_of).collect();
        let mut modules = HashMap::new();
        for (file, (path, source)) in paths.iter().zip(sources).enumerate() {
            if names[file] != "main" {
                modules.insert(path.clone(), (file, Vec::new()));
            }
            for inline in &source.modules {
                modules.insert([&path[..], inline].concat(), (file, inline.clone()));
            }
        }
        Self { sources, modules, paths }
    }

    /// Pairs of files of which the first imports the second, with the first line where.
    fn imports(&self) -> BTreeMap<(usize, usize), usize> {
        let mut imports = BTreeMap::new();
        for (file, source) in self.sources.iter().enumerate() {
            let used = source
                .imports
                .iter()
                .filter(|import| !import.is_public || source.heads.contains(&import.name));
            for named in used.map(|import| &import.named).chain(&source.paths) {
                let to = self.resolve(&self.module_at(file, &named.inline), &named.path, HOPS_MAX);
                if let Some(to) = to.filter(|to| *to != file) {
                    let line = imports.entry((file, to)).or_insert(named.line);
                    *line = named.line.min(*line);
                }
            }
        }
        imports
    }

    fn module_at(&self, file: usize, inline: &[String]) -> Vec<String> {
        [&self.paths[file], inline].concat()
    }

    /// The file that defines what `path` names where `module` says it; none of another crate.
    fn resolve(&self, module: &[String], path: &[String], hops: usize) -> Option<usize> {
        let (mut at, rest) = self.start(module, path, hops)?;
        for (i, word) in rest.iter().enumerate() {
            at.push(word.clone());
            if self.modules.contains_key(&at) {
                continue;
            }
            at.pop();
            if word == "*" {
                break;
            }
            let tail = &rest[i + 1..];
            return self.handed_on(&at, word, tail, hops).or_else(|| self.file_of(&at));
        }
        self.file_of(&at)
    }

    /// The module that `path` starts in, and the words of it that follow.
    fn start<'p>(
        &self,
        module: &[String],
        path: &'p [String],
        hops: usize,
    ) -> Option<(Vec<String>, &'p [String])> {
        let mut at = module.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => Some((Vec::new(), &path[1..])),
            "self" | "super" => {
                while let Some(word) = rest.first().filter(|w| *w == "self" || *w == "super") {
                    if word == "super" {
                        at.pop();
                    }
                    rest = &rest[1..];
                }
                Some((at, rest))
            }
            first => {
                at.push(first.to_owned());
                if self.modules.contains_key(&at) {
                    return Some((at, &path[1..]));
                }
                at.pop();
                // A name that was imported, or is handed on, stands for its path.
                self.handed_on(&at, first, &path[1..], hops).is_some().then_some((at, path))
            }
        }
    }

    /// Follows `name` through the imports of the module `at`.
    fn handed_on(&self, at: &[String], name: &str, tail: &[String], hops: usize) -> Option<usize> {
        let hops = hops.checked_sub(1)?;
        let (file, inline) = self.modules.get(at)?;
        let imports =
            || self.sources[*file].imports.iter().filter(|import| import.named.inline == *inline);
        if let Some(import) = imports().find(|import| import.name == name) {
            let path = [&import.named.path, tail].concat();
            return self.resolve(at, &path, hops);
        }
        imports().filter(|import| import.name == "*").find_map(|import| {
            let whole = &import.named.path[..import.named.path.len() - 1];
            let target = self.resolve_module(at, whole, hops)?;
            let (file, inline) = self.modules.get(&target)?;
            let is_defined =
                self.sources[*file].defined.contains(&(inline.clone(), name.to_owned()));
            match self.handed_on(&target, name, tail, hops) {
                None if is_defined => Some(*file),
                found => found,
            }
        })
    }

    /// The module that `path` names where `module` says it.
    fn resolve_module(
        &self,
        module: &[String],
        path: &[String],
        hops: usize,
    ) -> Option<Vec<String>> {
        let (at, rest) = self.start(module, path, hops)?;
        let whole = [at, rest.to_vec()].concat();
        self.modules.contains_key(&whole).then_some(whole)
    }

    fn file_of(&self, module: &[String]) -> Option<usize> {
        self.modules.get(module).map(|(file, _)| *file)
    }
}
