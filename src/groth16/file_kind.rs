//! What kind of file the first bytes, and the name, show; and what to do with one of that kind.
//!
//! ```text
//!   zkey wtns r1cs ptau          iden3's containers: a magic and a small version
//!   gzip zstd zip                compressed
//!   columns                      packed by `plimsoll pack`
//!   text                         a Git LFS pointer, a JSON list or object, a web page
//!   anything else                told by the name, if it ends in .arkzkey
//! ```
//!
//! It must never decide that a file is usable: it only makes an error say what to do.

use std::fmt;
use std::path::Path;

/// Bytes that the kind is told from. A file may be shorter.
pub(super) const HEAD_BYTES: usize = 32;

/// The largest version that is believed of an iden3 container.
const VERSION_MAX: u32 = 15;

/// A kind of file that is often given by mistake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum FileKind {
    /// A snarkjs proving key, `.zkey`.
    Zkey,
    /// A circom witness, `.wtns`.
    Wtns,
    /// A circom constraint system, `.r1cs`.
    R1cs,
    /// A snarkjs powers-of-tau file, `.ptau`.
    Ptau,
    /// A key of arkworks with its matrices, by the name `.arkzkey`.
    Arkzkey,
    /// The pointer that Git LFS leaves in place of a file.
    LfsPointer,
    /// A file compressed with gzip.
    Gzip,
    /// A file compressed with zstd.
    Zstd,
    /// A zip archive.
    Zip,
    /// A packed file of columns, as `plimsoll pack` makes it.
    Columns,
    /// A JSON list: a witness as `snarkjs wtns export json` writes it, or public inputs.
    JsonList,
    /// A JSON object: a circuit's input, a proof, or a verifying key.
    JsonObject,
    /// A web page.
    Html,
    /// A file without a byte.
    Empty,
    /// Anything else, an arkworks key among them.
    Unknown,
}

impl FileKind {
    /// Returns the kind of the file at `path` that begins with `head`.
    pub(super) fn of(head: &[u8], path: &Path) -> FileKind {
        if head.is_empty() {
            return FileKind::Empty;
        }
        if let Some(kind) = container(head) {
            return kind;
        }
        let starts = |magic: &[u8]| head.starts_with(magic);
        let text = head.trim_ascii_start();
        match text.first() {
            _ if starts(b"version https://git-lfs") => FileKind::LfsPointer,
            _ if starts(&[0x1f, 0x8b, 8]) => FileKind::Gzip,
            _ if starts(&[0x28, 0xb5, 0x2f, 0xfd]) => FileKind::Zstd,
            _ if starts(b"PK\x03\x04") => FileKind::Zip,
            _ if starts(&crate::columns::MAGIC) => FileKind::Columns,
            Some(b'[') if is_text(text) => FileKind::JsonList,
            Some(b'{') if is_text(text) => FileKind::JsonObject,
            Some(b'<') if is_text(text) => FileKind::Html,
            _ if path.extension().is_some_and(|name| name == "arkzkey") => FileKind::Arkzkey,
            _ => FileKind::Unknown,
        }
    }

    /// Says whether `head` begins with the magic of this kind, one of iden3's containers.
    pub(super) fn has_magic_of(self, head: &[u8]) -> bool {
        let magic: &[u8] = match self {
            FileKind::Zkey => b"zkey",
            FileKind::Wtns => b"wtns",
            FileKind::R1cs => b"r1cs",
            FileKind::Ptau => b"ptau",
            _ => return false,
        };
        head.starts_with(magic)
    }

    /// Returns what the user of such a file can do, as half a sentence.
    fn remedy(self) -> &'static str {
        match self {
            FileKind::Zkey | FileKind::Wtns => "are two files swapped?",
            FileKind::R1cs | FileKind::Ptau => {
                "make a key with `snarkjs groth16 setup circuit.r1cs powers.ptau circuit.zkey`"
            }
            FileKind::Arkzkey => "give the .zkey that it was made from",
            FileKind::LfsPointer => "fetch the file itself with `git lfs pull`",
            FileKind::Gzip => "unpack it with `gunzip`",
            FileKind::Zstd => "unpack it with `unzstd`",
            FileKind::Zip => "unpack it with `unzip`",
            FileKind::Columns => "unpack it with `plimsoll unpack`",
            FileKind::JsonList => "are two files swapped?",
            FileKind::JsonObject => {
                "if it is a circuit's input, calculate the witness with `snarkjs wtns calculate`"
            }
            FileKind::Html => "the download went wrong, download the file itself",
            FileKind::Empty => "make it again",
            FileKind::Unknown => "check the path, or make the file again",
        }
    }
}

