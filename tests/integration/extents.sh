#!/usr/bin/env bash
# What maps of extents say is the same, is the same: files on btrfs and xfs changed in every way there
# is, captured, and compared byte for byte. EXTENTS_ROUNDS (60) rounds for each of the conditions;
# EXTENTS_SEED repeats the changes of an earlier run. Needs root and loop mounts.
set -uo pipefail
shopt -s nullglob
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
BUILD=${BUILD:-build/release-gcc}
EXTENTS_ROUNDS=${EXTENTS_ROUNDS:-60}
seed=${EXTENTS_SEED:-$RANDOM}
work=$(mktemp -d)
balancing=

finish() {
    [[ -z $balancing ]] || { kill "$balancing" && wait "$balancing"; } 2>/dev/null
    btrfs balance cancel "$work/btrfs" >/dev/null 2>&1
    umount "$work/btrfs" "$work/xfs" 2>/dev/null
    rm -rf --one-file-system "$work"
}
trap finish EXIT

make_disk() { # KIND
    mkdir "$work/$1" && truncate -s 1G "$work/$1.img" && "mkfs.$1" -q "$work/$1.img" >/dev/null 2>&1 &&
        mount -o loop "$work/$1.img" "$work/$1"
}

clear_btrfs() {
    local d
    for d in "$work"/btrfs/*; do btrfs -q subvolume delete "$d" >/dev/null || return 1; done
    btrfs -q subvolume create "$work/btrfs/live" >/dev/null
}

mill() { # KIND
    "$BUILD/tests/tools/extents_mill" "$work/$1" "$1" "$seed" "$EXTENTS_ROUNDS"
}

# said_little OUTPUT: what counts as changed is not much more than what is. Without that, "everything
# has changed" would pass.
said_little() {
    [[ $1 =~ said_changed=([0-9]+)\ changed=([0-9]+)$ ]] && ((BASH_REMATCH[1] * 2 <= BASH_REMATCH[2] * 3))
}

try() { # NAME KIND
    local out
    seed=$((seed + 1))
    if out=$(mill "$2" 2>&1) && said_little "$out"; then
        ok "$1: $out"
    else
        not_ok "$1 (seed $seed)" "$out"
    fi
}

if ! make_disk btrfs || ! make_disk xfs; then
    skip "extents" "needs root, loop mounts, btrfs and xfs"
    report
    exit
fi
mkdir "$work/xfs/live"
try "xfs" xfs
for options in compress=no,datacow compress-force=zstd compress-force=lzo nodatacow; do
    check "btrfs is mounted with $options" mount -o "remount,$options" "$work/btrfs"
    clear_btrfs
    try "btrfs with $options" btrfs
done
(while btrfs balance start -d "$work/btrfs" >/dev/null 2>&1; do :; done) &
balancing=$!
clear_btrfs
try "btrfs while it is balanced" btrfs
report
