#!/usr/bin/env bash
# The life of a repository beside stock restic: locks and keys understood both ways, forget by
# the same rules, copies, an index made anew, and reclaiming that backups run through.
#
#   RESTIC  the restic program (default: restic)    BUILD  our build (default build/release-gcc)
#   POLICIES  which of those of `forget`: all (default), odd or even lines
#   RECLAIM_ROUNDS  rounds of backups racing reclaim (default 100; deploy/test takes a few)
#
# Says what integration scripts say. Needs attr.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
root=$PWD
build=${BUILD:-build/release-gcc}
[[ $build == /* ]] || build=$root/$build
restic=${RESTIC:-restic}
stillpoint=$build/stillpoint
mill=$build/tests/tools/snapshot_mill
treelist=$build/tests/tools/treelist
rounds=${RECLAIM_ROUNDS:-100}
export TZ=UTC LC_ALL=C.UTF-8
work=$(mktemp -d) || exit 1
pids=()
finish() {
    ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null
    cd / && rm -rf "$work"
}
trap finish EXIT
cd "$work" || exit 1
printf 'secret\n' >pw
printf 'other\n' >pw2

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
# exits CODE COMMAND…
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
both_clean() { rs check "$1" --read-data && sp check "$1" --read-data; }
same_tree() { diff <("$treelist" "$1") <("$treelist" "$2"); }

# ---- forget: the same snapshots stay ----

# Four months at odd times, two hosts, two paths, some tags; ends of months and years, ISO weeks
# that belong to another year, several in one hour.
make_snapshots() {
    local i t
    for ((i = 0; i < 70; i++)); do
        t=$((1703000000 + i * i * 2300 + i * 7001))
        printf '%s host%d /path%d tag%d %s\n' "$(date -u -d "@$t" +%Y-%m-%dT%H:%M:%SZ)" \
            $((i % 2)) $((i / 3 % 2)) $((i % 5)) "$( ((i % 7)) || echo extra)"
    done
    for t in 2023-12-31T23:59:59 2024-01-01T00:00:00 2024-02-29T12:00:00 2024-02-29T12:30:00 \
        2024-03-31T05:00:00 2021-01-03T08:00:00 2021-01-04T08:00:00 2020-12-31T23:00:00; do
        printf '%sZ host0 /path0 edge\n' "$t"
    done
}
kept() { (cd "$1/snapshots" && ls); }
# same_forget POLICY…: both keep the same ids.
same_forget() {
    rm -rf by-restic by-us
    cp -a policies by-restic && cp -a policies by-us || return 1
    rs forget by-restic "$@" >/dev/null || return 1
    sp forget by-us "$@" -q >/dev/null || return 1
    if [[ $older == yes ]]; then
        [[ -z $(comm -23 <(kept by-restic) <(kept by-us)) ]] || return 1
    else
        diff <(kept by-restic) <(kept by-us) || return 1
    fi
    # A policy that removes nothing, or all, compares nothing.
    [[ -n $(kept by-us) && $(kept by-us) != $(kept policies) ]] || {
        echo "the policy decides nothing"
        return 1
    }
}
make_snapshots | "$mill" policies pw || exit 1
minor=$("$restic" version | sed -E 's/^restic 0\.([0-9]+).*/\1/')
# Those stand on odd lines.
oldest_matters='12 10 20d 2m 1y 2y 5y'
line=0
while read -r -a policy; do
    line=$((line + 1))
    case ${POLICIES:-all}:$((line % 2)) in odd:0 | even:1) continue ;; esac
    # Older ones do not keep the oldest snapshot while a count or span is not used up: there we
    # may keep more.
    older=no
    if ((minor < 16)) && [[ " $oldest_matters " == *" ${policy[1]} "* ]]; then older=yes; fi
    check "forget ${policy[*]}" same_forget "${policy[@]}"
done <<'POLICIES'
--keep-monthly 12 --keep-last 2
--keep-last 1
--keep-yearly 10 --group-by host
--keep-last 3 --group-by host
--keep-within-hourly 20d
--keep-last 4 --group-by tags
--keep-within-daily 2m
--keep-hourly 6
--keep-within-weekly 1y
--keep-daily 5
--keep-within-monthly 2y --group-by host
--keep-weekly 4
--keep-within-yearly 5y
--keep-weekly 9 --group-by host
--keep-last 5
--keep-yearly 2
--keep-last 7 --group-by host,paths,tags
--keep-within 30d
--keep-daily 30 --group-by paths
--keep-within 1y2m
--keep-monthly 3
--keep-tag extra --keep-daily 1
--keep-within 1m3d7h --group-by host
--keep-last 2 --keep-daily 3 --keep-weekly 2 --keep-monthly 2 --keep-yearly 1
--keep-last 1 --keep-tag tag1,extra --keep-tag edge
--keep-daily 2 --host host1
--keep-daily 2 --path /path1
--keep-last 1 --tag tag1 --tag tag2,extra
POLICIES

# Sets go and stay as one.
sets() {
    local day
    for day in 01 02 03; do
        printf '2024-01-%sT00:00:00Z a /x stillpoint group=g set=s%s partition=x\n' $day $day
        printf '2024-01-%sT00:00:00Z b /y stillpoint group=g set=s%s partition=y\n' $day $day
        printf '2024-01-%sT00:00:00Z c /set stillpoint-set group=g set=s%s\n' $day $day
    done
    printf '2024-01-04T00:00:00Z b /y stillpoint group=g set=s04 partition=y\n'
    printf '2023-01-01T00:00:00Z a /x pin=audit stillpoint\n'
}
set_of() { sp snapshots sets -q --tag "set=$1" | wc -l; }
forget_sets() {
    sets | "$mill" sets pw || return 1
    # Newest of a is s03; newest of b is the unfinished s04: only s03 of the complete ones stays.
    sp forget sets --keep-last 1 -q >/dev/null || return 1
    [[ $(set_of s01) == 0 && $(set_of s02) == 0 && $(set_of s03) == 3 && $(set_of s04) == 1 ]] ||
        return 1
    [[ $(sp snapshots sets -q --tag pin=audit | wc -l) == 1 ]]
}
check sets-are-forgotten-as-one forget_sets
forget_part() {
    local part
    part=$(sp snapshots sets -q --tag set=s03 --host b | cut -d' ' -f1)
    sp forget sets -q "$part" >/dev/null && [[ $(set_of s03) == 0 ]]
}
check forgetting-a-part-forgets-its-set forget_part
pinned() { exits 1 sp forget sets "$(sp snapshots sets -q --tag pin=audit | cut -d' ' -f1)"; }
check a-pinned-snapshot-is-not-forgotten pinned
check a-policy-that-keeps-nothing-is-refused exits 2 sp forget sets
check a-group-does-not-vanish exits 1 sp forget policies --keep-tag edge
check a-group-vanishes-on-request sp forget policies --keep-tag edge --allow-remove-all -n -q

# ---- keys ----

# With a key that costs nothing to open, of which restic makes no difference.
"$mill" ours pw </dev/null || exit 1
mkdir -p src/deep && head -c 3000000 /dev/urandom >src/a && printf hello >src/deep/b
sp backup ours src -q >/dev/null || exit 1
# Of a copy, since a password that is changed makes a key of the usual cost.
cp -a ours keyed || exit 1
keys() {
    sp key keyed add --new-password-file pw2 || return 1
    "$restic" --no-cache -q -r keyed -p pw2 snapshots >/dev/null || return 1
    exits 1 sp key keyed remove "$(sp key keyed list | sed -n 's/^\*\(........\).*/\1/p')" || return 1
    sp key keyed remove "$(sp key keyed list | sed -n 's/^ \(........\).*/\1/p')" || return 1
    exits 12 "$stillpoint" repo snapshots --repo keyed --password-file pw2
}
check keys-are-added-and-removed keys
restic_key() {
    "$restic" --no-cache -q -r keyed -p pw key add --new-password-file pw2 >/dev/null || return 1
    "$stillpoint" repo snapshots --repo keyed --password-file pw2 || return 1
    [[ $(sp key keyed list | wc -l) == 2 ]] || return 1
    "$stillpoint" repo key --repo keyed --password-file pw2 remove \
        "$(sp key keyed list | sed -n 's/^\*\(........\).*/\1/p')" || return 1
    "$stillpoint" repo key --repo keyed --password-file pw2 passwd --new-password-file pw || return 1
    [[ $(sp key keyed list | wc -l) == 1 ]] && rs snapshots keyed
}
check restics-keys-are-ours restic_key

# ---- locks, both ways ----

# hold REPO: a backup of ours that waits, with its lock, for a pipe to be opened.
hold() {
    local before
    before=$(find "$1/locks" -type f | wc -l)
    mkdir -p held && truncate -s 30G held/file
    "$stillpoint" repo backup --repo "$1" --password-file pw held -q >/dev/null 2>&1 &
    holder=$!
    pids+=("$holder")
    until (($(find "$1/locks" -type f | wc -l) > before)) || ! kill -0 "$holder"; do :; done
}
drop() {
    kill -INT "$holder"
    wait "$holder"
    pids=()
}
ours_holds() {
    hold ours || return 1
    local result=0
    # A shared lock excludes prune, not another backup; restic probes us with SIGHUP.
    exits 11 sp repair-index ours || result=1
    "$restic" --no-cache -q -r ours -p pw prune >/dev/null 2>&1 && result=1
    rs unlock ours || result=1
    kill -0 "$holder" || result=1
    [[ -n $(find ours/locks -type f) ]] || result=1
    sp backup ours src -q >/dev/null || result=1
    drop
    return $result
}
check a-lock-of-ours-keeps-prune-away ours_holds
# A stopped restic keeps its lock and answers no probe.
restic_holds() {
    local result=0
    mkdir -p fifo-src && truncate -s 3G fifo-src/big
    "$restic" --no-cache -q -r ours -p pw backup fifo-src >/dev/null 2>&1 &
    holder=$!
    pids+=("$holder")
    until [[ -n $(find ours/locks -type f -not -name '*tmp*') ]] || ! kill -0 "$holder"; do :; done
    kill -STOP "$holder"
    exits 11 sp repair-index ours || result=1
    sp unlock ours || result=1
    exits 11 sp repair-index ours || result=1
    sp backup ours src -q >/dev/null || result=1
    exits 3 sp reclaim ours --max-wait 0 || result=1
    kill -KILL "$holder"
    wait "$holder" 2>/dev/null
    pids=()
    # Dead: its lock does not count, and is removed.
    sp unlock ours || result=1
    [[ -z $(find ours/locks -type f) ]] || result=1
    sp reclaim ours || result=1
    return $result
}
check a-lock-of-restics-is-honoured restic_holds
check the-repository-is-clean both_clean ours

# ---- looking ----

looking() {
    local one two
    one=$(sp snapshots ours -q | head -n 1 | cut -d' ' -f1)
    printf new >src/new && rm src/deep/b && printf x >>src/a
    sp backup ours src -q >/dev/null || return 1
    two=$(sp snapshots ours -q | tail -n 1 | cut -d' ' -f1)
    diff <(sp diff ours "$one" "$two" -q) <("$restic" --no-cache -r ours -p pw diff "$one" "$two" | grep '^[+MTU-]  ') || return 1
    sp find ours 'ne?' -q | grep -q " $work/src/new$" || return 1
    sp dump ours latest "$work/src/a" | cmp - src/a || return 1
    mkdir untar && sp dump ours latest "$work/src" | tar -x --xattrs -C untar || return 1
    touch -r src untar && same_tree src untar || return 1
    [[ $(sp stats ours --json latest | jq .restore_bytes) == $(rs stats ours latest --json | jq .total_size) ]]
}
setfattr -n user.k -v v src/a
touch -d '2001-01-01T00:00:00.123456789Z' src/a
check find-diff-dump-and-stats looking

# ---- copy ----

copying() {
    "$stillpoint" repo init --repo second --password-file pw2 -q || return 1
    sp copy ours --to-repo second --to-password-file pw2 >/dev/null || return 1
    [[ $(sp copy ours --to-repo second --to-password-file pw2 --json | jq -s '.[-1].snapshots') == 0 ]] ||
        return 1
    "$restic" --no-cache -q -r second -p pw2 check --read-data || return 1
    "$stillpoint" repo restore --repo second --password-file pw2 latest --target copied \
        --strip "$work/src" -q || return 1
    same_tree src copied || return 1
    # restic sees that it copied nothing new either.
    "$restic" --no-cache -q -r second -p pw2 snapshots --json | jq -e 'all(.[]; .original)' >/dev/null
}
check copies-are-whole copying

# ---- the index ----

reindex() {
    rm ours/index/* && sp repair-index ours -q && both_clean ours || return 1
    local one
    one=$(find ours/index -type f | head -n 1)
    chmod 600 "$one" && printf x | dd of="$one" bs=1 seek=40 conv=notrunc status=none
    sp repair-index ours -q 2>/dev/null
    both_clean ours || return 1
    [[ $(sp repair-index ours --json | jq .changed) == false ]]
}
check the-index-is-made-anew reindex
missing_pack() {
    cp -a ours broken && find broken/data -type f -size +1M -delete || return 1
    exits 3 sp repair-index broken && exits 1 sp check broken
}
check a-missing-pack-is-told missing_pack

# ---- version 1 ----

version_one() {
    rs init v1 --repository-version 1 && rs backup v1 src && sp backup v1 src -q >/dev/null || return 1
    head -c 2000000 /dev/urandom >src/a
    sp backup v1 src -q >/dev/null && sp forget v1 --keep-last 1 -q >/dev/null || return 1
    sp reclaim v1 --max-unused 0 >/dev/null && both_clean v1 || return 1
    "$stillpoint" repo copy --repo v1 --password-file pw --to-repo second --to-password-file pw2 \
        >/dev/null || return 1
    rm v1/index/* && sp repair-index v1 -q && rs prune v1 && both_clean v1
}
check version-1-lives-as-well version_one

# ---- backups race reclaim ----

# Three writers, one of them restic, and somebody who forgets, around a reclaim that leaves no waste.
# The data of each round is partly that of rounds before, so that what reclaim is about to delete is
# wanted again.
# restic looks for its parent before it loads the index: if that is forgotten and reclaimed in
# between, it says so, stores the file again and ends with 3. An index file that is replaced after
# restic listed it and before it reads it ends it with 1, long retries later: then it begins anew.
restic_backup() {
    local status
    rs backup "$1" "$2" --host "$3" >/dev/null 2>"$2.err"
    status=$?
    if ((status == 1)) && grep -q 'index/' "$2.err"; then
        rs backup "$1" "$2" --host "$3" >/dev/null 2>"$2.err"
        status=$?
    fi
    ((status == 0)) || { ((status == 3)) && grep -q 'storing the file again' "$2.err"; } || {
        cat "$2.err"
        return 1
    }
}
writer() {
    local n=$1 round=$2 i
    for ((i = 0; i < 3; i++)); do
        cp "pool/$(((round + i * n) % 7))" "tree$n/f$i"
        if ((n == 2)); then
            restic_backup race "tree$n" "w$n" || return 1
        else
            sp backup race "tree$n" --host "w$n" -q >/dev/null || return 1
        fi
    done
}
race() {
    local round=$1 n status=0 writers=()
    for n in 0 1 2; do
        writer $n "$round" &
        writers+=($!)
    done
    sp reclaim race --max-unused 0 -q >/dev/null || status=1
    sp forget race --keep-last 1 -q >/dev/null || status=1
    sp reclaim race --max-unused 0 -q >/dev/null || status=1
    for n in "${writers[@]}"; do
        wait "$n" || status=1
    done
    return $status
}
racing() {
    local round id
    "$mill" race pw </dev/null && mkdir pool tree0 tree1 tree2 || return 1
    for n in 0 1 2 3 4 5 6; do head -c $((300000 + n * 400000)) /dev/urandom >"pool/$n"; done
    for ((round = 0; round < rounds; round++)); do
        race $round || {
            echo "round $round"
            return 1
        }
        both_clean race || return 1
        for id in $(kept race); do
            rm -rf raced
            sp restore race "$id" --target raced -q || return 1
        done
        for n in 0 1 2; do
            rm -rf raced
            id=$(sp snapshots race -q --host "w$n" | tail -n 1 | cut -d' ' -f1)
            sp restore race "$id" --target raced -q || return 1
            find raced -name "tree$n" -type d -exec diff -r "tree$n" {} \; >differ 2>&1
            [[ ! -s differ && -n $(find raced -name "tree$n" -type d) ]] || return 1
        done
    done
}
check "every-retained-snapshot-restores-after-$rounds-rounds" racing

# ---- pins ----

# pinned_there TAG COUNT: as restic sees it.
pinned_there() {
    local n
    n=$(rs snapshots pins --tag "$1" --json | grep -o '"short_id"' | wc -l)
    ((n == $2)) || { printf '%d snapshots\n' "$n"; return 1; }
}
"$mill" pins pw <<<'2024-01-01T00:00:00Z h /p daily' || exit 1
first=$(find pins/snapshots -type f -printf '%f\n')
check a-pin-is-a-tag-to-restic sp pin pins "$first" --label audit
check restic-sees-it pinned_there pin=audit,daily 1
check it-knows-its-first-id grep -q "\"original\":\"$first\"" <<<"$(rs snapshots pins --json)"
check the-first-has-gone test ! -e "pins/snapshots/$first"
check forget-keeps-it exits 1 sp forget pins latest
check restic-takes-it-away rs tag pins --remove pin=audit
check restic-has-taken-it-away pinned_there pin=audit 0
check a-pin-by-restic rs tag pins --add pin
check we-take-it-away sp unpin pins latest
check we-have-taken-it-away pinned_there pin 0
check the-repository-is-sound both_clean pins
report
