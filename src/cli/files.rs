//! The files of `plimsoll prove`: which key and witness, and where the proof goes.
//!
//! Three command lines mean the same:
//!
//! ```text
//!   plimsoll prove --zkey c.zkey --wtns w.wtns --proof proof.json --public public.json
//!   plimsoll prove c.zkey w.wtns proof.json public.json        as rapidsnark
//!   plimsoll prove --zkey c.zkey --wtns w.wtns --out .         both names in a folder
//! ```

use super::failure::Failure;
use super::needs::{check_writable, make_folder};
use clap::{ArgGroup, Args};
use plimsoll::Runtime;
use plimsoll::groth16::circom::wtns::WitnessFile;
use plimsoll::groth16::key::KeyFile;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// The word for standard input.
const STDIN: &str = "-";

/// How long a pipe may take to open before the user is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("witnesses").args(["wtns", "batch"]))]
pub(super) struct ProofFiles {
    /// Key of a circom circuit; the same as --zkey.
    #[arg(value_name = "KEY", requires = "witness", conflicts_with_all = ["zkey", "compressions"])]
    key: Option<PathBuf>,

    /// Witness; the same as --wtns.
    #[arg(value_name = "WTNS", conflicts_with = "wtns")]
    witness: Option<PathBuf>,

    /// Where the proof goes; the same as --proof.
    #[arg(value_name = "PROOF", requires = "public_path", conflicts_with_all = ["proof", "out"])]
    proof_path: Option<PathBuf>,

    /// Where the public inputs go; the same as --public.
    #[arg(value_name = "PUBLIC", conflicts_with = "public")]
    public_path: Option<PathBuf>,

    /// Key of a circom circuit, as snarkjs writes it (groth16, bn128).
    #[arg(long, value_name = "FILE", requires = "witnesses", conflicts_with = "compressions")]
    zkey: Option<PathBuf>,

    /// Witness of a circom circuit: a .wtns, JSON as `snarkjs wtns export json` writes it, or
    /// bare values, each packed by `plimsoll pack` or not. A pipe will do, and - is standard input.
    #[arg(long, value_name = "FILE", requires = "zkey")]
    wtns: Option<PathBuf>,

    /// Many proofs with one key, as many at a time as the limit allows: a file with a line for
    /// each, WTNS DIR or WTNS PROOF PUBLIC. One that fails, fails alone.
    #[arg(long, value_name = "FILE", requires = "zkey")]
    #[arg(conflicts_with_all = ["witness", "r1cs", "out", "proof", "public"])]
    batch: Option<PathBuf>,

    /// The circuit, to find the first constraint that fails when a proof does not verify.
    #[arg(long, value_name = "FILE")]
    pub(super) r1cs: Option<PathBuf>,

    /// Folder for proof.json and public.json; it is made if it is not there. With a key the
    /// default is the current folder; without, they are written only if this is given.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// File for the proof, instead of proof.json.
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,

    /// File for the public inputs, instead of public.json.
    #[arg(long, value_name = "FILE")]
    public: Option<PathBuf>,
}

/// Where a proof and its public inputs go.
pub(super) struct Outputs {
    pub(super) proof: PathBuf,
    pub(super) public: PathBuf,
}

impl Outputs {
    /// Names both files in a folder, which is made if it is not there.
    pub(super) fn in_folder(folder: &Path) -> Result<Self, Failure> {
        make_folder(folder, "folder")?;
        Self::named(folder.join("proof.json"), folder.join("public.json"))
    }

    /// Takes the names, and checks that both files can be made.
    pub(super) fn named(proof: PathBuf, public: PathBuf) -> Result<Self, Failure> {
        let outputs = Self { proof, public };
        outputs.check(["file for the proof", "file for the public inputs"])?;
        Ok(outputs)
    }

    /// Checks that both files can be made, before any work is done.
    fn check(&self, options: [&str; 2]) -> Result<(), Failure> {
        if self.proof == self.public {
            let shown = self.proof.display();
            let text = format!("{shown}: proof and public inputs cannot share a file; name two");
            return Err(Failure::Input(text));
        }
        for (path, option) in self.paths().into_iter().zip(options) {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            check_writable(parent.unwrap_or(Path::new(".")), option)?;
        }
        Ok(())
    }

    /// Returns both paths.
    pub(super) fn paths(&self) -> [&Path; 2] {
        [&self.proof, &self.public]
    }

