#!/bin/sh
# A compressed swap device in RAM (zram) for a prover machine: made, watched and taken away.
#
#   plan ----> what `up` would do          /run/plimsoll-zram/state, a journal:
#   up ------> hot_add -> settings ->        before zram0        devices there at the start
#              mkswap -> swapon -> sysctls   device 1            the one made here
#   status --> ratio, verdict                sysctl NAME OLD NEW each one, before it is written
#   down ----> swapoff -> hot_remove ->      up                  the last line of a whole `up`
#              the old sysctls, exactly
#
# Every step is in the journal before it is done, so `down` after a kill at any moment finds what
# there is to undo. It holds for one boot only, which it names.
#
# Must never: write to a zram device that the journal does not name, take over one that was there,
# restore a sysctl that somebody changed since, or swapoff more than fits in RAM unasked.
#
# `plimsoll zram` carries this text and runs it with the program's own path as $0 and `zram` before
# the other words, so that every command that is printed here runs as it stands.
#
# Sources: admin-guide/blockdev/zram and admin-guide/sysctl/vm of the kernel's documentation;
# exit codes as for init scripts in the Linux Standard Base.
set -eu

LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL PATH

usage() {
    printf 'usage: %s%s COMMAND [OPTION]...\n' "${0##*/}" "$word"
    cat <<'TEXT'

  plan      what `up` would do on this machine
  up        make one zram device, swap on it, set the sysctls; safe to run twice
  down      undo exactly that, also after an interrupted `up`
  status    how well it compresses, what RAM it hides, whether it is worth it
  selftest  make a 64 MiB device, fill, measure, remove it; sets no sysctl

  --size SIZE       bytes that can be swapped out: 200% (of RAM; the default),
                    48GiB, 800MB, 1073741824
  --mem-limit SIZE  RAM that it may use in all; 50% by default. Field elements
                    do not compress: without a limit they fill the RAM
  --algorithm NAME  default: the first there is of lz4, lzo-rle, lzo, zstd
  --primary         zram is where cold memory belongs, not only a safety net
  --swappiness N    1 to 10, default 10; with --primary 100 to 180, default 100
  --priority N      of the swap device, 0 to 32767, default 100
  --dry-run         with up and down: print each write, do none
  --json            one JSON object instead of text
  --emit KIND       with plan: a `systemd` unit or a `zram-generator` file
  --force           with down: swapoff even if the RAM may not do
  --state FILE      the journal; default /run/plimsoll-zram/state
  --root DIR        for tests: DIR instead of /, and the programs in DIR/bin

Sysctls, all restored by down: vm.swappiness, vm.page-cluster=0,
vm.watermark_boost_factor=0, with --primary vm.watermark_scale_factor=125.

exit codes: 0 done; 1 failed or refused, the text says why; 2 bad arguments;
3 status: not up; 4 not root; 5 no zram in this kernel, or a program missing
TEXT
}

# The journal. /run is empty after a boot, as are the sysctls.
readonly STATE_DEFAULT=/run/plimsoll-zram/state
# Tries of a write that a busy device refuses, 0.1 s apart: udev holds a new device for a moment.
readonly TRIES_MAX=10
# Bytes of the kernel's table for each 4 KiB page of the device (struct zram_table_entry).
readonly ENTRY_BYTES=16
readonly PAGE_BYTES=4096
# Smallest device. One with less than a few pages cannot even hold the swap header.
readonly SIZE_BYTES_MIN=1048576
# Largest device, in times the RAM. No data of a prover compresses more, and the table costs RAM.
readonly SIZE_RAMS_MAX=10
# Least RAM that must stay available after a swapoff, in bytes.
readonly SPARE_BYTES=67108864
# Fewer bytes stored than this say nothing of the ratio.
readonly JUDGED_BYTES_MIN=16777216

command='' root='' state='' size_text='200%' limit_text='50%' algorithm='' mode=net
swappiness='' priority=100 dry_run='' json='' emit='' force='' undo='' scratch='' given='' word=''

# ---- words ----------------------------------------------------------------------------------

fail() {
    code=$1
    shift
    note "$@"
    exit "$code"
}

# One line, whatever the words hold.
note() { printf 'zram-setup: %s\n' "$(printf '%s' "$*" | tr '[:cntrl:]' '?')" >&2; }

say() { [ -n "$json" ] || printf '%s\n' "$*"; }

# Lines, or nothing at all where there are none.
say_each() { [ -z "$1" ] || say "$1"; }

human() {
    awk -v bytes="$1" 'BEGIN {
        split("B KiB MiB GiB TiB PiB", unit, " ")
        for (i = 1; bytes >= 1024 && i < 6; i++) bytes /= 1024
        printf(i == 1 ? "%.0f %s" : "%.2f %s", bytes, unit[i])
    }'
}

# ratio WHOLE PART DECIMALS: their quotient, or 0 where there is nothing to divide by.
ratio() { awk -v a="$1" -v b="$2" -v n="$3" 'BEGIN { printf("%.*f", n, b > 0 ? a / b : 0) }'; }

