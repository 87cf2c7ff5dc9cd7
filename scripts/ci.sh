#!/usr/bin/env bash
# The checks of this project, by name. CI and people run the same lines.
#
#   scripts/ci.sh            what every change must pass
#   scripts/ci.sh JOB...     these jobs only; `scripts/ci.sh --help` lists them
set -euo pipefail
cd "$(dirname "$0")/.."

readonly DEFAULT_JOBS=(fmt clippy test peaks features benches shell loom package)

usage() {
    cat <<'TEXT'
usage: scripts/ci.sh [JOB...]

  fmt       rustfmt finds nothing to change
  clippy    no warning in any target or in the documentation, all features
  test      cargo test --workspace: the tests and the documentation's examples
  peaks     a small proof takes no more memory than tests/peaks/prove.json says; 20 runs agree
            (scripts/ci.sh peaks-bless writes that file anew)
  features  each feature alone, and none, builds without warnings; hooks of mimalloc, jemalloc
  benches   every bench is built and makes a short run
  shell     shellcheck on every script
  loom      the free list, the ledger, the lock and the signal under every interleaving
  package   each crate can be packaged, with what it needs and none of the tests' files
            (scripts/ci.sh package-build builds each package by itself, too)
  msrv      every crate with the oldest Rust that Cargo.toml names (needs rustup)
  valgrind  the arena's tests under Valgrind (minutes)
  pictures  reports of runs, opened in a headless browser (chromium, npm)
  capped    scripts/capped.sh caps, swaps and cleans up (root)
  stress    the pager and the allocator for minutes, and 10 000 graphs, in release (parts need root
            and say so)
  stolen    the tests while something else takes the processors, up to 80 ms at a time (root)
  peers     provers of others under every allocator, in core, under limits, and the smallest
            limits (five hours; two with PLIMSOLL_BENCH_ROUNDS=1, single runs under limits; root)
  peers-quick  the same at sizes of seconds, in core, and the smallest limits
  fuzz      damaged keys, witnesses, frames, sizes and settings from new seeds, for two minutes
            ($PLIMSOLL_FUZZ_SECONDS)
  mpi       the command with feature `mpi`: one proof by 2 and 4 processes under the smallest limits
            that the plan names, and a process killed in each stage (Open MPI; minutes)
  circom    proofs of a SHA-256 circom circuit and with sixteen public keys, in core and under the
            smallest limits, checked by snarkjs (minutes; needs npm)
TEXT
}

say() {
    printf '\n== %s (%s s)\n' "$*" "$SECONDS"
}

# Prints why a job cannot run here. Where CI is set that is an error.
skip() {
    printf 'SKIPPED: %s\n' "$*" >&2
    [[ -z ${CI:-} ]]
}

job_fmt() {
    cargo fmt --all -- --check
}

# Prints the options of cargo for all features: but for `mpi` where no MPI is installed, which the
# job of that name installs.
all_features() {
    if command -v mpicc >/dev/null && has_libclang; then
        echo --all-features
        return
    fi
    printf 'SKIPPED: feature mpi: no MPI or no libclang here; see scripts/ci.sh mpi\n' >&2
    echo --features=plimsoll/columns,plimsoll/groth16,plimsoll/layer,plimsoll/metrics,\
plimsoll/mimalloc,plimsoll/jemalloc,plimsoll-arena/allocator-api2-02
}

has_libclang() {
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null
}

job_clippy() {
    local features
    features=$(all_features)
    cargo clippy --workspace --all-targets "$features" -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --workspace "$features"
}

job_test() {
    cargo test --workspace
}

# check_prove WORD...: `plimsoll check` of a small proof: one thread, one seed, nothing of the
# machine in its limit.
check_prove() {
    local key_dir=target/tmp/peaks-key
    cargo build --quiet
    target/debug/plimsoll setup --compressions 1 --seed 1 --if-missing --key-dir "$key_dir"
    target/debug/plimsoll check --baseline tests/peaks/prove.json "$@" -- \
        target/debug/plimsoll prove --compressions 1 --threads 1 --seed 1 --limit 1GiB --no-spill \
        --json --key-dir "$key_dir" 2> >(grep -v '^{' >&2)
}

