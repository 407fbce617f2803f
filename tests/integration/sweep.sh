#!/usr/bin/env bash
# Every daemon dies at every change of state. For each named state × victim × time: the daemon that comes to the state stops
# there, the victim is killed, who stopped goes on, and the victim is started again a moment later. Then the set is
# decided within 30 s of the restart and COMPLETE or ABORTED within 120 s, as the state that was reached allows; writers inside of each
# domain stood still for hold_limit + 1 s at most; nobody leaves a lock, a lease, a task or a capture; and in the
# end everything COMPLETE restores without a credit that has no debit.
#
# A machine stops when it has moved and before anything acts on the move: what a state does, writes and sends has not begun.
# All that it does is over when the machine moves on, so "after a state" is "before the next"; and what
# comes of a last state is somebody else's next: set:UPLOADING for round:CAPTURED, round:RECORDING for session:CAPTURED,
# session:JOURNALING for hold:done, doer:DROP for set:COMPLETE, round:ABORTED for session:ABORTED. The doer has
# no states but deeds; it stops before each ("doer:") and after it, before anybody is told ("done:").
#
#   SWEEP_STATES, SWEEP_VICTIMS, SWEEP_TIMES (5)   choose; a guardian is a keeper with its doers
#
# Needs the failpoints of the sanitizer builds, loop mounts, btrfs, cgroup v2 and etcdctl.
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

# The command line is asked all the time, and is not what is tried here.
[[ ! -x build/release-gcc/stillpoint ]] || cli=build/release-gcc/stillpoint
SWEEP_TIMES=${SWEEP_TIMES:-5}
SWEEP_VICTIMS=${SWEEP_VICTIMS-coordinator agent keeper doer guardian node}
SWEEP_STATES=${SWEEP_STATES-round:OPENING round:PREPARING round:FREEZING round:CAPTURING round:RECORDING
    round:CAPTURED round:INSPECTING round:ABORTING round:ABORTED
    set:UPLOADING set:VALIDATING set:COMPLETE
    session:ARMING session:PREPARED session:FREEZING session:FROZEN session:COMMITTING session:JOURNALING
    session:CAPTURED session:ABORTING session:ABORTED
    hold:armed hold:freezing hold:frozen hold:capturing hold:done hold:ending hold:ended
    domain:freezing domain:frozen domain:thawing domain:thawed
    doer:ARM done:ARM doer:FREEZE done:FREEZE doer:CAPTURE done:CAPTURE doer:RECHECK done:RECHECK
    doer:PUBLISH done:PUBLISH doer:DROP done:DROP doer:REMOVE done:REMOVE}
LAB_COORDINATORS=2
LAB_LEASE=3s
HOLD_MS=3000
slowest_s=0 # from a restart until the set is decided
trap 'lab_down' EXIT

# ---- to a state ----

standby_of() { if [[ $1 == coord-1 ]]; then echo coord-2; else echo coord-1; fi; }
somebody_leads() { [[ $(leader) == coord-* ]]; }

# Who may come to the state; agents and guardians of node 2 stand for all. Sets lead and asked.
cast() { # STATE
    lead=$(leader)
    case $1 in
    round:INSPECTING) asked=("$(standby_of "$lead")") ;;
    round:* | set:*) asked=(coord-1 coord-2) ;; # whoever leads by then
    session:*) asked=(agent-2) ;;
    *) asked=(guardian-2) ;;
    esac
}

# What has to die first for some states to be reached: "NAME STATE". An agent that dies when others have captured
# has them take it back; a leader's death has another look around.
first_of() { # STATE
    case $1 in
    *:ABORTING | *:ABORTED | hold:end* | *:REMOVE) printf 'agent-3 session:COMMITTING' ;;
    round:INSPECTING) printf '%s round:CAPTURING' "$lead" ;;
    esac
}

children() {
    local pid
    read -r pid <"$LAB/run/$1.pid"
    cat "/proc/$pid/task/$pid/children" 2>/dev/null
}

# One of them, or a child of its; sets reacher, and stopped, the process.
reached() {
    for reacher in "${asked[@]}"; do
        for stopped in $(cat "$LAB/run/$reacher.pid") $(children "$reacher"); do
            ! stands_still "$stopped" || return 0
        done
    done
    return 1
}

