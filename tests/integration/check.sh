#!/usr/bin/env bash
# `stillpoint group check`: it predicts the pause, says what would be refused and why, and is right: what it
# refuses, a set is refused for, with nothing frozen. `--rehearse` freezes and thaws, measures, and leaves
# nothing behind, even when its coordinator dies in the middle. Hooks that fail, hang or talk too much.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=deploy/lab.sh
. deploy/lab.sh
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
# shellcheck source=tests/integration/ledger.sh
. tests/integration/ledger.sh

# shellcheck disable=SC2034 # lab.sh reads it
LAB_NODES=2 LAB_LEASE=3s
trap 'lab_down' EXIT

# group_of NAME HOLD_LIMIT PARTITION…
group_of() {
    local name=$1 hold=$2 p
    shift 2
    printf 'group: %s\nrepository: ledger\nhold_limit: %s\npartitions:\n' "$name" "$hold" >"$LAB/etc/$name.yaml"
    for p in "$@"; do printf '  - %s\n' "$p" >>"$LAB/etc/$name.yaml"; done
    "$cli" group apply -f "$LAB/etc/$name.yaml" -q || lab_die "group $name"
}

# A script of ours, for hooks.
hook() {
    printf '#!/bin/sh\n%s\n' "$2" >"$LAB/hooks/$1"
    chmod 755 "$LAB/hooks/$1"
}

hooked() { # NAME [OPTION]: a partition with hooks that remember that they ran
    hook "$1-thaw" "rm -f $LAB/hooks/$1-frozen"
    mkdir -p "$LAB/hooked/$1" && touch "$LAB/hooked/$1/file"
    printf '  - name: %s\n    path: %s\n' "$1" "$LAB/hooked/$1"
    printf '    quiesce: {method: hook, hook: {freeze: [%s], thaw: [%s]}%s}\n' \
        "$LAB/hooks/$1-freeze" "$LAB/hooks/$1-thaw" "${2:-}"
    printf '    capture: {method: copy, dir: %s/captures/%s}\n' "$LAB" "$1"
}

# Beside the ledger of node 1: three with hooks that go wrong, and two whose copies take a while together.
extra_partitions() {
    local f=$LAB/etc/node-1.yaml n
    mkdir -p "$LAB/hooks"
    hook fails-freeze "touch $LAB/hooks/fails-frozen; echo the database said no; exit 3"
    hook hangs-freeze "touch $LAB/hooks/hangs-frozen; sleep 1000"
    hook talks-freeze "touch $LAB/hooks/talks-frozen; head -c 1000000 /dev/zero | tr '\\0' x; echo; echo the last line; exit 1"
    {
        hooked fails
        hooked hangs ", timeout: 300ms"
        hooked talks
        for n in 1 2; do
            mkdir -p "$LAB/copied/$n"
            fallocate -l 60M "$LAB/copied/$n/file"
            printf '  - {name: copied-%s, path: %s, read_only: true, quiesce: {method: none}, capture: {method: copy, dir: %s}}\n' \
                "$n" "$LAB/copied/$n" "$LAB/captures/copied-$n"
        done
    } >"$LAB/etc/extra"
    sed -i "/^repositories:/{
        e cat $LAB/etc/extra
    }" "$f"
}

newest_of() { "$cli" set list --group "$1" | awk 'NR == 2 { print $1 }'; }
shows() { "$cli" set show "$1" | grep -Eq -- "$2"; }

# refused_alike NAME GROUP PATTERN: the check refuses, a set is aborted for the same reason, and no writer waited.
refused_alike() {
    local id
    says "$1: the check says why" 1 "$3" "$cli" group check "$2"
    id=$("$cli" set create "$2" 2>&1)
    if [[ $id == error* || $id == *" "* ]]; then
        check "$1: so does the set" grep -Eq -- "$3" <<<"$id"
        return
    fi
    check "$1: the set is ABORTED" lab_wait 20 set_is "$id" ABORTED
    check "$1: for the same reason" shows "$id" "$3"
    check "$1: before anything froze" no_freeze_of "$id"
}

no_freeze_of() {
    ! grep -q "moved set=$1 from=PREPARED to=FREEZING" "$LAB"/log/agent-*
}

json_of() { "$cli" group check "$@" --json | head -n 1; }