job_peaks() {
    local -a github=()
    [[ -z ${GITHUB_ACTIONS:-} ]] || github=(--github)
    check_prove "${github[@]}"
    local run table
    for run in {1..20}; do
        table=$(check_prove --runs 1) || {
            printf '%s\nrun %s of 20 of an unchanged program fails\n' "$table" "$run" >&2
            return 1
        }
    done
}

job_peaks-bless() {
    # Resident pages depend on the machine's libraries and kernel, the vectors do not.
    check_prove --bless --tolerance rss=50%
}

job_features() {
    local feature
    local -a only=(cargo clippy --no-default-features)
    "${only[@]}" -p plimsoll -- -D warnings
    for feature in ark columns groth16 serde record layer metrics mimalloc jemalloc; do
        "${only[@]}" -p plimsoll --features "$feature" -- -D warnings
    done
    "${only[@]}" -p plimsoll-arena -- -D warnings
    for feature in parallel ark allocator-api2-02 mimalloc jemalloc; do
        "${only[@]}" -p plimsoll-arena --features "$feature" -- -D warnings
    done
    # Their hooks, which no other test builds.
    for feature in mimalloc jemalloc; do
        cargo test -p plimsoll-arena --features "$feature" --test "global_$feature"
    done
    # Who depends on the library builds neither a command line nor a prover.
    local tree
    tree=$(cargo tree -p plimsoll --edges normal)
    if grep -E ' (clap|indicatif|ark-groth16|tempfile|tracing-subscriber) ' <<<"$tree"; then
        echo "the default features pull in the crates above" >&2
        return 1
    fi
}

job_benches() {
    PLIMSOLL_BENCH_SMOKE=1 cargo bench --workspace --profile dev --benches -- --test
}