start_again() { # NAME
    lab_stop "$1"
    case $1 in
    coord-*) wishing "$1" lab_coordinator "${1#*-}" ;;
    agent-*) wishing "$1" lab_agent "${1#*-}" ;;
    guardian-*) wishing "$1" lab_guardian "${1#*-}" ;;
    esac
}

dies_first() { # NAME STATE
    local pid
    pid=$(cat "$LAB/run/$1.pid")
    disown "$pid" # its death is no news
    wish "$1" "$2"
    timeout 40 "$cli" set create ledger >"$LAB/log/create" 2>&1 &
    asking=$!
    lab_wait 20 is_dead "$pid" || { echo "$1 does not die at $2" && return 1; }
    # A leader that is back at once may lead again.
    [[ $1 == coord-* ]] || start_again "$1"
}

# A set begins and somebody stands still at the state. On a busy machine a leader may lose its lease before that: then
# nothing was tried, and it begins anew.
arrives() { # STATE
    local try
    for try in 1 2 3; do
        comes_to "$1" && return
        forget_case
    done
    return 1
}

comes_to() { # STATE
    local first name
    lab_wait 40 somebody_leads || { echo "nobody leads" && return 1; }
    lab_wait 40 lab_all_ready || { echo "not all are ready" && return 1; }
    beats_start
    { echo none && set_ids; } >"$LAB/run/ids-before"
    cast "$1"
    read -r -a first <<<"$(first_of "$1")"
    for name in "${asked[@]}"; do wish "$name" "$1:stop"; done
    if ((${#first[@]})); then
        dies_first "${first[@]}" || return 1
    else
        timeout 40 "$cli" set create ledger >"$LAB/log/create" 2>&1 &
        asking=$!
    fi
    lab_wait 20 reached || { echo "${asked[*]} does not come to it in $(new_sets | xargs)" && return 1; }
    rm -f "$LAB"/run/wish-* # of who did not
    [[ ${first[0]:-} != coord-* ]] || start_again "${first[0]}"
}

# ---- the death, and what follows ----

# Sets dead, the daemons that have to be started again.
kill_victim() { # VICTIM
    local name pids=()
    dead=()
    case $1 in
    coordinator) dead=("$([[ $reacher == coord-* ]] && echo "$reacher" || echo "$lead")") ;;
    agent) dead=(agent-2) ;;
    keeper | guardian) dead=(guardian-2) ;;
    node) dead=(guardian-2 agent-2) ;;
    esac
    [[ $1 != doer && $1 != guardian && $1 != node ]] || read -r -a pids <<<"$(children guardian-2)"
    for name in "${dead[@]}"; do
        pids+=("$(cat "$LAB/run/$name.pid")")
        disown "${pids[-1]}"
    done
    kill -KILL "${pids[@]}"
    kill -CONT "$stopped" 2>/dev/null
}

new_sets() {
    "$cli" set list 2>/dev/null | awk 'NR > 1 { print $1, $2 }' | grep -vwF -f "$LAB/run/ids-before"
}
new_sets_are() { # STATES
    "$cli" set list >/dev/null 2>&1 || return 1
    ! new_sets | grep -qvE " ($1)$"
}

