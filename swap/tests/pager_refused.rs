//! A program that is given no pager, or an odd environment: it says why, once, and does the same.
//!
//! ```text
//!   test -> this binary again with variables, few addresses, or a seccomp filter -> the program
//! ```

#![cfg(target_os = "linux")]

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use plimsoll_arena::global::Global;
use plimsoll_arena::process::skipped;
use plimsoll_swap::pager::{Paged, probe};

#[global_allocator]
static ALLOC: Global<std::alloc::System, Paged> = Global::new(std::alloc::System, Paged::new());

const PROGRAM: &str = "PLIMSOLL_PAGED_PROGRAM";
const MIB: usize = 1 << 20;

/// The program: blocks of several sizes, 96 MiB in all, their sum, and whether there is a pager.
#[test]
fn program() {
    if std::env::var_os(PROGRAM).is_none() {
        return;
    }
    let sizes = [MIB / 4, 3 * MIB, 29 * MIB, 63 * MIB];
    let fill = |bytes: usize| (0..bytes / 8).map(move |i| (i * bytes) as u64).collect();
    let blocks: Vec<Vec<u64>> = sizes.map(fill).into();
    let sum = blocks.iter().flatten().fold(0u64, |sum, word| sum.rotate_left(7) ^ word);
    println!("sum {sum:x}");
    println!("{} pager", if ALLOC.pages().pager().is_some() { "a" } else { "no" });
}

/// A command that runs the program under a limit; `wrapped` in a shell's words if there are any.
fn command(limit: &str, wrapped: &[&str]) -> Command {
    let this = std::env::current_exe().expect("this binary");
    let mut command = match wrapped {
        [] => Command::new(this),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(this);
            command
        }
    };
    command.args(["--exact", "program", "--nocapture"]).env(PROGRAM, "blocks");
    command.env("PLIMSOLL_LIMIT", limit).env("PLIMSOLL_SPILL_DIR", "/var/tmp");
    command
}

/// What a program printed, and what it said on standard error; it must end well.
fn output(mut command: Command) -> (String, String) {
    let output = command.output().expect("a child");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (printed, said) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{}: {printed}{said}", output.status);
    (printed, said)
}

fn sum(printed: &str) -> &str {
    printed.lines().find(|line| line.starts_with("sum ")).expect("a sum")
}

/// Whether there is a pager where nothing is refused; says so if not.
fn has_pager() -> bool {
    probe().door.inspect_err(|why| skipped("pager_refused", why)).is_ok()
}

