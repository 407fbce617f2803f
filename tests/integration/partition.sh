#!/usr/bin/env bash
# The network fails while a set is being taken: agents and coordinator live in network namespaces of their own, and at each
# phase of a set packets between agent and coordinator, or coordinator and etcd, are dropped, dropped one way, reset, lost at
# random or slowed down. The store is a folder, so for what lies between an agent and its store the folder is
# a mounted one (far_dir) whose calls hang, hang after they were carried out, fail, or are late. Whatever happens, writers go on within hold_limit + 1 s while it lasts, and once it is
# over the set is decided, nothing is left behind, and the next set succeeds.
# PARTITION_PHASES, PARTITION_LINKS and PARTITION_FAULTS choose. Needs root, loop mounts, btrfs, cgroup v2,
# network namespaces, nftables, FUSE, and the failpoints of the sanitizer builds.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
LAB_NODES=2
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

PARTITION_PHASES=${PARTITION_PHASES-prepare frozen capture thaw upload}
PARTITION_LINKS=${PARTITION_LINKS-agent etcd store}
PARTITION_FAULTS=${PARTITION_FAULTS-drop in out reset loss slow}
HOLD_MS=3000
readonly NET=10.77.0

finish() {
    local name
    rm -f "$LAB/run/fault"
    umount -l "$LAB/far" 2>/dev/null
    lab_down
    for name in c 1 2; do ip netns del "$(space "$name")" 2>/dev/null; done
}
trap finish EXIT

# ---- the network: a bridge in the coordinator's namespace, nodes around it ----

space() { printf 'sp%d-%s' "$$" "$1"; }
within() { nsenter --net="/run/netns/$(space "$1")" "${@:2}"; }

lab_address() {
    case $1 in
    node-*) printf '%s.1%s' "$NET" "${1#node-}" ;;
    *) printf '%s.1' "$NET" ;;
    esac
}
lab_enter() {
    case $1 in
    node-*) printf 'nsenter --net=/run/netns/%s' "$(space "${1#node-}")" ;;
    *) printf 'nsenter --net=/run/netns/%s' "$(space c)" ;;
    esac
}

make_network() {
    local n
    ip netns add "$(space c)" && within c ip link set lo up && within c ip link add br0 type bridge &&
        within c ip addr add "$NET.1/24" dev br0 && within c ip link set br0 up || return 1
    for ((n = 1; n <= LAB_NODES; n++)); do
        ip netns add "$(space "$n")" && within "$n" ip link set lo up &&
            within "$n" ip link add eth0 type veth peer name "up$n" netns "$(space c)" &&
            within "$n" ip addr add "$NET.1$n/24" dev eth0 && within "$n" ip link set eth0 up &&
            within c ip link set "up$n" master br0 up || return 1
    done
}

# rules_of FAULT TO FROM: what nft drops of the packets that match; "to" are those sent to the far side.
rules_of() {
    case $1 in
    drop) printf '%s drop\n%s drop\n' "$2" "$3" ;;
    out) printf '%s drop\n' "$2" ;;
    in) printf '%s drop\n' "$3" ;;
    reset) printf '%s reject with tcp reset\n%s reject with tcp reset\n' "$2" "$3" ;;
    loss) printf '%s numgen random mod 100 < 5 drop\n%s numgen random mod 100 < 5 drop\n' "$2" "$3" ;;
    esac
}

# A link is cut from node 2's end, or at the coordinator's loopback, where its etcd listens.
begin_fault() { # LINK FAULT
    local where=2 to="oifname eth0 meta l4proto tcp" from="iifname eth0 meta l4proto tcp" device=eth0
    if [[ $1 == store ]]; then
        echo "$2" >"$LAB/run/fault.new" && mv "$LAB/run/fault.new" "$LAB/run/fault"
        return
    fi
    if [[ $1 == etcd ]]; then
        where=c device=lo
        to="oifname lo tcp dport $etcd_port" from="oifname lo tcp sport $etcd_port"
    fi
    if [[ $2 == slow ]]; then
        within "$where" tc qdisc add dev "$device" root tbf rate 1mbit burst 16kb latency 200ms
        return
    fi
    {
        printf 'table inet cut {\nchain out {\ntype filter hook output priority 0\n'
        rules_of "$2" "$to" "$from" | grep oifname
        printf '}\nchain in {\ntype filter hook input priority 0\n'
        rules_of "$2" "$to" "$from" | grep iifname
        printf '}\n}\n'
    } | within "$where" nft -f -
}