# size_bytes NAME TEXT TOTAL: TEXT in bytes, whole pages, where % is of TOTAL.
size_bytes() {
    awk -v text="$2" -v total="$3" -v page="$PAGE_BYTES" 'BEGIN {
        if (!match(text, /^[0-9]+(\.[0-9]+)?/) || RLENGTH > 24) exit 1
        number = substr(text, 1, RLENGTH) + 0
        unit = tolower(substr(text, RLENGTH + 1))
        sub(/^ +/, "", unit)
        if (unit == "%") factor = total / 100
        else if (unit == "" || unit == "b") factor = 1
        else if (unit ~ /^[kmgt](i?b)?$/) {
            power = index("kmgt", substr(unit, 1, 1))
            factor = (unit ~ /^.b$/ ? 1000 : 1024) ^ power
        } else exit 1
        bytes = number * factor
        if (bytes > 2 ^ 50) exit 1
        printf("%.0f", bytes - bytes % page)
    }' || fail 2 "$1 is no size: '$2'; write 48GiB, 800MB, 200% or bytes, up to 1024TiB"
}

# whole NAME TEXT LEAST MOST
whole() {
    case $2 in
        '' | *[!0-9]* | 0?* | ??????*) fail 2 "$1 is not a number from $3 to $4: '$2'" ;;
    esac
    { [ "$2" -ge "$3" ] && [ "$2" -le "$4" ]; } || fail 2 "$1 must be from $3 to $4, not $2"
}

# ---- the machine ----------------------------------------------------------------------------

# first_line PATH: of a file of the kernel, or nothing. Not by `read`: dash asks for one byte at a
# time, and files in /proc/sys answer the first question only.
first_line() { head -n 1 "$root$1" 2>/dev/null || :; }

# write_value PATH VALUE
write_value() {
    if [ -n "$dry_run" ]; then
        say "echo $2 > $1"
    else
        { printf '%s\n' "$2" >"$root$1"; } 2>/dev/null
    fi
}

# tool NAME WORD...: runs a program of the system; under --root only ever one in DIR/bin. It does
# not inherit the lock: if this script is killed, what it had started must not hold it.
tool() {
    if [ -n "$root" ]; then
        program=$root/bin/$1
        shift
        ROOT=$root "$program" "$@" 9>&-
    else
        "$@" 9>&-
    fi
}

has_tool() {
    if [ -n "$root" ]; then [ -x "$root/bin/$1" ]; else command -v "$1" >/dev/null 2>&1; fi
}

# act WORD...: runs a program, or prints it.
act() {
    if [ -n "$dry_run" ]; then say "$*"; else tool "$@" >/dev/null 2>&1; fi
}

settle() { if has_tool udevadm; then tool udevadm settle --timeout=2 >/dev/null 2>&1 || :; fi; }

retry() {
    tries=1
    until "$@"; do
        [ "$tries" -lt "$TRIES_MAX" ] || return 1
        tries=$((tries + 1))
        settle
        { [ -n "$root" ] && tool sleep 0.1; } || sleep 0.1 2>/dev/null || sleep 1
    done
}

meminfo_bytes() {
    awk -v name="$1:" '$1 == name { printf("%.0f", $2 * 1024); found = 1 }
        END { exit !found }' "$root/proc/meminfo" 2>/dev/null ||
        fail 1 "no field $1 in $root/proc/meminfo; is /proc mounted?"
}

# swap_field DEVICE COLUMN: of /proc/swaps (3 size and 4 used in KiB, 5 priority); empty if not on.
swap_field() {
    awk -v name="/dev/$1" -v column="$2" '$1 == name {
        n = split($0, cell); print cell[n - 5 + column] }' "$root/proc/swaps" 2>/dev/null || :
}

# other_swaps DEVICE: a line for each swap that is on but DEVICE.
other_swaps() {
    awk -v own="/dev/$1" 'NR > 1 && $1 != own {
        if ($1 ~ /^\/dev\/zram/) print $1 " is swap too, made by somebody else."
        else print $1 " is swap too: once zram is full, the hot pages go there. swapoff it."
    }' "$root/proc/swaps" 2>/dev/null || :
}

zram_devices() {
    for folder in "$root"/sys/block/zram[0-9]*; do
        [ ! -d "$folder" ] || printf '%s\n' "${folder##*/}"
    done
}

algorithms() {
    for name in $(zram_devices); do
        first_line "/sys/block/$name/comp_algorithm" | tr -d '[]'
        return
    done
}

# Sets $algorithm from the names that follow, what the kernel has; keeps one that was asked for.
choose_algorithm() {
    wanted=$algorithm
    for name in ${wanted:-lz4 lzo-rle lzo zstd}; do
        case " $* " in
            *" $name "*) algorithm=$name && return ;;
        esac
    done
    [ -n "$wanted" ] || fail 1 "the kernel has none of lz4, lzo-rle, lzo, zstd but: $*"
    fail 1 "the kernel's zram has no '$wanted'; it has: $*"
}

# ---- the journal ----------------------------------------------------------------------------

