# shellcheck shell=bash
# What tests ask of an installation that deploy/lab.sh runs: states of sets, the ledger's sums after a
# restore, and what nobody may leave behind. Sourced after lab.sh.
cli=$BUILD/stillpoint

set_ids() {
    "$cli" set list 2>/dev/null | awk 'NR > 1 { print $1 }'
}

set_states() {
    "$cli" set list 2>/dev/null | awk 'NR > 1 { print $2 }'
}

set_state() {
    "$cli" set list 2>/dev/null | awk -v id="$1" 'NR > 1 && $1 == id { print $2 }'
}

# set_is ID STATE|STATE…
set_is() {
    [[ $(set_state "$1") =~ ^($2)$ ]]
}

# The commit point is passed, or the set is over.
set_is_decided() {
    set_is "$1" "CAPTURED|UPLOADING|VALIDATING|COMPLETE|ABORTED|DAMAGED"
}

# None is under way any more.
sets_are_final() {
    local states
    states=$(set_states) || return 1
    ! grep -qvE "^(COMPLETE|ABORTED|DAMAGED|EXPIRED)?$" <<<"$states"
}

# Restores with the command line alone, as on the day when every daemon is gone.
restore_part() {
    "$cli" repo restore "$2" --repo "$LAB/repo/ledger" --password-file "$LAB/etc/password" \
        --target "$3" -q && [[ -e $3/$LAB/mnt/$1/data/ledger.db ]]
}

# orphans_of ID: restores a set and looks for credits without their debits.
orphans_of() {
    local id=$1 n dirs=() pids=() shown pid
    shown=$("$cli" set show "$id") || return 2
    for ((n = 1; n <= LAB_NODES; n++)); do
        restore_part "$n" "$(awk -v p="node-$n/ledger" '$1 == p { print $6 }' <<<"$shown")" \
            "$LAB/restore/$id/$n" &
        pids+=($!)
        dirs+=("$LAB/restore/$id/$n$LAB/mnt/$n/data")
    done
    for pid in "${pids[@]}"; do wait "$pid" || return 2; done
    "$BUILD/tests/tools/ledger_check" "${dirs[@]}"
    local status=$?
    rm -rf "${LAB:?}/restore/$id"
    return $status
}

# All COMPLETE sets restore without orphans; says which do not.
complete_sets_are_consistent() {
    local id bad=0 seen=0
    for id in $("$cli" set list 2>/dev/null | awk 'NR > 1 && $2 == "COMPLETE" { print $1 }'); do
        seen=$((seen + 1))
        orphans_of "$id" >"$LAB/log/orphans-$id" 2>&1 && continue
        printf '%s: %s\n' "$id" "$(tail -n 1 "$LAB/log/orphans-$id")"
        bad=$((bad + 1))
    done
    ((seen > 0 && bad == 0))
}

# Where captures lie, whole or partial.
captures() {
    find "$LAB"/mnt/*/.stillpoint "$LAB"/mnt/*/data/.stillpoint "$LAB"/captures \
        -mindepth 1 -maxdepth 2 -name '*.ledger*' 2>/dev/null
}

no_captures() {
    [[ -z $(captures) ]]
}

# Nothing is frozen, by the kernel's word.
nothing_frozen() {
    ! grep -q "^frozen 1" "$(lab_cgroup_root)/$LAB_NAME"/shard-*/cgroup.events
}

# An etcd of its own, for several coordinators; sets LAB_ETCD.
start_etcd() {
    local port=$((LAB_PORT + 10))
    LAB_ETCD=http://127.0.0.1:$port
    lab_start etcd etcd --name lab --data-dir "$LAB/state/etcd" --logger zap --log-level error \
        --listen-client-urls "$LAB_ETCD" --advertise-client-urls "$LAB_ETCD" \
        --listen-peer-urls "http://127.0.0.1:$((port + 1))" \
        --initial-advertise-peer-urls "http://127.0.0.1:$((port + 1))" \
        --initial-cluster "lab=http://127.0.0.1:$((port + 1))"
    lab_wait 20 etcdctl --endpoints "$LAB_ETCD" endpoint health || lab_die "etcd does not start"
}

# key PREFIX [OPTION…]: what is stored below it.
key() {
    etcdctl --endpoints "$LAB_ETCD" get --prefix "/stillpoint/lab/v1/$1" "${@:2}" 2>/dev/null
}

# Who holds the leader key.
leader() {
    key leader --print-value-only | tr -d '"'
}

no_locks() {
    [[ -z $(key locks/ --keys-only) ]]
}
no_tasks() {
    [[ -z $(key tasks/ --keys-only) ]]
}

# In builds with sanitizers: no daemon has reported anything. Stop them first, for what they leak.
no_sanitizer_reports() {
    ! grep -aE "Sanitizer|runtime error:" "$LAB"/log/*
}

stop_daemons() {
    local n
    for ((n = 1; n <= LAB_NODES; n++)); do lab_stop "agent-$n"; done
    for ((n = 1; n <= LAB_NODES; n++)); do lab_stop "guardian-$n"; done
    for ((n = 1; n <= ${LAB_COORDINATORS:-1}; n++)); do lab_stop "coord-$n"; done
}