job_shell() {
    have shellcheck shellcheck || {
        skip "shellcheck is not installed"
        return
    }
    shellcheck scripts/*.sh .ci/run
}

job_loom() {
    # The other tests run without loom.
    RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom \
        cargo test -p plimsoll-arena --lib loom_tests
}

# package WORD...: packages every crate that is published. What a crate leaves out is no news.
package() {
    cargo package --workspace --exclude plimsoll-benches --exclude plimsoll-test-support \
        --allow-dirty "$@" 2> >(grep -v 'is not included in the' >&2)
}

job_package() {
    package --quiet --no-verify
    local crate listed
    for crate in plimsoll plimsoll-arena plimsoll-swap plimsoll-ifma plimsoll-cli; do
        listed=$(cargo package --package "$crate" --list --allow-dirty)
        if grep -E '^(tests|benches|docs|\.ci|\.github)/' <<<"$listed"; then
            echo "the package $crate has the files above: see \`include\` in its Cargo.toml" >&2
            return 1
        fi
        if ! grep -qx README.md <<<"$listed" || ! grep -qx LICENSE-MIT <<<"$listed"; then
            echo "the package $crate lacks README.md or LICENSE-MIT" >&2
            return 1
        fi
    done
}

job_package-build() {
    package
}

job_msrv() {
    local version
    version=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    if ! command -v rustup >/dev/null; then
        skip "rustup is not installed"
        return
    fi
    if ! rustup run "$version" cargo --version >/dev/null 2>&1 &&
        ! rustup toolchain install "$version" --profile minimal; then
        skip "Rust $version is neither installed nor to be had"
        return
    fi
    rustup run "$version" cargo check --workspace "$(all_features)" --locked
}

# Makes sure that `command -v $1` finds something, from Debian's package $2 where it may.
have() {
    command -v "$1" >/dev/null && return
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        return 1
    fi
    apt-get update -qq && apt-get install -y -qq "$2" >/dev/null && command -v "$1" >/dev/null
}

job_pictures() {
    local tool package
    for package in chromium:chromium node:nodejs npm:npm; do
        tool=${package%:*}
        have "$tool" "${package#*:}" || {
            skip "$tool is not installed"
            return
        }
    done
    local folder=$PWD/target/tmp/pictures
    rm -rf "$folder" && mkdir -p "$folder/shots"
    # Pages: a proof in core, one that spills, ten thousand stages, a program that only traces.
    local -a prove=(cargo run --quiet -- prove --compressions 2 --seed 1 --quiet
        --key-dir "$folder/key")
    "${prove[@]}" --limit 2GiB --report "$folder/in-core.html" --timeline "$folder/in-core.json"
    "${prove[@]}" --limit 27MiB --packed-limit 1MiB \
        --report "$folder/spilled.html" --timeline "$folder/spilled.json"
    cargo run --quiet -- report "$folder/in-core.json" "$folder/spilled.json"
    PLIMSOLL_PICTURES=$folder cargo test --quiet --test pictures ten_thousand
    cargo run --quiet --example tracing_report -- "$folder"
    cargo run --quiet --example prometheus --features metrics >"$folder/metrics.txt"
    cp tests/cli/browser.mjs "$folder/"
    (
        cd "$folder"
        npm install --silent --no-fund --no-audit --ignore-scripts playwright-core@1 >/dev/null
        node browser.mjs shots in-core.html spilled.html large.html report.html
    )
    echo "screenshots: $folder/shots"
}

job_valgrind() {
    if ! command -v valgrind >/dev/null; then
        skip "valgrind is not installed"
        return
    fi
    # Valgrind 3.19 takes what mremap adds to a mapping for memory that may not be touched, and runs
    # one thread at a time: four that churn beside forks are not done in eight minutes.
    local moved=a_long_vector_grows_by_moving_its_pages
    local forked=children_of_fork_allocate_while_other_threads_of_the_parent_did
    printf 'SKIPPED: %s: Valgrind does not model a growing mremap\n' "$moved" >&2
    printf 'SKIPPED: %s: Valgrind runs one thread at a time\n' "$forked" >&2
    local runner="valgrind --quiet --error-exitcode=1 --suppressions=$PWD/scripts/valgrind.supp"
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$runner" PLIMSOLL_PROGRAMS=20 \
        cargo test -p plimsoll-arena --tests -- --skip "$moved" --skip "$forked"
}

# The tests that damage what they read, with new seeds, until the time is over. A failure prints its
# seed.
job_fuzz() {
    local -a readers=(--test damaged_files)
    cargo test --no-run -p plimsoll "${readers[@]}"
    cargo test --no-run -p plimsoll-swap --lib
    cargo test --no-run -p plimsoll-arena --lib
    # What is built does not count, and one round is always made.
    local end=$((SECONDS + ${PLIMSOLL_FUZZ_SECONDS:-120})) rounds=0
    while ((rounds == 0 || SECONDS < end)); do
        local SEED
        SEED=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
        export SEED
        printf '== SEED=%s\n' "$SEED"
        cargo test --quiet -p plimsoll "${readers[@]}"
        cargo test --quiet -p plimsoll-swap --lib -- codec frame file
        PROPTEST_CASES=2000 cargo test --quiet -p plimsoll-arena --lib -- process::words
        rounds=$((rounds + 1))
    done
    printf '%s rounds\n' "$rounds"
}

job_capped() {
    if [[ $(id -u) != 0 ]]; then
        skip "capping memory needs root"
        return
    fi
    sh scripts/capped.sh --selftest
}

job_stress() {
    # One at a time: each keeps both processors and the disk busy by itself.
    PLIMSOLL_STRESS=1 cargo test --release -p plimsoll-swap --lib pager -- --test-threads=1
    PLIMSOLL_STRESS=1 cargo test --release -p plimsoll-swap \
        --test pager_global --test pager_refused --test pager_reentrancy \
        -- --test-threads=1 --nocapture
    PLIMSOLL_STRESS=1 cargo test --release -p plimsoll --lib graph
}

# Takes one processor away at random, as a crowded host does.
steal() {
    taskset --cpu-list --pid "$1" "$BASHPID" >/dev/null
    chrt --fifo --pid 50 "$BASHPID"
    local until
    while :; do
        until=$((${EPOCHREALTIME/[.,]/} + 1000 * (RANDOM % 80 + 1)))
        while ((${EPOCHREALTIME/[.,]/} < until)); do :; done
        sleep "0.0$((RANDOM % 6 + 1))"
    done
}

job_stolen() {
    if ! chrt --fifo 50 true 2>/dev/null; then
        skip "real-time priority is not allowed here"
        return
    fi
    cargo test --workspace --no-run
    local processor
    local -a thieves=()
    for ((processor = 0; processor < $(nproc); processor++)); do
        steal "$processor" &
        thieves+=($!)
    done
    # shellcheck disable=SC2064
    trap "kill ${thieves[*]} 2>/dev/null || :" EXIT
    cargo test --workspace
    kill "${thieves[@]}"
}

# build_peers: the provers of others, for any processor and for this one.
build_peers() {
    cargo build --release --manifest-path benches/peers/Cargo.toml --bins
    RUSTFLAGS="-C target-cpu=native" CARGO_TARGET_DIR=benches/peers/target/native \
        cargo build --release --manifest-path benches/peers/Cargo.toml --bins
}

job_peers() {
    build_peers
    benches/peers/target/release/peers
    benches/peers/target/release/peers --limits
    benches/peers/target/release/peers --floors
}

job_peers-quick() {
    cargo clippy --manifest-path benches/peers/Cargo.toml --all-targets --release -- -D warnings
    cargo clippy --manifest-path benches/parquet/Cargo.toml --release -- -D warnings
    cargo build --release --manifest-path benches/peers/Cargo.toml --bins
    benches/peers/target/release/peers --quick
    benches/peers/target/release/peers --quick --floors
}

# proves STEM FOLDER: FOLDER/STEM.zkey and .wtns, in core and under the smallest limit that the plan
# names: one proof, which snarkjs accepts.
proves() {
    local stem="$1" folder="$2" smallest
    local -a plimsoll=(cargo run --release --quiet --)
    local -a prove=("${plimsoll[@]}" prove --quiet --seed 1 --zkey "$folder/$stem.zkey"
        --wtns "$folder/$stem.wtns" --out "$folder/$stem")
    "${prove[@]}" --proof "$folder/$stem/in-core.json"
    smallest=$("${plimsoll[@]}" plan --zkey "$folder/$stem.zkey" --json |
        sed -n 's/.*"smallest_limit_bytes":\([0-9]*\).*/\1/p')
    "${prove[@]}" --limit "$smallest"
    cmp "$folder/$stem/in-core.json" "$folder/$stem/proof.json"
    scripts/circom-fixtures.sh verify "$folder/$stem.vkey.json" "$folder/$stem"
}

