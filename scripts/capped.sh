#!/bin/sh
# Runs a command under a memory limit of its own, with swap of its own or none.
#
#   capped.sh 1GiB --swap zram -- CMD...
#     cgroup    <mount>/<ours>/capped-PID   v1: memory.limit_in_bytes   v2: memory.max
#     swap      none: none may be used;  disk: a file;  zram: a device;  made here, for this run
#     at the end    one line of key=value pairs on stderr; the exit code is CMD's
#     always        swapoff, device, file and cgroup are taken away again, after ^C too
#
# What CMD swaps to zram leaves the cgroup's account, and the RAM that holds it is charged to
# nobody: zram_mem_used_max_bytes belongs to the cost of the run as peak_bytes does.
#
# Must never: touch swap, a device, a file or a cgroup that it did not make; use swap of others
# unasked; kill a process outside its own cgroup.
#
# Sources: admin-guide/cgroup-v1/memory, admin-guide/cgroup-v2 and admin-guide/blockdev/zram of the
# kernel's documentation.
set -eu

LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL PATH

usage() {
    cat <<'TEXT'
usage: capped.sh LIMIT [OPTION]... -- CMD [ARGUMENT]...
       capped.sh --selftest

  LIMIT              bytes of memory: 512MiB, 1GiB, 65536KiB, 1048576
  --swap KIND        none (default), disk, or zram (lz4)
  --swap-size SIZE   default: four times LIMIT
  --swap-dir DIR     of the swap file; default /var/tmp. Not in RAM
  --other-swap       measure although swap is active that is not ours (ours is used first)
  --report FILE      the line goes to FILE instead of stderr
  --selftest         tries all of it with small limits; needs root

The line at the end:
  limit_bytes swap exit seconds peak_bytes swap_peak_bytes oom_kills other_swap, and with zram
  zram_orig_peak_bytes zram_compr_peak_bytes (sampled), zram_mem_used_max_bytes (exact)
  peak_bytes is `unknown` where the kernel does not say: cgroup v2 before Linux 5.19

Only kill -9 of the script itself leaves something behind: a cgroup capped-PID, and swap that
swapon --show lists with priority 32767 (swapoff it; then remove the file or the device).

exit codes: that of CMD (128+N when a signal ended it); 125 the run could not be set up, the text
says why; 64 bad arguments
TEXT
}

# Seconds between samples of what is swapped.
readonly SAMPLE_SECONDS=0.1
# Tries, that far apart, of what a busy device or cgroup refuses.
readonly TRIES_MAX=50
# Exit codes of our own: what env(1) and timeout(1) use, and EX_USAGE.
readonly CODE_SETUP=125
readonly CODE_USAGE=64
# The highest priority: our swap is used before any other.
readonly PRIORITY=32767

limit='' swap=none swap_size='' swap_dir=/var/tmp other_swap=0 report=''
group='' version='' zram='' swap_path='' swap_file='' swap_on='' child='' interrupted=''
swap_peak=0 orig_peak=0 compr_peak=0

fail() {
    code=$1
    shift
    printf 'capped: %s\n' "$*" >&2
    exit "$code"
}

note() { printf 'capped: %s\n' "$*" >&2; }

# bytes_of NAME TEXT: TEXT in bytes, whole pages.
bytes_of() {
    awk -v text="$2" 'BEGIN {
        if (!match(text, /^[0-9]+/) || RLENGTH > 15) exit 1
        number = substr(text, 1, RLENGTH) + 0
        unit = substr(text, RLENGTH + 1)
        factor["" ] = 1; factor["KiB"] = 1024; factor["MiB"] = 1024 ^ 2; factor["GiB"] = 1024 ^ 3
        if (!(unit in factor)) exit 1
        bytes = number * factor[unit]
        if (bytes < 4096 || bytes > 2 ^ 50) exit 1
        printf("%.0f", bytes - bytes % 4096)
    }' || fail "$CODE_USAGE" "$1 is no size: '$2'; write 1GiB, 512MiB, 65536KiB or bytes"
}

# first FILE: its first line, or 0 where there is none.
first() {
    value=0
    if [ -r "$1" ]; then read -r value <"$1" || :; fi
    printf '%s\n' "$value"
}

