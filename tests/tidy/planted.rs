//! Faults planted in texts: every rule of `rooms`, `calls` and `names` finds its own, and nothing
//! else.

use crate::calls::{ENVIRONMENT, FILE_MAPPING, KERNEL, MAPPING, Rule};
use crate::names;
use crate::rooms::{Known, Ladder};
use crate::source::Source;

/// Three lines; `upper` and `side` share one.
const DOCUMENT: &str = "\
# A house

```ladder src
lib           the face
upper, side   what is made of it
lower/        what it is made of
```

```text
nobody        no ladder
```
";

/// A house without a fault: what it says in comments, strings and tests is no import.
const HOUSE: [(&str, &str); 5] = [
    ("src/lib.rs", "mod lower; mod side; mod upper; pub use upper::Roof; pub use lower::{Stone};"),
    ("src/side.rs", "use crate::{lower::{Stone as Block, wall::{self, Brick}}};"),
    ("src/upper/mod.rs", "mod beam; pub use self::beam::Beam; pub struct Roof(crate::Stone);"),
    ("src/upper/beam.rs", "use super::Roof; pub(in crate::upper) struct Beam(Roof);"),
    (
        "src/lower/mod.rs",
        r##"//! crate::upper::Roof
        pub mod wall;
        pub struct Stone; // use crate::upper;
        /* crate::upper */ const SAID: [&str; 2] = ["crate::upper::Roof", r#"crate::side"#];
        /// As [`crate::upper::Roof`].
        #[cfg(test)]
        mod tests { use crate::upper::Roof; fn stands() { crate::side::stands(); } }
        #[cfg(test)]
        use crate::{upper::Roof, side};
        fn lifetimes<'upper>(rest: &'upper [u8]) -> &'upper [u8] { &rest[..] }"##,
    ),
];

const WALL: &str = "src/lower/wall.rs";

/// The house with `wall` as the file of its lowest module, and `others` for what was there.
fn faults_of(wall: &str, others: &[(&str, &str)], known: &Known<'_>) -> Vec<String> {
    let kept = HOUSE.iter().filter(|(name, _)| others.iter().all(|(other, _)| other != name));
    let wall = (WALL, wall);
    let files = kept.chain(others).chain([&wall]);
    let sources: Vec<Source> = files.map(|(name, text)| Source::read(name, text)).collect();
    let ladders = Ladder::all_of(DOCUMENT);
    assert_eq!(ladders.len(), 1);
    ladders[0].faults(&sources, known)
}

fn assert_one(faults: &[String], words: &str) {
    assert!(matches!(faults, [fault] if fault.contains(words)), "{words:?} in {faults:?}");
}

