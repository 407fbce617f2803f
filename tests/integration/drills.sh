#!/usr/bin/env bash
# `stillpoint drill`: every fault, caused on real daemons which this script starts again as a service manager
# would, ends as promised, and the report says so; what the kernel and etcd show agrees. Refused wherever
# somebody has not consented. A report of a promise that was broken says that, too.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=deploy/lab.sh
. deploy/lab.sh
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
# shellcheck source=tests/integration/ledger.sh
. tests/integration/ledger.sh

# shellcheck disable=SC2034 # lab.sh reads them
LAB_NODES=2 LAB_COORDINATORS=2 LAB_LEASE=3s LAB_DRILLS=true
DRILLS=${DRILLS-kill-agent-frozen pause-agent-frozen kill-guardian hold-expires kill-leader-frozen kill-leader-captured pause-leader cut-etcd}
rolled=""
trap 'lab_down' EXIT

# What a service manager does: whatever has died is started again.
revive() {
    local n kind
    for ((n = 1; n <= LAB_COORDINATORS; n++)); do
        is_dead "coord-$n" && lab_stop "coord-$n" && lab_coordinator "$n"
    done
    for ((n = 1; n <= LAB_NODES; n++)); do
        for kind in guardian agent; do
            is_dead "$kind-$n" && lab_stop "$kind-$n" && "lab_$kind" "$n"
        done
    done
}

# Dead, or dead and not waited for.
is_dead() {
    local state
    [[ -e $LAB/run/$1.pid ]] || return 1
    state=$(awk '$1 == "State:" { print $2 }' "/proc/$(<"$LAB/run/$1.pid")/status" 2>/dev/null)
    [[ -z $state || $state == Z ]]
}

# drill NAME [OPTION…]: runs it beside `revive`; its report is in $LAB/run/report.
drill() {
    "$cli" drill "$1" ledger --yes --json "${@:2}" >"$LAB/run/report" 2>"$LAB/run/report.err" </dev/null &
    local pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        revive
        sleep 0.1
    done
    wait "$pid"
}

broken_promises() {
    jq -r '"\(.set): \(.error)", (.promises[] | select(.kept | not) | "\(.promise): \(.seen)")' "$LAB/run/report" 2>/dev/null
    cat "$LAB/run/report.err"
}

verdict() { jq -r '.promises[0].seen' "$LAB/run/report" | awk '{ print $1 }'; }
drilled() { jq -r .set "$LAB/run/report"; }

# The fault was really caused.
was_caused() { grep -qh "warn drill begins set=$(drilled) drill=$1" "$LAB"/log/coord-*; }

# etcd's own word: a lease for each coordinator, and one at most that a dead one left behind.
few_leases() {
    (($(etcdctl --endpoints "$LAB_ETCD" lease list | grep -cE '^[0-9a-f]+$') <= LAB_COORDINATORS + 1))
}

try_drill() {
    local name=$1 want=$2
    if drill "$name"; then ok "$name: every promise is kept"; else not_ok "$name: every promise is kept" "$(broken_promises)"; fi
    check "$name: the fault was caused" was_caused "$name"
    check "$name: the verdict is $want" test "$(verdict)" = "$want"
    [[ $want != CAPTURED ]] || rolled+=" $(drilled)"
    check "$name: no lock is left" lab_wait 5 no_locks
    check "$name: no capture is left" lab_wait 10 no_captures
    [[ $lab_mode == real ]] && check "$name: nothing is frozen" nothing_frozen
    check "$name: leases are not left behind" lab_wait 10 few_leases
}

expected() {
    case $1 in
    kill-leader-captured | cut-etcd) printf CAPTURED ;; # all have captured: taken over, rolled forward
    *) printf ABORTED ;;
    esac
}

as() {
    "$BUILD/tests/tools/rpc_ask" "$LAB/pki/ca.pem" "$LAB/pki/$1.pem" "$LAB/pki/$1.key" "${@:2}"
}

apply() { # the group, drillable or not
    sed -i '/^drillable:/d' "$LAB/etc/ledger.yaml"
    printf 'drillable: %s\n' "$1" >>"$LAB/etc/ledger.yaml"
    "$cli" group apply -f "$LAB/etc/ledger.yaml" -q
}

