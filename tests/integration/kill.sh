#!/usr/bin/env bash
# An agent dies at each state of a set on its node; the guardian dies, in part or whole, with its domain
# frozen. A writer inside of each domain measures how long it stood still. Then what an agent does while
# its guardian is away, and with captures that nobody needs.
# Needs the failpoints of the sanitizer builds. KILL_STATES and KILL_GUARDIAN choose.
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

KILL_STATES=${KILL_STATES-FREEZING FROZEN COMMITTING JOURNALING CAPTURED}
KILL_GUARDIAN=${KILL_GUARDIAN-keeper doers whole}
HOLD_MS=3000
trap 'lab_down' EXIT

coordinator_again() {
    lab_stop coord-1
    lab_coordinator 1
    lab_wait 30 lab_all_ready
}

# Agent 2 with a failpoint or none, registered.
agent_with() {
    lab_stop agent-2
    LAB_ENV=${1:+STILLPOINT_FAILPOINT=$1} lab_agent 2
    lab_wait 20 grep -q "^info register done" "$LAB/log/agent-2"
}

# The agent of the node dies at the state, and comes back a second later.
agent_dies_at() {
    local victim
    agent_with "session:$1" || { not_ok "agent dies at $1" "it does not register" && return; }
    beats_start
    victim=$(cat "$LAB/run/agent-2.pid")
    disown "$victim" # its death is no news
    begin_set || { not_ok "agent dies at $1" "no set: $(cat "$LAB/log/create")" && return; }
    lab_wait 20 lab_gone "$victim" || { not_ok "agent dies at $1" "the failpoint is not reached" && return; }
    sleep 1
    agent_with ""
    judge "agent dies at $1"
}

# The guardian of node 2 dies while node 3, whose agent has died, keeps all waiting in the freeze.
guardian_dies() {
    local keeper doers victim
    lab_stop agent-3
    LAB_ENV=STILLPOINT_FAILPOINT=session:FREEZING lab_agent 3
    lab_wait 20 grep -q "^info register done" "$LAB/log/agent-3"
    beats_start
    keeper=$(cat "$LAB/run/guardian-2.pid")
    victim=$(cat "$LAB/run/agent-3.pid")
    disown "$victim"
    [[ $1 == doers ]] || disown "$keeper"
    mapfile -t doers < <(pgrep -P "$keeper")
    begin_set || { not_ok "guardian dies: $1" "no set" && return; }
    lab_wait 20 frozen 2 || { not_ok "guardian dies: $1" "not frozen in time" && return; }
    case $1 in
    keeper) kill -KILL "$keeper" ;;
    doers) kill -KILL "${doers[@]}" ;;
    whole) kill -KILL "$keeper" "${doers[@]}" ;;
    esac
    if [[ $1 != doers ]]; then
        sleep 1
        lab_stop guardian-2
        lab_guardian 2
    fi
    lab_stop agent-3
    lab_agent 3
    judge "guardian dies frozen: $1"
}

partition_says() {
    "$cli" partition list --json | tr -d '\n' | grep -q "$1"
}

partitions_are_fine() {
    ! partition_says "guardian has ended" && ! partition_says "no guardian listens"
}

is_refused_without_guardian() {
    lab_wait 5 partition_says "guardian" || { echo "the partition list does not say so" && return 1; }
    ! timeout 20 "$cli" set create ledger
}

agent_started() {
    grep -q "^info agent started" "$LAB/log/agent-2"
}

# An agent that starts first waits, says so, and is ready when its guardian is.
agent_starts_first() {
    lab_stop agent-2
    lab_new_log agent-2
    lab_start agent-2 "$BUILD/stillpoint-agent" --config "$LAB/etc/node-2.yaml"
    lab_wait 10 grep -q "^warn guard away" "$LAB/log/agent-2" || return 1
    ! agent_started || return 1
    lab_guardian 2
    lab_wait 5 agent_started
}

# A capture that no set knows, whole and half made, while a set of the journal waits for its upload.
make_leftovers() {
    local dir=$LAB/mnt/2/data/.stillpoint
    ghosts=("$dir/ghost-1.ledger" "$dir/.ghost-2.ledger.partial")
    mkdir -p "$dir"
    btrfs -q subvolume snapshot -r "$LAB/mnt/2/data" "${ghosts[0]}" &&
        btrfs -q subvolume snapshot "$LAB/mnt/2/data" "${ghosts[1]}"
}

ghosts_are_gone() {
    local path
    for path in "${ghosts[@]}"; do [[ ! -e $path ]] || return 1; done
}

# The agent dies right after it promised a capture; the coordinator, before it can hand out tasks. So the
# journal alone speaks for the capture when the agent looks at what the guardian has.
leftovers_are_dropped() {
    local capture
    lab_stop coord-1 KILL
    make_leftovers || { echo "no leftovers" && return 1; }
    lab_stop agent-2
    lab_agent 2
    lab_wait 20 ghosts_are_gone || { echo "they stay" && return 1; }
    capture=$LAB/mnt/2/data/.stillpoint/$id.ledger
    [[ -e $capture ]] || { echo "the journal's capture is gone" && return 1; }
}

lab_up
if [[ $lab_mode != real ]]; then
    skip "kill" "needs loop mounts and cgroup v2"
    report
    exit
fi
lab_coordinator 1
for ((n = 1; n <= LAB_NODES; n++)); do lab_node "$n"; done
lab_shards
lab_group "${HOLD_MS}ms"
lab_load load
lab_wait 60 lab_transferred load 100 || lab_die "the load does not start"
for state in $KILL_STATES; do agent_dies_at "$state"; done
for part in $KILL_GUARDIAN; do guardian_dies "$part"; done

lab_stop guardian-2
check "while its guardian is away, a partition says so and sets are refused" is_refused_without_guardian
lab_guardian 2
check "it is usable again when the guardian is back" lab_wait 10 partitions_are_fine
check "the next set succeeds" next_set_succeeds

lab_stop agent-2
lab_stop guardian-2
rm -f "$LAB/run/node-2/guardian.sock"
if agent_starts_first; then
    ok "an agent that starts before its guardian waits for it"
else
    not_ok "an agent that starts before its guardian waits for it" "$(tail -n 2 "$LAB/log/agent-2")"
fi
LAB_ENV=STILLPOINT_FAILPOINT=set:UPLOADING coordinator_again
begin_set
victim=$(cat "$LAB/run/coord-1.pid")
disown "$victim" 2>/dev/null # it may be dead already
if lab_wait 30 lab_gone "$victim" && leftovers_are_dropped >"$LAB/log/leftovers"; then
    ok "captures that nobody needs are dropped, promised ones kept"
else
    not_ok "captures that nobody needs are dropped, promised ones kept" "$(tail -n 1 "$LAB/log/leftovers")"
fi
coordinator_again
check "the promised one becomes a COMPLETE set" lab_wait 120 set_is "$id" COMPLETE
check "no capture is left behind" lab_wait 90 no_captures
lab_stop client-load
check "all COMPLETE sets restore without orphans" complete_sets_are_consistent
stop_daemons
check "the sanitizers have nothing to report" no_sanitizer_reports
printf 'longest stall of all: %d ms, hold limit %d ms\n' "$worst_ms" "$HOLD_MS"
report
