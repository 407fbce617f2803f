#!/usr/bin/env bash
# The n-th call fails: open, read, write, fsync, link and rename, unlink, truncate, mmap and malloc (of a KiB or more), below the
# repository or the restored tree, once or from then on. No command crashes (a small allocation may abort), none
# succeeds with data missing or after a failed fsync, and what the repository held before is whole.
# Arguments name the commands to try. FAILCALLS=all tries them all, every n with every error; by default a sample.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
BUILD=${BUILD:-build/release-gcc}
cli=$(realpath "$BUILD/stillpoint")
mill=$(realpath "$BUILD/tests/tools/snapshot_mill")
direct=$(realpath "$BUILD/tests/tools/restore_direct")
shim=$(realpath build/tests/tools/preload/failcall.so)
if [[ $(ldd "$cli") =~ (/[^ ]*libasan[^ ]*) ]]; then shim="${BASH_REMATCH[1]} $shim"; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
password="$work/password"
runs=0

# A key that costs nothing to open: each run opens the repository three times.
cheap_repo() { "$mill" "$1" "$password" </dev/null; }
repo() { "$cli" repo "$@" --password-file "$password" -q; }

make_base() {
    echo secret >"$password"
    mkdir -p "$work/src/dir"
    head -c 9M /dev/urandom >"$work/src/big"
    for n in {1..40}; do head -c $((n * 997)) /dev/urandom >"$work/src/dir/$n"; done
    cheap_repo "$work/base" && repo backup "$work/src" --as /s --repo "$work/base" || return 1
    head -c 5M /dev/urandom >"$work/src/newer"
    repo backup "$work/src" --as /s --repo "$work/base" || return 1
    cp -a "$work/src" "$work/old"
    head -c 6M /dev/urandom >"$work/src/newest" # what the failing backups have to add
}

# What is swept: each on a fresh copy of the base, prints nothing, exits as the command does.
do_backup() { repo backup "$work/src" --as /s --repo "$work/now"; }
do_forget() { repo forget --repo "$work/now" --keep-last 1; }
do_reclaim() { repo reclaim --repo "$work/now" --max-unused 0%; }
do_restore() { repo restore latest --repo "$work/now" --target "$work/out" --strip /s; }
do_direct() { "$direct" "$work/now" "$password" "$work/out" /s /s/big; } # past the page cache
do_check() { repo check --repo "$work/now" --read-data; }
do_copy() { repo copy --repo "$work/base" --to-repo "$work/now" --to-password-file "$password"; }

fresh() {
    rm -rf "$work/now" "$work/out" "$work/hit"
    case $1 in
    copy) cp -a "$work/empty" "$work/now" ;;
    reclaim) cp -a "$work/forgotten" "$work/now" ;;
    *) cp -a "$work/base" "$work/now" ;;
    esac
}

latest_is() { # DIR: the newest snapshot restores to it
    rm -rf "$work/check"
    repo restore latest --no-lock --repo "$work/now" --target "$work/check" --strip /s >/dev/null 2>&1 &&
        diff -r "$1" "$work/check" >/dev/null
}

# Exit 0 means that all is there.
is_done() { # COMMAND
    case $1 in
    backup) latest_is "$work/src" ;;
    direct) cmp -s "$work/old/big" "$work/out/big" ;;
    restore) diff -r "$work/old" "$work/out" >/dev/null ;;
    *) latest_is "$work/old" ;;
    esac
}

# Whatever else, what was there before is whole and needs no repair.
is_whole() { # COMMAND STATUS
    case $1:$2 in
    restore:134 | direct:134) # who died leaves a lock, which the next one knows for a dead one's
        diff -r --exclude=locks "$work/base" "$work/now" >/dev/null
        return
        ;;
    restore:* | direct:*) # which only read it
        diff -r "$work/base" "$work/now" >/dev/null
        return
        ;;
    esac
    repo check --repo "$work/now" --read-data >/dev/null 2>&1 || return 1
    [[ $1 == copy ]] || latest_is "$work/old" || latest_is "$work/src"
}

