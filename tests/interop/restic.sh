#!/usr/bin/env bash
# Our repositories under stock restic and restic's under us: backup, check, restore and mixed
# writing, on a corpus with every oddity a filesystem has. Says what integration scripts say.
#   RESTIC  the restic program (default: restic)    BUILD  our build (default build/release-gcc)
# Needs root (devices, owners) and attr, acl.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
root=$PWD
build=${BUILD:-build/release-gcc}
[[ $build == /* ]] || build=$root/$build
restic=${RESTIC:-restic}
stillpoint=$build/stillpoint
treelist=$build/tests/tools/treelist
export TZ=UTC LC_ALL=C.UTF-8
work=$(mktemp -d) || exit 1
trap 'cd / && { mountpoint -q "$work/frozen" && umount "$work/frozen"; rm -rf "$work"; }' EXIT
cd "$work" || exit 1

# exits CODE COMMAND…: passes when the command ends with that status.
exits() {
    local want=$1 got
    shift
    "$@"
    got=$?
    ((got == want)) || {
        printf 'exit status %d, expected %d\n' "$got" "$want"
        return 1
    }
}
sp() {
    local verb=$1 repo=$2
    shift 2
    "$stillpoint" repo "$verb" --repo "$repo" --password-file pw "$@"
}
rs() {
    local verb=$1 repo=$2
    shift 2
    "$restic" --no-cache -q -r "$repo" -p pw "$verb" "$@"
}
# Lists of both trees must be equal. $3: a sed script for known differences.
same_tree() {
    "$treelist" "$1" | sed -e "${3-}" >a.list && "$treelist" "$2" | sed -e "${3-}" >b.list &&
        diff a.list b.list
}

# restic restores further names of a symbolic link as links of their own.
unlinked='/ 120777 /s/ links=[0-9]* same-as=[^ ]*//'

make_corpus() {
    mkdir -p "$1/many" "$1/deep/er/and/deeper" "$1/sticky" "$1/empty-dir" || return
    local i
    for ((i = 0; i < 300; i++)); do
        printf 'file %d\n' "$i" >"$1/many/$i"
    done
    : >"$1/empty"
    head -c 9000000 /dev/urandom >"$1/random"
    { head -c 3000000 /dev/urandom; head -c 20000000 /dev/zero; } >"$1/half"
    truncate -s 30M "$1/sparse"
    printf 'end' | dd of="$1/sparse" bs=1 seek=20000000 conv=notrunc status=none
    ln "$1/random" "$1/deep/hard1"
    ln "$1/random" "$1/deep/er/hard2"
    ln -s ../random "$1/deep/soft"
    ln -s /nonexistent/dangling "$1/dangling"
    ln -s a "$1/hard-link-to-symlink"
    ln "$1/hard-link-to-symlink" "$1/deep/same-symlink"
    mkfifo "$1/fifo"
    mknod "$1/char" c 300 70000
    mknod "$1/block" b 7 200
    printf x >"$1/$(printf 'invalid\xff\xfeutf8')"
    printf x >"$1/$(printf 'new\nline\ttab')"
    printf x >"$1/quote\"back\\slash<&>'"
    printf x >"$1/$(printf 'nbsp\xc2\xa0zwsp\xe2\x80\x8bbom\xef\xbb\xbf')"
    printf x >"$1/émoji-😀-日本"
    printf x >"$1/$(printf 'ctl\x01\x1b\x7f')"
    printf x >"$1/a.b"
    printf x >"$1/a-b"
    printf x >"$1/a"
    printf x >"$1/$(printf 'n%.0s' {1..255})"
    setfattr -n user.text -v value "$1/a"
    setfattr -n user.empty "$1/a"
    setfattr -n user.binary -v 0x00ff00 "$1/a"
    setfattr -n trusted.secret -v t "$1/deep"
    setfacl -m u:1234:rwx,g:4321:r "$1/a.b"
    setfacl -d -m u:1234:rwx "$1/deep/er"
    setcap cap_net_raw+ep "$1/a-b" 2>/dev/null || setfattr -n user.nocap -v 1 "$1/a-b"
    chown 1234:4321 "$1/a" "$1/many/7" "$1/empty-dir"
    chown -h 77:88 "$1/dangling"
    chmod 4755 "$1/a-b"
    chmod 2775 "$1/many"
    chmod 3777 "$1/sticky"
    chmod 0000 "$1/many/9"
    touch -d '1969-12-31T23:59:58.123456789Z' "$1/many/1"
    touch -d '1901-12-31T00:00:00Z' "$1/many/2"
    touch -d '2200-01-01T00:00:00.1Z' "$1/many/3"
    touch -h -d '2001-02-03T04:05:06.7Z' "$1/dangling"
    chmod 0500 "$1/deep/er/and"
    touch -d '2011-02-03T04:05:06.000000001Z' "$1/deep" "$1/many" "$1/empty-dir" "$1"
}

printf 'secret\n' >pw
printf 'wrong\n' >wrong-pw
if ! command -v "$restic" >/dev/null; then
    echo "restic: no program '$restic'" >&2
    exit 1
fi
"$restic" version
make_corpus src || exit 1
src=$work/src

# Ours first.
check init exits 0 sp init ours
check init-refuses-a-second-time exits 1 sp init ours
check backup exits 0 sp backup ours src --tag one
first=$(sp snapshots ours 2>/dev/null | cut -d' ' -f1)
pack=$(find ours/data -type f -printf '%s %p\n' | sort -rn | head -n 1 | cut -d' ' -f2-)
check restic-checks-our-repository rs check ours --read-data
check restic-restores-our-snapshot rs restore ours latest --target by-restic
check restic-restored-the-same-tree same_tree src "by-restic$src" "$unlinked"
check our-check-is-clean sp check ours --read-data
check restore exits 0 sp restore ours latest --target by-us --strip "$src"
check our-restore-is-the-same-tree same_tree src by-us
check second-backup-adds-no-data bash -c "
    '$stillpoint' repo backup --repo ours --password-file pw src --tag one --json |
    grep -q '\"data_blobs\":0,\"'"
check forced-backup-adds-no-data bash -c "
    '$stillpoint' repo backup --repo ours --password-file pw src --tag one --force --json |
    grep -q '\"data_blobs\":0,\"'"
check restic-backs-up-into-our-repository rs backup ours "$src" --tag two
check we-restore-restics-snapshot sp restore ours latest --target mixed --strip "$src"
check it-is-the-same-tree same_tree src mixed
check the-mixed-repository-is-clean rs check ours --read-data
check the-mixed-repository-is-clean-for-us sp check ours --read-data
check no-lock-is-left rmdir ours/locks && mkdir -m 700 ours/locks

# restic's.
check restic-init rs init theirs
check restic-backup rs backup theirs "$src"
check we-restore-restics-repository sp restore theirs latest --target theirs-out --strip "$src"
check restics-tree-is-the-same same_tree src theirs-out
check we-check-restics-repository sp check theirs --read-data
check we-back-up-into-restics-repository sp backup theirs src --tag three
check restic-checks-it rs check theirs --read-data
check restic-restores-it rs restore theirs latest --target theirs-by-restic
check that-tree-is-the-same same_tree src "theirs-by-restic$src" "$unlinked"
if rs init theirs-v1 --repository-version 1 >/dev/null 2>&1; then
    check restic-backup-v1 rs backup theirs-v1 "$src"
    check we-restore-version-1 sp restore theirs-v1 latest --target v1-out --strip "$src"
    check version-1-tree-is-the-same same_tree src v1-out
    check we-back-up-into-version-1 sp backup theirs-v1 src
    check restic-checks-version-1 rs check theirs-v1 --read-data
else
    skip version-1
fi

# Link targets that are not UTF-8 need restic 0.16 or newer to survive.
mkdir raw && ln -s "$(printf 'to\xffraw')" raw/link
check backup-of-a-raw-link sp backup ours raw
check raw-link-is-restored sp restore ours latest --target raw-out --strip "$work/raw"
check raw-link-is-the-same same_tree raw raw-out
rs restore ours latest --target raw-restic >/dev/null 2>&1
if [[ $("$restic" version) =~ ^restic\ 0\.([0-9]+) ]] && ((BASH_REMATCH[1] < 16)); then
    skip restic-restores-a-raw-link
else
    check restic-restores-a-raw-link same_tree raw "raw-restic$work/raw"
fi

# restic drops white space around a password; so must we.
printf ' secret \n' >spaced-pw
check passwords-are-trimmed "$stillpoint" repo snapshots --repo theirs --password-file spaced-pw
# A repository on a read-only mount.
read_only() {
    mkdir -p frozen && mount --bind ours frozen && mount -o remount,bind,ro frozen || return 1
    exits 1 sp check frozen && exits 0 sp check frozen --no-lock
    local status=$?
    umount frozen
    return "$status"
}
check read-only-repository-is-read-without-lock read_only

# An interrupted backup ends in order: its status, no snapshot, no lock.
interrupt() {
    local before pid
    before=$(find ours/snapshots -type f | wc -l)
    truncate -s 20G huge/file
    "$stillpoint" repo backup --repo ours --password-file pw huge &
    pid=$!
    # The lock's appearance is the sign that it runs; a backup that ends early ends the wait.
    until [[ -n $(find ours/locks -type f) ]] || ! kill -0 "$pid"; do :; done
    kill -INT "$pid"
    exits 130 wait "$pid" || return 1
    [[ $(find ours/snapshots ours/locks -type f | wc -l) == "$before" ]]
}
mkdir huge
check interrupted-backup-ends-in-order interrupt

# What must fail, and how.
wrong() {
    "$stillpoint" repo snapshots --repo ours --password-file wrong-pw
}
check wrong-password-exits-12 exits 12 wrong
check no-repository-exits-10 exits 10 sp snapshots nowhere
check unknown-verb-exits-2 exits 2 "$stillpoint" repo bakcup
check unknown-verb-is-guessed grep -q "did you mean 'backup'" <<<"$said"
check missing-option-exits-2 exits 2 "$stillpoint" repo backup src
"$restic" --no-cache -r ours -p pw unlock >/dev/null 2>&1
size=$(stat -c %s "$pack")
chmod 600 "$pack"
byte=$(dd if="$pack" bs=1 skip=$((size / 2)) count=1 status=none | od -An -tu1 | tr -d ' ')
printf '%b' "\\x$(printf %02x $((byte ^ 1)))" |
    dd of="$pack" bs=1 seek=$((size / 2)) conv=notrunc status=none
check flipped-bit-fails-our-check exits 1 sp check ours --read-data
check flipped-bit-is-named-by-check grep -q "${pack##*/}.*blob" <<<"$said"
check flipped-bit-fails-the-restore exits 3 sp restore ours "$first" --target damaged \
    --strip "$src"
check flipped-bit-is-named-by-restore grep -q "blob .* in pack ${pack##*/}" <<<"$said"
# Whatever was restored is right: each file there equals its source.
intact() {
    local path
    [[ -f damaged/empty ]] || return 1
    while IFS= read -r -d '' path; do
        cmp "$path" "src/${path#damaged/}" || return 1
    done < <(find damaged -type f -print0)
}
check nothing-is-restored-silently intact

report