journal() {
    [ -n "$dry_run" ] || { printf '%s\n' "$*" >>"$root$state"; } 2>/dev/null ||
        fail 1 "cannot write $root$state; is the file system full?"
}

# The journal but for a last line that was cut short, as by a file system that became full.
whole_lines() {
    [ ! -f "$root$state" ] || head -n "$(($(wc -l <"$root$state")))" "$root$state"
}

# recorded KEY: the rest of the first line that starts with KEY.
recorded() {
    whole_lines | awk -v key="$1" '$1 == key && !n++ { sub(/^[^ ]+ ?/, ""); print }'
}

boot_id() { first_line /proc/sys/kernel/random/boot_id; }

# Whether the journal is of this boot. Not to know is no reason to drop it.
of_this_boot() {
    boot=$(boot_id)
    [ -n "$boot" ] || [ -z "$(recorded boot)" ] ||
        fail 1 "no /proc/sys/kernel/random/boot_id; is /proc mounted?"
    [ "$(recorded boot)" = "$boot" ]
}

lock() {
    [ -z "$dry_run" ] || return 0
    # In a shell of its own: `:` is one of those whose failed redirection ends the shell.
    (mkdir -p "$root${state%/*}" && : >>"$root$state.lock") 2>/dev/null ||
        fail 1 "cannot write in $root${state%/*}; is it read-only or full? name another --state"
    { [ -z "$root" ] && has_tool flock; } || return 0
    exec 9>>"$state.lock"
    flock -n 9 || fail 1 "another zram-setup is at work; wait for it"
}

# ---- settings -------------------------------------------------------------------------------

# Sets total_bytes, size, limit, table_bytes, swappiness from the arguments and the machine.
settle_sizes() {
    total_bytes=$(meminfo_bytes MemTotal)
    size=$(size_bytes --size "$size_text" "$total_bytes")
    limit=$(size_bytes --mem-limit "$limit_text" "$total_bytes")
    [ "$size" -ge "$SIZE_BYTES_MIN" ] ||
        fail 2 "--size $size_text is $size bytes; the smallest is 1MiB"
    [ "$size" -le $((total_bytes * SIZE_RAMS_MAX)) ] ||
        fail 2 "--size $size_text is over $SIZE_RAMS_MAX times the RAM ($(human "$total_bytes"))"
    [ "$limit" -ge "$SIZE_BYTES_MIN" ] ||
        fail 2 "--mem-limit $limit_text is $limit bytes; the smallest is 1MiB"
    [ "$limit" -le "$total_bytes" ] ||
        fail 2 "--mem-limit $limit_text is more than the RAM ($(human "$total_bytes"))"
    table_bytes=$((size * ENTRY_BYTES / PAGE_BYTES))
    if [ "$mode" = primary ]; then
        whole "--swappiness with --primary" "${swappiness:=100}" 100 180
    else
        whole "--swappiness without --primary" "${swappiness:=10}" 1 10
    fi
    whole --priority "$priority" 0 32767
}

sysctls_wanted() {
    [ "$command" != selftest ] || return 0
    printf '%s\n' "swappiness $swappiness" 'page-cluster 0' 'watermark_boost_factor 0'
    [ "$mode" != primary ] || printf '%s\n' 'watermark_scale_factor 125'
}

need_root() {
    [ -n "$root" ] || [ "$(id -u)" = 0 ] || fail 4 "$command needs root; try: sudo $0$word $command"
}

need_zram() {
    find_zram
    # Reading hot_add makes a device: not where /sys is read-only and it could not be removed.
    [ -n "$dry_run" ] || [ -w "$root/sys/class/zram-control/hot_remove" ] ||
        fail 1 "cannot write /sys; it is read-only in most containers: run this on the host"
}

find_zram() {
    [ ! -e "$root/sys/class/zram-control/hot_add" ] || return 0
    if [ -n "$dry_run" ]; then
        say 'modprobe zram num_devices=0'
        return
    fi
    if has_tool modprobe && tool modprobe zram num_devices=0 >/dev/null 2>&1; then
        retry test -e "$root/sys/class/zram-control/hot_add" || :
        module=loaded
    fi
    [ -e "$root/sys/class/zram-control/hot_add" ] ||
        fail 5 "this kernel has no zram: neither built in nor as a module (CONFIG_ZRAM)"
}

# ---- up -------------------------------------------------------------------------------------

# Sets $changed to the names of the sysctls that are not as wanted, and makes them so. All are in
# the journal, with the value from before the first `up`, before one is written.
set_sysctls() {
    changed=$(sysctls_wanted | while read -r name new; do
        now=$(first_line "/proc/sys/vm/$name")
        [ -z "$now" ] || [ "$now" = "$new" ] || echo "$name"
    done)
    for name in $changed; do
        old=$(old_sysctl "$name")
        : "${old:=$(first_line "/proc/sys/vm/$name")}"
        journal "sysctl $name $old $(new_sysctl "$name")"
    done
    for name in $changed; do
        write_value "/proc/sys/vm/$name" "$(new_sysctl "$name")" ||
            fail 1 "cannot write /proc/sys/vm/$name; it is read-only in most containers"
    done
}

