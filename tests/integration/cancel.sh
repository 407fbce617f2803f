#!/usr/bin/env bash
# `stillpoint set cancel`: a run that waits for a silent agent ends at once, an aborted one stays so,
# a captured one is refused, and the group takes its next set as if nothing had been.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=deploy/lab.sh
. deploy/lab.sh
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
# shellcheck source=tests/integration/ledger.sh
. tests/integration/ledger.sh

trap 'lab_down' EXIT

state_is() {
    "$cli" set show "$1" --json | grep -Eq "\"state\": ?\"SET_($2)\""
}

refused() {
    local said
    said=$("$cli" set cancel "$1" 2>&1) && return 1
    grep -q "$2" <<<"$said"
}

lab_up
lab_coordinator 1
for ((n = 1; n <= LAB_NODES; n++)); do lab_node "$n"; done
lab_shards
lab_group 10s

silent=$(<"$LAB/run/agent-2.pid")
lab_signal "$silent" STOP
id=$("$cli" set create ledger) || lab_die "no set"
check "a set waits for the silent agent" state_is "$id" PREPARING
check "it is cancelled" "$cli" set cancel "$id"
check "it is ABORTED long before prepare_timeout" lab_wait 10 state_is "$id" ABORTED
check "its record says who cancelled it" grep -q "cancelled by spiffe:" <("$cli" set show "$id")
check "cancelling it again changes nothing" "$cli" set cancel "$id"
lab_signal "$silent" CONT

id=$("$cli" set create ledger --watch --json >/dev/null && "$cli" set list | awk -v old="$id" 'NR > 1 && $1 != old { print $1 }')
check "the next set is taken" state_is "$id" COMPLETE
check "a captured set is not cancelled" refused "$id" "is captured"
check "nor is one that does not exist" refused ledger-none "there is no set"
report
