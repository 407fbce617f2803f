#!/usr/bin/env bash
# Changed extents over the real daemons and on the command line: with keep_base the newest capture stays,
# what lies on its blocks is not read, and what is restored is what was captured. Needs root, loop mounts,
# btrfs, xfs and cgroup v2.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
LAB_NODES=1
# shellcheck source=deploy/lab.sh
. deploy/lab.sh
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
# shellcheck source=tests/integration/ledger.sh
. tests/integration/ledger.sh
trap 'finish' EXIT

readonly BIG_MIB=64
pages=$((BIG_MIB * 256))

finish() {
    umount "$LAB/xfs" 2>/dev/null
    umount "$LAB/coarse" 2>/dev/null
    lab_down
}

big() { printf '%s' "$LAB/mnt/1/data/big"; }

# change_page FILE N: page N gets new bytes.
change_page() {
    dd if=/dev/urandom of="$1" bs=4096 count=1 seek="$2" conv=notrunc,fsync status=none
}

# Not by check(), whose subshell would keep what they learn to itself.
took_set() { # NAME
    last=$("$cli" set create ledger)
    check "$1" lab_wait 60 set_is "$last" COMPLETE
}

# MiB of the last upload that were not read.
known_mib() {
    local line
    line=$(grep "upload on_base task=$last\." "$LAB/log/agent-1" | tail -n 1)
    printf '%d' $((${line##*bytes_known=} / 1048576))
}

knew_most() { (($(known_mib) >= BIG_MIB - 10)); }

only_capture_is() { [[ $(captures) == *"$1"* && $(captures | wc -l) == 1 ]]; }

restores_to() { # FILE: the last set's big file is the same
    local dir=$LAB/restore/node-1/$last
    "$cli" set restore "$last" --target "$dir" >/dev/null || return 1
    find "$dir" -name big -exec cmp {} "$1" \;
    cmp "$(find "$dir" -name big | head -n 1)" "$1"
}

over_daemons() {
    lab_coordinator 1
    lab_node_config 1
    sed -i 's/^  - name: ledger$/&\n    keep_base: true/' "$LAB/etc/node-1.yaml"
    lab_guardian 1
    lab_agent 1
    head -c ${BIG_MIB}M /dev/urandom >"$(big)"
    lab_shards
    lab_group 10s
    took_set "the first set reads everything"
    check "its capture stays as the base" lab_wait 20 only_capture_is "$last"
    change_page "$(big)" $((pages / 2))
    took_set "a second set after one page changed"
    check "it read no more than what is near that page" knew_most
    check "its capture takes the base's place" lab_wait 20 only_capture_is "$last"
    check "it restores to what was there" restores_to "$(big)"
    lab_stop agent-1 KILL
    lab_agent 1
    check "the base outlives the agent" only_capture_is "$last"
    change_page "$(big)" 7
    took_set "a third set on it"
    check "it read no more than what is near that page either" knew_most
    btrfs -q subvolume delete "$LAB/mnt/1/data/.stillpoint/"* >/dev/null
    change_page "$(big)" 8
    took_set "a set whose base is gone"
    check "the agent says that it reads everything" grep -q "upload without_base" "$LAB/log/agent-1"
    check "it restores to what was there, too" restores_to "$(big)"
}

field() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"; }

capture_xfs() { # NAME [SEALED]
    mkdir "$LAB/xfs/$1" && cp --reflink=always -p "$LAB/xfs/live" "$LAB/xfs/$1/file" || return 1
    [[ ${2:-sealed} != sealed ]] || chattr +i "$LAB/xfs/$1/file"
}

# Inode numbers of reflinked captures differ, so their manifests have to say that it is one file.
manifest() { # CAPTURE
    printf 'stillpoint manifest 1\n7 1.%09d 1 file\0end 1\0' "$RANDOM" >"$LAB/xfs/$1.manifest"
}

backup_xfs() { # CAPTURE NAME
    manifest "$1"
    summary=$("$cli" repo backup "$LAB/xfs/$1" --repo "$LAB/repo/cli" --password-file "$LAB/etc/password" \
        --as /srv/xfs --base "$LAB/base" --manifest "$LAB/xfs/$1.manifest" --json | grep '"summary"')
    check "$2" test -n "$summary"
}

knew_of_xfs() { (($(field bytes_known <<<"$summary") >= (BIG_MIB - 10) * 1048576)); }
knew_nothing() { [[ $(field bytes_known <<<"$summary") == 0 ]]; }

same_chunks() { # CAPTURE: a full read has nothing to add but lists of directories
    [[ $("$cli" repo backup "$LAB/xfs/$1" --repo "$LAB/repo/cli" --password-file "$LAB/etc/password" \
        --as /srv/other --json | grep '"summary"' | field data_blobs) == 0 ]]
}

on_xfs() {
    mkdir "$LAB/xfs"
    truncate -s 512M "$LAB/xfs.img"
    mkfs.xfs -q "$LAB/xfs.img" || lab_die "mkfs.xfs"
    mount -o loop "$LAB/xfs.img" "$LAB/xfs" || lab_die "mount"
    "$cli" repo init --repo "$LAB/repo/cli" --password-file "$LAB/etc/password" -q
    head -c ${BIG_MIB}M /dev/urandom >"$LAB/xfs/live"
    capture_xfs 0 && backup_xfs 0 "xfs: the first backup"
    change_page "$LAB/xfs/live" 100
    capture_xfs 1
    backup_xfs 1 "xfs: reflinked and immutable, a page changed"
    check "xfs: no more was read than what is near that page" knew_of_xfs
    check "xfs: the chunks are those of a full read" same_chunks 1
    # Written to behind our back: the flag is off and on again, the bytes are others.
    chattr -i "$LAB/xfs/1/file"
    change_page "$LAB/xfs/1/file" 200
    chattr +i "$LAB/xfs/1/file"
    capture_xfs 2
    backup_xfs 2 "xfs: a base that was written to"
    check "xfs: is not believed" knew_nothing
    capture_xfs 3 unsealed
    backup_xfs 3 "xfs: a capture that may be written to"
    check "xfs: is read as a whole" knew_nothing
    check "xfs: nothing is damaged" "$cli" repo check --read-data --repo "$LAB/repo/cli" \
        --password-file "$LAB/etc/password"
    chattr -i "$LAB"/xfs/*/file
}

back_up() { # PATH OPTION...: what stands in $LAB/backup.log tells of it
    "$cli" repo backup "$1" --repo "$LAB/repo/cli" --password-file "$LAB/etc/password" "${@:2}" >"$LAB/backup.log" 2>&1
}

# A snapshot has an empty directory in place of a subvolume.
of_snapshots() {
    local top=$LAB/mnt/1/nest
    btrfs -q subvolume create "$top" >/dev/null || lab_die "btrfs"
    btrfs -q subvolume create "$top/inner" >/dev/null || lab_die "btrfs"
    echo "not to be lost" >"$top/inner/file"
    btrfs -q subvolume snapshot -r "$top" "$LAB/mnt/1/shot" >/dev/null || lab_die "btrfs"
    check "snapshot: what it lacks fails the backup" not back_up "$LAB/mnt/1/shot"
    check "snapshot: and is named" grep -q "/inner.*subvolume" "$LAB/backup.log"
    check "snapshot: unless excluded" back_up "$LAB/mnt/1/shot" --exclude /inner
    check "snapshot: a subvolume that is there is stored" back_up "$top"
    check "snapshot: with what is inside" grep -q "not to be lost" <("$cli" repo dump latest "$top/inner/file" \
        --repo "$LAB/repo/cli" --password-file "$LAB/etc/password")
    btrfs -q subvolume delete "$LAB/mnt/1/shot" "$top/inner" "$top" >/dev/null
}

not() { ! "$@"; }

# write_twice FILE: two contents of one length and one time of change, a backup between them.
write_twice() {
    local was
    for _ in {1..20}; do
        while ((10#$(date +%N) > 100000000)); do :; done
        echo "first" >"$1"
        was=$(stat -c %z "$1")
        back_up "${1%/*}" || return 1
        echo "other" >"$1"
        [[ $(stat -c %z "$1") != "$was" ]] || return 0
    done
    return 1
}

stored_is() { # FILE WORD
    [[ $("$cli" repo dump latest "$1" --repo "$LAB/repo/cli" --password-file "$LAB/etc/password") == "$2" ]]
}

# Where times are whole seconds, a second change within one cannot be seen.
on_whole_seconds() {
    mkdir "$LAB/coarse"
    truncate -s 64M "$LAB/coarse.img"
    mkfs.ext4 -q -I 128 "$LAB/coarse.img" 2>/dev/null || lab_die "mkfs.ext4"
    mount -o loop "$LAB/coarse.img" "$LAB/coarse" || lab_die "mount"
    check "whole seconds: a file is changed twice in one" write_twice "$LAB/coarse/file"
    check "whole seconds: it is stored again" back_up "$LAB/coarse"
    check "whole seconds: as it is" stored_is "$LAB/coarse/file" other
    umount "$LAB/coarse"
}

lab_up
if [[ $lab_mode != real ]]; then
    skip "incremental" "needs root, loop mounts, btrfs and cgroup v2"
else
    over_daemons
    on_xfs
    of_snapshots
    on_whole_seconds
fi
report
