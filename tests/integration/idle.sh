#!/usr/bin/env bash
# What an idle installation costs: the real coordinator with AGENTS (200) registered agents, and one
# real agent with its guardian. Memory is resident, in kB; processor time is of one core, over 10 s.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=deploy/lab.sh
. deploy/lab.sh
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh

AGENTS=${AGENTS:-200}
# shellcheck disable=SC2034 # lab.sh reads it
LAB_NODES=1
REST_S=10
trap 'lab_down' EXIT

pid_of() { cat "$LAB/run/$1.pid"; }
resident_kb() { awk '$1 == "VmRSS:" { print $2 }' "/proc/$(pid_of "$1")/status"; }
ticks() { awk '{ print $14 + $15 }' "/proc/$(pid_of "$1")/stat"; }

# The guardian is two processes: the one started and its child.
children_kb() {
    local child total=0
    # shellcheck disable=SC2013 # pids have no blanks
    for child in $(cat "/proc/$(pid_of "$1")/task/$(pid_of "$1")/children"); do
        total=$((total + $(awk '$1 == "VmRSS:" { print $2 }' "/proc/$child/status")))
    done
    printf '%d' "$total"
}

below() { # NAME VALUE LIMIT UNIT
    printf '# %s: %d %s, limit %d\n' "$1" "$2" "$4" "$3"
    if (($2 >= 0 && $2 < $3)); then ok "$1"; else not_ok "$1" "$2 $4, limit $3"; fi
}

certificates() {
    local k i
    for k in 0 1; do
        for ((i = 1 + k; i <= AGENTS; i += 2)); do
            deploy/certs issue "$LAB/pki" agent "idle-$i" >/dev/null || exit 1
        done &
    done
    wait %% && wait
}

spent_ms() { # TICKS: of one core, per second
    printf '%d' $(($1 * 1000 / $(getconf CLK_TCK) / REST_S))
}

lab_up
certificates
lab_coordinator 1
lab_node 1
lab_wait 15 lab_all_ready || lab_die "the agent has not registered"
alone=$(resident_kb coord-1)
lab_start idle "$BUILD/tests/tools/idle_agents" "$LAB/pki" "coord-1@127.0.0.1:$((LAB_PORT + 1))" "$AGENTS"
check "$AGENTS agents register" lab_wait 30 grep -q ready "$LAB/log/idle"
sleep 3 # one more registration of each: what is measured is the resting state
busy=$(ticks coord-1) agent_busy=$(ticks agent-1) guardian_busy=$(ticks guardian-1)
sleep "$REST_S"
below "memory for $AGENTS idle agents" $(($(resident_kb coord-1) - alone)) 65536 kB
below "memory of an idle agent" "$(resident_kb agent-1)" 24576 kB
below "memory of an idle guardian" $(($(resident_kb guardian-1) + $(children_kb guardian-1))) 49152 kB
below "processor time of an idle agent" "$(spent_ms $(($(ticks agent-1) - agent_busy)))" 5 'ms/s'
below "processor time of an idle guardian" "$(spent_ms $(($(ticks guardian-1) - guardian_busy)))" 2 'ms/s'
below "processor time for $AGENTS agents" "$(spent_ms $(($(ticks coord-1) - busy)))" 250 'ms/s'
check "all are still there" kill -0 "$(pid_of idle)"
report
