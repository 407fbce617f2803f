#!/usr/bin/env bash
# A leader dies with all captured and nothing recorded, in a relaxed group of which a member has been missing from the start:
# what is missing, and what was captured, is known to the next leader, too. (How sets survive deaths at
# every state is what sweep.sh is about.)
# Needs the failpoints of the sanitizer builds, loop mounts, cgroup v2 and etcdctl.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/integration/failpoints.sh
. tests/integration/failpoints.sh
# shellcheck source=deploy/lab.sh
. deploy/lab.sh
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
# shellcheck source=tests/integration/ledger.sh
. tests/integration/ledger.sh
# shellcheck source=tests/integration/pauses.sh
. tests/integration/pauses.sh

LAB_COORDINATORS=2
LAB_LEASE=5s
trap 'lab_down' EXIT

somebody_leads() { [[ $(leader) == coord-* ]]; }

# Sets id to the set that the leader leaves behind.
leader_dies() {
    local lead pid asking
    lab_wait 20 somebody_leads && lab_wait 30 lab_all_ready || return 1
    lead=$(leader)
    pid=$(cat "$LAB/run/$lead.pid")
    disown "$pid" # its death is no news
    wish "$lead" round:RECORDING
    timeout 20 "$cli" set create ledger >"$LAB/log/create" 2>&1 &
    asking=$!
    lab_wait 20 is_dead "$pid" && lab_wait 30 is_dead "$asking" && lab_wait 20 set_ids || return 1
    id=$(set_ids | head -n 1)
    [[ $id ]]
}
misses_one() {
    "$cli" set show "$id" | grep -q "^missing  1 of 4 partitions"
}

lab_up
if [[ $lab_mode != real ]] || ! command -v etcdctl >/dev/null; then
    skip "take-over" "needs loop mounts, cgroup v2 and etcdctl"
    report
    exit
fi
start_etcd
for n in 1 2; do wishing "coord-$n" lab_coordinator "$n"; done
for ((n = 1; n <= LAB_NODES; n++)); do lab_node "$n"; done
lab_shards
lab_group 5s
lab_load load
lab_wait 60 lab_transferred load 100 || lab_die "the load does not start"
sed -i -e '1i consistency: relaxed' -e '$a \  - node-9/ledger' "$LAB/etc/ledger.yaml"
check "the group becomes relaxed" "$cli" group apply -f "$LAB/etc/ledger.yaml" -q
if leader_dies; then
    check "the set of a leader that died is COMPLETE" lab_wait 120 set_is "$id" COMPLETE
    check "what was captured is recorded, and what is missing" misses_one
else
    not_ok "the set of a leader that died is COMPLETE" "the leader does not die, or no set is left"
fi
check "no lock is left" lab_wait 20 no_locks
check "no capture is left" lab_wait 30 no_captures
lab_group 5s
check "the next set succeeds" next_set_succeeds
# The lock of a set that is over, as when nothing was heard of its deletion: it holds nobody up for long.
leave_lock() {
    local lease
    lease=$(key leader -w json | grep -oE '"lease":[0-9]+' | cut -d : -f 2) && # jq would round it
        etcdctl --endpoints "$LAB_ETCD" put --lease="$(printf '%x' "$lease")" \
            /stillpoint/lab/v1/locks/groups/ledger "$(set_ids | head -n 1)"
}
check "a lock is left by a set that is over" leave_lock
check "the set after that succeeds" next_set_succeeds
lab_stop client-load
check "all COMPLETE sets restore without orphans" complete_sets_are_consistent
check "the audit chain holds" "$cli" audit list
stop_daemons
check "the sanitizers have nothing to report" no_sanitizer_reports
report
