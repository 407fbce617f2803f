#!/usr/bin/env bash
# Four PostgreSQL shards and an application's log of decisions, as deploy/examples/POSTGRESQL.md describes it: transfers by
# two-phase commit, consecutive sets, each restored, started and settled by its own log; nothing may be lost. The
# control, the same parts one after the other, must lose something. PG_SETS says how many sets (200).
# Needs root, loop mounts, btrfs and cgroup v2.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
LAB_NODES=5
# shellcheck source=deploy/lab.sh
. deploy/lab.sh
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
# shellcheck source=tests/integration/ledger.sh
. tests/integration/ledger.sh

SETS=${PG_SETS:-200}
readonly SHARDS=4 CLIENTS=3 LOG_NODE=5
pg_bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -n 1)
ledger=$(realpath "$BUILD/tests/tools/pg_ledger")
restored_pids=()

finish() {
    stop_restored
    lab_down
}
trap finish EXIT

as_postgres() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
data_of() { printf '%s/mnt/%d/data' "$LAB" "$1"; }

# connections PREFIX: how the shards whose sockets lie below it are reached.
connections() {
    local n
    for ((n = 1; n <= SHARDS; n++)); do printf 'host=%s/%d port=5432 user=postgres dbname=postgres\n' "$1" "$n"; done
}

# serve NAME DIRECTORY SOCKETS [CGROUP]: a server in the foreground, as a unit would run it.
serve() {
    # shellcheck disable=SC2016 # expanded by the inner shell
    local enter='[[ -z $0 ]] || echo $$ >"$0/cgroup.procs"; exec "$@"'
    mkdir -p "$3" && chown postgres "$3"
    lab_start "$1" bash -c "$enter" "${4:-}" setpriv --reuid postgres --regid postgres --clear-groups \
        "$pg_bin/postgres" -D "$2" -k "$3" -c listen_addresses= -c port=5432 -c max_prepared_transactions=64 -c shared_buffers=16MB
}
answers() { as_postgres "$pg_bin/pg_isready" -q -h "$1" -p 5432; }

# The partitions as the recipe has them, with this installation's paths.
node_config() {
    local name=shard wanted=$LAB/etc/node-$1.yaml
    (($1 == LOG_NODE)) && name=decisions
    lab_node_config "$1"
    {
        sed '/^partitions:/,$d' "$wanted"
        printf 'partitions:\n'
        awk -v name="$name" '/^repositories:/ { exit } /^  - name:/ { on = $3 == name } on' deploy/examples/postgresql.yaml |
            sed -E "s|path: .*|path: $(data_of "$1")|; s|cgroup: /[^}]*|cgroup: /$LAB_NAME/shard-$1|"
        sed -n '/^repositories:/,$p' "$wanted"
    } >"$wanted.new"
    mv "$wanted.new" "$wanted"
}

start_shard() {
    chown postgres "$(data_of "$1")" && chmod 700 "$(data_of "$1")"
    (cd / && as_postgres "$pg_bin/initdb" -D "$(data_of "$1")" -A trust -N >"$LAB/log/initdb-$1" 2>&1) || lab_die "initdb: $(tail -n 3 "$LAB/log/initdb-$1")"
    serve "pg-$1" "$(data_of "$1")" "$LAB/pg/$1" "$(lab_cgroup_root)/$LAB_NAME/shard-$1"
    lab_wait 30 answers "$LAB/pg/$1" || lab_die "PostgreSQL does not start: $(tail -n 3 "$LAB/log/pg-$1")"
}

# The application runs in the cgroup of its log.
start_client() {
    # shellcheck disable=SC2016
    lab_start "client-$1" bash -c 'echo $$ >"$0/cgroup.procs"; exec "$@"' "$(lab_cgroup_root)/$LAB_NAME/shard-$LOG_NODE" \
        "$ledger" load "$(data_of $LOG_NODE)/log-$1" "$LAB/run/count-$1" "${shards[@]}"
}

apply_group() {
    {
        printf 'group: ledger\nrepository: ledger\nhold_limit: 10s\npartitions:\n'
        for ((n = 1; n <= SHARDS; n++)); do printf '  - node-%d/shard\n' "$n"; done
        printf '  - node-%d/decisions\n' "$LOG_NODE"
    } >"$LAB/etc/ledger.yaml"
    lab_wait 15 lab_all_ready && "$cli" group apply -f "$LAB/etc/ledger.yaml" -q
}

