#!/usr/bin/env bash
# Bit rot, judged by stock restic as well: one bit flipped in a sample of a repository's files
# (all of them with LONG=1), packs deleted, cut and swapped. Both checks must find each, and
# neither may complain about the clean repository. Says what integration scripts say. Keys are
# ours alone to judge: restic does not compare one with its name, and opens it while it can.
#   RESTIC  the restic program (default: restic)    BUILD  our build (default build/release-gcc)
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
root=$PWD
build=${BUILD:-build/release-gcc}
[[ $build == /* ]] || build=$root/$build
restic=${RESTIC:-restic}
stillpoint=$build/stillpoint
work=$(mktemp -d) || exit 1
trap 'cd / && rm -rf "$work"' EXIT
cd "$work" || exit 1

ours() { "$stillpoint" repo check --repo repo --password-file pw --no-lock --read-data; }
theirs() { # restic tries a pack that is not there for 40 s before it says so: it need not read then
    local read=--read-data
    [[ $(find repo/data -type f | wc -l) == "$packs" ]] || read=
    "$restic" --no-cache -q -r repo -p pw check --no-lock $read
}
clean() { ours && theirs; }
# Ours must name the file; a damaged config stops both at the door.
found() {
    local id=${1##*/}
    : >theirs.log
    if ours >ours.log 2>&1 || { [[ $1 != */keys/* ]] && theirs >theirs.log 2>&1; }; then
        cat ours.log theirs.log
        return 1
    fi
    [[ $1 == */config ]] || grep -q "$id" ours.log
}
in_host_name() { sed -i 's/"hostname":"/&x/' "$1"; }
# Damaged where no secret lies: the data must not be locked out.
opens_though() {
    damage "$1" in_host_name && cp "$1" kept && chmod 600 "$1" && in_host_name "$1" &&
        "$stillpoint" repo ls -R latest --repo repo --password-file pw >ls.log && grep -q random1 ls.log
    local status=$?
    rm -f "$1" && mv kept "$1"
    return "$status"
}
# damage FILE COMMAND…: found while the command's work lasts, then put right.
damage() {
    local file=$1 status
    shift
    cp -a "$file" kept && chmod 600 "$file" && "$@" "$file" && found "$file"
    status=$?
    rm -f "$file"
    mv kept "$file"
    return "$status"
}
flip() {
    local size at byte
    size=$(stat -c %s "$1")
    at=$((RANDOM * 32768 % size + RANDOM % size))
    at=$((at % size))
    byte=$(od -An -tu1 -j "$at" -N 1 "$1" | tr -d ' ')
    printf '%b' "\\x$(printf %02x $((byte ^ 1 << RANDOM % 8)))" |
        dd of="$1" bs=1 seek="$at" conv=notrunc status=none
}
swap_packs() {
    local a b status
    a=$(find repo/data -type f | sort | sed -n 1p) b=$(find repo/data -type f | sort | sed -n 2p)
    mv "$a" one && mv "$b" "$a" && mv one "$b" && found "$a" && grep -q "${b##*/}" ours.log
    status=$?
    mv "$a" one && mv "$b" "$a" && mv one "$b"
    return "$status"
}

printf 'secret\n' >pw
mkdir src
for i in 1 2 3; do head -c 20000000 /dev/urandom >"src/random$i"; done
for i in {1..50}; do printf 'file %d\n' "$i" >"src/$i"; done
"$stillpoint" repo init --repo repo --password-file pw -q || exit 1
for i in 1 2; do
    printf '%d\n' "$i" >src/1
    "$stillpoint" repo backup --repo repo --password-file pw -q src >/dev/null || exit 1
done
packs=$(find repo/data -type f | wc -l)
check clean-is-clean clean
mapfile -t files < <(find repo -type f -not -path 'repo/locks/*' | sort)
for kind in config keys index snapshots data; do
    for file in "${files[@]}"; do
        [[ $file == repo/$kind* ]] || continue
        check "flipped-bit-in-$kind" damage "$file" flip
        [[ -n ${LONG:-} ]] || break
    done
done
check damaged-key-still-opens opens_though repo/keys/*
pack=$(find repo/data -type f | sort | tail -n 1)
check cut-pack damage "$pack" truncate -s -1
check deleted-pack damage "$pack" rm -f
check swapped-packs swap_packs
check clean-again clean
report