/// The kind of an iden3 container. The version is looked at too: an arkworks key starts with a
/// random coordinate, which is a magic and a small version once in 2^60 keys.
fn container(head: &[u8]) -> Option<FileKind> {
    let version = head.get(4..)?.first_chunk::<4>()?;
    let kinds = [FileKind::Zkey, FileKind::Wtns, FileKind::R1cs, FileKind::Ptau];
    let found = kinds.into_iter().find(|kind| kind.has_magic_of(head));
    found.filter(|_| u32::from_le_bytes(*version) <= VERSION_MAX)
}

fn is_text(head: &[u8]) -> bool {
    head.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..))
}

/// As it stands in "the file is ...".
impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileKind::Zkey => "a snarkjs key (.zkey)",
            FileKind::Wtns => "a circom witness (.wtns)",
            FileKind::R1cs => "a circom constraint system (.r1cs)",
            FileKind::Ptau => "a powers-of-tau file (.ptau)",
            FileKind::Arkzkey => "an arkworks key with matrices (.arkzkey)",
            FileKind::LfsPointer => "a Git LFS pointer",
            FileKind::Gzip => "compressed with gzip",
            FileKind::Zstd => "compressed with zstd",
            FileKind::Zip => "a zip archive",
            FileKind::Columns => "a packed file of columns",
            FileKind::JsonList => "a JSON list",
            FileKind::JsonObject => "a JSON object",
            FileKind::Html => "a web page",
            FileKind::Empty => "empty",
            FileKind::Unknown => "of no kind known here",
        })
    }
}

/// A file of one kind where another is wanted, with what to do about it.
#[derive(Clone, Copy, Debug)]
pub struct WrongKind {
    /// The kind that the caller asked for, in words.
    pub wanted: &'static str,
    /// What the first bytes say.
    pub found: FileKind,
}

impl fmt::Display for WrongKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WrongKind { wanted, found } = self;
        write!(f, "the file is {found}, but {wanted} is wanted here; {}", found.remedy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_wrong_files_are_told_by_their_first_bytes() {
        let cases: [(&[u8], &str, FileKind); 16] = [
            (b"", "a.zkey", FileKind::Empty),
            (b"zkey\x01\0\0\0", "a", FileKind::Zkey),
            (b"wtns\x02\0\0\0", "a", FileKind::Wtns),
            (b"r1cs\x01\0\0\0", "a", FileKind::R1cs),
            (b"ptau\x01\0\0\0", "a", FileKind::Ptau),
            (b"zkeyzkey", "a", FileKind::Unknown),
            (b"version https://git-lfs.github.c", "a.zkey", FileKind::LfsPointer),
            (&[0x1f, 0x8b, 8, 0], "a.zkey", FileKind::Gzip),
            (&[0x28, 0xb5, 0x2f, 0xfd, 1], "a.zkey", FileKind::Zstd),
            (b"PK\x03\x04", "a.zkey", FileKind::Zip),
            (b"PLCF\x01\0\0\0", "a.wtns", FileKind::Columns),
            (b" [\"1\", \"2\"", "w.json", FileKind::JsonList),
            (b"\n{\"a\": 3", "w.json", FileKind::JsonObject),
            (b"<!DOCTYPE html>", "a.zkey", FileKind::Html),
            (b"[\0\0\0", "a.arkzkey", FileKind::Arkzkey),
            (&[7; 32], "a.zkey", FileKind::Unknown),
        ];
        for (head, name, kind) in cases {
            assert_eq!(FileKind::of(head, Path::new(name)), kind, "{head:?}");
        }
    }
}
