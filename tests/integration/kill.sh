#!/usr/bin/env bash
# What an agent does while its guardian is away, and with captures that nobody needs after daemons have died.
# Needs the failpoints of the sanitizer builds. Who dies while a set is taken is what sweep.sh is about.
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

trap 'lab_down' EXIT

coordinator_again() {
    lab_stop coord-1
    lab_coordinator 1
    lab_wait 30 lab_all_ready
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
lab_group 5s
lab_load load
lab_wait 60 lab_transferred load 100 || lab_die "the load does not start"

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
report