# predicts FIELD GROUP…: the sum of a number over the partitions is above 0.
predicts() {
    local field=$1
    shift
    json_of "$@" | jq -e "[.parts[].$field | tonumber] | add > 0" >/dev/null
}

is_rehearsed() { # every partition was measured, and no longer than the hold limit allows
    "$cli" group check ledger --rehearse --json | sed -n 2p |
        jq -e '.frozen and (.parts | length == 2) and all(.parts[]; (.pauseUs | tonumber) > 0 and (.pauseUs | tonumber) < 11000000)'
}

no_sets() { [[ -z $(set_ids) ]]; }
frozen_hooks() { find "$LAB/hooks" -name '*-frozen' | grep -q .; }

check_predictions() {
    says "a group that is ready" 0 'a set would be taken: [0-9]+ ms expected of the 10000 ms' "$cli" group check ledger
    check "the pause is predicted" predicts predictedPauseMs ledger
    check "of the capture" predicts captureMs ledger
    check "and of the way to the agents and back" predicts roundTripUs ledger
    group_of whole 2s node-1/copied-1 node-1/copied-2
    group_of half 2s node-1/copied-1
    says "one copy fits into half of the hold limit" 0 'a set would be taken' "$cli" group check half
    refused_alike "two of them do not" whole 'pause of the group is expected to take [0-9]+ ms, more than half of hold_limit \(2000 ms\)'
    fallocate -l 60M "$LAB/copied/1/more"
    refused_alike "a pause above half of the hold limit" half 'expected to take [0-9]+ ms, more than half of the hold limit \(2000 ms\)'
    rm "$LAB/copied/1/more"
    mv "$LAB/copied/1/file" "$LAB/copied/unmounted"
    refused_alike "a folder on which nothing is mounted" half "'[^']*/copied/1' is empty: is its filesystem mounted"
    mv "$LAB/copied/unmounted" "$LAB/copied/1/file"
}

check_refusals() {
    if [[ $lab_mode == real ]]; then
        exec 7>"$LAB/mnt/1/data/foreign"
        refused_alike "a writer outside of the cgroup" ledger 'refused node-1/ledger +.*(writ|open)|node-1.*(writ|open)'
        exec 7>&-
        rm -f "$LAB/mnt/1/data/foreign"
    fi
    lab_stop guardian-2 KILL
    says "a node without its guardian" 1 'refused node-2/ledger +.*guardian' lab_wait_status 15 "$cli" group check ledger
    says "the others are told apart" 1 'ready +node-1/ledger' "$cli" group check ledger
    says "and nothing is rehearsed" 1 'nothing was rehearsed' "$cli" group check ledger --rehearse
    lab_guardian 2
    lab_wait 20 lab_all_ready
}

# Repeats a check until it fails, and ends as it did.
lab_wait_status() {
    local until=$((SECONDS + $1)) output status
    shift
    while output=$("$@" 2>&1); status=$?; ((status == 0 && SECONDS < until)); do sleep 0.1; done
    printf '%s\n' "$output"
    return "$status"
}

check_rehearsal() {
    local before after
    before=$(lab_transfers one)
    check "a rehearsal freezes all and measures each" is_rehearsed
    check "it is in the audit" grep -q "group.rehearse *ledger" <("$cli" audit list)
    check "it is no set" no_sets
    check "it holds no lock" lab_wait 5 no_locks
    check "it leaves no capture" no_captures
    [[ $lab_mode == real ]] && check "nothing stays frozen" nothing_frozen
    after=$(lab_transfers one)
    check "its writers go on" lab_wait 10 lab_transferred one $((after > before ? after + 1 : before + 1))
    says "people see both numbers" 0 'all 2 partitions stood still' "$cli" group check ledger --rehearse
}

# The agent of node 2 is silent, so the rehearsal waits for it when its coordinator dies; node 1 has promised.
check_orphan() {
    local silent
    silent=$(<"$LAB/run/agent-2.pid")
    lab_signal "$silent" STOP
    as_operator RehearseGroup '{"group":"ledger"}' >/dev/null 2>&1 &
    check "a rehearsal is under way" lab_wait 10 rehearsal_on_agent 1 PREPARED
    lab_stop coord-1 KILL
    lab_signal "$silent" CONT
    wait $! 2>/dev/null
    lab_coordinator 1
    lab_wait 30 lab_all_ready
    check "without its coordinator it is over" lab_wait 20 rehearsal_on_agent 1 ABORTED
    says "and the next set is COMPLETE" 0 COMPLETE "$cli" set create ledger --watch
}

