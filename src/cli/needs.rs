//! What a command needs before it works: threads, and a folder that can be written.

use super::failure::Failure;
use std::path::Path;

/// Runs `work` on `threads` threads, or on as many as there are cores.
pub(super) fn on_threads<R: Send>(
    threads: Option<usize>,
    work: impl FnOnce() -> R + Send,
) -> Result<R, Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build();
    Ok(pool.map_err(no_threads)?.install(work))
}

/// Gives the whole program `threads` threads, or as many as there are cores.
pub(super) fn global_threads(threads: Option<usize>) -> Result<(), Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0));
    pool.build_global().map_err(no_threads)
}

fn no_threads(error: rayon::ThreadPoolBuildError) -> Failure {
    Failure::Input(format!(
        "no threads: {error}; ask for fewer with --threads, or raise `ulimit -u` and `ulimit -v`"
    ))
}

/// Makes `folder`, which `option` chose, and those above it.
pub(super) fn make_folder(folder: &Path, option: &str) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|why| {
        let shown = folder.display();
        Failure::Input(format!("{shown}: cannot be made: {why}; choose another {option}"))
    })
}

/// Checks that a file can be made in `folder`, which `option` chose.
pub(super) fn check_writable(folder: &Path, option: &str) -> Result<(), Failure> {
    let made = tempfile::Builder::new().prefix(".plimsoll").tempfile_in(folder);
    made.map(drop).map_err(|why| {
        // Not the error itself: it names the file that was tried, which is nobody's.
        let (shown, why) = (folder.display(), why.kind());
        Failure::Input(format!("{shown}: cannot be written to: {why}; choose another {option}"))
    })
}
