//! What breaks the rules today. Entries may only go: one that is not needed any more is a fault.

use crate::rooms::Known;

/// The policies of the runtime, until the ladder is open to rungs; files of two halves.
const OF_PLIMSOLL: Known<'static> = Known {
    upward: &[],
    circles: &[
        &[
            "cli/args",
            "cli/compare",
            "cli/keys",
            "cli/live",
            "cli",
            "cli/pictures",
            "cli/plan",
            "cli/prove",
            "cli/report",
            "cli/setup",
            "cli/spill",
        ],
        &[
            "cli/check/baseline",
            "cli/check/compare",
            "cli/check/group",
            "cli/check",
            "cli/check/report",
            "cli/check/run",
        ],
        &["doctor/kernel", "doctor/memory", "doctor", "doctor/spill", "doctor/swap"],
        &["doctor/machine", "doctor/probe"],
        &["msm/buckets", "msm/digits", "msm/plan"],
        &["ntt/out_of_core", "ntt/visit"],
        &[
            "record/allocator",
            "record/log",
            "record",
            "record/nest",
            "record/recording",
            "record/span",
        ],
        &["tiles/error", "tiles/layout"],
    ],
};

/// The pager, for an issue of its own; files of two halves.
const OF_SWAP: Known<'static> = Known {
    upward: &[],
    circles: &[
        &["codec/choose", "codec"],
        &["codec/field", "codec/lane"],
        &["pager/builder", "pager/face"],
        &["pager/core", "pager/crew", "pager/engine", "pager/process", "pager/worker"],
        &["pager/shelves", "pager/space"],
        &["store/builder", "store/saved", "store"],
    ],
};

/// The allocator, until it has the rooms `process` and `sync` below it.
const OF_ARENA: Known<'static> = Known {
    upward: &[],
    circles: &[&["global", "global/policy", "global/start"], &["pool/builder", "pool"]],
};

/// What is known of the crate whose sources are in `folder`.
pub(crate) fn of_imports(folder: &str) -> Known<'static> {
    match folder {
        "src" => OF_PLIMSOLL,
        "swap/src" => OF_SWAP,
        "arena/src" => OF_ARENA,
        _ => Known::default(),
    }
}

/// Files that map memory.
pub(crate) const MAPPING: &[&str] = &[];

/// Files that read the kernel's numbers, or name its files to somebody who does.
pub(crate) const KERNEL: &[&str] = &[
    "src/cli/check/group.rs",
    "src/cli/check/watch.rs",
    "src/doctor/memory.rs",
    "src/doctor/probe.rs",
];

/// Files that read the environment.
pub(crate) const ENVIRONMENT: &[&str] = &["src/cli/keys.rs"];
