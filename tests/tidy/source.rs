//! What a source file names: its imports, its paths, its words and its texts, tests left out.
//!
//! ```text
//!   text --tokens (proc-macro2)--> attributes and #[cfg(test)] items dropped
//!        --> imports   `use` trees, a line for each leaf, with the name that it gets here
//!            paths     `a::b` in code
//!            heads     the first words of paths, and words that stand alone
//!            words     every word            texts     what strings say
//!            types     names of types and traits that are defined
//! ```
//!
//! Comments, documentation and the insides of strings are no tokens, so that nothing of them is
//! taken for code. The reader knows no types: a method call names no room.

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use std::collections::HashSet;

/// Words that end a name which is defined here.
const DEFINERS: [&str; 9] =
    ["fn", "struct", "enum", "union", "trait", "type", "const", "static", "macro_rules"];

/// Those of them that define a type or a trait. `type` does outside of all brackets: inside it may
/// be what an `impl` says of its trait.
const TYPE_DEFINERS: [&str; 4] = ["struct", "enum", "union", "trait"];

/// A path, in the module of the file (by inline `mod`s) that says it.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// The inline modules around it, outermost first.
    pub(crate) inline: Vec<String>,
    /// `crate`, `super`, .. first; `*` last for all of a module.
    pub(crate) path: Vec<String>,
    /// Its line, from 1.
    pub(crate) line: usize,
}

/// One leaf of a `use`.
#[derive(Clone, Debug)]
pub(crate) struct Import {
    pub(crate) named: Named,
    /// What it is called here.
    pub(crate) name: String,
    /// Whether it is handed on (`pub`, also to a part of the crate).
    pub(crate) is_public: bool,
}

/// What one source file names: its imports and the calls that the rules look for.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// From the project's root.
    pub(crate) name: String,
    pub(crate) imports: Vec<Import>,
    pub(crate) paths: Vec<Named>,
    pub(crate) heads: HashSet<String>,
    pub(crate) words: Vec<(String, usize)>,
    pub(crate) texts: Vec<(String, usize)>,
    /// Names that items of this file have, with the inline modules around them.
    pub(crate) defined: HashSet<(Vec<String>, String)>,
    /// Inline modules.
    pub(crate) modules: Vec<Vec<String>>,
    /// Types and traits that are defined here, with their lines.
    pub(crate) types: Vec<(String, usize)>,
    /// Brackets around what is being read, those of inline modules not counted.
    depth: usize,
}

/// Says whether the file at `name` holds tests alone.
pub(crate) fn is_of_tests(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    file == "tests.rs"
        || file.starts_with("tests_")
        || file.ends_with("_tests.rs")
        || file.ends_with("_model.rs")
        || name.contains("/tests/")
}

impl Source {
    /// Reads the file `name` with `text` in it.
    pub(crate) fn read(name: &str, text: &str) -> Self {
        let stream: TokenStream =
            text.parse().unwrap_or_else(|why| panic!("{name}: no tokens of Rust: {why}"));
        let mut source = Self { name: name.to_owned(), ..Self::default() };
        source.walk(&trees(stream), &[]);
        source
    }

    fn walk(&mut self, trees: &[TokenTree], inline: &[String]) {
        let mut i = 0;
        while i < trees.len() {
            i = match &trees[i] {
                TokenTree::Punct(punct) if punct.as_char() == '#' => after_attribute(trees, i),
                // A lifetime, or what follows a type or the root: no name of ours.
                TokenTree::Punct(punct) if punct.as_char() == '\'' => i + 2,
                TokenTree::Punct(_) if is_double_colon(trees, i) => after_path(trees, i),
                TokenTree::Punct(_) => i + 1,
                TokenTree::Literal(literal) => {
                    let line = literal.span().start().line;
                    self.texts.extend(said(&literal.to_string()).map(|text| (text, line)));
                    i + 1
                }
                TokenTree::Group(group) => {
                    self.depth += 1;
                    self.walk(&self::trees(group.stream()), inline);
                    self.depth -= 1;
                    i + 1
                }
                TokenTree::Ident(ident) => match (ident.to_string().as_str(), &trees[i + 1..]) {
                    ("pub", [TokenTree::Group(group), ..]) if is_reach(group) => i + 2,
                    ("mod", [TokenTree::Ident(name), TokenTree::Group(group), ..]) => {
                        let inline = [inline, &[name.to_string()]].concat();
                        self.modules.push(inline.clone());
                        self.walk(&self::trees(group.stream()), &inline);
                        i + 3
                    }
                    ("mod", [TokenTree::Ident(_), ..]) => i + 2,
                    ("use", [next, ..]) if !is_punct(next, '<') => self.import(trees, i, inline),
                    _ => self.path(trees, i, inline),
                },
            };
        }
    }

