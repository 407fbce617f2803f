#!/usr/bin/env bash
# Whatever dies, whenever: in each of CHAOS_ROUNDS (20) sets a daemon chosen at random is killed at a
# random moment and comes back. CHAOS_SEED repeats the choices of an earlier run, though not its timing.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=deploy/lab.sh
. deploy/lab.sh
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
# shellcheck source=tests/integration/ledger.sh
. tests/integration/ledger.sh

CHAOS_ROUNDS=${CHAOS_ROUNDS:-20}
CHAOS_SEED=${CHAOS_SEED:-$RANDOM}
LAB_COORDINATORS=2
LAB_LEASE=5s
trap 'lab_down' EXIT

# A random number below $1; sets drawn, since a subshell would draw the same one again.
draw() {
    drawn=$((RANDOM % $1))
}

# The victims of one round: names of lab_start, and the doers of a guardian.
choose() {
    local n
    draw 3
    n=$((drawn + 1))
    draw 6
    case $drawn in
    0) victims=("agent-$n") ;;
    1) victims=("guardian-$n") ;;
    2) victims=("agent-$n" "guardian-$n") ;;
    3) victims=("doers-$n") ;;
    *) victims=("coord-$((1 + drawn % 2))") ;;
    esac
}

slay() {
    local name pid doers
    for name in "${victims[@]}"; do
        if [[ $name == doers-* ]]; then
            mapfile -t doers < <(pgrep -P "$(cat "$LAB/run/guardian-${name#*-}.pid")")
            kill -KILL "${doers[@]}"
            continue
        fi
        pid=$(cat "$LAB/run/$name.pid")
        disown "$pid" # its death is no news
        lab_stop "$name" KILL
    done
}

raise() {
    local name
    for name in "${victims[@]}"; do
        case $name in
        guardian-*) lab_guardian "${name#*-}" ;;
        agent-*) : ;; # after its guardian
        coord-*) lab_coordinator "${name#*-}" ;;
        esac
    done
    for name in "${victims[@]}"; do [[ $name != agent-* ]] || lab_agent "${name#*-}"; done
}

all_decided() {
    local states
    states=$(set_states) || return 1
    ! grep -qE "^(PLANNED|PREPARING|FREEZING|CAPTURING)$" <<<"$states"
}

sound() {
    lab_wait 40 all_decided || { echo "undecided" && return 1; }
    lab_wait 10 nothing_frozen || { echo "still frozen" && return 1; }
    lab_wait 15 lab_transferred load $(($1 + 20)) || { echo "the load does not go on" && return 1; }
}

one_round() {
    local wrong delay
    choose
    draw 1000
    delay=$drawn
    timeout 20 "$cli" set create ledger >"$LAB/run/created" 2>"$LAB/log/create" &
    sleep "$(printf '0.%03d' "$delay")"
    slay
    draw 1000
    sleep "$(printf '0.%03d' "$drawn")"
    raise
    if ! wrong=$(sound "$(lab_transfers load)"); then
        not_ok "round $1: ${victims[*]} after $delay ms" "$wrong; $("$cli" set list | sed -n 2p | tr -s ' ')"
        return 1
    fi
    lab_wait 30 lab_all_ready || { not_ok "round $1: ${victims[*]} after $delay ms" "not all are ready" && return 1; }
    ok "round $1: ${victims[*]} after $delay ms: $(set_states | head -n 1)"
}

next_set_succeeds() {
    local id
    id=$("$cli" set create ledger) && lab_wait 60 set_is "$id" COMPLETE
}

lab_up
if [[ $lab_mode != real ]] || ! command -v etcdctl >/dev/null; then
    skip "chaos" "needs loop mounts, cgroup v2 and etcdctl"
    report
    exit
fi
start_etcd
for n in 1 2; do lab_coordinator $n; done
for ((n = 1; n <= LAB_NODES; n++)); do lab_node "$n"; done
lab_shards
lab_group 3s
lab_load load
lab_wait 60 lab_transferred load 100 || lab_die "the load does not start"
printf 'seed %d\n' "$CHAOS_SEED"
RANDOM=$CHAOS_SEED
for ((round = 1; round <= CHAOS_ROUNDS; round++)); do one_round "$round" || break; done
check "the next set succeeds" next_set_succeeds
check "every set is COMPLETE or ABORTED in the end" lab_wait 120 sets_are_final
check "no set is damaged" eval '! set_states | grep -q DAMAGED'
check "no lock is left" lab_wait 20 no_locks
check "no capture is left" lab_wait 90 no_captures
lab_stop client-load
check "all COMPLETE sets restore without orphans" complete_sets_are_consistent
check "the audit chain holds" "$cli" audit list
stop_daemons
check "the sanitizers have nothing to report" no_sanitizer_reports
report
