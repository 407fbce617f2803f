#!/usr/bin/env bash
# An etcd of three members. Without one of them sets go on; without two, lost while all is frozen, writers go on in time
# all the same, the set is decided once they are back, and nothing is left behind.
# Needs root, loop mounts, btrfs, cgroup v2, and the failpoints of the sanitizer builds.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
LAB_NODES=2
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

HOLD_MS=3000
trap 'each_member CONT; lab_down' EXIT

client_of() { printf 'http://127.0.0.1:%d' $((LAB_PORT + 100 + $1)); }
peer_of() { printf 'http://127.0.0.1:%d' $((LAB_PORT + 110 + $1)); }

start_member() {
    lab_start "etcd-$1" etcd --name "m$1" --data-dir "$LAB/state/etcd-$1" --logger zap --log-level error \
        --listen-client-urls "$(client_of "$1")" --advertise-client-urls "$(client_of "$1")" \
        --listen-peer-urls "$(peer_of "$1")" --initial-advertise-peer-urls "$(peer_of "$1")" \
        --initial-cluster "m1=$(peer_of 1),m2=$(peer_of 2),m3=$(peer_of 3)"
}
member() { kill "-$1" "$(cat "$LAB/run/etcd-$2.pid")"; }
each_member() {
    local n
    for n in 1 2 3; do [[ ! -e $LAB/run/etcd-$n.pid ]] || member "$1" "$n"; done
}
all_healthy() {
    ETCDCTL_API=3 etcdctl --endpoints "$(client_of 1),$(client_of 2),$(client_of 3)" endpoint health
}
without_one() { # which: the set succeeds while it is away
    member STOP "$1"
    next_set_succeeds
    local status=$?
    member CONT "$1"
    lab_wait 30 all_healthy && return "$status"
}

# The coordinator stands still with all frozen, until two members do.
without_two() {
    local victim
    wish coord-1 round:CAPTURING:stop
    lab_wait 40 lab_all_ready || { not_ok "without two" "not ready" && return; }
    victim=$(cat "$LAB/run/coord-1.pid")
    beats_start
    begin_set_until_stopped "$victim" || { not_ok "without two" "never all frozen: $(cat "$LAB/log/create")" && return; }
    member STOP 2
    member STOP 3
    kill -CONT "$victim"
    if ! lab_wait 6 nothing_frozen; then not_ok "without two, writers go on" "still frozen"; fi
    check "without two, no set begins" sets_fail
    member CONT 2
    member CONT 3
    lab_wait 60 all_healthy
    wait "$asking"
    lab_wait 40 newest_set || { not_ok "without two" "no set: $(cat "$LAB/log/create")" && return; }
    judge "two members lost while all is frozen"
}
sets_fail() { ! timeout 15 "$cli" set create ledger; }

lab_up
if [[ $lab_mode != real ]]; then
    skip etcd_members "loop mounts and cgroups are not permitted here"
    report
    exit
fi
for n in 1 2 3; do start_member "$n"; done
lab_wait 30 all_healthy || lab_die "etcd does not start: $(tail -n 2 "$LAB/log/etcd-1")"
LAB_ETCD="$(client_of 1)\", \"$(client_of 2)\", \"$(client_of 3)"
wishing coord-1 lab_coordinator 1
for ((n = 1; n <= LAB_NODES; n++)); do lab_node "$n"; done
lab_shards
lab_group "${HOLD_MS}ms"
check "a set with all members" next_set_succeeds
for n in 1 2 3; do check "without member $n sets go on" without_one "$n"; done
without_two
report
