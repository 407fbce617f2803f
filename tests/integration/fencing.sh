#!/usr/bin/env bash
# A leader sleeps for twice its lease, from a state of a round or any moment of a set; the standby settles what it
# left, takes a set of its own, and then the sleeper wakes with everything it was about to write and to command.
# Nothing of it may count: afterwards no key of sets, tasks, locks or audit has changed, and no agent's session has moved.
#   PAUSE_ROUNDS   how many (200)
#   PAUSE_WAYS     where it falls asleep, in turn
#   UNFENCED=1     with token checks taken out when linking: then something must be accepted, or this test is blind
# Needs the failpoints of the sanitizer builds.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
if [[ ${UNFENCED:-} ]]; then
    BUILD=build/unfenced-gcc
    make -s VARIANT=unfenced all || exit 1
fi
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

PAUSE_ROUNDS=${PAUSE_ROUNDS-200}
LAB_COORDINATORS=2
LAB_LEASE=3s
readonly LEASE=3
read -r -a WAYS <<<"${PAUSE_WAYS-PREPARING FREEZING CAPTURING RECORDING anywhere anywhere}"
trap 'lab_down' EXIT

# What may not change while nobody but a stale leader is at work, with its revisions.
state_of_etcd() {
    etcdctl --endpoints "$LAB_ETCD" get --prefix /stillpoint/lab/v1/ -w json |
        jq -r '.kvs[] | (.key | @base64d) + " " + (.mod_revision | tostring)' | grep -vE '/v1/(leader|nodes/)'
}
# Requests that agents obeyed, and those that they refused for their token.
count_in_agents() { cat "$LAB"/log/agent-* | grep -cE "$1" || true; }

somebody_leads() { [[ $(leader) == coord-* ]]; }
leads() { [[ $(leader) == "$1" ]]; }
standby_of() { if [[ $1 == coord-1 ]]; then echo coord-2; else echo coord-1; fi; }
lines() { wc -l <"$LAB/log/$1"; }
woken() { tail -n +$(($2 + 1)) "$LAB/log/$1"; }
stepped_down() { woken "$1" "$2" | grep -q "^warn lead steps_down"; }

# asleep LEADER WAY: it stands still while a set is under way.
asleep() {
    local pid
    pid=$(cat "$LAB/run/$1.pid")
    [[ $2 == anywhere ]] || wish "$1" "round:$2:stop"
    timeout 20 "$cli" set create ledger >"$LAB/log/create" 2>&1 &
    asking=$!
    if [[ $2 == anywhere ]]; then
        sleep "0.$(printf '%03d' $((RANDOM % 700)))"
        kill -STOP "$pid"
    fi
    lab_wait 20 stands_still "$pid"
}

standby_acts() { # STANDBY
    lab_wait 30 leads "$1" || { echo "$1 does not lead" && return 1; }
    lab_wait 40 set_ids || { echo "$1 does not serve" && return 1; }
    # Whoever asked the sleeper asks the standby next, and may get a set of its own.
    lab_wait 30 is_dead "$asking" || { echo "whoever asked is not answered" && return 1; }
    lab_wait 60 sets_are_final || { echo "not settled: $("$cli" set list | sed -n 2p)" && return 1; }
    next_set_succeeds || { echo "the standby's set is $("$cli" set list | sed -n 2p)" && return 1; }
    lab_wait 60 no_captures || { echo "captures are left" && return 1; }
    lab_wait 60 no_locks || { echo "locks are left" && return 1; }
    # The last thing that it writes about its sets is that their captures are released.
    lab_wait 60 no_tasks || { echo "tasks are left" && return 1; }
}

# wakes LEADER: says what it was able to do.
wakes() {
    local before after moved refused said
    said=$(lines "$1")
    before=$(state_of_etcd)
    moved=$(count_in_agents "^info session moved")
    refused=$(count_in_agents "^warn session stale_token")
    kill -CONT "$(cat "$LAB/run/$1.pid")"
    lab_wait 10 stepped_down "$1" "$said" || { echo "it does not step down" && return 1; }
    # Whatever it had sent has been answered, once agents answer it as a standby's peers again.
    lab_wait 20 lab_all_ready || { echo "agents are away" && return 1; }
    after=$(state_of_etcd)
    [[ $before == "$after" ]] || { echo "stale writes: $(diff <(echo "$before") <(echo "$after") | grep '^[<>]' | tr '\n' ' ')" && return 1; }
    moved=$(($(count_in_agents "^info session moved") - moved))
    ((moved == 0)) || { echo "stale commands: sessions moved $moved times" && return 1; }
    refused_all=$((refused_all + $(count_in_agents "^warn session stale_token") - refused))
}

# Nobody sleeps or is about to, whatever came of the round before.
all_awake() {
    local n
    for n in 1 2; do
        rm -f "$LAB/run/wish-coord-$n"
        kill -CONT "$(cat "$LAB/run/coord-$n.pid")"
    done
    lab_wait 30 somebody_leads || { echo "nobody leads" && return 1; }
    lab_wait 30 lab_all_ready || { echo "agents are away" && return 1; }
    lab_wait 60 sets_are_final || { echo "an earlier set is not final" && return 1; }
}

# On a busy machine a leader may lose its lease, or its agents, before it gets to where it is to fall asleep: such a round
# shows nothing, and begins anew.
falls_asleep() { # WAY; sets old
    local try
    for try in 1 2 3; do
        all_awake || return 1
        old=$(leader)
        asleep "$old" "$1" && return
        lab_wait 30 is_dead "$asking"
    done
    echo "$1 is not reached in $try tries" && return 1
}

round() { # WAY
    local old new since
    falls_asleep "$1" || return 1
    new=$(standby_of "$old")
    since=$SECONDS
    standby_acts "$new" || return 1
    lab_wait $((2 * LEASE)) test_after $((since + 2 * LEASE))
    wakes "$old"
}
test_after() { ((SECONDS >= $1)); }

lab_up
if [[ $lab_mode != real ]] || ! command -v etcdctl >/dev/null; then
    skip fencing "needs loop mounts, cgroup v2 and etcdctl"
    report
    exit
fi
start_etcd
for n in 1 2; do wishing "coord-$n" lab_coordinator "$n"; done
for ((n = 1; n <= LAB_NODES; n++)); do lab_node "$n"; done
lab_shards
lab_group 5s
next_set_succeeds || lab_die "no set succeeds"
stale=0 refused_all=0
for ((r = 0; r < PAUSE_ROUNDS; r++)); do
    way=${WAYS[r % ${#WAYS[@]}]}
    round "$way" >"$LAB/log/round" && continue
    stale=$((stale + 1))
    wrong="round $((r + 1)), asleep at $way: $(tail -n 1 "$LAB/log/round")"
    printf '%s\n' "$wrong"
    [[ ! ${UNFENCED:-} ]] || break
done
if [[ ${UNFENCED:-} ]]; then
    check "without token checks, a stale leader is obeyed" grep -E "stale (writes|commands)" "$LAB/log/round"
elif ((stale == 0)); then
    ok "a leader that wakes after its lease changes nothing, $PAUSE_ROUNDS times"
else
    not_ok "a leader that wakes after its lease changes nothing" "$wrong"
fi
if [[ ! ${UNFENCED:-} ]]; then
    check "agents had requests of theirs to refuse" test "$refused_all" -gt 0
    check "the audit chain holds" "$cli" audit list
fi
printf '%d rounds, %d requests refused\n' "$r" "$refused_all"
report