end_fault() {
    rm -f "$LAB/run/fault"
    within 2 nft flush ruleset
    within c nft flush ruleset
    within 2 tc qdisc del dev eth0 root 2>/dev/null
    within c tc qdisc del dev lo root 2>/dev/null
    true
}

# The port of etcd's that somebody is connected to; it listens on one for peers too.
etcd_in_use() {
    local port
    for port in $(within c ss -tlnpH | sed -nE 's/.*:([0-9]+) .*"etcd".*/\1/p'); do
        within c ss -tnH state established "dport = :$port" | grep -q . && echo "$port" && return
    done
    return 1
}

# ---- one case ----

# Where the daemon stands still that is asked to, until the network has failed.
stops_at() {
    case $1 in
    prepare) printf 'coord-1 round:PREPARING' ;;
    frozen) printf 'coord-1 round:CAPTURING' ;;
    capture) printf 'agent-2 session:COMMITTING' ;;
    thaw) printf 'coord-1 round:RECORDING' ;;
    upload) printf 'coord-1 set:UPLOADING' ;;
    esac
}

case_of() { # LINK FAULT PHASE
    local name="$3: $2 between agent and coordinator" stop victim
    [[ $1 != etcd ]] || name="$3: $2 between coordinator and etcd"
    [[ $1 != store ]] || name="$3: $2 between agent and store"
    read -r -a stop <<<"$(stops_at "$3")"
    lab_wait 40 lab_all_ready || { not_ok "$name" "not ready" && return; }
    etcd_port=$(etcd_in_use) || { not_ok "$name" "no connection to etcd is seen" && return; }
    beats_start
    victim=$(cat "$LAB/run/${stop[0]}.pid")
    wish "${stop[0]}" "${stop[1]}:stop"
    begin_set_until_stopped "$victim" || { not_ok "$name" "the phase is not reached" && return; }
    begin_fault "$1" "$2" || { kill -CONT "$victim" && not_ok "$name" "no such fault here" && return; }
    kill -CONT "$victim"
    # It outlasts the hold, and what is only slow or lossy may as well get through.
    lab_wait 8 may_end "$1" "$2"
    if ! lab_wait 5 nothing_frozen; then not_ok "$name" "still frozen while the network is away"; fi
    if [[ $1 == store && $2 != loss && $2 != slow ]] && newest_set && set_is "$id" COMPLETE; then
        not_ok "$name" "stored while the store was away"
    fi
    end_fault
    wait "$asking"
    lab_wait 40 newest_set || { not_ok "$name" "no set: $(tail -n 1 "$LAB/log/create")" && return; }
    judge "$name"
}

# How long the fault is left in place: past hold_limit, unless all is over before.
may_end() {
    [[ $2 == loss || $2 == slow ]] && newest_set && set_is "$id" "COMPLETE|ABORTED"
}

# Node 2 has its store at the far end of a network.
far_store() {
    mkdir "$LAB/far" || return 1
    lab_start far "$BUILD/tests/tools/far_dir" "$LAB/repo" "$LAB/far" "$LAB/run/fault"
    lab_wait 10 test -e "$LAB/far/ledger/config" || return 1
    sed -i "s,url: $LAB/repo/ledger,url: $LAB/far/ledger," "$LAB/etc/node-2.yaml"
}

lab_up
if [[ $lab_mode != real ]] || ! make_network; then
    skip partition "loop mounts, cgroups or network namespaces are not permitted here"
    report
    exit
fi
printf '#!/bin/sh\nexec nsenter --net=/run/netns/%s %s "$@"\n' "$(space c)" "$(realpath "$BUILD/stillpoint")" >"$LAB/cli"
chmod 755 "$LAB/cli"
cli=$LAB/cli
wishing coord-1 lab_coordinator 1
for ((n = 1; n <= LAB_NODES; n++)); do
    lab_node_config "$n"
    ((n != 2)) || far_store || lab_die "the far store is not there"
    lab_guardian "$n"
    wishing "agent-$n" lab_agent "$n"
done
lab_shards
lab_group "${HOLD_MS}ms"
lab_load load
lab_wait 60 lab_transferred load 100 || lab_die "the load does not start"
for phase in $PARTITION_PHASES; do
    for link in $PARTITION_LINKS; do
        for fault in $PARTITION_FAULTS; do case_of "$link" "$fault" "$phase"; done
    done
done
check "all COMPLETE sets restore without credits that have no debits" complete_sets_are_consistent
printf 'longest stall of all: %d ms, hold limit %d ms\n' "$worst_ms" "$HOLD_MS"
report
