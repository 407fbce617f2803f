#!/usr/bin/env bash
# A repository on a filesystem of 64 MB that is full, to many degrees: backup, copy, forget and
# reclaim fail in order or succeed; once there is space again the check is clean without any
# repair and the next backup works. Stock restic judges some levels.
#
#   RESTIC  the restic program (default: restic)    BUILD  our build (default build/release-gcc)
#   FULL_LEVELS  how many levels (default 50; deploy/test takes a few)
#
# Says what integration scripts say. Needs root (loop devices) and mkfs.ext4.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
build=${BUILD:-build/release-gcc}
[[ $build == /* ]] || build=$PWD/$build
stillpoint=$build/stillpoint
mill=$build/tests/tools/snapshot_mill
restic=${RESTIC:-restic}
levels=${FULL_LEVELS:-50}
work=$(mktemp -d) || exit 1
finish() {
    cd / || exit 1
    mountpoint -q "$work/disk" && umount "$work/disk"
    rm -rf "$work"
}
trap finish EXIT
cd "$work" || exit 1
printf 'secret\n' >pw

sp() {
    local verb=$1 repo=$2
    shift 2
    "$stillpoint" repo "$verb" --repo "$repo" --password-file pw "$@"
}
# What may fail for want of space says so, with status 1 or 3 and no crash.
may_fail() {
    local status
    "$@" >/dev/null 2>err
    status=$?
    case $status in
    0) return 0 ;;
    1 | 3) grep -qiE 'space|NO_SPACE' err && return 0 ;;
    esac
    printf 'status %d: %s\n' "$status" "$(head -n 1 err)"
    return 1
}

truncate -s 64M image && mkfs.ext4 -q -O ^has_journal -m 0 image && mkdir disk base other || exit 1
if ! mount -o loop image disk 2>/dev/null; then
    skip full-disk "no loop device can be mounted here"
    report
    exit
fi
"$mill" disk/repo pw </dev/null || exit 1
"$mill" elsewhere pw </dev/null || exit 1
head -c 6000000 /dev/urandom >base/a
printf 'small\n' >base/b
cp base/a other/a && head -c 9000000 /dev/urandom >other/c
sp backup disk/repo base -q >/dev/null && sp backup elsewhere other -q >/dev/null || exit 1

# The free space goes from nothing to more than all of it needs.
level() {
    local n=$1 free keep
    head -c 5000000 /dev/urandom >base/new
    printf '%d\n' "$n" >base/b
    free=$(df --output=avail -k disk | tail -n 1)
    keep=$((n * 24000 / levels))
    ((free > keep)) && ! fallocate -l "$((free - keep))K" disk/filler 2>/dev/null &&
        cat /dev/zero >disk/filler 2>/dev/null
    may_fail sp backup disk/repo base -q || return 1
    may_fail sp copy elsewhere --to-repo disk/repo --to-password-file pw -q || return 1
    may_fail sp forget disk/repo --keep-last 1 -q || return 1
    may_fail sp reclaim disk/repo --max-unused 0 -q || return 1
    rm disk/filler
    sp check disk/repo --read-data -q || return 1
    sp backup disk/repo base -q >/dev/null || return 1
    if ((n % 10 == 0)); then
        "$restic" --no-cache -q -r disk/repo -p pw check --read-data || return 1
    fi
    sp forget disk/repo --keep-last 1 -q >/dev/null && sp reclaim disk/repo --max-unused 0 -q >/dev/null &&
        sp check disk/repo --read-data -q
}
for ((n = 0; n < levels; n++)); do
    check "level-$n-of-$levels" level "$n"
done
report
