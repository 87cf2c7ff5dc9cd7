#!/usr/bin/env bash
# Makes circom keys and witnesses for tests, and has snarkjs judge proofs made from them.
#
# The keys come from a public beacon and a ceremony of one: whoever reads this file can forge
# proofs for them. They are for tests only.

set -euo pipefail

usage() {
    cat <<'TEXT'
usage: circom-fixtures.sh [--dry-run] MODE ...

  small OUT              the small circuits of tests/fixtures/circom, under 40 KB in all:
                         NAME.circom, .r1cs, .zkey, .wtns and .vkey.json, and for `multiplier`
                         a proof by snarkjs
  sha256 OUT             circomlib's SHA-256 of 512 bits, 62528 constraints, domain 2^16:
                         sha256.zkey, sha256.wtns, sha256.vkey.json. Its powers of tau come from
                         examples/test_powers_of_tau.rs where cargo is there (a minute, with the
                         build); else from snarkjs (25 CPU minutes, kept beside the tools)
  bench KIND POWER OUT   a circuit that nearly fills 2^POWER rows, from 16 to 20: KIND.zkey,
                         KIND.wtns, KIND.vkey.json. KIND is sha256, a chain of circomlib's
                         compressions whose witness is bits, or squares, a chain x <- x^2 + i
                         whose witness is full-size numbers. The keys come from
                         examples/test_circom_key.rs, with no ceremony, in minutes; squares need
                         no tools but cargo, and go up to 2^24
  public OUT             sixteen keys of a public ceremony, of Semaphore's circuit for groups of
                         depth 2, 4 .. 32, as npm has them (109 MB): semaphore-N.zkey, .vkey.json,
                         and a witness each, semaphore-N.wtns
  verify DIR PROOF_DIR   snarkjs verifies PROOF_DIR/proof.json and public.json against
                         DIR/vkey.json (or the only DIR/*.vkey.json; or DIR is that file); then
                         it must refuse the same proof with one public input changed
  status                 which tools are there
  clean                  removes the packages and the powers of tau

  --dry-run              says what would be done
  --help                 this text

The npm packages circom2, circomlib and snarkjs go to $CIRCOM_TOOLS (default: the user's cache
directory, plimsoll/circom-tools). Nothing is installed outside it. A mode run twice gives the
same files: all randomness is the beacon below. The proof by snarkjs is the exception.

exit codes: 0 done, 1 a proof was judged wrongly, 2 bad arguments or a missing tool
TEXT
}

readonly CIRCOM_VERSION=0.2.23
readonly CIRCOMLIB_VERSION=2.0.5
readonly SNARKJS_VERSION=0.7.6
readonly SEMAPHORE_VERSION=4.13.0

# A fixed public value and 2^10 hashes of it: tests want the same keys each time, not secret ones.
readonly BEACON=0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20
readonly BEACON_EXPONENT=10

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
tools="${CIRCOM_TOOLS:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/plimsoll/circom-tools}"
dry_run=no
work=

say() { printf '%s\n' "$*" >&2; }

die() {
    say "circom-fixtures: $1"
    exit "${2:-2}"
}

# An EXIT trap, reached by no other call.
# shellcheck disable=SC2317
cleanup() {
    if [[ -n $work ]]; then rm -rf -- "$work"; fi
}
trap cleanup EXIT

# Runs a command, its output kept for the case that it fails.
quietly() {
    local log="$work/log"
    if ! "$@" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "failed: $*" 2
    fi
}

snarkjs() { node "$tools/node_modules/snarkjs/build/cli.cjs" "$@"; }

circom() { node --no-warnings "$tools/node_modules/circom2/cli.js" "$@"; }

need_tools() {
    command -v node >/dev/null || die "node is missing: install Node.js 18 or later"
    command -v npm >/dev/null || die "npm is missing: install it beside Node.js"
    work="$(mktemp -d)"
    if [[ -f $tools/node_modules/snarkjs/build/cli.cjs && -d $tools/node_modules/circom2 \
        && -d $tools/node_modules/circomlib ]]; then
        return
    fi
    say "installing circom2, circomlib and snarkjs into $tools"
    mkdir -p -- "$tools"
    quietly npm install --prefix "$tools" --no-audit --no-fund \
        "circom2@$CIRCOM_VERSION" "circomlib@$CIRCOMLIB_VERSION" "snarkjs@$SNARKJS_VERSION"
}

# powers POWER: $work/powers.ptau, for circuits of up to 2^POWER rows. Large ones are made by a
# program that knows tau, or by snarkjs; those are kept beside the tools, since they take minutes.
# Both come out the same each time.
powers() {
    local kept="$tools/powers-$1-$BEACON_EXPONENT.ptau"
    if [[ -f $kept ]]; then
        ln -s -- "$kept" "$work/powers.ptau"
        return
    fi
    if (($1 >= 12)) && command -v cargo >/dev/null && [[ -f $root/Cargo.toml ]]; then
        quietly cargo run --release --quiet --manifest-path "$root/Cargo.toml" \
            --example test_powers_of_tau -- "$1" "$work/powers.ptau"
        return
    fi
    quietly snarkjs powersoftau new bn128 "$1" "$work/new.ptau"
    quietly snarkjs powersoftau beacon "$work/new.ptau" "$work/beacon.ptau" \
        "$BEACON" "$BEACON_EXPONENT"
    quietly snarkjs powersoftau prepare phase2 "$work/beacon.ptau" "$work/powers.ptau"
    if (($1 >= 12)); then
        cp -- "$work/powers.ptau" "$kept.part.$$"
        mv -- "$kept.part.$$" "$kept"
    fi
}

# compile STEM PREFIX: $work/STEM.r1cs and PREFIX{wtns} from $work/STEM.circom and .json.
compile() {
    local stem="$1" prefix="$2"
    # The compiler runs in a sandbox that sees the current folder only.
    [[ -d $work/circomlib ]] || cp -R -- "$tools/node_modules/circomlib" "$work/circomlib"
    (cd "$work" && quietly circom "$stem.circom" --r1cs --wasm --O1 -l .)
    quietly snarkjs wtns calculate "$work/${stem}_js/$stem.wasm" "$work/$stem.json" "${prefix}wtns"
}

# compile_and_set_up STEM PREFIX: PREFIX{zkey,vkey.json,wtns} from $work/STEM.circom and .json.
compile_and_set_up() {
    local stem="$1" prefix="$2"
    compile "$stem" "$prefix"
    quietly snarkjs groth16 setup "$work/$stem.r1cs" "$work/powers.ptau" "$work/$stem.0.zkey"
    quietly snarkjs zkey beacon "$work/$stem.0.zkey" "${prefix}zkey" "$BEACON" "$BEACON_EXPONENT"
    quietly snarkjs zkey export verificationkey "${prefix}zkey" "${prefix}vkey.json"
}

small_circuits() {
    cat >"$work/multiplier.circom" <<'CIRCOM'
pragma circom 2.0.0;

// The product of four private factors.
template Multiplier() {
    signal input factor[4];
    signal output product;
    signal partial[2];

    partial[0] <== factor[0] * factor[1];
    partial[1] <== partial[0] * factor[2];
    product <== partial[1] * factor[3];
}

component main = Multiplier();
CIRCOM
    printf '{"factor": ["3", "5", "7", "11"]}\n' >"$work/multiplier.json"
    cat >"$work/publics.circom" <<'CIRCOM'
pragma circom 2.0.0;

// A polynomial with public coefficients at a private point, with its bits and its inverse.
template Publics() {
    signal input coefficient[3];
    signal input point;
    signal input inverse;
    signal output value;
    signal bit[4];
    signal inner;

    var sum = 0;
    for (var i = 0; i < 4; i++) {
        bit[i] <-- (point >> i) & 1;
        bit[i] * (bit[i] - 1) === 0;
        sum += bit[i] * (1 << i);
    }
    sum === point;
    point * inverse === 1;
    inner <== coefficient[2] * point + coefficient[1];
    value <== inner * point + coefficient[0];
}

component main {public [coefficient]} = Publics();
CIRCOM
    # The inverse is that of 9 modulo r.
    printf '{"coefficient": ["4", "%s", "6"], "point": "9", "inverse": "%s"}\n' \
        21888242871839275222246405745257275088548364400416034343698204186575808495616 \
        19456215886079355753107916218006466745376323911480919416620625943622940884993 \
        >"$work/publics.json"
}

make_small() {
    local out="$1" stem
    mkdir -p -- "$out"
    need_tools
    small_circuits
    powers 5
    for stem in multiplier publics; do
        compile_and_set_up "$stem" "$out/$stem."
        cp -- "$work/$stem.circom" "$work/$stem.r1cs" "$out/"
    done
    quietly snarkjs groth16 prove "$out/multiplier.zkey" "$out/multiplier.wtns" \
        "$out/multiplier.proof.json" "$out/multiplier.public.json"
    say "made $out: $(cat -- "$out"/*.{circom,r1cs,zkey,wtns,json} | wc -c) bytes"
}

# make OUT STEM POWER: OUT/STEM.zkey, .wtns and .vkey.json of the circuit that $work holds.
make() {
    local out="$1" stem="$2"
    say "powers of tau for 2^$3 rows"
    powers "$3"
    say "circuit, key and witness"
    compile_and_set_up "$stem" "$out/$stem."
    say "made $out: $stem.zkey, $stem.wtns, $stem.vkey.json"
}

# is_made OUT STEM: whether a run before made the files.
is_made() {
    [[ -f $1/$2.zkey && -f $1/$2.wtns && -f $1/$2.vkey.json ]] || return 1
    say "$1 is there already; remove it to make it again"
}

make_sha256() {
    local out="$1"
    mkdir -p -- "$out"
    if is_made "$out" sha256; then return; fi
    need_tools
    sha256_circuit 512
    make "$out" sha256 16
}

# sha256_circuit BITS: SHA-256 of a message of BITS bits.
sha256_circuit() {
    cat >"$work/sha256.circom" <<CIRCOM
pragma circom 2.0.0;

include "circomlib/circuits/sha256/sha256.circom";

component main = Sha256($1);
CIRCOM
    node -e 'const length = +process.argv[1];
        const bits = Array.from({ length }, (_, i) => String((i * i >> 3) & 1));
        process.stdout.write(JSON.stringify({ in: bits }))' "$1" >"$work/sha256.json"
}

make_bench() {
    local kind="$1" power="$2" out="$3"
    mkdir -p -- "$out"
    if is_made "$out" "$kind"; then return; fi
    if [[ $kind == squares ]]; then
        known_key squares "$power" "$out"
        return
    fi
    need_tools
    # A compression is 31 thousand rows and takes 512 bits; the last holds the length.
    sha256_circuit $((((1 << power) / 31500 - 1) * 512))
    say "circuit and witness"
    compile sha256 "$out/sha256."
    say "key"
    known_key r1cs "$work/sha256.r1cs" "$out"
}

# known_key WORD...: a key whose secrets anybody knows.
known_key() {
    (cd "$root" && cargo run --quiet --release --features groth16 \
        --example test_circom_key -- "$@") || die "the key was not made"
}

# Witnesses of keys that others made. The circuit computes the root of the group, so that any path
# is one of some group.
make_public() {
    local out="$1" depth stem
    mkdir -p -- "$out"
    need_tools
    quietly npm install --prefix "$work/public" --no-audit --no-fund --ignore-scripts \
        "@zk-kit/semaphore-artifacts@$SEMAPHORE_VERSION"
    local from="$work/public/node_modules/@zk-kit/semaphore-artifacts"
    for ((depth = 2; depth <= 32; depth += 2)); do
        stem="semaphore-$depth"
        node -e 'const depth = +process.argv[1];
            process.stdout.write(JSON.stringify({
                secret: "12345", message: "7", scope: "9",
                merkleProofLength: String(depth), merkleProofIndex: "0",
                merkleProofSiblings: Array.from({ length: depth }, (_, i) => String(i + 3)),
            }))' "$depth" >"$work/input.json"
        quietly snarkjs wtns calculate "$from/$stem.wasm" "$work/input.json" "$out/$stem.wtns"
        cp -- "$from/$stem.zkey" "$out/$stem.zkey"
        cp -- "$from/$stem.json" "$out/$stem.vkey.json"
    done
    say "made $out: sixteen keys with witnesses"
}

# vkey_of DIR: the one verifying key there, or DIR itself if it is a file.
vkey_of() {
    local dir="$1" keys
    if [[ -f $dir ]]; then
        printf '%s\n' "$dir"
        return
    fi
    if [[ -f $dir/vkey.json ]]; then
        printf '%s\n' "$dir/vkey.json"
        return
    fi
    shopt -s nullglob
    keys=("$dir"/*.vkey.json)
    [[ ${#keys[@]} -eq 1 ]] || die "$dir has no vkey.json, and not exactly one *.vkey.json"
    printf '%s\n' "${keys[0]}"
}

verify() {
    local vkey proof="$2/proof.json" public="$2/public.json"
    vkey="$(vkey_of "$1")"
    [[ -f $proof && -f $public ]] || die "$2 lacks proof.json or public.json"
    need_tools
    if ! snarkjs groth16 verify "$vkey" "$public" "$proof" >"$work/verdict" 2>&1; then
        cat -- "$work/verdict" >&2
        die "snarkjs refuses the proof" 1
    fi
    say "snarkjs accepts the proof"
    node -e 'const inputs = JSON.parse(require("fs").readFileSync(process.argv[1]));
        if (inputs.length === 0) process.exit(3);
        inputs[0] = inputs[0] === "0" ? "1" : (BigInt(inputs[0]) - 1n).toString();
        process.stdout.write(JSON.stringify(inputs))' "$public" >"$work/changed.json" \
        || die "there is no public input to change"
    if snarkjs groth16 verify "$vkey" "$work/changed.json" "$proof" >"$work/verdict" 2>&1; then
        die "snarkjs accepts the proof with a changed public input" 1
    fi
    grep -q 'Invalid proof' "$work/verdict" || {
        cat -- "$work/verdict" >&2
        die "snarkjs failed for another reason than the changed input" 1
    }
    say "snarkjs refuses it with a changed public input"
}

status() {
    local tool
    for tool in node npm; do
        printf '%s: %s\n' "$tool" "$(command -v "$tool" || printf 'missing')"
    done
    for tool in circom2 circomlib snarkjs; do
        if [[ -d $tools/node_modules/$tool ]]; then
            printf '%s: %s\n' "$tool" "$tools/node_modules/$tool"
        else
            printf '%s: not installed yet\n' "$tool"
        fi
    done
}

# Removes what this script put into the tools folder, and the folder if that leaves it empty.
clean() {
    rm -rf -- "$tools/node_modules"
    rm -f -- "$tools/package.json" "$tools/package-lock.json" "$tools"/powers-*.ptau
    if [[ -d $tools ]]; then rmdir --ignore-fail-on-non-empty -- "$tools"; fi
}

main() {
    if [[ ${1:-} == --dry-run ]]; then
        dry_run=yes
        shift
    fi
    local mode="${1:-}"
    case "$mode" in
        -h | --help) usage; return ;;
        small | sha256 | public) [[ $# -eq 2 ]] || die "$mode takes one folder; see --help" ;;
        bench)
            [[ $# -eq 4 && "$2 $3" =~ ^(sha256 (1[6-9]|20)|squares (1[6-9]|2[0-4]))$ ]] \
                || die "bench takes sha256 16 to 20 or squares 16 to 24, and a folder; see --help"
            ;;
        verify) [[ $# -eq 3 ]] || die "verify takes two folders; see --help" ;;
        status | clean) [[ $# -eq 1 ]] || die "$mode takes no argument; see --help" ;;
        *) usage >&2; die "no such mode: '$mode'" ;;
    esac
    if [[ $dry_run == yes ]]; then
        say "would run '$*' with the tools in $tools"
        return
    fi
    case "$mode" in
        small) make_small "$2" ;;
        sha256) make_sha256 "$2" ;;
        public) make_public "$2" ;;
        bench) make_bench "$2" "$3" "$4" ;;
        verify) verify "$2" "$3" ;;
        status) status ;;
        clean) clean ;;
    esac
}

main "$@"
