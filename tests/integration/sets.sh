#!/usr/bin/env bash
# Consecutive sets under load: in every restored set each credit has its debit. The control, plain
# copies without a pause, must find credits without. SETS says how many sets (50).
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=deploy/lab.sh
. deploy/lab.sh
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
# shellcheck source=tests/integration/ledger.sh
. tests/integration/ledger.sh

SETS=${SETS:-50}
trap 'lab_down' EXIT

all_complete() {
    (($(set_states | grep -c '^COMPLETE$') == SETS))
}

# The lock of a group is free again once a set is CAPTURED, so sets follow each other while earlier
# ones are still uploaded.
take() {
    local id
    id=$("$cli" set create ledger) || return 1
    lab_wait 30 is_captured "$id"
}

is_captured() {
    "$cli" set show "$1" --json | grep -Eq '"state": ?"SET_(CAPTURED|UPLOADING|VALIDATING|COMPLETE)"'
}

control() {
    local n start dirs=()
    for ((n = 1; n <= LAB_NODES; n++)); do
        mkdir -p "$LAB/plain/$n"
        cp "$LAB/mnt/$n/data/"ledger.db* "$LAB/plain/$n/"
        dirs+=("$LAB/plain/$n")
        start=$(lab_transfers load)
        lab_wait 60 lab_transferred load $((start + 100)) || return 2
    done
    ! "$BUILD/tests/tools/ledger_check" "${dirs[@]}"
}

lab_up
lab_coordinator 1
for ((n = 1; n <= LAB_NODES; n++)); do lab_node "$n"; done
lab_shards
lab_group 10s
lab_load load
lab_wait 60 lab_transferred load 200 || lab_die "the load does not start"

check "a control without a pause finds credits without debits" control
taken=0
for ((i = 1; i <= SETS; i++)); do take && taken=$((taken + 1)); done
check "$SETS sets were captured one after the other" test "$taken" -eq "$SETS"
if lab_wait 300 all_complete; then
    ok "all are COMPLETE"
else
    not_ok "all are COMPLETE" "$(set_states | sort | uniq -c | tr '\n' ' ')"
fi
lab_stop client-load
clean=0
for id in $("$cli" set list | awk 'NR > 1 { print $1 }'); do
    orphans_of "$id" >"$LAB/log/orphans-$id" 2>&1 && clean=$((clean + 1))
done
if ((clean == SETS)); then
    ok "every credit has its debit in all $SETS restored sets"
else
    not_ok "every credit has its debit in all $SETS restored sets" "$clean; $(grep -h . "$LAB"/log/orphans-* | grep -v orphans=0 | head -n 3 | tr '\n' ' ')"
fi
# The same percentiles (nearest rank) by other means, from the records.
pauses_by_jq() {
    "$cli" set list --json | jq -s '[.[].sets[].parts[] | select(.node == "node-2") | .proof |
        ((.thawedAtNs | tonumber) - (.frozenAtNs | tonumber)) / 1e6] | sort |
        "\(.[(length * 0.5 | ceil) - 1]) \(.[(length * 0.99 | ceil) - 1]) \(.[-1]) \(length)"'
}
pauses_by_report() {
    "$cli" report pauses --json | jq 'select(.partition == "node-2/ledger") |
        "\(.pause.p50_ms) \(.pause.p99_ms) \(.pause.max_ms) \(.sets)"'
}
reported_as_recorded() {
    local reported
    reported=$(pauses_by_report) && [[ -n $reported && $reported == "$(pauses_by_jq)" ]]
}
check "the report of pauses is what the records say" reported_as_recorded
check "the audit chain holds" "$cli" audit list
check "no capture is left behind" lab_wait 20 no_captures
report