# named FILE NAME: the number behind NAME, or 0.
named() {
    found=0
    if [ -r "$1" ]; then
        while read -r name value; do
            if [ "$name" = "$2" ]; then found=$value; fi
        done <"$1"
    fi
    printf '%s\n' "$found"
}

# retried COMMAND...: until it works.
retried() {
    tries=1
    until "$@" 2>/dev/null; do
        [ "$tries" -lt "$TRIES_MAX" ] || return 1
        tries=$((tries + 1))
        sleep "$SAMPLE_SECONDS"
    done
}

set_knob() { printf '%s\n' "$2" >"$1"; }

# ---- cgroup ---------------------------------------------------------------------------------

# mount_of TYPE OPTION: where a file system of that type and option is mounted.
mount_of() {
    awk -v type="$1" -v option="$2" '$3 == type && (option == "" ||
        index("," $4 ",", "," option ",")) { print $2; exit }' /proc/mounts
}

make_group_v1() {
    own=$(awk -F: '$2 ~ /(^|,)memory(,|$)/ { print $3; exit }' /proc/self/cgroup)
    parent=$1$own
    [ -d "$parent" ] || parent=$1
    mkdir "$parent/capped-$$" || fail "$CODE_SETUP" "cannot make a cgroup below $parent"
    group=$parent/capped-$$
    set_knob "$group/memory.limit_in_bytes" "$limit" ||
        fail "$CODE_SETUP" "$group refuses a limit of $limit bytes"
    [ "$swap" = none ] || return 0
    if [ -e "$group/memory.memsw.limit_in_bytes" ]; then
        set_knob "$group/memory.memsw.limit_in_bytes" "$limit"
    else
        set_knob "$group/memory.swappiness" 0
        [ "$(others)" = 0 ] || fail "$CODE_SETUP" "this kernel does not account swap, so" \
            "--swap none cannot be kept while swap is active: swapoff it, or boot swapaccount=1"
    fi
}