new_sysctl() { sysctls_wanted | awk -v name="$1" '$1 == name { print $2 }'; }

old_sysctl() {
    whole_lines | awk -v name="$1" '$1 == "sysctl" && $2 == name && !n++ { print $3 }'
}

make_device() {
    if [ -n "$dry_run" ]; then
        device=zramN
        say 'cat /sys/class/zram-control/hot_add   # makes /dev/zramN'
        return
    fi
    # The name goes straight from the kernel into the journal: no moment in which only we know it.
    { printf 'device ' && cat "$root/sys/class/zram-control/hot_add"; } 2>/dev/null \
        >>"$root$state" || fail 1 "no device: hot_add failed, or the file system of $state is full"
    device=$(recorded device)
    case $device in
        '' | *[!0-9]*) fail 1 "the kernel made no device: hot_add gave '$device'" ;;
    esac
    device=zram$device
    journal "diskseq $(first_line "/sys/block/$device/diskseq")"
    settle
    retry test -e "$root/dev/$device" ||
        fail 1 "/dev/$device did not appear; is /dev a devtmpfs, or does udev run?"
}

configure_device() {
    folder=/sys/block/$device
    if [ -n "$dry_run" ]; then
        # shellcheck disable=SC2046 # the names are words
        set -- $(algorithms)
        [ $# = 0 ] || choose_algorithm "$@"
        : "${algorithm:=lz4}"
    else
        # shellcheck disable=SC2046 # the names are words
        choose_algorithm $(first_line "$folder/comp_algorithm" | tr -d '[]')
    fi
    retry write_value "$folder/comp_algorithm" "$algorithm" ||
        fail 1 "$device does not take $algorithm: another program holds it; try again"
    retry write_value "$folder/disksize" "$size" ||
        fail 1 "$device does not take a size of $(human "$size"): another program holds it, or" \
            "its table of $(human "$table_bytes") does not fit in RAM"
    retry write_value "$folder/mem_limit" "$limit" ||
        fail 1 "$device does not take a limit of $(human "$limit")"
    [ -z "$dry_run" ] || return 0
    made_bytes=$(first_line "$folder/disksize")
    [ "$made_bytes" = "$size" ] || fail 1 "$device took $size bytes and has '$made_bytes'"
}

swap_on() {
    retry act mkswap "/dev/$device" || fail 1 "mkswap /dev/$device failed"
    act swapon -d -p "$1" "/dev/$device" ||
        fail 1 "swapon /dev/$device failed; a container may not, nor a kernel without CONFIG_SWAP"
}

same_settings() {
    [ "$(recorded settings)" = "$size $limit $mode $priority" ] &&
        { [ -z "$algorithm" ] || [ "$algorithm" = "$(recorded algorithm)" ]; }
}

# What is there of an earlier `up`: leaves it if it is what is wanted, clears what was cut short.
look_back() {
    [ -f "$root$state" ] || return 1
    device=zram$(recorded device)
    if ! of_this_boot; then
        say "the journal is of an earlier boot and is dropped"
        [ -n "$dry_run" ] || rm -f "$root$state"
    elif ! grep -q '^up$' "$root$state" || [ -z "$(swap_field "$device" 4)" ]; then
        say "an earlier run was cut short; what is left of it is removed first"
        take_down
    elif same_settings; then
        return 0
    else
        # shellcheck disable=SC2046 # the numbers are words
        set -- $(recorded settings)
        fail 1 "$device is up with other settings (--size $1 --mem-limit $2 --priority $4," \
            "$3, $(recorded algorithm)); run \`down\` first, then \`up\`"
    fi
    return 1
}

bring_up() {
    module=''
    need_zram
    if [ -z "$dry_run" ]; then
        undo=yes
        { printf 'version 1\nboot %s\n' "$(boot_id)" >"$root$state"; } 2>/dev/null ||
            fail 1 "cannot write $root$state; is the file system full?"
        journal "before $(zram_devices | paste -s -d ' ' -)"
        [ -z "$module" ] || journal "module zram"
        journal "settings $size $limit $mode $priority"
    fi
    make_device
    configure_device
    journal "algorithm $algorithm"
}

cmd_up() {
    need_root
    settle_sizes
    for name in mkswap swapon swapoff; do
        has_tool "$name" || fail 5 "there is no $name here; it is in util-linux"
    done
    lock
    outcome=made
    if look_back; then
        outcome=unchanged
    else
        bring_up
        swap_on "$priority"
    fi
    set_sysctls
    # From here on it is up: a signal can no longer ask for half of it.
    trap '' HUP INT TERM
    [ "$outcome" = unchanged ] || journal up
    undo=''
    [ -z "$dry_run" ] || [ "$outcome" = unchanged ] || outcome=dry-run
    if [ -n "$json" ]; then
        printf '{"command":"up","outcome":"%s","device":"%s",' "$outcome" "$device"
        printf '"size_bytes":%s,"mem_limit_bytes":%s}\n' "$size" "$limit"
    elif [ "$outcome" = unchanged ]; then
        changed=$(printf '%s' "$changed" | tr '\n' ' ')
        say "$device is up already: ${changed:-nothing to do}${changed:+ set again}"
    elif [ "$outcome" = made ]; then
        say "$device is up: $(human "$size") of swap, at most $(human "$limit") of RAM, $algorithm"
        say_each "$(other_swaps "$device")"
    fi
}

# ---- down -----------------------------------------------------------------------------------

# The one device that an `up` killed between hot_add and the journal may have left: new since
# then, without a size, and the only such. More than one, or one in use, is not ours to guess.
orphan() {
    found=''
    before=" $(recorded before) "
    for name in $(zram_devices); do
        case $before in
            *" $name "*) continue ;;
        esac
        [ "$(first_line "/sys/block/$name/disksize")" = 0 ] || continue
        [ -z "$found" ] || return 0
        found=$name
    done
    printf '%s' "${found#zram}"
}