stop_restored() {
    local pid
    for pid in "${restored_pids[@]}"; do lab_signal "$pid" INT; done
    for pid in "${restored_pids[@]}"; do wait "$pid" 2>/dev/null; done
    restored_pids=()
}

# settles DIRECTORY: shards 1 to 4 and the log 5 below it are started and add up. Says what was found in $LAB/run/settled.
settles() {
    local n status
    for ((n = 1; n <= SHARDS; n++)); do
        serve "restored-$n" "$1/$n" "$LAB/re/$n"
        restored_pids+=("$(cat "$LAB/run/restored-$n.pid")")
    done
    for ((n = 1; n <= SHARDS; n++)); do lab_wait 60 answers "$LAB/re/$n" || return 2; done
    "$ledger" settle "$1/$LOG_NODE" "${restored[@]}" >"$LAB/run/settled"
    status=$?
    stop_restored
    return "$status"
}

# Restores each part of a set to DIRECTORY/N, with the command line alone.
restore_set() {
    local n id
    for ((n = 1; n <= LAB_NODES; n++)); do
        id=$("$cli" set show "$1" --json | jq -r --arg n "node-$n" '.parts[] | select(.node == $n) | .snapshotId')
        "$cli" repo restore "$id" --repo "$LAB/repo/ledger" --password-file "$LAB/etc/password" \
            --target "$2/$n" --strip "$(data_of "$n")" -q >/dev/null || return 1
    done
}

more_transfers() { lab_wait 60 lab_transferred 1 $(($(lab_transfers 1) + $1)); }

# Plain snapshots one after the other, of a running system.
control() {
    local n
    mkdir -p "$LAB/control"
    for n in $LOG_NODE 1 2 3 4; do
        btrfs -q subvolume snapshot "$(data_of "$n")" "$LAB/mnt/$n/control" || return 2
        cp -a "$LAB/mnt/$n/control" "$LAB/control/$n" && rm -f "$LAB/control/$n/postmaster.pid"
        more_transfers 20 || return 2
    done
    settles "$LAB/control"
    local status=$?
    cat "$LAB/run/settled"
    rm -rf "$LAB/control"
    ((status == 1))
}

wrong() { # SET WHAT
    printf 'set %s: %s\n' "$1" "$2"
    return 1
}

one_set() {
    local id dir=$LAB/restored doubt
    id=$("$cli" set create ledger) || return 1
    lab_wait 60 set_is "$id" COMPLETE || { wrong "$id" "$(set_state "$id")" || return; }
    rm -rf "$dir" && mkdir -p "$dir" && chmod 711 "$dir"
    restore_set "$id" "$dir" || { wrong "$id" "not restored" || return; }
    settles "$dir" || { wrong "$id" "$(cat "$LAB/run/settled")" || return; }
    doubt=$(sed -n 's/.*, \([0-9]*\) in doubt/\1/p' "$LAB/run/settled")
    in_doubt=$((in_doubt + doubt))
}

lab_up
[[ $lab_mode == real ]] || {
    skip postgres "loop mounts and cgroups are not permitted here"
    report
    exit
}
chmod 711 "$LAB" # for who serves the shards
mapfile -t shards < <(connections "$LAB/pg")
mapfile -t restored < <(connections "$LAB/re")
for ((n = 1; n <= SHARDS; n++)); do start_shard "$n"; done
"$ledger" open "${shards[@]}" || lab_die "no accounts"
lab_coordinator 1
for ((n = 1; n <= LAB_NODES; n++)); do
    node_config "$n"
    lab_guardian "$n"
    lab_agent "$n"
done
apply_group || lab_die "group"
for ((n = 1; n <= CLIENTS; n++)); do start_client "$n"; done
lab_wait 60 lab_transferred 1 50 || lab_die "no transfers: $(cat "$LAB/log/client-1")"

check "a control without a pause loses something" control
good=0 in_doubt=0
for ((i = 1; i <= SETS; i++)); do
    one_set && good=$((good + 1))
    more_transfers 5 || break
done
check "of $SETS sets, each restored, started and settled, all add up" test "$good" -eq "$SETS"
check "some transactions were in doubt ($in_doubt)" test "$in_doubt" -gt 0
check "the clients never saw an error" test -z "$(cat "$LAB"/log/client-*)"
report