# The nearest cgroup above us that gives its children the memory controller.
make_group_v2() {
    own=$(awk -F: '$1 == 0 { print $3; exit }' /proc/self/cgroup)
    parent=$1$own
    while ! grep -qw memory "$parent/cgroup.subtree_control" 2>/dev/null; do
        if [ "$parent" = "$1" ] || [ "$parent" = "$1/" ]; then
            fail "$CODE_SETUP" "no cgroup above this process gives out the memory controller;" \
                "as root: echo +memory > $1/cgroup.subtree_control"
        fi
        parent=${parent%/*}
    done
    mkdir "$parent/capped-$$" || fail "$CODE_SETUP" "cannot make a cgroup below $parent"
    group=$parent/capped-$$
    set_knob "$group/memory.max" "$limit" ||
        fail "$CODE_SETUP" "$group refuses a limit of $limit bytes"
    [ "$swap" != none ] || set_knob "$group/memory.swap.max" 0
}

make_group() {
    mount=$(mount_of cgroup memory)
    if [ -n "$mount" ]; then
        version=1
        make_group_v1 "$mount"
        return
    fi
    mount=$(mount_of cgroup2 '')
    [ -n "$mount" ] || fail "$CODE_SETUP" "no cgroup file system with a memory controller is" \
        "mounted; as root: mount -t cgroup2 none /sys/fs/cgroup"
    version=2
    make_group_v2 "${mount%/}"
}

peak_bytes() {
    if [ "$version" = 1 ]; then first "$group/memory.max_usage_in_bytes"; return; fi
    if [ -r "$group/memory.peak" ]; then first "$group/memory.peak"; return; fi
    note "the peak is not known: cgroup v2 has no memory.peak before Linux 5.19"
    echo unknown
}

oom_kills() {
    if [ "$version" = 1 ]; then named "$group/memory.oom_control" oom_kill; return; fi
    named "$group/memory.events" oom_kill
}

# ---- swap -----------------------------------------------------------------------------------

# How many swap areas are active.
others() { awk 'END { print NR - 1 }' /proc/swaps; }

check_other_swap() {
    [ "$swap" != none ] || return 0
    count=$(others)
    [ "$count" != 0 ] || return 0
    names=$(awk 'NR > 1 { printf("%s%s", sep, $1); sep = " " }' /proc/swaps)
    [ "$other_swap" = 1 ] || fail "$CODE_SETUP" "swap that is not ours is active ($names), and" \
        "CMD might use it: swapoff it, or pass --other-swap to measure all the same"
    note "WARNING: other swap is active ($names); ours is used first, theirs when it is full"
}

make_disk_swap() {
    kind=$(stat -f -c %T "$swap_dir" 2>/dev/null) ||
        fail "$CODE_SETUP" "no folder $swap_dir; pass --swap-dir DIR, on a disk"
    case $kind in
        tmpfs | ramfs) fail "$CODE_SETUP" "$swap_dir is in RAM ($kind); pass --swap-dir DIR" ;;
        btrfs | overlayfs | nfs) fail "$CODE_SETUP" "$swap_dir is on $kind, which takes no" \
            "ordinary swap file; pass --swap-dir DIR, on ext4 or xfs" ;;
    esac
    # Made by us or not at all: no file, and no link, that was there before.
    (umask 077 && set -C && : >"$swap_dir/capped-$$") 2>/dev/null ||
        fail "$CODE_SETUP" "cannot make $swap_dir/capped-$$; is the folder writable?"
    swap_file=$swap_dir/capped-$$
    fallocate -l "$swap_size" "$swap_file" 2>/dev/null ||
        fail "$CODE_SETUP" "no $swap_size bytes for a swap file in $swap_dir; free some, or" \
            "pass --swap-dir or --swap-size"
    swap_path=$swap_file
}

make_zram_swap() {
    control=/sys/class/zram-control
    [ -e "$control" ] || modprobe zram 2>/dev/null || :
    [ -e "$control" ] || fail "$CODE_SETUP" "this kernel has no zram (CONFIG_ZRAM)"
    zram=$(cat "$control/hot_add")
    retried set_knob "/sys/block/zram$zram/comp_algorithm" lz4 ||
        fail "$CODE_SETUP" "this kernel's zram has no lz4"
    retried set_knob "/sys/block/zram$zram/disksize" "$swap_size" ||
        fail "$CODE_SETUP" "zram takes no size of $swap_size bytes; pass another --swap-size"
    swap_path=/dev/zram$zram
    retried test -b "$swap_path" ||
        fail "$CODE_SETUP" "$swap_path did not appear; is /dev a devtmpfs?"
}

make_swap() {
    case $swap in
        none) return ;;
        disk) make_disk_swap ;;
        zram) make_zram_swap ;;
    esac
    mkswap "$swap_path" >/dev/null 2>&1 || fail "$CODE_SETUP" "mkswap $swap_path failed"
    retried swapon -p "$PRIORITY" "$swap_path" || fail "$CODE_SETUP" "swapon $swap_path failed"
    swap_on=1
}

# ---- the end --------------------------------------------------------------------------------

# Ends what CMD left behind in our cgroup; theirs are not in it.
empty_group() {
    while read -r pid; do
        kill -KILL "$pid" 2>/dev/null || :
    done <"$group/cgroup.procs"
}

cleanup() {
    trap '' INT TERM HUP
    if [ -n "$group" ] && [ -d "$group" ]; then
        empty_group
        tries=1
        until rmdir "$group" 2>/dev/null; do
            [ "$tries" -lt "$TRIES_MAX" ] || { note "still there: rmdir $group"; break; }
            tries=$((tries + 1))
            empty_group
            sleep "$SAMPLE_SECONDS"
        done
    fi
    if [ -n "$swap_on" ]; then
        retried swapoff "$swap_path" || note "still on: swapoff $swap_path"
    fi
    if [ -n "$swap_file" ]; then rm -f "$swap_file"; fi
    if [ -n "$zram" ]; then
        retried set_knob "/sys/block/zram$zram/reset" 1 || :
        retried set_knob /sys/class/zram-control/hot_remove "$zram" ||
            note "still there: echo $zram > /sys/class/zram-control/hot_remove"
    fi
}

# on_signal NUMBER: CMD is asked to end; the wait below then goes on.
on_signal() {
    interrupted=$1
    if [ -z "$child" ]; then exit $((128 + $1)); fi
    kill -TERM "$child" 2>/dev/null || :
}

# ---- the run --------------------------------------------------------------------------------

at_least() { if [ "$1" -gt "$2" ]; then echo "$1"; else echo "$2"; fi; }

sample() {
    if [ -n "$swap_on" ]; then
        while read -r path _ _ used _; do
            if [ "$path" = "$swap_path" ] && [ "$((used * 1024))" -gt "$swap_peak" ]; then
                swap_peak=$((used * 1024))
            fi
        done </proc/swaps
    fi
    if [ -n "$zram" ]; then
        read -r orig compr _ <"/sys/block/zram$zram/mm_stat"
        if [ "$orig" -gt "$orig_peak" ]; then orig_peak=$orig compr_peak=$compr; fi
    fi
}

now() { read -r up _ </proc/uptime && printf '%s\n' "$up"; }

print_line() {
    line="limit_bytes=$limit swap=$swap exit=$1 seconds=$2 peak_bytes=$(peak_bytes)"
    line="$line swap_peak_bytes=$swap_peak oom_kills=$(oom_kills) other_swap=$other_swap"
    if [ -n "$zram" ]; then
        read -r _ _ _ _ used_max _ <"/sys/block/zram$zram/mm_stat"
        line="$line zram_orig_peak_bytes=$orig_peak zram_compr_peak_bytes=$compr_peak"
        line="$line zram_mem_used_max_bytes=$used_max"
    fi
    if [ -n "$report" ]; then printf '%s\n' "$line" >"$report"; return; fi
    printf 'capped %s\n' "$line" >&2
}

run() {
    began=$(now)
    exec 3<&0
    # The shell enters the cgroup first, so that every page of CMD is charged to it.
    # shellcheck disable=SC2016
    sh -c 'echo $$ >"$1" && shift && exec "$@"' capped "$group/cgroup.procs" "$@" <&3 3<&- &
    child=$!
    exec 3<&-
    while kill -0 "$child" 2>/dev/null; do
        sample
        sleep "$SAMPLE_SECONDS"
    done
    code=0
    wait "$child" || code=$?
    child=''
    if [ "$version" = 2 ]; then
        swap_peak=$(at_least "$swap_peak" "$(first "$group/memory.swap.peak")")
    fi
    print_line "$code" "$(awk -v a="$began" -v b="$(now)" 'BEGIN { printf("%.2f", b - a) }')"
    if [ -n "$interrupted" ]; then code=$((128 + interrupted)); fi
    return "$code"
}

# ---- selftest -------------------------------------------------------------------------------

# What there is of ours on the machine: cgroups, swap, zram devices, swap files.
inventory() {
    find /sys/fs/cgroup -name 'capped-*' 2>/dev/null || :
    cat /proc/swaps
    ls -d /sys/block/zram* 2>/dev/null || :
    ls "$swap_dir"/capped-* 2>/dev/null || :
}

# expect NAME CODE COMMAND...: runs COMMAND; its output goes to $out.
expect() {
    case_name=$1 expected=$2
    shift 2
    got=0
    "$@" >"$out" 2>&1 </dev/null || got=$?
    if [ "$got" = "$expected" ]; then
        printf 'ok    %s\n' "$case_name"
    else
        printf 'FAIL  %s: exit code %s, not %s\n' "$case_name" "$got" "$expected"
        sed 's/^/      /' "$out"
        failed=1
    fi
}

# expect_line NAME PATTERN: $out holds a line that matches.
expect_line() {
    if grep -Eq "$2" "$out"; then printf 'ok    %s\n' "$1"; return; fi
    printf 'FAIL  %s: no line like %s\n' "$1" "$2"
    sed 's/^/      /' "$out"
    failed=1
}

interrupted_run() {
    sh "$script" 32MiB -- sleep 60 &
    sleep 1
    kill -TERM "$!"
    wait "$!"
}

# What is read of a cgroup v2 at the end of a run, from a folder of plain files.
selftest_v2() {
    version=2 group=$(mktemp -d)
    printf 'low 0\noom 3\noom_kill 2\n' >"$group/memory.events"
    expect 'v2: kills are counted' 0 oom_kills
    expect_line 'v2: those of oom_kill' '^2$'
    expect 'v2 without memory.peak' 0 peak_bytes
    expect_line 'v2: its peak is not 0' '^unknown$'
    expect_line 'v2: and why is said' '^capped: .*memory\.peak before Linux 5\.19$'
    echo 1048576 >"$group/memory.peak"
    expect 'v2 with memory.peak' 0 peak_bytes
    expect_line 'v2: its peak is that' '^1048576$'
    swap=none limit=33554432
    expect 'v2: a line' 0 print_line 0 1.00
    expect_line 'v2: has both' ' peak_bytes=1048576 .* oom_kills=2 '
    rm -r "$group"
    version='' group='' limit=''
}

selftest() {
    failed=0 out=$(mktemp)
    selftest_v2
    if [ "$(id -u)" != 0 ]; then
        note "SKIPPED: the rest of the selftest makes cgroups and swap, which needs root"
        rm -f "$out"
        return "$failed"
    fi
    before=$(inventory)
    # tail keeps the last line in memory: all of what it is given, where there is no newline.
    eater='head -c 100663296 /dev/zero | tr "\\0" x | tail -n 1 | wc -c'
    expect 'an exit code passes' 7 sh "$script" 32MiB -- sh -c 'exit 7'
    expect_line 'the line says so' '^capped limit_bytes=33554432 swap=none exit=7 '
    expect 'no such command' 127 sh "$script" 32MiB -- /no/such/command
    expect 'no swap: the eater is killed' 0 sh "$script" 32MiB -- sh -c "$eater"
    expect_line 'and its kill is counted' ' oom_kills=[1-9]'
    expect_line 'its peak is the limit' ' peak_bytes=33[0-9]{6} '
    if [ "$(others)" = 0 ]; then
        for kind in disk zram; do
            expect "$kind: the eater ends" 0 \
                sh "$script" 32MiB --swap "$kind" --swap-dir "$swap_dir" -- sh -c "$eater"
            expect_line "$kind: with all it ate" '^100663296$'
            expect_line "$kind: it swapped, nothing was killed" \
                ' swap_peak_bytes=[1-9][0-9]{7,} oom_kills=0 '
        done
        expect_line 'zram: its memory is told' ' zram_mem_used_max_bytes=[1-9]'
    else
        note "SKIPPED: swap of both kinds: other swap is active"
        expect 'other swap is refused' 125 sh "$script" 32MiB --swap disk -- true
    fi
    expect 'a signal ends it' 143 interrupted_run
    expect 'a size of nonsense' 64 sh "$script" 12potatoes -- true
    expect 'no command' 64 sh "$script" 1GiB
    expect 'a swap file in RAM' 125 sh "$script" 32MiB --swap disk --swap-dir /dev/shm -- true
    if [ "$(inventory)" = "$before" ]; then
        echo 'ok    nothing is left behind'
    else
        echo 'FAIL  something is left behind:'
        inventory
        failed=1
    fi
    rm -f "$out"
    return "$failed"
}

# ---- arguments ------------------------------------------------------------------------------

value_of() { [ "$2" -ge 2 ] || fail "$CODE_USAGE" "$1 needs a value; see --help"; }

parse_option() {
    case $1 in
        --swap)
            value_of "$@"
            case $3 in
                none | disk | zram) swap=$3 ;;
                *) fail "$CODE_USAGE" "--swap is none, disk or zram, not '$3'" ;;
            esac
            ;;
        --swap-size) value_of "$@" && swap_size=$(bytes_of --swap-size "$3") ;;
        --swap-dir) value_of "$@" && swap_dir=$3 ;;
        --report) value_of "$@" && report=$3 ;;
        *) fail "$CODE_USAGE" "unknown: '$1'; the command goes behind --, see --help" ;;
    esac
}

main() {
    script=$0
    while [ $# -gt 0 ]; do
        case $1 in
            -h | --help) usage && return ;;
            --selftest) selftest && return ;;
            --other-swap) other_swap=1 && shift ;;
            --) shift && break ;;
            -*)
                parse_option "$1" $# "${2-}"
                shift 2
                ;;
            *)
                [ -z "$limit" ] || fail "$CODE_USAGE" "two limits: $limit and '$1'; see --help"
                limit=$(bytes_of LIMIT "$1")
                shift
                ;;
        esac
    done
    [ -n "$limit" ] || fail "$CODE_USAGE" "no LIMIT; see --help"
    [ $# -gt 0 ] || fail "$CODE_USAGE" "no command behind --; see --help"
    [ "$(id -u)" = 0 ] || fail "$CODE_SETUP" "cgroups and swap need root; run it with sudo"
    [ -n "$swap_size" ] || swap_size=$((4 * limit))
    check_other_swap
    trap cleanup EXIT
    trap 'on_signal 1' HUP
    trap 'on_signal 2' INT
    trap 'on_signal 15' TERM
    make_group
    make_swap
    run "$@"
}

main "$@"