# Sets $device to the one to remove, or to nothing.
find_device() {
    device=''
    [ -f "$root$state" ] || return 0
    number=$(recorded device)
    seq=$(recorded diskseq)
    if grep -q '^device' "$root$state" && [ -z "$number" ]; then
        number=$(orphan)
    fi
    [ -n "$number" ] && [ -d "$root/sys/block/zram$number" ] || return 0
    if [ -n "$seq" ] && [ "$seq" != "$(first_line "/sys/block/zram$number/diskseq")" ]; then
        note "zram$number is not the device that was made here any more; it is left alone"
        return 0
    fi
    device=zram$number
}

swap_off() {
    used_kib=$(swap_field "$1" 4)
    [ -n "$used_kib" ] || return 0
    available=$(meminfo_bytes MemAvailable) || exit 1
    if [ -z "$force" ] && [ $((used_kib * 1024 + SPARE_BYTES)) -gt "$available" ]; then
        fail 1 "$1 holds $(human $((used_kib * 1024))) and only $(human "$available") of RAM are" \
            "available: stop a prover first, or risk it with --force"
    fi
    act swapoff "/dev/$1" ||
        fail 1 "swapoff /dev/$1 failed: what it holds does not fit in RAM, or not under the limit" \
            "of the cgroup that it belongs to; stop that program, or raise its limit"
}

remove_device() {
    [ ! -d "$root/sys/block/$1" ] ||
        retry write_value /sys/class/zram-control/hot_remove "${1#zram}"
}

restore_sysctls() {
    [ -f "$root$state" ] || return 0
    names=$(whole_lines | awk '$1 == "sysctl" { print $2 }' | sort -u)
    for name in $names; do
        now=$(first_line "/proc/sys/vm/$name")
        old=$(old_sysctl "$name")
        if grep -q "^sysctl $name $old $now\$" "$root$state"; then
            write_value "/proc/sys/vm/$name" "$old" || note "cannot restore vm.$name=$old"
        elif [ "$now" != "$old" ]; then
            note "vm.$name is $now now, changed by somebody else; left so (it was $old)"
        fi
    done
}

# A module that was loaded here goes, unless somebody else's device would go with it.
unload_module() {
    [ -n "$(recorded module)" ] || return 0
    for name in $(zram_devices); do
        [ "$(first_line "/sys/block/$name/initstate")" = 0 ] || return 0
    done
    act modprobe -r zram || :
}

take_down() {
    find_device
    busy=''
    if [ -n "$device" ]; then
        swap_off "$device"
        if ! remove_device "$device"; then
            # Perhaps a swapon outlived the run that started it: once more from there.
            swap_off "$device"
            remove_device "$device" || busy=$device
        fi
    fi
    restore_sysctls
    [ -z "$busy" ] ||
        fail 1 "$busy is off, but another program holds /dev/$busy open; close it, \`down\` again"
    unload_module
    [ -n "$dry_run" ] || rm -f "$root$state"
}

cmd_down() {
    need_root
    outcome=removed
    device=''
    if [ ! -f "$root$state" ]; then
        outcome=nothing
    else
        lock
        if ! of_this_boot; then
            say "the journal is of an earlier boot and is dropped"
            [ -n "$dry_run" ] || rm -f "$root$state"
            outcome=nothing
        else
            take_down
        fi
    fi
    [ -z "$dry_run" ] || outcome=dry-run
    if [ -n "$json" ]; then
        printf '{"command":"down","outcome":"%s","device":"%s"}\n' "$outcome" "$device"
    elif [ "$outcome" = nothing ]; then
        say "nothing is up: nothing to do"
    elif [ "$outcome" = removed ]; then
        say "${device:-no device} removed, sysctls restored"
    fi
}

# ---- plan -----------------------------------------------------------------------------------