    /// Notes the path that begins at `start`, and returns the index behind it.
    fn path(&mut self, trees: &[TokenTree], start: usize, inline: &[String]) -> usize {
        let end = after_path(trees, start);
        let mut path = Vec::new();
        for tree in &trees[start..end] {
            if let TokenTree::Ident(ident) = tree {
                let word = ident.to_string();
                self.words.push((word.clone(), ident.span().start().line));
                path.push(word);
            }
        }
        let before = |back: usize| start.checked_sub(back).map(|at| &trees[at]);
        let is_after = |wanted: char, back| before(back).is_some_and(|tree| is_punct(tree, wanted));
        let definer = match before(1) {
            Some(TokenTree::Ident(word)) => Some(word.to_string()),
            _ => None,
        };
        let is_field = is_after('.', 1) && !is_after('.', 2);
        if definer.as_ref().is_some_and(|word| DEFINERS.contains(&word.as_str())) {
            let is_type =
                |word: &str| TYPE_DEFINERS.contains(&word) || word == "type" && self.depth == 0;
            if definer.is_some_and(|word| is_type(&word)) {
                self.types.push((path[0].clone(), trees[start].span().start().line));
            }
            self.defined.insert((inline.to_vec(), path[0].clone()));
        } else if !is_field {
            self.heads.insert(path[0].clone());
            if path.len() > 1 {
                let line = trees[start].span().start().line;
                self.paths.push(Named { inline: inline.to_vec(), path, line });
            }
        }
        end
    }

    /// Notes the leaves of the `use` at `start`, and returns the index behind its semicolon.
    fn import(&mut self, trees: &[TokenTree], start: usize, inline: &[String]) -> usize {
        let is_public = match &trees[..start] {
            [.., TokenTree::Ident(word)] => word == "pub",
            [.., TokenTree::Ident(word), TokenTree::Group(_)] => word == "pub",
            _ => false,
        };
        let end = start + trees[start..].iter().take_while(|tree| !is_punct(tree, ';')).count();
        let mut leaves = Vec::new();
        leaves_of(&trees[start + 1..end], &[], &mut leaves);
        for (path, name, line) in leaves {
            self.words.extend(path.iter().map(|word| (word.clone(), line)));
            let named = Named { inline: inline.to_vec(), path, line };
            self.imports.push(Import { named, name, is_public });
        }
        end + 1
    }
}

fn trees(stream: TokenStream) -> Vec<TokenTree> {
    stream.into_iter().collect()
}

fn is_punct(tree: &TokenTree, wanted: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

/// Says whether `group` is the `(crate)` of `pub(crate)`, or one of its kind.
fn is_reach(group: &Group) -> bool {
    let first = group.stream().into_iter().next();
    let is_reach = |word: &Ident| ["crate", "self", "super", "in"].iter().any(|to| word == to);
    group.delimiter() == Delimiter::Parenthesis
        && matches!(first, Some(TokenTree::Ident(word)) if is_reach(&word))
}

fn is_double_colon(trees: &[TokenTree], at: usize) -> bool {
    matches!(&trees[at..], [first, second, ..] if is_punct(first, ':') && is_punct(second, ':'))
}

/// The index behind `a::b::c` at `at`, which may begin with `::`.
fn after_path(trees: &[TokenTree], at: usize) -> usize {
    let mut end = if is_double_colon(trees, at) { at } else { at + 1 };
    while is_double_colon(trees, end) && matches!(trees.get(end + 2), Some(TokenTree::Ident(_))) {
        end += 3;
    }
    // `::<` and the like: the colons alone.
    if end == at { at + 2 } else { end }
}

/// The index behind the attribute at `at`; behind the whole item if it is one of tests.
fn after_attribute(trees: &[TokenTree], at: usize) -> usize {
    let group = match &trees[at + 1..] {
        [TokenTree::Group(group), ..] => group,
        [_, TokenTree::Group(_), ..] => return at + 3,
        _ => return at + 1,
    };
    let said = group.stream().to_string().replace(' ', "");
    if !["test", "cfg(test)"].contains(&said.as_str()) && !said.starts_with("cfg(all(test,") {
        return at + 2;
    }
    let mut end = at + 2;
    while trees.get(end).is_some_and(|tree| is_punct(tree, '#')) {
        end += 2;
    }
    let is_import = matches!(trees.get(end), Some(TokenTree::Ident(word)) if word == "use");
    let ends = |tree: &TokenTree| match tree {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace && !is_import,
        _ => is_punct(tree, ';') || is_punct(tree, ',') && !is_import,
    };
    end + 1 + trees[end..].iter().take_while(|tree| !ends(tree)).count()
}

/// The leaves of a `use` tree below `prefix`: path, the name it gets, and its line.
fn leaves_of(
    trees: &[TokenTree],
    prefix: &[String],
    leaves: &mut Vec<(Vec<String>, String, usize)>,
) {
    for part in trees.split(|tree| is_punct(tree, ',')) {
        let mut path = prefix.to_vec();
        let mut name = None;
        let mut words = part.iter();
        let Some(first) = part.first() else { continue };
        let line = first.span().start().line;
        while let Some(tree) = words.next() {
            match tree {
                TokenTree::Group(group) => {
                    leaves_of(&self::trees(group.stream()), &path, leaves);
                    path.clear();
                }
                TokenTree::Ident(word) if word == "as" => {
                    name = words.next().map(ToString::to_string);
                }
                TokenTree::Ident(word) if word == "self" && !path.is_empty() => {}
                TokenTree::Ident(word) => path.push(word.to_string()),
                _ if is_punct(tree, '*') => path.push("*".to_owned()),
                _ => {}
            }
        }
        if let Some(last) = path.last() {
            let name = name.unwrap_or_else(|| last.clone());
            leaves.push((path, name, line));
        }
    }
}

/// What a literal says if it is a string of some kind.
fn said(literal: &str) -> Option<String> {
    let (from, to) = (literal.find('"')?, literal.rfind('"')?);
    literal.get(from + 1..to).map(str::to_owned)
}
