# shellcheck shell=bash
# How long writers stand still, and what must hold after anything has gone wrong with a set. Sourced after
# ledger.sh by tests with $HOLD_MS; the set is $id.
: "${cli:?}"
worst_ms=0 # the longest stall of all cases

# The writers begin anew, so that each case has its own longest stall.
beats_start() {
    # shellcheck disable=SC2016 # expanded by the inner shell
    local enter='echo $$ >"$0/cgroup.procs"; exec "$@"' n
    for ((n = 1; n <= LAB_NODES; n++)); do
        lab_stop "beat-$n"
        lab_start "beat-$n" bash -c "$enter" "$(lab_cgroup_root)/$LAB_NAME/shard-$n" \
            "$BUILD/tests/tools/guard_beat" "$LAB/mnt/$n/data/beat" "$LAB/run/beat-$n"
    done
    lab_wait 10 beats_go_on || lab_die "the writers do not start"
}

# Writers that write now: one more beat within a second.
beats_go_on() {
    local n before after
    for ((n = 1; n <= LAB_NODES; n++)); do
        read -r before _ <"$LAB/run/beat-$n" || return 1
        sleep 0.1
        read -r after _ <"$LAB/run/beat-$n" || return 1
        ((after > before)) || return 1
    done
}

# The longest that one of the writers stood still; sets stall_ms.
beats_look() {
    local n gap
    stall_ms=0
    for ((n = 1; n <= LAB_NODES; n++)); do
        read -r _ gap _ <"$LAB/run/beat-$n"
        ((gap <= stall_ms)) || stall_ms=$gap
    done
    ((stall_ms <= worst_ms)) || worst_ms=$stall_ms
}

# begin_set: sets id.
begin_set() {
    id=$(timeout 20 "$cli" set create ledger 2>"$LAB/log/create")
    [[ -n $id ]]
}

# begin_set_until_stopped PID: begins one in the background, during which the daemon PID comes to stand still; so whoever
# began it may never be told its id, and newest_set finds it. Sets asking, the process that waits for the answer.
begin_set_until_stopped() {
    id_before=$(set_ids) || return 1
    id_before=${id_before%%$'\n'*}
    timeout 30 "$cli" set create ledger >"$LAB/log/create" 2>&1 &
    # shellcheck disable=SC2034 # for those who source this
    asking=$!
    lab_wait 20 stands_still "$1"
}
newest_set() {
    id=$(set_ids | head -n 1)
    [[ -n $id && $id != "$id_before" ]]
}

# An aborted set keeps its group until every agent has heard of it, or 30 s: the next one waits for that.
# A run may pass its hold limit on a machine that is busy with much else; not three in a row.
next_set_succeeds() {
    local id try
    for try in 1 2 3; do
        id=$(timeout 60 "$cli" set create ledger) || continue
        lab_wait 60 set_is "$id" "COMPLETE|ABORTED|DAMAGED"
        set_is "$id" COMPLETE && return
        echo "try $try: $id is $(set_state "$id")"
    done
    return 1
}

# What must hold after each case; says what does not.
holds() {
    lab_wait 30 set_is_decided "$id" || { echo "undecided" && return 1; }
    lab_wait 10 nothing_frozen || { echo "still frozen" && return 1; }
    lab_wait 10 beats_go_on || { echo "a writer stands still" && return 1; }
    lab_wait 120 sets_are_final || { echo "not final" && return 1; }
    set_is "$id" "COMPLETE|ABORTED" || { echo "the set is $(set_state "$id")" && return 1; }
    next_set_succeeds || { echo "the next set is $("$cli" set list | sed -n 2p)" && return 1; }
    lab_wait 90 no_captures || { echo "captures are left: $(captures | tr '\n' ' ')" && return 1; }
    ((stall_ms <= HOLD_MS + 1000)) || { echo "a writer stood still for $stall_ms ms" && return 1; }
}

judge() {
    local wrong
    lab_wait 20 set_is_decided "$id"
    lab_wait 10 nothing_frozen
    beats_look
    if wrong=$(holds); then
        ok "$1: $(set_state "$id"), longest stall $stall_ms ms"
    else
        not_ok "$1" "$wrong"
    fi
}

# A process that a failpoint has stopped.
stands_still() {
    local state
    read -r _ _ state _ <"/proc/$1/stat" && [[ $state == T ]]
}
is_dead() { ! kill -0 "$1" 2>/dev/null; }