emit_systemd() {
    here=$(cd "$(dirname "$0")" && pwd)/${0##*/}
    down_options=''
    options="--size $(printf '%s' "$size_text" | tr -d ' ')"
    options="$options --mem-limit $(printf '%s' "$limit_text" | tr -d ' ')"
    options="$options --swappiness $swappiness --priority $priority"
    [ -z "$asked" ] || options="$options --algorithm $asked"
    [ "$mode" != primary ] || options="$options --primary"
    [ "$state" = "$STATE_DEFAULT" ] || down_options=" --state $state"
    # Percent signs are doubled: a single one is a specifier of systemd's.
    here=$(printf '%s' "$here" | sed 's/%/%%/g')
    options=$(printf '%s' "$options$down_options" | sed 's/%/%%/g')
    cat <<TEXT
# /etc/systemd/system/plimsoll-zram.service
# Then: systemctl daemon-reload && systemctl enable --now plimsoll-zram.service
[Unit]
Description=Compressed swap in RAM for a prover machine
ConditionVirtualization=!container
After=local-fs.target systemd-sysctl.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart="$here"$word up $options
ExecStop="$here"$word down$down_options
TimeoutStopSec=10min

[Install]
WantedBy=multi-user.target
TEXT
}

# A size for zram-generator, which counts in MiB and knows the RAM as `ram`.
generator_size() {
    case $1 in
        *%) printf 'ram * %s / 100' "${1%\%}" ;;
        *) awk -v bytes="$2" 'BEGIN { printf("%.0f", int((bytes + 1048575) / 1048576)) }' ;;
    esac
}

emit_generator() {
    cat <<TEXT
# /etc/systemd/zram-generator.conf
# Then: systemctl daemon-reload && systemctl start systemd-zram-setup@zram0.service
[zram0]
zram-size = $(generator_size "$size_text" "$size")
zram-resident-limit = $(generator_size "$limit_text" "$limit")
compression-algorithm = $algorithm
swap-priority = $priority
options = discard

# The generator sets no sysctl. /etc/sysctl.d/90-plimsoll-zram.conf, then sysctl --system:
$(sysctls_wanted | awk '{ print "#   vm." $1 " = " $2 }')
TEXT
}

plan_row() { printf '  %-30s %14s %14s\n' "$1" "$2" "$3"; }

plan_text() {
    say "zram for this machine: RAM $(human "$total_bytes"), available $(human "$available_bytes")"
    say ''
    plan_row '' now planned
    plan_row 'zram devices' "$(zram_devices | wc -w | tr -d ' ')" 'one more'
    plan_row 'swap it can hold (--size)' - "$(human "$size")"
    plan_row 'RAM it may use (--mem-limit)' - "$(human "$limit")"
    plan_row 'RAM its table takes at once' - "$(human "$table_bytes")"
    plan_row 'algorithm' - "$algorithm"
    plan_row 'swap priority' - "$priority"
    sysctls_wanted | while read -r name new; do
        plan_row "vm.$name" "$(first_line "/proc/sys/vm/$name")" "$new"
    done
    say ''
    [ ! -e "$root/sys/fs/cgroup/memory/memory.swappiness" ] ||
        say "cgroup v1: cgroups that exist keep their own memory.swappiness."
    say_each "$(other_swaps "zram$(recorded device)")"
    [ -n "$known" ] || say "$algorithm is a guess: no zram device is there to ask; \`up\` asks."
    [ ! -f "$root$state" ] || say "Something is up or left over already; see \`status\`."
    say "To see each write: $0$word up$given --dry-run"
    say "To do it:          $0$word up$given"
}

cmd_plan() {
    settle_sizes
    available_bytes=$(meminfo_bytes MemAvailable)
    # shellcheck disable=SC2046 # the names are words
    set -- $(algorithms)
    known=$* asked=$algorithm
    [ -z "$known" ] || choose_algorithm "$@"
    case $emit in
        systemd) emit_systemd && return ;;
    esac
    : "${algorithm:=lz4}"
    case $emit in
        zram-generator) emit_generator && return ;;
    esac
    if [ -z "$json" ]; then
        plan_text
        return
    fi
    sysctls=$(sysctls_wanted | awk '{ printf("%s\"vm.%s\":%s", NR > 1 ? "," : "", $1, $2) }')
    printf '{"command":"plan","ram_bytes":%s,"size_bytes":%s,"mem_limit_bytes":%s,' \
        "$total_bytes" "$size" "$limit"
    printf '"table_bytes":%s,"algorithm":"%s","priority":%s,"sysctls":{%s}}\n' \
        "$table_bytes" "$algorithm" "$priority" "$sysctls"
}

# ---- status ---------------------------------------------------------------------------------

# Sets orig, compr, used, limit_now, same, huge (bytes) from mm_stat of a device.
read_mm_stat() {
    # shellcheck disable=SC2046 # the numbers are words
    set -- $(first_line "/sys/block/$1/mm_stat") 0 0 0 0 0 0 0 0
    orig=$1 compr=$2 used=$3 limit_now=$4
    same=$(($6 * PAGE_BYTES)) huge=$(($8 * PAGE_BYTES))
}