    /// Removes both files.
    pub(super) fn remove(&self) {
        for path in self.paths() {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Checks that no output is another one, or an input, by whatever name: through links and folders,
/// too.
pub(super) fn keep_apart<'a>(
    outputs: impl Iterator<Item = &'a Path>,
    inputs: impl Iterator<Item = &'a Path>,
) -> Result<(), Failure> {
    let mut taken: HashSet<PathBuf> = inputs.map(place_of).collect();
    for output in outputs {
        if !taken.insert(place_of(output)) {
            let text = format!(
                "{}: would be written over an input or another output; name another file",
                output.display()
            );
            return Err(Failure::Input(text));
        }
    }
    Ok(())
}

/// Where a path leads: what is there, or where it would be.
fn place_of(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = std::fs::canonicalize(parent.unwrap_or(Path::new(".")));
        let name = path.file_name().unwrap_or_default();
        folder.map_or_else(|_| path.to_owned(), |folder| folder.join(name))
    })
}

impl ProofFiles {
    /// Returns the key and the witness of a circom circuit, if that is what is proved.
    pub(super) fn circom(&self) -> Option<(&Path, &Path)> {
        let key = self.key.as_deref().or(self.zkey.as_deref());
        key.zip(self.witness.as_deref().or(self.wtns.as_deref()))
    }

    /// Returns the key and the list of a batch, if that is what is proved.
    pub(super) fn batch(&self) -> Option<(&Path, &Path)> {
        self.zkey.as_deref().zip(self.batch.as_deref())
    }

    /// Names the output files, makes the folder of --out, and checks that files can be made in
    /// each folder, before any work is done.
    pub(super) fn outputs(&self) -> Result<Option<Outputs>, Failure> {
        let proof = self.proof_path.as_ref().or(self.proof.as_ref());
        let public = self.public_path.as_ref().or(self.public.as_ref());
        let is_wanted = self.circom().is_some() || self.out.is_some();
        if !is_wanted && proof.is_none() && public.is_none() {
            return Ok(None);
        }
        let folder = self.out.as_deref().unwrap_or(Path::new("."));
        if self.out.is_some() {
            make_folder(folder, "--out")?;
        }
        let named = |given: Option<&PathBuf>, name| given.cloned().unwrap_or(folder.join(name));
        let outputs =
            Outputs { proof: named(proof, "proof.json"), public: named(public, "public.json") };
        let options = if self.out.is_some() { ["--out"; 2] } else { ["--proof", "--public"] };
        outputs.check(options)?;
        let inputs = self.circom().into_iter().flat_map(|(key, wtns)| [key, wtns]);
        keep_apart(outputs.paths().into_iter(), inputs.chain(self.r1cs.as_deref()))?;
        Ok(Some(outputs))
    }
}

/// Opens the witness at `path`, or at standard input if that is `-`, for `key`.
pub(super) fn open_witness(
    key: &KeyFile,
    path: &Path,
    runtime: &Runtime,
) -> Result<WitnessFile, Failure> {
    if path == Path::new(STDIN) {
        if io::stdin().is_terminal() {
            let text = "standard input is a terminal; pipe a witness into it, or name a file";
            return Err(Failure::Input(text.to_owned()));
        }
        // Not `Stdin`, which has a buffer that nobody wipes.
        let stdin = io::stdin().as_fd().try_clone_to_owned().map(File::from);
        let mut stdin =
            stdin.map_err(|why| Failure::Input(format!("standard input cannot be read: {why}")))?;
        let name = Path::new("standard input");
        return Ok(WitnessFile::read_from(key, name, &mut stdin, runtime)?);
    }
    let kind = std::fs::metadata(path).map(|metadata| metadata.file_type());
    // What cannot be looked at is opened all the same: the error that comes of it says more.
    if kind.is_ok_and(|kind| !kind.is_file() && !kind.is_dir()) {
        let mut pipe = open_pipe(path).map_err(|why| {
            let shown = path.display();
            Failure::Input(format!("{shown}: cannot be opened: {why}; check the path"))
        })?;
        return Ok(WitnessFile::read_from(key, path, &mut pipe, runtime)?);
    }
    Ok(WitnessFile::open_for(key, path, runtime)?)
}

/// Opens a pipe. One without a writer waits for it, and says so.
fn open_pipe(path: &Path) -> io::Result<File> {
    let (sender, opened) = channel();
    let owned = path.to_owned();
    std::thread::Builder::new().name("plimsoll-pipe".to_owned()).spawn(move || {
        // The receiver waits: it is gone only with the process.
        let _ = sender.send(File::open(owned));
    })?;
    match opened.recv_timeout(PATIENCE) {
        Ok(file) => file,
        Err(RecvTimeoutError::Timeout) => {
            eprintln!("waiting for somebody to write a witness to {}", path.display());
            opened.recv().unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
        }
        Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::Interrupted.into()),
    }
}