check_refusals() {
    says "the drills are listed" 0 '^kill-agent-frozen +one agent is killed' "$cli" drill list
    says "a group that is not drillable" 1 "not drillable: add 'drillable: true'" "$cli" drill kill-agent-frozen ledger --yes
    apply true
    says "without a word of knowing" 2 'writers of group .*--yes' "$cli" drill kill-agent-frozen ledger
    says "an unknown drill" 1 "no drill 'kill-all': there are kill-agent-frozen, .*cut-etcd" "$cli" drill kill-all ledger --yes
    says "an unknown group" 1 "no group 'nope'" "$cli" drill kill-agent-frozen nope --yes
    says "a node of no partition" 2 "nothing on node 'node-9'" "$cli" drill kill-agent-frozen ledger --yes --node node-9
    says "a node for the coordinator's drill" 2 'is about the coordinator' "$cli" drill pause-leader ledger --yes --node node-1
    check "nothing was begun by any of them" test -z "$(set_ids)"
    local agent=node-1@127.0.0.1:$((LAB_PORT + 21)) token
    token='"token":{"incarnation":"AQEBAQEBAQEBAQEBAQEBAQ==","revision":"5"}'
    says "an operator cannot drill an agent itself" 0 '^DENIED ' as operator-admin "$agent" AgentService Drill "{\"set\":\"s\",$token,\"fault\":1}"
    says "a coordinator cannot without a frozen set" 0 '^CONFLICT .*never prepared' as coordinator-coord-1 "$agent" AgentService Drill "{\"set\":\"s\",$token,\"fault\":1}"
    check "the agent lives" kill -0 "$(<"$LAB/run/agent-1.pid")"
}

node_2_says_no() { "$cli" node list --json | jq -e '.nodes[] | select(.node == "node-2") | .drills | not'; }

# Node 2 takes its consent back. Until its coordinator hears of it, only the agent itself knows.
check_consent() {
    lab_stop agent-2
    sed -i 's/^drills: true/drills: false/' "$LAB/etc/node-2.yaml"
    lab_agent 2
    says "a fault that is not caused is no success" 1 "does not allow drills" \
        "$cli" drill kill-agent-frozen ledger --yes --node node-2
    lab_wait 15 node_2_says_no
    says "an agent whose file says no" 1 "node 'node-2' does not allow drills: add 'drills: true'" \
        "$cli" drill kill-agent-frozen ledger --yes --node node-2
    says "nor if it is asked by itself" 0 "^DENIED .*'node-2' does not allow drills" \
        as coordinator-coord-1 "node-2@127.0.0.1:$((LAB_PORT + 22))" AgentService Drill \
        '{"set":"s","token":{"incarnation":"AQEBAQEBAQEBAQEBAQEBAQ==","revision":"5"},"fault":1}'
}

# An agent that nobody starts again: there is no next set, and nobody tells how long the pause was.
check_broken() {
    local status
    revive() { :; }
    drill kill-agent-frozen --node node-1 --wait 2s
    status=$?
    check "a promise that is broken ends with status 1" test "$status" -eq 1
    broken_promises >"$LAB/run/broken"
    check "the pause that nobody tells is not called kept" grep -q "^pause of node-1/ledger: unknown" "$LAB/run/broken"
    check "nor is the next set" grep -q "^the next set: " "$LAB/run/broken"
    check "yet all has thawed" lab_wait 5 nothing_frozen
}

# The sets that were decided by a new leader, or by one that had lost etcd.
rolled_forward_are_consistent() {
    local id seen=0
    for id in $rolled; do
        set_is "$id" COMPLETE || return 1
        orphans_of "$id" || return 1
        seen=$((seen + 1))
    done
    ((seen > 0)) || [[ ! $DRILLS =~ captured|etcd ]]
}

lab_up
start_etcd
lab_coordinator 1
lab_coordinator 2
for ((n = 1; n <= LAB_NODES; n++)); do lab_node "$n"; done
lab_shards
lab_group 2s
lab_load one
check_refusals
for name in $DRILLS; do try_drill "$name" "$(expected "$name")"; done
check_consent
check "writers have gone on" lab_transferred one 10
check "what was rolled forward is one instant" rolled_forward_are_consistent
check_broken
stop_daemons
check "no sanitizer has anything to say" no_sanitizer_reports
report