# Makes sure of an MPI that programs are built with and started by, and of what reads its headers.
have_mpi() {
    have mpirun openmpi-bin && have mpicc libopenmpi-dev || return
    has_libclang || { [[ $(id -u) == 0 ]] && apt-get install -y -qq libclang-14-dev >/dev/null; }
}

# The command that the job builds, by its whole path.
mpi_command() {
    realpath "${CARGO_TARGET_DIR:-target}/debug/plimsoll"
}

# mpi_run N WORD...: `plimsoll WORD...` as N processes of one job, more than there are cores.
mpi_run() {
    local count="$1"
    shift
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --oversubscribe \
        --mca mpi_yield_when_idle 1 -n "$count" "$(mpi_command)" "$@"
}

# numbers NAME: the values of the fields NAME of the JSON that is read, in order, with commas.
numbers() {
    grep -o "\"$1\":[0-9]*" | cut -d: -f2 | paste -sd,
}

# mpi_proves N FOLDER: a proof by N ranks, each under the smallest limit that the plan names: the
# bytes of one alone, the limit kept by each, and no tile sent but those of the plan.
mpi_proves() {
    local count="$1" folder="$2" plan report limit peak
    local -a shape=(--compressions 2 --threads 1 --key-dir "$folder/key" --json)
    plan=$("$(mpi_command)" plan "${shape[@]}" --ranks "$count")
    limit=$(numbers smallest_limit_bytes <<<"$plan")
    report=$(mpi_run "$count" prove "${shape[@]}" --seed 1 --limit "$limit" --out "$folder/$count")
    cmp "$folder/alone/proof.json" "$folder/$count/proof.json"
    local planned sent
    planned=${plan#*'"sent_bytes_by_rank":['}
    planned=${planned%%]*}
    sent=$(numbers sent_bytes <<<"$report")
    if [[ $sent != "$planned" ]]; then
        echo "$count ranks sent $sent bytes, and the plan says $planned" >&2
        return 1
    fi
    report=${report#*'"ranks":['}
    for peak in $(numbers peak_rss_bytes <<<"$report" | tr , ' '); do
        if ((peak > limit)); then
            echo "a rank of $count took $peak bytes under a limit of $limit" >&2
            return 1
        fi
        printf '%s ranks: peak %s of %s\n' "$count" "$peak" "$limit"
    done
}

# mpi_namespaces FOLDER: a proof by two ranks, each in a network of its own, over TCP.
mpi_namespaces() {
    local folder="$1" near=plimsoll-near far=plimsoll-far
    if [[ $(id -u) != 0 ]] || ! have ip iproute2 || ! ip netns add "$near"; then
        skip "network namespaces are not allowed here"
        return
    fi
    # shellcheck disable=SC2064
    trap "ip netns delete $near; ip netns delete $far" EXIT
    ip netns add "$far"
    ip -n "$near" link add eth0 type veth peer name eth0 netns "$far"
    ip -n "$near" addr add 10.213.0.1/24 dev eth0
    ip -n "$far" addr add 10.213.0.2/24 dev eth0
    local name
    for name in "$near" "$far"; do
        ip -n "$name" link set lo up
        ip -n "$name" link set eth0 up
    done
    # What a launcher calls to start a program on another machine.
    printf '#!/bin/sh\nshift\nexec ip netns exec %s sh -c "$*"\n' "$far" >"$folder/agent"
    chmod +x "$folder/agent"
    local -a net=(--mca plm_rsh_agent "$folder/agent" --mca btl "tcp,self"
        --mca btl_tcp_if_include 10.213.0.0/24 --mca oob_tcp_if_include 10.213.0.0/24
        --mca mpi_yield_when_idle 1 --host "10.213.0.1:1,10.213.0.2:1")
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 ip netns exec "$near" \
        mpirun "${net[@]}" -n 2 "$(mpi_command)" prove --compressions 2 --threads 1 \
        --seed 1 --quiet --key-dir "$folder/key" --out "$folder/networks" >/dev/null
    cmp "$folder/alone/proof.json" "$folder/networks/proof.json"
    ip -n "$near" -s link show dev eth0
    ip netns delete "$near"
    ip netns delete "$far"
    trap - EXIT
}

# mpi_circom FOLDER: a proof with a circom key by two ranks: the bytes of one alone.
mpi_circom() {
    local folder="$1" fixtures=tests/fixtures/circom
    local -a files=(--zkey "$fixtures/publics.zkey" --wtns "$fixtures/publics.wtns" --seed 1)
    "$(mpi_command)" prove "${files[@]}" --quiet --out "$folder/circom" >/dev/null
    mpi_run 2 prove "${files[@]}" --quiet --out "$folder/circom-ranks" >/dev/null
    cmp "$folder/circom/proof.json" "$folder/circom-ranks/proof.json"
}

# mpi_kills STAGE WHICH FOLDER: the process WHICH of four, from 1, is killed when STAGE begins on
# the first: within ten seconds the job is over, without a proof. The sums of L, A and B1 are those
# of the fourth, third and second; the first passes them by and begins with B2.
mpi_kills() {
    local stage="$1" which="$2" folder="$3" job victim started
    mkfifo "$folder/said"
    mpi_run 4 prove --compressions 8 --threads 1 --key-dir "$folder/key" --seed 1 \
        --progress lines --out "$folder/killed" 2>"$folder/said" >/dev/null &
    job=$!
    # The rest is read, so that nobody waits for room in the pipe.
    exec 3<"$folder/said"
    grep -m 1 -F -- "$stage" <&3 >/dev/null
    victim=$(pgrep -P "$(pgrep -P "$job" -x mpirun || echo "$job")" -x plimsoll)
    victim=$(sed -n "${which}p" <<<"$victim")
    kill -9 "$victim"
    started=$SECONDS
    cat <&3 >"$folder/last" &
    if wait "$job"; then
        echo "a rank was killed in $stage, and the job ended well" >&2
        return 1
    fi
    exec 3<&-
    rm "$folder/said"
    if ((SECONDS - started > 10)) || [[ -e $folder/killed/proof.json ]]; then
        echo "killed in $stage: over after $((SECONDS - started)) s, or a proof was left" >&2
        return 1
    fi
    printf 'killed in %s: over after %s s\n' "$stage" $((SECONDS - started))
}

job_mpi() {
    if ! have_mpi; then
        skip "Open MPI, its headers or libclang are not installed"
        return
    fi
    cargo clippy -p plimsoll -p plimsoll-cli --all-features -- -D warnings
    cargo build --quiet -p plimsoll-cli
    local work said
    work=$(mktemp -d)
    # Without the feature it is one error, not four proofs.
    if said=$(mpi_run 4 prove --compressions 1 --key-dir "$work/key" 2>&1); then
        echo "without the feature, four processes made four proofs" >&2
        return 1
    fi
    grep -q 'built without MPI' <<<"$said"
    cargo build --quiet -p plimsoll-cli --features mpi
    "$(mpi_command)" prove --compressions 2 --key-dir "$work/key" --seed 1 --quiet \
        --out "$work/alone" >/dev/null
    mpi_proves 2 "$work"
    mpi_proves 4 "$work"
    mpi_circom "$work"
    mpi_namespaces "$work"
    "$(mpi_command)" setup --compressions 8 --key-dir "$work/key"
    mpi_kills quotient 2 "$work"
    mpi_kills 'msm H' 2 "$work"
    mpi_kills 'msm L' 4 "$work"
    mpi_kills 'msm A' 3 "$work"
    mpi_kills 'msm B1' 2 "$work"
    mpi_kills 'msm B2' 1 "$work"
    rm -rf "$work"
}

job_circom() {
    local work zkey
    work=$(mktemp -d)
    scripts/circom-fixtures.sh sha256 "$work"
    scripts/circom-fixtures.sh public "$work"
    for zkey in "$work"/*.zkey; do
        proves "$(basename "$zkey" .zkey)" "$work"
    done
    rm -rf "$work"
}

main() {
    local jobs=("$@") job
    case ${1:-} in
        -h | --help) usage && return ;;
        "") jobs=("${DEFAULT_JOBS[@]}") ;;
    esac
    for job in "${jobs[@]}"; do
        if ! declare -F "job_$job" >/dev/null; then
            printf 'no job called %s\n' "$job" >&2
            usage >&2
            exit 2
        fi
    done
    for job in "${jobs[@]}"; do
        say "$job"
        "job_$job"
    done
    say "done: ${jobs[*]}"
}

main "$@"