# Sets verdict and verdict_text from what read_mm_stat found.
judge() {
    # Of the pages that hold something: those of one repeated word cost nothing and prove nothing.
    gain=$(ratio "$((orig - same))" "$compr" 2)
    if [ "$limit_now" != 0 ] && [ "$used" -ge $((limit_now * 9 / 10)) ]; then
        verdict=full
        verdict_text="nearly at its RAM limit: the next pages cannot be swapped out"
    elif [ "$orig" -lt "$JUDGED_BYTES_MIN" ]; then
        verdict=unknown
        verdict_text="too little is swapped out to judge"
    elif [ "$(awk -v r="$gain" 'BEGIN { print r < 1.1 }')" = 1 ] && [ "$compr" -gt 0 ]; then
        verdict=useless
        verdict_text="this data does not compress, zram only hides it"
    elif [ "$(awk -v r="$gain" 'BEGIN { print r < 1.5 }')" = 1 ] && [ "$compr" -gt 0 ]; then
        verdict=little
        verdict_text="compresses little; a spill file frees more"
    else
        verdict=good
        verdict_text="worth having"
    fi
    case $verdict in
        useless | little | good) verdict_text="ratio $(ratio "$orig" "$used" 1): $verdict_text" ;;
    esac
}

device_json() {
    printf '{"device":"%s","owned":%s,"swapping":%s,"size_bytes":%s,"algorithm":"%s",' \
        "$1" "$owned" "$swapping" "$size" "$algorithm"
    printf '"stored_bytes":%s,"compressed_bytes":%s,"used_bytes":%s,"mem_limit_bytes":%s,' \
        "$orig" "$compr" "$used" "$limit_now"
    printf '"same_filled_bytes":%s,"incompressible_bytes":%s,"ratio":%s,"verdict":"%s"}' \
        "$same" "$huge" "$(ratio "$orig" "$used" 3)" "$verdict"
}

device_text() {
    whose='made by somebody else'
    [ "$owned" = false ] || whose='made by this script'
    say "$1: $(human "$size"), $algorithm, swap $swap_word, $whose"
    limit_word=', with no limit set'
    [ "$limit_now" = 0 ] || limit_word=" of at most $(human "$limit_now")"
    say "  swapped out      $(human "$orig")"
    say "  RAM it takes     $(human "$used")$limit_word; no cgroup is charged for it"
    ratio_word=$(ratio "$orig" "$used" 2)
    [ "$verdict" != unknown ] || ratio_word=-
    say "  ratio            $ratio_word"
    say "  incompressible   $(ratio $((huge * 100)) "$orig" 1) %"
    say "  one word only    $(ratio $((same * 100)) "$orig" 1) %"
    say "  verdict          $verdict_text"
}

# describe DEVICE OWN_DEVICE
describe() {
    owned=false swapping=false swap_word=off
    [ "$1" != "$2" ] || owned=true
    if [ -n "$(swap_field "$1" 4)" ]; then
        swapping=true
        swap_word="on at priority $(swap_field "$1" 5)"
    fi
    size=$(first_line "/sys/block/$1/disksize")
    algorithm=$(first_line "/sys/block/$1/comp_algorithm" | sed 's/.*\[\(.*\)\].*/\1/')
    read_mm_stat "$1"
    judge
    if [ -n "$json" ]; then device_json "$1"; else device_text "$1"; fi
}

cmd_status() {
    device=''
    outcome=down
    if [ -f "$root$state" ] && of_this_boot; then
        find_device
        outcome=interrupted
        if [ -n "$device" ] && grep -q '^up$' "$root$state" &&
            [ -n "$(swap_field "$device" 4)" ]; then
            outcome=up
        fi
    fi
    [ -z "$json" ] || printf '{"command":"status","outcome":"%s","devices":[' "$outcome"
    comma=''
    for name in $(zram_devices); do
        [ "$(first_line "/sys/block/$name/disksize")" != 0 ] || continue
        [ -z "$json" ] || printf '%s' "$comma"
        describe "$name" "$device"
        comma=','
    done
    [ -z "$json" ] || printf ']}\n'
    case $outcome in
        up) return 0 ;;
        down) say "Nothing of this script is up. To set it up: $0$word up" ;;
        *)
            say "An \`up\` was cut short, or the swap was taken off by hand. To tidy:" \
                "$0$word down"
            ;;
    esac
    exit 3
}

# ---- selftest -------------------------------------------------------------------------------

# check TEXT WORD...: one line of the selftest; the first failure ends it.
check() {
    text=$1
    shift
    "$@" || fail 1 "selftest: $text: no; what was made is removed"
    say "ok    $text"
}

# fill FROM_FILE AT_MIB: 16 MiB of it onto the device.
fill() {
    dd if="$1" of="$root/dev/$device" bs=1048576 count=16 seek="$2" iflag=fullblock \
        conv=notrunc,fsync 2>/dev/null
}

in_range() { awk -v r="$1" -v a="$2" -v b="$3" 'BEGIN { exit !(r >= a && r <= b) }'; }

