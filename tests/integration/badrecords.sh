#!/usr/bin/env bash
# What somebody else wrote into etcd: a coordinator that finds records it cannot work with says
# so, one by one, and goes on with the others.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=deploy/lab.sh
. deploy/lab.sh
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh

# shellcheck disable=SC2034 # lab.sh reads it
LAB_NODES=1
cli=$BUILD/stillpoint
etcd=${ETCD_BIN:-etcd}
trap 'lab_down' EXIT

if ! command -v "$etcd" >/dev/null || ! command -v etcdctl >/dev/null; then
    skip "everything" "no etcd or etcdctl"
    report
    exit
fi

put() { ETCDCTL_API=3 etcdctl --endpoints "$LAB_ETCD" put "/stillpoint/lab/v1/$1" -- "$2" >/dev/null; }
in_log() { grep -Eq "$1" "$LAB/log/coord-1"; }

start_etcd() {
    local port=$((LAB_PORT + 50))
    LAB_ETCD=http://127.0.0.1:$port
    lab_start etcd "$etcd" --data-dir "$LAB/state/etcd" --listen-client-urls "$LAB_ETCD" \
        --advertise-client-urls "$LAB_ETCD" --listen-peer-urls "http://127.0.0.1:$((port + 1))" \
        --initial-advertise-peer-urls "http://127.0.0.1:$((port + 1))" \
        --initial-cluster "default=http://127.0.0.1:$((port + 1))"
    lab_wait 20 put probe x || lab_die "etcd did not start"
}

part='{"node":"node-1","partition":"ledger"}'
spec='{"group":"ledger","partitions":["node-1/ledger"],"repository":"ledger","holdLimitMs":"1000","prepareTimeoutMs":"1000","freezeTimeoutMs":"1000"}'

write_records() {
    put groups/torn '{"group":"torn",'
    put groups/renamed '{"group":"other","partitions":["a/b"],"repository":"r"}'
    put groups/empty '{"group":"empty","repository":"r"}'
    put groups/list '[1,2]'
    put groups/ledger "$spec"
    put sets/no-spec "{\"set\":\"no-spec\",\"group\":\"g\",\"state\":\"SET_PREPARING\",\"parts\":[$part]}"
    put sets/no-parts "{\"set\":\"no-parts\",\"group\":\"g\",\"state\":\"SET_UPLOADING\",\"spec\":$spec}"
    put sets/climbs "{\"set\":\"../climbs\",\"group\":\"g\",\"spec\":$spec,\"parts\":[$part]}"
    put sets/odd "{\"set\":\"odd\",\"group\":\"g\",\"state\":77,\"spec\":$spec,\"parts\":[$part]}"
    put sets/deep "$(head -c 2000 /dev/zero | tr '\0' '[')"
    put sets/nul $'{"set":"n\\u0000ul"}'
    put sets/kept "{\"set\":\"kept\",\"group\":\"ledger\",\"state\":\"SET_ABORTED\",\"spec\":$spec,\"parts\":[$part],\"later\":{\"x\":1}}"
    put sets/waits "{\"set\":\"waits\",\"group\":\"ledger\",\"state\":\"SET_PREPARING\",\"spec\":$spec,\"parts\":[$part]}"
    put nodes/node-7 '{"node":"node-7","address":"nowhere"}'
    put nodes/node-8 '{"node":"node-8","address":"127.0.0.1:9","partitions":[{"node":"node-8","partition":"p","domain":"node-1/cgroup:/x"}]}'
    put tasks/node-1/x '{"id":"y","node":"node-1","set":"kept"}'
    put tasks/node-1/z '{"id":"z","node":"../node-1","set":"kept"}'
    put locks/groups/ledger 'somebody'
}

lab_up
start_etcd
write_records
lab_coordinator 1
lab_wait 20 in_log '^info load done' || lab_die "the coordinator did not load: $(tail -n 3 "$LAB/log/coord-1")"
for key in groups/torn groups/renamed groups/empty groups/list sets/no-spec sets/no-parts sets/climbs sets/odd sets/deep sets/nul tasks/node-1/x tasks/node-1/z; do
    check "$key is reported" in_log "^error load bad_record .*(${key}|'${key##*/}')"
done
check "nodes/node-7 is reported" in_log '^error load bad_node .*nowhere'
check "a node with another's domain is reported" in_log "^error load bad_node .*node-8"
check "the group that is right is there" "$cli" group show ledger
check "the set that is right is there" "$cli" set show kept
lab_node 1
lab_shards
check "a set whose lock a stranger holds is not taken" test "$("$cli" set show waits | awk '$1 == "state" { print $2 }')" = PREPARING
ETCDCTL_API=3 etcdctl --endpoints "$LAB_ETCD" del /stillpoint/lab/v1/locks/groups/ledger >/dev/null
is_aborted() { "$cli" set show waits | grep -q ABORTED; }
check "without it the set of a lost coordinator is decided" lab_wait 30 is_aborted
lab_wait 15 lab_all_ready
check "a new set is COMPLETE" "$cli" set create ledger --watch
check "the audit chain holds" "$cli" audit list
put audit/00000000000000000002 '{"number":"2","action":"forged"}'
forged() { ! "$cli" audit list 2>"$LAB/run/audit" && grep -q 'record 2' "$LAB/run/audit"; }
check "a forged audit record is named" forged
check "the coordinator lives" kill -0 "$(cat "$LAB/run/coord-1.pid")"
report