# The last that the agent said of a rehearsal.
rehearsal_on_agent() {
    grep "moved set=ledger-rehearsal-" "$LAB/log/agent-$1" | tail -n 1 | grep -q "to=$2"
}

as_operator() {
    "$BUILD/tests/tools/rpc_ask" "$LAB/pki/ca.pem" "$LAB/pki/operator-admin.pem" "$LAB/pki/operator-admin.key" \
        "coord-1@127.0.0.1:$((LAB_PORT + 1))" AdminService "$@"
}

check_hooks() {
    local name pattern id
    for name in fails hangs talks; do
        case $name in
        fails) pattern="fails-freeze' exited with status 3: the database said no" ;;
        hangs) pattern="hangs-freeze' did not end within 300 ms and was killed" ;;
        talks) pattern="talks-freeze' exited with status 1: .*the last line" ;;
        esac
        group_of "$name" 10s "node-1/$name" node-2/ledger
        says "a hook that $name: checked without running it" 0 'a set would be taken' "$cli" group check "$name"
        says "a hook that $name: the rehearsal finds it" 1 "$pattern" "$cli" group check "$name" --rehearse
        id=$("$cli" set create "$name")
        check "a hook that $name: the set is ABORTED" lab_wait 20 set_is "$id" ABORTED
        check "a hook that $name: it says why" shows "$id" "$pattern"
        check "a hook that $name: the error is short" test "$("$cli" set show "$id" | wc -c)" -lt 3000
        check "a hook that $name: what it did is undone" lab_wait 10 not frozen_hooks
    done
}

# A relaxed group does without what cannot be: the check says so, and a rehearsal freezes the others.
check_relaxed() {
    group_of easy 2s node-1/ledger node-2/ledger node-1/copied-1
    printf 'consistency: relaxed\n' >>"$LAB/etc/easy.yaml"
    fallocate -l 120M "$LAB/copied/1/more"
    "$cli" group apply -f "$LAB/etc/easy.yaml" -q
    says "a relaxed group is taken without one" 0 'a set would be taken without 1 of 3 partitions' "$cli" group check easy
    says "and rehearsed without it" 0 'node-2/ledger .* [0-9.]+$' "$cli" group check easy --rehearse
    printf 'required: [node-1/copied-1]\n' >>"$LAB/etc/easy.yaml"
    "$cli" group apply -f "$LAB/etc/easy.yaml" -q
    says "but not if it requires it" 1 "a set would be refused: 'node-1/copied-1' is required" "$cli" group check easy
    rm "$LAB/copied/1/more"
}

not() { ! "$@"; }

check_bad_calls() {
    local agent=node-1@127.0.0.1:$((LAB_PORT + 21))
    to_agent() {
        "$BUILD/tests/tools/rpc_ask" "$LAB/pki/ca.pem" "$LAB/pki/$1.pem" "$LAB/pki/$1.key" "$agent" AgentService "${@:2}"
    }
    says "Check without partitions" 0 "^INVALID .*'partitions'" to_agent coordinator-coord-1 Check '{}'
    says "Check with hold_limit 0" 0 "^INVALID .*'hold_limit_ms'" to_agent coordinator-coord-1 Check '{"partitions":["ledger"]}'
    says "Check of an unknown partition" 0 "^NOT_FOUND .*'nope'" to_agent coordinator-coord-1 Check '{"partitions":["nope"],"holdLimitMs":1000}'
    says "an operator cannot ask an agent" 0 '^DENIED ' to_agent operator-admin Check '{"partitions":["ledger"],"holdLimitMs":1000}'
    says "RehearseGroup of an unknown group" 0 '^NOT_FOUND ' as_operator RehearseGroup '{"group":"nope"}'
}

lab_up
start_etcd
lab_coordinator 1
lab_node_config 1
extra_partitions
lab_guardian 1
lab_agent 1
lab_node 2
lab_shards
lab_group 10s
lab_load one
lab_wait 10 lab_transferred one 1
check_rehearsal
check_predictions
check_refusals
check_orphan
check_hooks
check_relaxed
check_bad_calls
says "at the end a set is COMPLETE" 0 COMPLETE "$cli" set create ledger --watch
check "and no lock is left" lab_wait 5 no_locks
stop_daemons
check "no sanitizer has anything to say" no_sanitizer_reports
report