#[test]
fn a_house_in_order_has_no_fault() {
    let faults = faults_of("pub struct Brick;", &[], &Known::default());
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn an_upward_import_is_found_however_it_is_spelt() {
    let spellings = [
        "use crate::upper::Roof;",
        "use super::super::upper::Roof;",
        "use crate::{\n    lower::Stone,\n    upper::{self, Roof as Top},\n};",
        "use crate::upper::*;",
        "use crate::Roof;",
        "pub struct Brick { roof: crate::upper::Roof }",
        "fn build() { let roof = super::super::upper::Roof::new(); }",
        "fn build() -> usize { size_of::<crate::upper::Roof>() }",
        "fn build() { assert!(matches!(roof, crate::upper::Roof { .. })); }",
        "mod inner { use super::super::super::upper::Roof; }",
        "pub use crate::upper::Roof; pub struct Brick(Roof);",
        "#[cfg(not(test))] use crate::upper::Roof;",
    ];
    for text in spellings {
        assert_one(&faults_of(text, &[], &Known::default()), "imports upper, which is above it");
    }
}

#[test]
fn a_room_of_the_same_line_is_not_known() {
    let side = [("src/side.rs", "use crate::upper::Roof;")];
    let faults = faults_of("", &side, &Known::default());
    assert_one(&faults, "src/side.rs:1 imports upper, which is beside it");
}

#[test]
fn a_circle_is_found_by_way_of_others_and_between_a_child_and_its_parent() {
    let three = [
        ("src/lower/mod.rs", "mod wall; mod sand; mod lime; pub struct Stone;"),
        ("src/lower/sand.rs", "use super::lime;\npub struct Sand;"),
        ("src/lower/lime.rs", "fn burn() { super::wall::Brick::new(); }"),
    ];
    let wall = "use crate::lower::sand::Sand; pub struct Brick;";
    let circle = "a circle of lower/lime, lower/sand, lower/wall";
    assert_one(&faults_of(wall, &three, &Known::default()), circle);

    let parent = [("src/lower/mod.rs", "mod wall; pub use wall::Brick; pub struct Stone(Brick);")];
    let wall = "use super::Stone; pub struct Brick;";
    assert_one(&faults_of(wall, &parent, &Known::default()), "a circle of lower, lower/wall");
    // Handed on and not used: the face of a room.
    let face = [("src/lower/mod.rs", "mod wall; pub use wall::Brick; pub struct Stone;")];
    assert_eq!(faults_of(wall, &face, &Known::default()), [""; 0]);
}

#[test]
fn a_file_without_a_room_and_a_room_without_a_file_are_found() {
    let attic = [("src/attic.rs", "")];
    assert_one(&faults_of("", &attic, &Known::default()), "attic is in no room of the ladder");
    let ladder = &Ladder::all_of("```ladder src\nlib\nupper, side\nlower\ncellar  dark\n```\n")[0];
    let sources: Vec<Source> = HOUSE.iter().map(|(name, text)| Source::read(name, text)).collect();
    let faults = ladder.faults(&sources, &Known::default());
    assert_one(&faults, "room cellar of the ladder has no file");
}

#[test]
fn what_is_known_is_forgiven_and_must_go_when_it_is_mended() {
    let upward = Known { upward: &[("lower/wall", "upper")], circles: &[] };
    assert_eq!(faults_of("use crate::Roof;", &[], &upward), [""; 0]);
    assert_one(&faults_of("", &[], &upward), "lower/wall imports upper no more");

    let circle = Known { upward: &[], circles: &[&["lower", "lower/wall"]] };
    let parent = [("src/lower/mod.rs", "mod wall; use wall::Brick; pub struct Stone(Brick);")];
    assert_eq!(faults_of("use super::Stone;", &parent, &circle), [""; 0]);
    assert_one(&faults_of("", &parent, &circle), "no circle any more: lower, lower/wall");
}

/// Holds `text` against `rule` as a file of somewhere, of the rule's own room, and as a known one.
fn assert_breach(rule: &Rule, text: &str) {
    let at = |name: &str| [Source::read(name, text)];
    let faults = rule.faults(&at("src/doctor/machine.rs"), &[]);
    assert!(!faults.is_empty(), "{text}");
    assert!(faults.iter().all(|fault| fault.starts_with("src/doctor/machine.rs:1 has ")));
    let own = format!("{}mod.rs", rule.room);
    assert_eq!(rule.faults(&at(&own), &[]), [""; 0], "{text}");
    assert_eq!(rule.faults(&at("src/a.rs"), &["src/a.rs"]), [""; 0], "{text}");
}

/// `text` keeps `rule`; a file that does is not known as one that does not.
fn assert_kept(rule: &Rule, text: &str) {
    let file = [Source::read("src/a.rs", text)];
    assert_eq!(rule.faults(&file, &[]), [""; 0], "{text}");
    assert_one(&rule.faults(&file, &["src/a.rs"]), "src/a.rs keeps the rule now");
}

#[test]
fn a_mapping_call_is_found_by_name_and_by_number() {
    for text in [
        "fn f() { unsafe { libc::mmap(null_mut(), 1, 2, 3, -1, 0) }; }",
        "fn f() { unsafe { nix::libc::mremap(at, 1, 2, 0) }; }",
        "use libc::{c_void, madvise};",
        "fn f() { unsafe { libc::syscall(libc::SYS_madvise, at, 1, 4) }; }",
        "use nix::libc::{SYS_mincore, syscall};",
        "fn f() { syscall(SYS_process_madvise); }",
        "fn f() { syscall(SYS_munmap); syscall(SYS_mprotect); syscall(SYS_mremap) }",
        "use nix::sys::mman::mmap_anonymous;",
    ] {
        assert_breach(&MAPPING, text);
    }
    for text in [
        "//! As madvise(2).\nfn f() { say(\"libc::mmap(2) failed\"); }",
        "#[cfg(test)] mod tests { fn f() { libc::munmap(at, 1); } }",
        "fn f(source: &PageSource) { source.madvise(at); libc::SYS_io_setup }",
    ] {
        assert_kept(&MAPPING, text);
    }
}

#[test]
fn a_second_room_that_maps_files_is_found() {
    for text in [
        "use memmap2::MmapOptions;",
        "use memmap2 as maps;",
        "fn f(file: &File) { unsafe { memmap2::MmapMut::map_mut(file) }; }",
        "use ::memmap2::{MmapOptions, MmapRaw};",
    ] {
        assert_breach(&FILE_MAPPING, text);
    }
    for text in [
        "//! As memmap2 does.\nfn f() { say(\"memmap2 failed\"); }",
        "#[cfg(test)] mod tests { use memmap2::Mmap; }",
    ] {
        assert_kept(&FILE_MAPPING, text);
    }
}

#[test]
fn a_second_reader_of_the_kernels_numbers_is_found() {
    for text in [
        "const STATM: &CStr = c\"/proc/self/statm\";",
        "fn f(root: &Path) { read(root.join(\"proc/self/statm\")); }",
        "fn f() { read(b\"/proc/meminfo\"); }",
        "fn f() { read(\"/proc/self/cgroup\"); read(r\"/proc/self/mountinfo\"); }",
        "fn f(own: &str) { read(format!(\"/sys/fs/cgroup{own}/memory.max\")); }",
        "const FILES: [&str; 2] = [\"memory.high\", \"memory.limit_in_bytes\"];",
        "fn f(at: &Path) { field(at.join(\"memory.stat\"), \"hierarchical_memory_limit\") }",
        "fn f(status: &str) { status.strip_prefix(\"VmRSS:\"); status.find(\"RssAnon\"); }",
    ] {
        assert_breach(&KERNEL, text);
    }
    for text in [
        "//! Reads /proc/self/statm.\nfn f() { say(\"raise memory.max, or memory.high\"); }",
        "fn f() { say(\"open(/proc/self/statm)\"); read(\"/proc/self/limits\"); }",
        "#[cfg(test)] mod tests { const STATM: &str = \"/proc/self/statm\"; }",
    ] {
        assert_kept(&KERNEL, text);
    }
}

#[test]
fn a_second_reader_of_the_environment_is_found() {
    for text in [
        "fn f() { std::env::var(\"HOME\"); }",
        "use std::env; fn f() { env::var_os(\"HOME\"); }",
        "use std::env::{args, vars};",
        "fn f() { unsafe { libc::getenv(name) }; }",
        "unsafe extern \"C\" { static environ: *const *const c_char; }",
    ] {
        assert_breach(&ENVIRONMENT, text);
    }
    for text in [
        "fn f() { std::env::temp_dir(); env!(\"CARGO_PKG_VERSION\"); say(\"getenv\"); }",
        "#[test] fn f() { std::env::var(\"SEED\"); }",
    ] {
        assert_kept(&ENVIRONMENT, text);
    }
}

/// The names that `text` and another file both define.
fn twice(text: &str) -> Vec<String> {
    let other = "pub struct Place(u32); enum Walk { Row } trait Lane {} type Seen = Vec<u8>;";
    names::faults(&[Source::read("src/a.rs", other), Source::read("src/b/mod.rs", text)])
}

#[test]
fn a_second_type_of_one_name_is_found() {
    for text in [
        "struct Place;",
        "pub(in crate::b) enum Place { Here }",
        "type Place = (u32, u32);",
        "mod inner { pub(crate) type Place = u32; }",
        "fn f() { struct Place { at: u32 } }",
        "union Place { at: u32 }",
        "unsafe trait Place {}",
        "#[derive(Debug)] #[cfg(not(test))] struct Place<'a, T: Iterator<Item = u8>>(&'a T);",
    ] {
        assert_one(&twice(text), "Place is defined in src/a.rs:1, src/b/mod.rs:1");
    }
    let faults = twice("struct Walk;\n\nstruct Lane;\nstruct Seen;");
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(faults[2].starts_with("Walk is defined in src/a.rs:1, src/b/mod.rs:1"), "{faults:?}");
    for text in [
        "use crate::a::Place; fn f(place: Place) -> Walk { Walk::Row }",
        "impl Iterator for Rows { type Place = u32; } trait Rows { type Walk; }",
        "enum Where { Place, Walk } const Place: u32 = 1; fn Walk() {}",
        "#[cfg(test)] struct Place; #[cfg(test)] mod tests { struct Walk; type Lane = u8; }",
        "//! struct Place\nfn f() { say(\"struct Place\"); }",
        "macro_rules! made { ($name:ident) => { struct $name; } }",
        "#[cfg(unix)] struct Own; #[cfg(not(unix))] struct Own;",
    ] {
        assert_eq!(twice(text), [""; 0], "{text}");
    }
}