cmd_selftest() {
    need_root
    [ -z "$root" ] || fail 2 "selftest needs a real device; leave out --root"
    scratch=$(mktemp -d 2>/dev/null) || fail 1 "no folder can be made in ${TMPDIR:-/tmp}"
    state=$scratch/state size_text=64MiB limit_text=64MiB
    settle_sizes
    bring_up
    check "a device of 64 MiB is made: $device, $algorithm" test -b "/dev/$device"
    awk 'BEGIN { for (i = 0; i < 540000; i++) print "a stage and what it needs, line", i }' \
        2>/dev/null >"$scratch/text" || fail 1 "selftest: 24 MiB do not fit in ${TMPDIR:-/tmp}"
    check "16 MiB of text are written" fill "$scratch/text" 0
    read_mm_stat "$device"
    text_ratio=$(ratio "$orig" "$compr" 2)
    check "text compresses: ratio $text_ratio" in_range "$text_ratio" 2 1000
    before_orig=$orig before_compr=$compr
    check "16 MiB of random bytes are written" fill /dev/urandom 16
    read_mm_stat "$device"
    random_ratio=$(ratio $((orig - before_orig)) $((compr - before_compr)) 2)
    check "random bytes do not: ratio $random_ratio" in_range "$random_ratio" 0.9 1.1
    shown=$(ratio $((huge * 100)) $((orig - before_orig)) 0)
    check "and status would say so: $shown % incompressible" \
        test "$huge" -ge $(((orig - before_orig) * 9 / 10))
    swap_on 0
    check "it is swap" test -n "$(swap_field "$device" 4)"
    made=$device
    take_down
    undo=''
    check "it is gone" test ! -e "/sys/block/$made"
    [ -n "$json" ] || return 0
    printf '{"command":"selftest","outcome":"ok","text_ratio":%s,"random_ratio":%s}\n' \
        "$text_ratio" "$random_ratio"
}

# ---- arguments ------------------------------------------------------------------------------

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
            plan | up | down | status | selftest)
                [ -z "$command" ] || fail 2 "one command only, not $command and $1"
                command=$1
                ;;
            --primary)
                mode=primary
                given="$given --primary"
                ;;
            --dry-run) dry_run=yes ;;
            --json) json=yes ;;
            --force) force=yes ;;
            -h | --help) usage && exit 0 ;;
            --?*=*) parse_value "${1%%=*}" "${1#*=}" ;;
            *)
                parse_value "$@"
                shift
                ;;
        esac
        shift
    done
}

parse_value() {
    case $1 in
        --size | --mem-limit | --algorithm | --swappiness | --priority | --emit | --state | --root)
            [ $# -ge 2 ] || fail 2 "$1 needs a value; see --help"
            ;;
    esac
    case $1 in
        --size | --mem-limit | --algorithm | --swappiness | --priority | --state)
            given="$given $1 $(printf '%s' "$2" | tr -d ' ')"
            ;;
    esac
    case $1 in
        --size) size_text=$2 ;;
        --mem-limit) limit_text=$2 ;;
        --algorithm) algorithm=$2 ;;
        --swappiness) swappiness=$2 ;;
        --priority) priority=$2 ;;
        --emit) emit=$2 ;;
        --state) state=$2 ;;
        --root) root=${2%/} ;;
        *) fail 2 "'$1' is no command or option; see --help" ;;
    esac
}

check_arguments() {
    case $command in
        '') usage >&2 && exit 2 ;;
    esac
    case $emit in
        '' | systemd | zram-generator) ;;
        *) fail 2 "--emit is systemd or zram-generator, not '$emit'" ;;
    esac
    [ -z "$emit" ] || [ "$command" = plan ] || fail 2 "--emit goes with plan"
    [ -z "$force" ] || [ "$command" = down ] || fail 2 "--force goes with down"
    case $dry_run$command in
        yesstatus | yesselftest) fail 2 "--dry-run goes with up and down" ;;
    esac
    case $algorithm in
        *[!a-z0-9-]*) fail 2 "--algorithm is a name such as lz4, not '$algorithm'" ;;
    esac
    : "${state:=$STATE_DEFAULT}"
    case $state in
        *[!A-Za-z0-9/._-]*) fail 2 "--state has odd characters: '$state'; use letters and digits" ;;
        /*[!/]) ;;
        *) fail 2 "--state must be a path from the root to a file, not '$state'" ;;
    esac
    [ ! -e "$root$state" ] || [ -f "$root$state" ] ||
        fail 2 "--state $state is there already and is no plain file; name another"
}

on_exit() {
    code=$?
    trap - EXIT
    trap '' HUP INT TERM
    if [ -n "$undo" ]; then
        undo='' json=yes force=yes
        (take_down) || note "not all of it could be undone; run \`$0$word down\`"
    fi
    [ -z "$scratch" ] || rm -rf "$scratch"
    exit "$code"
}

main() {
    # Run by `plimsoll zram`: what is printed begins with the two words.
    if [ "${1:-}" = zram ]; then
        word=' zram'
        shift
    fi
    parse "$@"
    check_arguments
    trap on_exit EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    "cmd_$command"
}

main "$@"