below() { case $1 in restore | direct) echo out ;; *) echo now ;; esac; }

# fails COMMAND CALL N ERROR: true if it went as it should; says what did not. Not $hit: there is no n-th call.
fails() {
    local status wrong=
    fresh "$1"
    FAILCALL=$2:$3:$4 FAILCALL_UNDER=$work/$(below "$1") FAILCALL_HIT=$work/hit \
        LD_PRELOAD=$shim ASAN_OPTIONS=verify_asan_link_order=0 "do_$1" >"$work/said" 2>&1
    status=$?
    hit=true && [[ -e $work/hit ]] || hit=false
    runs=$((runs + 1))
    if ((status >= 128)) && ! [[ $2 == alloc && $status == 134 ]]; then
        wrong="died of signal $((status - 128))"
    elif grep -qs "ERROR: .*Sanitizer" "$work/said"; then
        wrong="$(grep -m 1 "ERROR: .*Sanitizer" "$work/said")"
    elif ((status == 0)) && $hit && [[ $2 == sync && $1 != check ]]; then
        wrong="succeeded after a failed fsync"
    elif ((status == 0)) && ! is_done "$1"; then
        wrong="said that it succeeded, but data are missing"
    elif ((status != 0)) && ! is_whole "$1" "$status"; then
        wrong="exit $status, and the repository is damaged: $(head -n 1 "$work/said")"
    fi
    [[ -z $wrong ]] || { not_ok "$1 when $2 number $3 fails with $4" "$wrong" && return 1; }
}

# The sample is dense where commands open and lock, and thin behind; every fsync matters, and of the writes
# past the page cache those between others.
next_n() { # COMMAND CALL N ERROR
    if [[ ${FAILCALLS:-} == all || $2 == sync || $1:$4 == direct:EIO ]]; then echo $(($3 + 1)); else echo $(($3 * 5 + 1)); fi
}

errors_of() { # COMMAND CALL
    case ${FAILCALLS:-}:$2 in
    *:map | *:alloc) echo EIO ;;
    all:read) echo EIO EIO:sticky EINTR short ;;
    all:write) echo ENOSPC ENOSPC:sticky EIO EINTR short ;;
    all:*) echo EIO EIO:sticky ENOSPC EINTR ;;
    :write) if [[ $1 == direct ]]; then echo EIO short; else echo ENOSPC:sticky short; fi ;;
    *) echo EIO ;;
    esac
}

# What differs from `restore` are the writes.
calls_of() { # COMMAND
    if [[ $1 == direct ]]; then echo write truncate; else echo open read write sync link unlink truncate map alloc; fi
}

sweep() { # COMMAND CALL
    local n error bad=0 tried=0 hit
    for error in $(errors_of "$1" "$2"); do
        for ((n = 1; ; n = $(next_n "$1" "$2" "$n" "$error"))); do
            fails "$1" "$2" "$n" "$error" || bad=$((bad + 1))
            $hit || break
            tried=$((tried + 1))
            ((bad < 3)) || break 2
        done
    done
    reached=$((reached + tried))
    ((bad > 0 || tried == 0)) || ok "$1: $2 fails, $tried times"
}

check "a repository with two snapshots" make_base
cp -a "$work/base" "$work/forgotten"
repo forget --repo "$work/forgotten" --keep-last 1 >/dev/null
cheap_repo "$work/empty"
(($# > 0)) || set -- backup reclaim restore direct
[[ ${FAILCALLS:-} != all ]] || set -- backup forget reclaim restore direct check copy
for command; do
    reached=0 # not each makes all of the calls
    for call in $(calls_of "$command"); do sweep "$command" "$call"; done
    ((reached > 0)) || not_ok "$command" "it made none of the calls"
done
printf '%d runs\n' "$runs"
report