# What a set may have come to. What is captured everywhere is not lost, whoever dies.
verdict_of() { # STATE VICTIM
    case $1/$2 in
    round:RECORDING/* | round:CAPTURED/* | set:*/* | doer:DROP/* | done:DROP/*) printf 'COMPLETE' ;;
    round:PREPARING/coordinator | *:ABORTING/* | *:ABORTED/* | hold:end*/* | *:REMOVE/*) printf 'ABORTED' ;;
    *) printf 'COMPLETE|ABORTED' ;;
    esac
}

leases() { etcdctl --endpoints "$LAB_ETCD" lease list | grep -cE '^[0-9a-f]{16}$'; }
no_lease_too_many() { (($(leases) <= idle_leases)); }

settles() { # STATE VICTIM RESTARTED
    local final
    final="COMPLETE|ABORTED|DAMAGED"
    lab_wait 30 new_sets_are "CAPTURED|UPLOADING|VALIDATING|$final" || { echo "undecided" && return 1; }
    ((SECONDS - $3 <= slowest_s)) || slowest_s=$((SECONDS - $3))
    lab_wait 10 nothing_frozen || { echo "still frozen" && return 1; }
    lab_wait 40 is_dead "$asking" || { echo "whoever asked is not answered" && return 1; }
    lab_wait $((120 - SECONDS + $3)) new_sets_are "$final" || { echo "not final" && return 1; }
    came_to=$(new_sets | cut -d ' ' -f 2 | xargs)
    new_sets_are "$(verdict_of "$1" "$2")" || { echo "$came_to instead of $(verdict_of "$1" "$2")" && return 1; }
    [[ $came_to || $1/$2 == round:OPENING/coordinator ]] || { echo "there is no set" && return 1; }
    lab_wait 10 beats_go_on || { echo "a writer stands still" && return 1; }
    beats_look
    ((stall_ms <= HOLD_MS + 1000)) || { echo "a writer stood still for $stall_ms ms" && return 1; }
    lab_wait 40 no_locks || { echo "locks are left: $(key locks/ --keys-only | xargs)" && return 1; }
    lab_wait 90 no_captures || { echo "captures are left: $(captures | xargs)" && return 1; }
    lab_wait 40 no_tasks || { echo "tasks are left: $(key tasks/ --keys-only | xargs)" && return 1; }
    lab_wait 30 no_lease_too_many || { echo "$(leases) leases, $idle_leases when idle" && return 1; }
}

case_of() { # STATE VICTIM
    local name since begun=$SECONDS
    if arrives "$1" >"$LAB/log/case"; then
        kill_victim "$2"
        sleep 0.3
        for name in "${dead[@]}"; do start_again "$name"; done
        since=$SECONDS
        if settles "$1" "$2" "$since" >"$LAB/log/case"; then
            ok "$1: $2 dies: ${came_to:-no set}, longest stall $stall_ms ms ($((SECONDS - begun)) s)"
            return
        fi
    fi
    not_ok "$1: $2 dies" "$(tail -n 1 "$LAB/log/case"); $(new_sets | xargs)"
    forget_case
}

# Nobody stands still, and no wish is left, for the next case.
forget_case() {
    local name pid
    rm -f "$LAB"/run/wish-*
    for name in coord-1 coord-2 guardian-2 agent-2; do
        for pid in $(cat "$LAB/run/$name.pid") $(children "$name"); do kill -CONT "$pid" 2>/dev/null; done
    done
    for name in coord-1 coord-2 agent-3; do
        ! is_dead "$(cat "$LAB/run/$name.pid")" || start_again "$name"
    done
    lab_wait 40 is_dead "$asking"
    lab_wait 120 sets_are_final
}

lab_up
if [[ $lab_mode != real ]] || ! command -v etcdctl >/dev/null; then
    skip sweep "needs loop mounts, cgroup v2 and etcdctl"
    report
    exit
fi
start_etcd
for n in 1 2; do wishing "coord-$n" lab_coordinator "$n"; done
for ((n = 1; n <= LAB_NODES; n++)); do
    lab_node_config "$n"
    wishing "guardian-$n" lab_guardian "$n"
    wishing "agent-$n" lab_agent "$n"
done
lab_shards
lab_group "${HOLD_MS}ms"
lab_load load
lab_wait 60 lab_transferred load 100 || lab_die "the load does not start"
idle_leases=$(leases)
for ((times = 0; times < SWEEP_TIMES; times++)); do
    for state in $SWEEP_STATES; do
        for victim in $SWEEP_VICTIMS; do case_of "$state" "$victim"; done
    done
done
check "the next set succeeds" next_set_succeeds
lab_stop client-load
check "all COMPLETE sets restore without orphans" complete_sets_are_consistent
check "the audit chain holds" "$cli" audit list
stop_daemons
check "the sanitizers have nothing to report" no_sanitizer_reports
printf 'decided %d s after a restart at most; longest stall of all %d ms, hold limit %d ms\n' "$slowest_s" "$worst_ms" "$HOLD_MS"
report
