#!/usr/bin/env bash
# Reading a repository back through the command line: restores over what exists, killed ones,
# patterns, and the mounted filesystem. Says what integration scripts say.
#   BUILD  our build (default build/release-gcc)
# Needs root, attr, acl; the checks of mount need /dev/fuse.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
root=$PWD
build=${BUILD:-build/release-gcc}
[[ $build == /* ]] || build=$root/$build
stillpoint=$build/stillpoint
treelist=$build/tests/tools/treelist
export TZ=UTC LC_ALL=C.UTF-8
work=$(mktemp -d) || exit 1
trap 'cd / && { mountpoint -q "$work/mnt" && umount -l "$work/mnt"; rm -rf "$work"; }' EXIT
cd "$work" || exit 1

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
    local verb=$1
    shift
    "$stillpoint" repo "$verb" --repo repo --password-file pw "$@"
}
restore() { sp restore latest --strip /src "$@"; }
same_tree() {
    "$treelist" "$1" >a.list && "$treelist" "$2" >b.list && diff a.list b.list
}
# count KEY: the number in the last JSON summary.
count() { sed -n "s/.*\"message_type\": *\"summary\".*\"$1\": *\([0-9]*\).*/\1/p" json.log; }
counts() {
    local pair
    for pair; do
        [[ $(count "${pair%%=*}") == "${pair#*=}" ]] || {
            printf '%s: %s\n' "${pair%%=*}" "$(count "${pair%%=*}")"
            return 1
        }
    done
}
restore_json() { restore --json "$@" >json.log; }

make_corpus() {
    mkdir -p src/dir/sub src/empty src/many src/ro || return
    local i
    for ((i = 0; i < 500; i++)); do printf 'file %d\n' "$i" >"src/many/$i"; done
    head -c 30000000 /dev/urandom >src/big
    { head -c 2000000 /dev/urandom; head -c 9000000 /dev/zero; head -c 10 /dev/urandom; } >src/holes
    : >src/dir/none
    ln src/big src/dir/second
    ln -s ../big src/dir/link
    mkfifo src/fifo
    mknod src/null c 1 3
    printf x >"src/dir/[brackets]"
    printf y >src/dir/sub/note.txt
    setfattr -n user.text -v value src/dir/none
    setfacl -m u:1234:rwx src/dir/none
    setfacl -d -m u:1234:rwx src/dir/sub
    chown 1234:4321 src/many/7
    chmod 4711 src/many/8
    chmod 2770 src/many
    chmod 0500 src/ro
    touch -d '2001-02-03T04:05:06.123456789Z' src/many/9 src/dir src/ro
}
printf 'secret\n' >pw
make_corpus || exit 1
check init sp init
check backup sp backup --as /src --tag stillpoint --tag group=g --tag set=s1 --tag partition=p src
snapshot=$(sp snapshots --json | sed -n 's/.*"short_id": *"\([0-9a-f]*\)".*/\1/p' | tail -n 1)

# Into nothing, and over what is there.
check a-dry-run-writes-nothing restore_json --target out --dry-run
check a-dry-run-counts counts files_restored=506 files_skipped=0
check no-target-was-made test ! -e out
check restore restore --target out
check restored-tree-is-the-same same_tree src out
check a-second-restore-finds-all-there restore_json --target out
check it-kept-every-file counts files_restored=0 files_skipped=506 bytes_restored=0
printf 'mine' >out/many/3
: >out/stranger
mkdir out/strange-dir && : >out/strange-dir/x
check what-exists-is-refused exits 3 restore --target out
check what-exists-was-not-touched grep -q mine out/many/3
check never-skips restore_json --target out --overwrite never
check never-touches-nothing grep -q mine out/many/3
touch -d '2000-01-01T00:00:00Z' out/many/3
cp -a out/big big.before
printf 'changed' | dd of=out/big bs=1 seek=20000000 conv=notrunc status=none
check delete-needs-overwrite exits 2 restore --target out --delete
check a-dry-run-tells-what-goes restore_json --target out --overwrite if-changed --delete --dry-run
check a-dry-run-counts-deletions counts files_deleted=2
check strangers-are-still-there test -e out/strange-dir/x
check if-changed-mends restore_json --target out --overwrite if-changed --delete
check strangers-are-gone counts files_deleted=2
check mended-tree-is-the-same same_tree src out
# Same size, same time, other bytes: only a look at the content finds that.
touch -r out/many/5 stamp
printf 'FILE 5\n' >out/many/5
touch -r stamp out/many/5
check if-changed-trusts-size-and-time restore --target out --overwrite if-changed
check the-difference-is-still-there grep -q FILE out/many/5
check always-compares-content restore_json --target out --overwrite always
check only-what-differs-was-written counts files_restored=1 bytes_restored=7
check compared-tree-is-the-same same_tree src out

# A hard link to something outside must not be written through.
printf 'outside' >outside
rm out/many/6 && ln outside out/many/6
check a-foreign-link-is-replaced restore --target out --overwrite always
check what-it-led-to-is-unharmed grep -qx outside outside
check unlinked-tree-is-the-same same_tree src out

# Patterns.
check include-by-pattern sp restore latest --target some --include '*.txt' --exclude /src/many
check only-that-is-there test "$(find some -type f)" = some/src/dir/sub/note.txt
check brackets-may-be-a-name sp restore latest --target some --include '/src/dir/[brackets]'
check that-one-came test -f 'some/src/dir/[brackets]'
check a-pattern-without-match-is-told exits 3 sp restore latest --target some --include '*.none'

# Killed while it writes: the same command finishes the work, and writes only what is missing.
killed() {
    rm -rf cut
    "$stillpoint" repo restore --repo repo --password-file pw latest --strip /src --target cut &
    local pid=$!
    until [[ -n $(find cut -type f 2>/dev/null | head -n 1) ]] || ! kill -0 "$pid" 2>/dev/null; do :; done
    kill -KILL "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    restore_json --target cut && same_tree src cut
}
for i in 1 2 3; do check "a-killed-restore-is-resumed-$i" killed; done
half() {
    rm -rf cut && restore --target cut || return
    # What a kill leaves in mid-write: the mark, the first part, no time.
    head -c 10000000 src/big >cut/half && chmod 1600 cut/half && ln -f cut/half cut/big && rm cut/half cut/dir/second
    restore_json --target cut && same_tree src cut
}
check a-half-written-file-is-known half
check its-good-part-was-not-written-again test "$(count bytes_restored)" -lt 25000000
sp unlock >/dev/null 2>&1

# The mounted filesystem.
# In this shell, whose child it must be to be waited for.
start() {
    mkdir -p mnt
    : >mount.log # what the last one said is not this one's word
    "$stillpoint" repo mount --repo repo --password-file pw --no-lock --json mnt >mount.log 2>&1 &
    mount_pid=$!
}
mounted() {
    until grep -q mounted mount.log; do kill -0 "$mount_pid" 2>/dev/null || return 1; done
}
# ended STATUS: of the program.
ended() { (($1 == 0)) && ! mountpoint -q mnt; }
same_files() {
    (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum) >a.list
    (cd "$2" && find . -type f -print0 | sort -z | xargs -0 sha256sum) >b.list
    diff a.list b.list
}
# All but links' counts of directories, which a mount does not know.
same_stats() {
    (cd "$1" && find . -printf '%P %y %m %U %G %T@ %l\n' | sort) >a.list
    (cd "$2" && find . -printf '%P %y %m %U %G %T@ %l\n' | sort) >b.list
    diff a.list b.list
}
same_inode() { [[ $(stat -c %i:%h "$1") == $(stat -c %i:%h "$2") ]]; }
random_reads() {
    local at
    for at in 0 29999990 15000000 1 29000000 8388607; do
        cmp <(dd if=mnt/sets/s1/p/big bs=1 skip="$at" count=9000 iflag=skip_bytes 2>/dev/null) \
            <(dd if=src/big bs=1 skip="$at" count=9000 iflag=skip_bytes 2>/dev/null) || return 1
    done
}
without_fuse() {
    # shellcheck disable=SC2016  # the inner shell expands
    unshare -m bash -c 'mount -t tmpfs none /dev && exec "$0" repo mount --repo repo --password-file pw --no-lock mnt' "$stillpoint"
}
if [[ -c /dev/fuse ]]; then
    start
    check mount mounted
    check sets-lead-to-partitions same_files src mnt/sets/s1/p
    check mounted-attributes-are-the-same same_stats src mnt/sets/s1/p
    check groups-know-their-latest-set test -f mnt/groups/g/latest/p/big
    check times-lead-to-the-set test -f mnt/times/*/p/big
    check snapshots-are-whole test -f "mnt/snapshots/$snapshot/src/big"
    check hard-links-are-one-file same_inode mnt/sets/s1/p/big mnt/sets/s1/p/dir/second
    check attributes-are-there test "$(getfattr --only-values -n user.text mnt/sets/s1/p/dir/none)" = value
    check acls-are-there test "$(getfacl -cn mnt/sets/s1/p/dir/none)" = "$(getfacl -cn src/dir/none)"
    check reads-anywhere random_reads
    check nothing-can-be-written exits 1 touch mnt/sets/s1/p/new
    kill -INT "$mount_pid"
    wait "$mount_pid"
    check sigint-unmounts ended $?
    start
    check mount-again mounted
    kill -TERM "$mount_pid"
    wait "$mount_pid"
    check sigterm-unmounts ended $?
    start
    check mount-a-third-time mounted
    umount mnt
    wait "$mount_pid"
    check umount-ends-it ended $?
    check without-dev-fuse-it-says-so exits 1 without_fuse
    check and-names-it grep -q 'no /dev/fuse' <<<"$said"
else
    skip mount
fi
report