/// Refuses userfaultfd to this process and its children, by both doors.
fn refuse_userfaultfd() -> std::io::Result<()> {
    /// `_IO(0xAA, 0)`, what makes a descriptor of `/dev/userfaultfd`.
    const NEW: u32 = 0xAA00;
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let ret = (libc::BPF_RET | libc::BPF_K) as u16;
    let line = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let refusal = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    // The number of the call is at 0 of `seccomp_data`, the second argument at 24.
    let mut lines = [
        line(load, 0, 0, 0),
        line(equal, 3, 0, libc::SYS_userfaultfd as u32),
        line(equal, 0, 3, libc::SYS_ioctl as u32),
        line(load, 0, 0, 24),
        line(equal, 0, 1, NEW),
        line(ret, 0, 0, refusal),
        line(ret, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: lines.len() as u16, filter: lines.as_mut_ptr() };
    // SAFETY: changes this process, which gains no rights by it.
    let locked = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == 0;
    // SAFETY: the filter and its lines outlive the call, which copies them.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) } == 0;
    if locked && set { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn where_userfaultfd_is_refused_that_is_said_once_and_the_program_does_the_same() {
    let mut refused = command("64MiB", &[]);
    // SAFETY: between fork and exec the function makes two system calls and allocates nothing.
    unsafe { refused.pre_exec(refuse_userfaultfd) };
    let (printed, said) = output(refused);
    assert!(printed.contains("no pager"), "{printed}");
    let lines: Vec<_> = said.lines().filter(|line| line.contains("plimsoll: ")).collect();
    let [line] = lines[..] else { panic!("{} lines: {said}", lines.len()) };
    assert!(line.contains("no paging, over the limit memory is only given back"), "{line}");
    for remedy in ["/dev/userfaultfd", "vm.unprivileged_userfaultfd=1", "the seccomp profile"] {
        assert!(line.contains(remedy), "no {remedy}: {line}");
    }
    if has_pager() {
        let (paged, said) = output(command("64MiB", &[]));
        assert!(paged.contains("a pager") && !said.contains("plimsoll: "), "{said}");
        assert_eq!(sum(&paged), sum(&printed));
    }
}

#[test]
fn a_pager_that_cannot_be_had_is_said_once() {
    let capped = format!("ulimit -v {} && exec \"$@\"", 230 << 10);
    let (printed, said) = output(command("64MiB", &["sh", "-c", &capped, "sh"]));
    assert!(!has_pager() || printed.contains("no pager"), "{printed}");
    let count = said.matches("no paging, over the limit memory is only given back").count();
    assert_eq!(count, 1, "{said}");
}

#[test]
fn a_spill_folder_without_a_limit_is_said_once_and_does_nothing() {
    for limit in [None, Some("")] {
        let mut command = command("", &[]);
        command.env_remove("PLIMSOLL_LIMIT").envs(limit.map(|text| ("PLIMSOLL_LIMIT", text)));
        let (printed, said) = output(command);
        assert!(printed.contains("no pager"), "{printed}");
        assert_eq!(said.matches("PLIMSOLL_SPILL_DIR does nothing").count(), 1, "{said}");
    }
}

#[test]
fn empty_variables_are_none() {
    let mut command = command("64MiB", &[]);
    for name in ["SPILL_QUOTA", "PACKED_LIMIT", "FAIL_FAST", "ENCRYPT_SPILL", "PLAN"] {
        command.env(format!("PLIMSOLL_{name}"), "");
    }
    let (printed, said) = output(command);
    assert!(!has_pager() || printed.contains("a pager"), "{printed}");
    assert!(!said.contains("PLIMSOLL_"), "{said}");
}

#[test]
fn a_plan_that_cannot_be_had_is_said_once_and_the_program_is_paged_without() {
    if !has_pager() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("odd"), "no plan").expect("a file");
    for (asked, why) in [
        ("learn:".to_owned(), "it is FILE, learn:FILE or auto:FOLDER"),
        ("auto:".to_owned(), "it is FILE, learn:FILE or auto:FOLDER"),
        (path("none"), "none: OS error 2"),
        (path("odd"), "odd: this is no trace of touches"),
        (path(""), "OS error 22"),
        (format!("learn:{}", path("none/run")), "none/run: OS error 2"),
        (format!("auto:{}", path("none")), "none: OS error 2"),
    ] {
        let mut command = command("64MiB", &[]);
        command.env("PLIMSOLL_PLAN", &asked);
        let (printed, said) = output(command);
        assert!(printed.contains("a pager"), "{asked}: {printed}{said}");
        assert_eq!(said.matches("PLIMSOLL_PLAN has no effect").count(), 1, "{asked}: {said}");
        assert!(said.contains(why), "{asked}: {said}");
    }
    for asked in [format!("learn:{}", path("run")), format!("auto:{}", path("")), path("run")] {
        let mut command = command("64MiB", &[]);
        command.env("PLIMSOLL_PLAN", &asked);
        let (printed, said) = output(command);
        assert!(printed.contains("a pager") && !said.contains("plimsoll: "), "{asked}: {said}");
    }
}

/// The same command where the kernel's limit on a resource is `bytes`.
fn under(resource: Resource, bytes: u64) -> Command {
    let mut command = command("64MiB", &[]);
    let set = move || setrlimit(resource, bytes, bytes).map_err(std::io::Error::from);
    // SAFETY: between fork and exec the function makes one system call.
    unsafe { command.pre_exec(set) };
    command
}

/// The one line that says that nothing is paged.
fn refusal(said: &str) -> &str {
    let lines: Vec<_> = said.lines().filter(|line| line.contains("no paging")).collect();
    let [line] = lines[..] else { panic!("{} lines: {said}", lines.len()) };
    line
}

#[test]
fn a_limit_on_files_is_known_before_it_ends_the_process() {
    if !has_pager() {
        return;
    }
    for bytes in [0, 4096, (64 << 20) - 1] {
        let (printed, said) = output(under(Resource::RLIMIT_FSIZE, bytes));
        assert!(printed.contains("no pager"), "{printed}");
        assert!(refusal(&said).contains("`ulimit -f unlimited`"), "{said}");
    }
    // Enough for what this program spills.
    let (printed, said) = output(under(Resource::RLIMIT_FSIZE, 192 << 20));
    assert!(printed.contains("a pager") && !said.contains("plimsoll: "), "{said}");
    // And not enough: the pager ends the process, not a signal of the kernel's.
    let mut short = under(Resource::RLIMIT_FSIZE, 64 << 20);
    let output = short.env("PLIMSOLL_LIMIT", "16MiB").output().expect("a child");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{said}");
    assert!(said.contains("raise `ulimit -f` for files"), "{said}");
}

#[test]
fn too_few_descriptors_are_said_once_with_what_helps() {
    if !has_pager() {
        return;
    }
    // One more than what a program is started with is what its loader needs.
    let started_with = 3 + inherited();
    for files in started_with + 1..started_with + 7 {
        let (printed, said) = output(under(Resource::RLIMIT_NOFILE, files));
        if printed.contains("a pager") {
            continue;
        }
        assert!(refusal(&said).contains("ulimit"), "{files}: {said}");
    }
    let (printed, said) = output(under(Resource::RLIMIT_NOFILE, started_with + 13));
    assert!(printed.contains("a pager") && !said.contains("plimsoll: "), "{said}");
}

/// How many descriptors besides the usual three whoever started this test leaves to its children.
fn inherited() -> u64 {
    // SAFETY: it asks for the flags of a descriptor, and changes nothing.
    let flags = |fd| unsafe { libc::fcntl(fd, libc::F_GETFD) };
    (3..256).filter(|fd| matches!(flags(*fd), 0..) && flags(*fd) & libc::FD_CLOEXEC == 0).count()
        as u64
}

#[test]
fn a_larger_limit_on_addresses_is_never_worse_and_leaves_room_for_the_rest() {
    if !has_pager() {
        return;
    }
    let mut paged_before = false;
    for mebibytes in [300, 450, 600, 800, 1200, 2500, 6000] {
        let (printed, said) = output(under(Resource::RLIMIT_AS, mebibytes << 20));
        let paged = printed.contains("a pager");
        assert!(paged || !paged_before, "{mebibytes} MiB of addresses: {said}");
        assert!(paged || refusal(&said).contains("`ulimit -v unlimited`"), "{said}");
        paged_before = paged;
    }
    assert!(paged_before);
}
