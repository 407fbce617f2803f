#!/usr/bin/env bash
# An agent dies in the middle of an upload, later the coordinator with its etcd: the upload goes on with
# what is stored already, ends in one snapshot, and is reported.
# RESUME_MIB says how much there is to upload (400).
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=deploy/lab.sh
. deploy/lab.sh
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
# shellcheck source=tests/integration/ledger.sh
. tests/integration/ledger.sh

RESUME_MIB=${RESUME_MIB:-400}
LAB_NODES=2
trap 'lab_down' EXIT

repo_mib() {
    du -sm "$LAB/repo/ledger/data" | cut -f 1
}

# repo_grew MIB: the repository holds at least that much more than at fill.
repo_grew() {
    (($(repo_mib) - filled_at >= $1))
}

# New data in node 1's partition, which no earlier set has.
fill() {
    head -c "${RESUME_MIB}M" /dev/urandom >"$LAB/mnt/1/data/big"
    sync -f "$LAB/mnt/1/data/big"
    filled_at=$(repo_mib)
}

begin_set() {
    id=$(timeout 20 "$cli" set create ledger 2>"$LAB/log/create")
    [[ -n $id ]] && lab_wait 30 set_is_decided "$id"
}

# How many MiB the recorded upload of node 1 stored itself.
stored_mib() {
    local bytes
    bytes=$("$cli" set show "$id" --json | grep -o '"bytesStored":"[0-9]*"' | head -n 1 | tr -dc 0-9)
    printf '%d' $((${bytes:-0} >> 20))
}

one_snapshot() {
    local n
    n=$("$cli" repo snapshots --repo "$LAB/repo/ledger" --password-file "$LAB/etc/password" --host node-1 \
        --tag "set=$id" --tag partition=ledger --json | grep -c '^{')
    ((n == 1)) || { echo "$n snapshots" && return 1; }
    [[ -n $(command -v restic) ]] || return 0
    n=$(restic -r "$LAB/repo/ledger" --password-file "$LAB/etc/password" --no-cache snapshots --host node-1 \
        --tag "set=$id,partition=ledger" --json | grep -o '"short_id"' | wc -l)
    ((n == 1)) || { echo "restic sees $n snapshots" && return 1; }
}

complete() {
    lab_wait 120 set_is "$id" COMPLETE || { "$cli" set show "$id" && return 1; }
}

# What the dead agent had packed but not yet indexed is stored again; no more than that.
second_attempt_was_short() {
    local mib
    mib=$(stored_mib)
    printf 'the second attempt stored %d of %d MiB, %d were there\n' "$mib" "$RESUME_MIB" "$at_kill"
    ((mib > 0 && mib <= RESUME_MIB - at_kill / 2))
}

upload_is_done() {
    grep -q "^info task done task=$id.upload.node-1" "$LAB/log/agent-1"
}

# A lock has its final name; restic writes it under another one first.
prune_has_locked() {
    find "$LAB/repo/ledger/locks" -type f | grep -qE "/[0-9a-f]{64}$"
}

# A prune that sleeps with its lock held, for longer than a failing task is tried again.
waits_for_prune() {
    local pid
    restic -r "$LAB/repo/ledger" --password-file "$LAB/etc/password" unlock
    restic -r "$LAB/repo/ledger" --password-file "$LAB/etc/password" --no-cache prune >"$LAB/log/prune" 2>&1 &
    pid=$!
    lab_wait 10 prune_has_locked && kill -STOP "$pid" && begin_set
    lab_wait 20 false
    set_is "$id" UPLOADING || { echo "it is $(set_state "$id")" && kill -KILL "$pid" && return 1; }
    kill -CONT "$pid"
    wait "$pid"
    complete
}

lab_up
lab_coordinator 1
for ((n = 1; n <= LAB_NODES; n++)); do lab_node "$n"; done
lab_shards
lab_group 5s

fill
begin_set
if lab_wait 30 repo_grew $((RESUME_MIB / 3)); then
    disown "$(cat "$LAB/run/agent-1.pid")"
    lab_stop agent-1 KILL
    at_kill=$(($(repo_mib) - filled_at))
    check "the upload was not done when its agent died ($at_kill of $RESUME_MIB MiB)" test "$at_kill" -lt "$RESUME_MIB"
    sleep 1
    lab_agent 1
    check "it goes on, and the set becomes COMPLETE" complete
    check "what was stored is not stored again: $(second_attempt_was_short)" second_attempt_was_short
    check "there is one snapshot of the part" one_snapshot
else
    not_ok "an upload of $RESUME_MIB MiB gets under way" "$(cat "$LAB/log/create")"
fi

fill
begin_set
if lab_wait 30 repo_grew $((RESUME_MIB / 3)); then
    disown "$(cat "$LAB/run/coord-1.pid")"
    lab_stop coord-1 KILL
    upload_is_done && not_ok "the coordinator dies during the upload" "it was done"
    check "an upload goes on without a coordinator" lab_wait 60 upload_is_done
    sleep 2
    lab_coordinator 1
    check "it is reported after the restart, and the set becomes COMPLETE" complete
    check "there is one snapshot of the part" one_snapshot
else
    not_ok "an upload of $RESUME_MIB MiB gets under way" "$(cat "$LAB/log/create")"
fi
if command -v restic >/dev/null; then
    check "a repository locked by restic prune for longer than five attempts is waited for" waits_for_prune
else
    skip "a repository locked by restic prune is waited for" "restic is not installed"
fi
check "the next set is COMPLETE too" eval 'begin_set && complete'
check "no capture is left behind" lab_wait 30 no_captures
if command -v restic >/dev/null; then
    check "restic finds no damage" restic -r "$LAB/repo/ledger" --password-file "$LAB/etc/password" --no-cache --no-lock check
else
    skip "restic finds no damage" "restic is not installed"
fi
report
