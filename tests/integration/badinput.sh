#!/usr/bin/env bash
# Bad input to the real daemons and command line: wrong files, malformed and hostile requests,
# wrong certificates, wrong or damaged repositories, a full disk. Each gets an error that says
# what is wrong and what to do, and nothing else is harmed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=deploy/lab.sh
. deploy/lab.sh
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
# shellcheck source=tests/integration/grpc_curl.sh
. tests/integration/grpc_curl.sh

# shellcheck disable=SC2034 # lab.sh reads it
LAB_NODES=2
cli=$BUILD/stillpoint
ask=$BUILD/tests/tools/rpc_ask
trap 'finish' EXIT

finish() {
    mountpoint -q "$LAB/small" && umount "$LAB/small"
    lab_down
}

# ---- files ----

# A file that is right but for the line put in place of the one that begins with $2.
broken_copy() {
    local from=$1 line=$2 instead=$3
    awk -v l="$line" -v i="$instead" 'index($0, l) == 1 { print i; next } { print }' "$from" >"$LAB/etc/broken.yaml"
    chmod 600 "$LAB/etc/broken.yaml"
    printf '%s' "$LAB/etc/broken.yaml"
}

check_files() {
    local f
    f=$(broken_copy "$LAB/etc/coord-1.yaml" listen: "lisen: x")
    says "coordinator.yaml: an unknown key" 1 'broken.yaml:3:[0-9]+: .*lisen.*did you mean .listen' \
        "$BUILD/stillpoint-coordinator" --check --config "$f"
    f=$(broken_copy "$LAB/etc/coord-1.yaml" listen: "listen: [")
    says "coordinator.yaml: broken YAML" 1 'broken.yaml:[0-9]+:[0-9]+: ' \
        "$BUILD/stillpoint-coordinator" --check --config "$f"
    f=$(broken_copy "$LAB/etc/coord-1.yaml" lease: "lease: 2s")
    says "coordinator.yaml: a value out of range" 1 'broken.yaml:[0-9]+:[0-9]+: .*lease.*3000' \
        "$BUILD/stillpoint-coordinator" --check --config "$f"
    f=$(broken_copy "$LAB/etc/node-1.yaml" restore_dirs: "restore_dir: [/x]")
    says "agent.yaml: an unknown key" 1 'broken.yaml:8:[0-9]+: .*restore_dir.*did you mean .restore_dirs' \
        "$BUILD/stillpoint-agent" --check --config "$f"
    f=$(broken_copy "$LAB/etc/node-1.yaml" "    quiesce:" "    quiesce: {method: freeze}")
    says "agent.yaml: an unknown method" 1 'broken.yaml:[0-9]+:[0-9]+: .*partitions\[0\].quiesce.*cgroup' \
        "$BUILD/stillpoint-agent" --check --config "$f"
    f=$(broken_copy "$LAB/etc/node-1.yaml" "    path:" "    path: $LAB/../x")
    says "agent.yaml: a path with .." 1 'broken.yaml:[0-9]+:[0-9]+: .*path' \
        "$BUILD/stillpoint-agent" --check --config "$f"
    f=$(broken_copy "$LAB/etc/node-1.yaml" "    path:" $'\tpath: /x')
    says "agent.yaml: a tab" 1 'broken.yaml:[0-9]+:[0-9]+: ' \
        "$BUILD/stillpoint-agent" --check --config "$f"
    f=$(broken_copy "$LAB/etc/client.yaml" coordinators: "coordinatrs: [a]")
    says "client.yaml: an unknown key" 2 'broken.yaml:2:[0-9]+: .*coordinatrs.*did you mean .coordinators' \
        "$cli" status --config "$f"
    says "client.yaml: missing" 2 'nowhere.yaml' "$cli" status --config "$LAB/etc/nowhere.yaml"
    f=$(broken_copy "$LAB/etc/ledger.yaml" hold_limit: "hold_limt: 5s")
    says "group file: an unknown key" 2 'broken.yaml:3:[0-9]+: .*hold_limt.*did you mean .hold_limit' \
        "$cli" group apply -f "$f"
    f=$(broken_copy "$LAB/etc/ledger.yaml" hold_limit: "hold_limit: 61s")
    says "group file: hold_limit of 61 s" 2 'broken.yaml:3:[0-9]+: .*hold_limit' "$cli" group apply -f "$f"
    f=$(broken_copy "$LAB/etc/ledger.yaml" hold_limit: "hold_limit: 0s")
    says "group file: hold_limit of 0 s" 2 'broken.yaml:3:[0-9]+: .*hold_limit' "$cli" group apply -f "$f"
    printf 'group: twice\nrepository: ledger\npartitions: [node-1/ledger, node-1/ledger]\n' >"$LAB/etc/broken.yaml"
    says "group file: a partition twice" 2 "'node-1/ledger' is listed twice" "$cli" group apply -f "$LAB/etc/broken.yaml"
    head -c 300000 /dev/urandom >"$LAB/etc/broken.yaml"
    says "group file: random bytes" 2 'broken.yaml' "$cli" group apply -f "$LAB/etc/broken.yaml"
    says "group file: a directory" 2 "$LAB/etc" "$cli" group apply -f "$LAB/etc"
}

# ---- requests ----

# as LEAF PEER SERVICE METHOD [JSON]
as() {
    local leaf=$1 peer=$2
    shift 2
    "$ask" "$LAB/pki/ca.pem" "$LAB/pki/$leaf.pem" "$LAB/pki/$leaf.key" "$peer" "$@"
}

coordinator=coord-1@127.0.0.1:$((LAB_PORT + 1))
agent=node-1@127.0.0.1:$((LAB_PORT + 21))
admin() { as operator-admin "$coordinator" AdminService "$@"; }
worker() { as agent-node-1 "$coordinator" WorkerService "$@"; }
to_agent() { as coordinator-coord-1 "$agent" AgentService "$@"; }

token='"token":{"incarnation":"AQEBAQEBAQEBAQEBAQEBAQ==","revision":"5"}'
short_token='"token":{"incarnation":"AAAAAAAAAAAAAAAAAAAA","revision":"5"}'

# many N TEXT: TEXT N times, separated by commas; %d counts.
many() {
    local text
    # shellcheck disable=SC2059 # the text is the format
    text=$(for ((i = 0; i < $1; i++)); do printf "$2," "$i"; done)
    printf '%s' "${text%,}"
}

ask_with() { # CALLER METHOD FILE: the request comes from a file
    "$1" "$2" <"$3"
}
says_big() {
    local name=$1 pattern=$2 caller=$3 method=$4 output
    output=$("$caller" "$method" <"$LAB/run/big.json" 2>&1)
    if grep -Eq -- "$pattern" <<<"$output"; then ok "$name"; else not_ok "$name" "$(head -c 400 <<<"$output")"; fi
}

check_admin() {
    local spec='"group":"g","repository":"ledger","partitions":["node-1/ledger"]'
    says "ApplyGroup without spec" 0 "^INVALID .*'spec'" admin ApplyGroup '{}'
    says "ApplyGroup with a slash in the name" 0 "^INVALID .*'group'" admin ApplyGroup '{"spec":{"group":"a/b"}}'
    says "ApplyGroup with no repository" 0 "^INVALID .*'repository'" admin ApplyGroup '{"spec":{"group":"a"}}'
    says "ApplyGroup with no partition" 0 "^INVALID .*'partitions'" admin ApplyGroup '{"spec":{"group":"a","repository":"r"}}'
    says "ApplyGroup with hold_limit 61 s" 0 "^INVALID .*'hold_limit_ms'" admin ApplyGroup "{\"spec\":{$spec,\"holdLimitMs\":61000}}"
    says "ApplyGroup with hold_limit -1" 0 "^INVALID .*'hold_limit_ms'" admin ApplyGroup "{\"spec\":{$spec,\"holdLimitMs\":-1}}"
    says "ApplyGroup with freeze_timeout -1" 0 "^INVALID .*'freeze_timeout_ms'" admin ApplyGroup "{\"spec\":{$spec,\"freezeTimeoutMs\":-1}}"
    says "ApplyGroup with an unknown consistency" 0 "^INVALID .*'consistency'" admin ApplyGroup "{\"spec\":{$spec,\"consistency\":77}}"
    says "ApplyGroup with a long name" 0 "^INVALID .*'group'" admin ApplyGroup "{\"spec\":{\"group\":\"$(printf 'x%.0s' {1..50})\",\"repository\":\"r\"}}"
    says "ApplyGroup with ../ for a partition" 0 "^INVALID .*'partitions\[0\]'" admin ApplyGroup '{"spec":{"group":"a","repository":"r","partitions":["../x"]}}'
    printf '{"spec":{"group":"a","repository":"r","partitions":[%s]}}' "$(many 10000 '"n/p%d"')" >"$LAB/run/big.json"
    says_big "ApplyGroup with 10,000 partitions" "^(INVALID|LIMIT) .*'partitions'" admin ApplyGroup
    printf '{"spec":{"group":"%s"}}' "$(head -c 6000000 /dev/zero | tr '\0' a)" >"$LAB/run/big.json"
    says_big "ApplyGroup of 6 MB" '^LIMIT ' admin ApplyGroup
    says "CreateSet of no group" 0 "^NOT_FOUND .*group list" admin CreateSet '{}'
    says "CreateSet of an unknown group" 0 "^NOT_FOUND .*'nope'.*group list" admin CreateSet '{"group":"nope"}'
    says "CreateSet with a slash in request_id" 0 "^INVALID .*'request_id'" admin CreateSet '{"group":"ledger","requestId":"a/b"}'
    says "CreateSet with a long request_id" 0 "^INVALID .*'request_id'" admin CreateSet "{\"group\":\"ledger\",\"requestId\":\"$(printf 'x%.0s' {1..60})\"}"
    says "CheckGroup of an unknown group" 0 '^NOT_FOUND ' admin CheckGroup '{"group":"nope"}'
    local m
    for m in GetSet WatchSet VerifySet; do
        [[ $m == WatchSet ]] && continue # a stream: the command line's turn
        says "$m of an unknown set" 0 "^NOT_FOUND .*'nope'.*set list" admin "$m" '{"set":"nope"}'
        says "$m of no set" 0 '^NOT_FOUND ' admin "$m" '{}'
    done
    says "RestoreSet of an unknown set" 0 '^NOT_FOUND ' admin RestoreSet '{"set":"nope","target":"/x"}'
    says "ListSets with most -1" 0 '^OK ' admin ListSets '{"most":-1}'
    says "ListAudit from -5, most -1" 0 '^OK .*"number"' admin ListAudit '{"from":-5,"most":-1}'
    says "ListTasks of an unknown set" 0 '^OK' admin ListTasks '{"set":"nope"}'
}

check_worker() {
    local info='"node":"node-1","address":"127.0.0.1:9","partitions"'
    says "RegisterNode without node" 0 "^INVALID .*'node'" worker RegisterNode '{}'
    says "RegisterNode as another node" 0 "^DENIED .*'node-1'.*'node-2'" worker RegisterNode '{"node":{"node":"node-2","address":"a:1"}}'
    says "RegisterNode without an address" 0 "^INVALID .*'address'" worker RegisterNode '{"node":{"node":"node-1"}}'
    says "RegisterNode with a bad partition" 0 "^INVALID .*'partition'" worker RegisterNode "{\"node\":{$info:[{\"partition\":\"a/b\"}]}}"
    says "RegisterNode with another node's domain" 0 "^INVALID .*'domain'" worker RegisterNode "{\"node\":{$info:[{\"node\":\"node-1\",\"partition\":\"a\",\"domain\":\"node-2/cgroup:/x\"}]}}"
    says "RegisterNode with another node's partition" 0 "^INVALID .*'node'" worker RegisterNode "{\"node\":{$info:[{\"node\":\"node-2\",\"partition\":\"a\",\"domain\":\"node-1/x\"}]}}"
    printf '{"node":{%s:[%s]}}' "$info" "$(many 10000 '{"partition":"p%d"}')" >"$LAB/run/big.json"
    says_big "RegisterNode with 10,000 partitions" "^LIMIT .*'partitions'" worker RegisterNode
    printf '{"node":{%s:[],"version":"%s"}}' "$info" "$(head -c 2000000 /dev/zero | tr '\0' a)" >"$LAB/run/big.json"
    says_big "RegisterNode with a record of 2 MB" "^LIMIT .*'node'" worker RegisterNode
    printf '{"node":{%s:[]},"openSets":[%s]}' "$info" "$(many 5000 '{"set":"s%d"}')" >"$LAB/run/big.json"
    says_big "RegisterNode with 5,000 open sets" "^LIMIT .*'open_sets'" worker RegisterNode
    says "Claim with most -1" 0 "^INVALID .*'most'" worker Claim '{"node":"node-1","most":-1}'
    says "Claim with most 0" 0 "^INVALID .*'most'" worker Claim '{"node":"node-1"}'
    says "Claim for another node" 0 '^DENIED ' worker Claim '{"node":"node-2","most":1}'
    printf '{"node":"node-1","most":1,"running":[%s]}' "$(many 5000 '"t%d"')" >"$LAB/run/big.json"
    says_big "Claim with 5,000 running tasks" "^LIMIT .*'running'" worker Claim
    says "Report without a task" 0 "^INVALID .*'task'" worker Report '{"node":"node-1"}'
    says "Report for another node" 0 '^DENIED ' worker Report '{"node":"node-2","task":{"id":"x"}}'
    says "Report of an unknown task changes nothing" 0 '^OK' worker Report '{"node":"node-1","task":{"id":"x","state":"TASK_DONE"}}'
}

knows_partition() { "$cli" partition list | grep -q "^$1 "; }

check_agent() {
    local limits='"holdLimitMs":1000,"freezeTimeoutMs":1000'
    says "Prepare without anything" 0 "^INVALID .*'partitions'" to_agent Prepare '{}'
    says "Prepare without a token" 0 "^INVALID .*'token': missing" to_agent Prepare "{\"set\":\"s\",\"partitions\":[\"ledger\"],$limits}"
    says "Prepare with a token of 15 bytes" 0 "^INVALID .*'token.incarnation': 15 bytes" to_agent Prepare "{\"set\":\"s\",\"partitions\":[\"ledger\"],$limits,$short_token}"
    says "Prepare with hold_limit 0" 0 "^INVALID .*'hold_limit_ms'" to_agent Prepare "{\"set\":\"s\",\"partitions\":[\"ledger\"],$token}"
    says "Prepare with hold_limit 61 s" 0 "^INVALID .*'hold_limit_ms'" to_agent Prepare "{\"set\":\"s\",\"partitions\":[\"ledger\"],\"holdLimitMs\":61000,\"freezeTimeoutMs\":1,$token}"
    says "Prepare with hold_limit -1" 0 "^INVALID .*'hold_limit_ms'" to_agent Prepare "{\"set\":\"s\",\"partitions\":[\"ledger\"],\"holdLimitMs\":-1,\"freezeTimeoutMs\":1,$token}"
    says "Prepare with freeze_timeout -1" 0 "^INVALID .*'freeze_timeout_ms'" to_agent Prepare "{\"set\":\"s\",\"partitions\":[\"ledger\"],\"holdLimitMs\":1000,\"freezeTimeoutMs\":-1,$token}"
    says "Prepare of an unknown partition" 0 "^NOT_FOUND .*'partitions\[0\]'.*'nope'" to_agent Prepare "{\"set\":\"s\",\"partitions\":[\"nope\"],$limits,$token}"
    says "Prepare of a path" 0 "^NOT_FOUND .*'partitions\[0\]'" to_agent Prepare "{\"set\":\"s\",\"partitions\":[\"../../etc\"],$limits,$token}"
    says "Prepare of a set called a/b" 0 "^INVALID .*'set'" to_agent Prepare "{\"set\":\"a/b\",\"partitions\":[\"ledger\"],$limits,$token}"
    printf '{"set":"s","partitions":[%s],%s,%s}' "$(many 10000 '"p%d"')" "$limits" "$token" >"$LAB/run/big.json"
    says_big "Prepare of 10,000 partitions" "^(INVALID|LIMIT) .*'partitions'" to_agent Prepare
    local m
    for m in Freeze Commit Abort Inspect; do
        says "$m without a set" 0 "^INVALID .*'set'" to_agent "$m" '{}'
        says "$m without a token" 0 "^INVALID .*'token': missing" to_agent "$m" '{"set":"s"}'
        says "$m with a token of 15 bytes" 0 "^INVALID .*'token.incarnation'" to_agent "$m" "{\"set\":\"s\",$short_token}"
        says "$m with revision -1" 0 "^INVALID .*'token.revision'" to_agent "$m" '{"set":"s","token":{"incarnation":"AQEBAQEBAQEBAQEBAQEBAQ==","revision":"-1"}}'
    done
    says "Commit with an epoch of 3 bytes" 0 "^INVALID .*'epoch'" to_agent Commit "{\"set\":\"s\",$token,\"epochs\":[{\"domain\":\"d\",\"epoch\":\"AAAA\"}]}"
    printf '{"set":"s",%s,"epochs":[%s]}' "$token" "$(many 10000 '{"domain":"d%d"}')" >"$LAB/run/big.json"
    says_big "Commit with 10,000 epochs" "^LIMIT .*'epochs'" to_agent Commit
    says "Freeze with an incarnation of zeros" 0 "^INVALID .*'token.incarnation'" to_agent Freeze '{"set":"s","token":{"incarnation":"AAAAAAAAAAAAAAAAAAAAAA==","revision":"5"}}'
    local own
    own=$(worker RegisterNode '{"node":{"node":"node-1","address":"127.0.0.1:9"}}' | grep -o '"incarnation":"[^"]*"')
    # That took the partitions away until the real agent registers again.
    lab_wait 10 knows_partition node-1/ledger
    says "Freeze of an unknown set" 0 '^(NOT_FOUND|CONFLICT|STALE_TOKEN) ' to_agent Freeze "{\"set\":\"nope\",\"token\":{$own,\"revision\":\"5\"}}"
    says "Commit of an unknown set" 0 '^(NOT_FOUND|CONFLICT|STALE_TOKEN) ' to_agent Commit "{\"set\":\"nope\",\"token\":{$own,\"revision\":\"5\"}}"
    says "Prepare of a partition twice" 0 '^(INVALID|CONFLICT) ' to_agent Prepare "{\"set\":\"s\",\"partitions\":[\"ledger\",\"ledger\"],$limits,\"token\":{$own,\"revision\":\"5\"}}"
}

# raw LEAF PORT NAME PATH BYTES: prints status and message of the gRPC answer.
raw() {
    grpc_curl "$5" --cacert "$LAB/pki/ca.pem" --cert "$LAB/pki/$1.pem" --key "$LAB/pki/$1.key" \
        --resolve "$3:$2:127.0.0.1" "https://$3:$2/stillpoint.v1.$4" | grep '^grpc-' | sort
}

check_bytes() {
    local port=$((LAB_PORT + 1))
    says "coordinator: random bytes" 0 'grpc-status: 3' raw operator-admin $port coord-1 AdminService/GetSet '\xff\xff\xff\xff'
    says "coordinator: a NUL in a name" 0 "grpc-message: .*field 'set'" raw operator-admin $port coord-1 AdminService/GetSet '\x0a\x03a\0b'
    says "coordinator: a number for a text" 0 "grpc-message: .*field 'set'" raw operator-admin $port coord-1 AdminService/GetSet '\x08\x01'
    says "coordinator: a length beyond the end" 0 'grpc-status: 3' raw operator-admin $port coord-1 AdminService/GetSet '\x0a\x7fa'
    says "coordinator: text that is not UTF-8" 0 'grpc-status: 3' raw operator-admin $port coord-1 AdminService/GetSet '\x0a\x01\xff'
    says "coordinator: an unknown method" 0 'grpc-status: 12' raw operator-admin $port coord-1 AdminService/Nope ''
    says "agent: random bytes" 0 'grpc-status: 3' raw coordinator-coord-1 $((LAB_PORT + 21)) node-1 AgentService/Freeze '\xff\xff\xff\xff'
    says "agent: a NUL in a name" 0 "grpc-message: .*field 'set'" raw coordinator-coord-1 $((LAB_PORT + 21)) node-1 AgentService/Freeze '\x0a\x03a\0b'
}

# ---- certificates ----

check_identities() {
    deploy/certs init "$LAB/pki/other" lab >/dev/null
    deploy/certs issue "$LAB/pki/other" operator eve >/dev/null
    mv "$LAB"/pki/other/operator-eve.* "$LAB/pki"
    says "an operator cannot claim tasks" 0 '^DENIED ' as operator-admin "$coordinator" WorkerService Claim '{"node":"node-1","most":1}'
    says "an agent cannot administer" 0 '^DENIED ' as agent-node-1 "$coordinator" AdminService CreateSet '{"group":"ledger"}'
    says "a coordinator cannot administer" 0 '^DENIED ' as coordinator-coord-1 "$coordinator" AdminService ListSets '{}'
    says "an operator cannot freeze" 0 '^DENIED ' as operator-admin "$agent" AgentService Freeze "{\"set\":\"s\",$token}"
    says "an agent cannot freeze another" 0 '^DENIED ' as agent-node-2 "$agent" AgentService Freeze "{\"set\":\"s\",$token}"
    says "a stranger is not let in" 1 '^UNAVAILABLE ' as operator-eve "$coordinator" AdminService ListSets '{}'
    says "a server is not taken for another" 1 '^UNAVAILABLE ' as operator-admin "coord-9@127.0.0.1:$((LAB_PORT + 1))" AdminService ListSets '{}'
    check "refusals are logged" grep -Eq '^warn rpc refused from=admin@.*Claim.*DENIED' "$LAB/log/coord-1"
    check "refusals are logged by agents" grep -Eq '^warn rpc refused from=.*Freeze.*DENIED' "$LAB/log/agent-1"
}

# ---- sets ----

id_of() { "$cli" set list --group "$1" | awk 'NR == 2 { print $1 }'; }
state_of() { "$cli" set show "$1" | awk '$1 == "state" { print $2 }'; }
is_in() { [[ $(state_of "$1") == "$2" ]]; }

group_of() { # NAME REPOSITORY PARTITION…
    local name=$1 repository=$2 p
    shift 2
    printf 'group: %s\nrepository: %s\npartitions:\n' "$name" "$repository" >"$LAB/etc/$name.yaml"
    for p in "$@"; do printf '  - %s\n' "$p" >>"$LAB/etc/$name.yaml"; done
    "$cli" group apply -f "$LAB/etc/$name.yaml" -q
}

check_sets() {
    says "an unknown group" 1 "no group 'nope'.*group list" "$cli" set create nope
    says "an unknown group, to check" 1 "no group 'nope'" "$cli" group check nope
    says "an unknown set" 1 "no set 'nope'.*set list" "$cli" set show nope
    says "an unknown set, to watch" 1 "no set 'nope'" "$cli" set watch nope
    group_of stray ledger node-1/nope node-9/ledger
    says "an unknown partition and node" 1 'node-1/nope: .*node-9/ledger: no agent' "$cli" set create stray
    group_of plain ledger node-1/plain
    says "quiesce none in a strict set" 1 "node-1/plain: quiesce 'none'.*choose cgroup" "$cli" set create plain
    group_of elsewhere nowhere node-1/ledger
    says "a repository the agent does not have" 1 "no repository 'nowhere'.*'repositories'" "$cli" set create elsewhere
    says "that is found by a check too" 1 "no repository 'nowhere'" "$cli" group check elsewhere
    set_id=$("$cli" set create ledger)
    says "an overlapping set" 1 "set '$set_id' of group 'ledger' is being taken" "$cli" set create ledger
    check "the first one is COMPLETE" lab_wait 30 is_in "$set_id" COMPLETE
    says "a restore outside of restore_dirs" 3 "restore_dirs.*node-[12]" "$cli" set restore "$set_id" --target /etc/x
    says "a restore that climbs out" 3 "not a plain absolute path" "$cli" set restore "$set_id" --target "$LAB/restore/node-1/../../x" --partition node-1/ledger
    says "a relative target" 2 "'x' is not an absolute path" "$cli" set restore "$set_id" --target x
    says "an unknown partition of the set" 1 "no stored part 'node-1/nope'" "$cli" set restore "$set_id" --target /x --partition node-1/nope
    says "an unknown node to restore to" 1 "no node 'node-7'.*node list" "$cli" set restore "$set_id" --target /x --node node-7
}

# Hostile words about a task that really exists.
check_reports() {
    local task
    "$cli" set restore "$set_id" --target "$LAB/restore/node-2/r" --partition node-2/ledger >/dev/null
    task=$(admin ListTasks '{}' | grep -o '"id":"[^"]*\.node-2\.[^"]*' | head -n 1 | cut -d'"' -f4)
    says "a report on another node's task" 0 '^DENIED ' as agent-node-1 "$coordinator" WorkerService Report \
        "{\"node\":\"node-1\",\"task\":{\"id\":\"$task\",\"state\":\"TASK_DONE\"}}"
}

# Many at once: one round a set, and never a reason to read all records again.
check_races() {
    local i pids=() sets
    for ((i = 0; i < 8; i++)); do
        admin ApplyGroup '{"spec":{"group":"race","repository":"ledger","partitions":["node-1/bulk"]}}' >/dev/null &
        pids+=($!)
    done
    wait "${pids[@]}"
    pids=()
    for ((i = 0; i < 8; i++)); do
        admin CreateSet '{"group":"race","requestId":"same"}' >"$LAB/run/race-$i" &
        pids+=($!)
    done
    wait "${pids[@]}"
    check "sets asked for at once with one id are one" lab_wait 30 is_in race-same COMPLETE
    sets=$("$cli" set list --group race | grep -c '^race-')
    check "and only one" test "$sets" -eq 1
    check "memory and store never differed" test "$(grep -c '^info load done' "$LAB/log/coord-1")" -eq 1
}

# ---- repositories ----

repo() {
    local verb=$1
    shift
    "$cli" repo "$verb" --repo "$LAB/repo/ledger" --password-file "$LAB/etc/password" "$@"
}

flip_bits() { # one in each pack, as which of them a given set needs is for that set to tell; twice, and all is well
    local size byte
    while IFS= read -r pack; do
        size=$(stat -c %s "$pack")
        chmod 600 "$pack"
        byte=$(od -An -tu1 -j $((size / 2)) -N 1 "$pack" | tr -d ' ')
        printf '%b' "\\x$(printf %02x $((byte ^ 1)))" | dd of="$pack" bs=1 seek=$((size / 2)) conv=notrunc status=none
        flipped=${pack##*/}
    done < <(find "$LAB/repo/ledger/data" -type f)
}

check_repositories() {
    printf 'wrong\n' >"$LAB/etc/wrong"
    chmod 600 "$LAB/etc/wrong"
    says "a wrong password" 12 'password' "$cli" repo snapshots --repo "$LAB/repo/ledger" --password-file "$LAB/etc/wrong"
    says "no repository" 10 'repo init' "$cli" repo snapshots --repo "$LAB/repo/none" --password-file "$LAB/etc/password"
    says "a repository is not made twice" 1 'exists|already' repo init
    flip_bits
    says "a flipped bit is named by repo check" 1 "$flipped" repo check --read-data
    says "it is found by set verify" 3 'failed .*node-[12]/ledger.*(blob|pack)' "$cli" set verify "$set_id"
    check "the set is DAMAGED" lab_wait 10 is_in "$set_id" DAMAGED
    says "it says which part, and what to do" 3 'DAMAGED' "$cli" set watch "$set_id"
    says "the part names the error and the next step" 0 '^node-[12]/ledger FAILED: .*create a new set' "$cli" set show "$set_id"
    local snapshot part
    part=$("$cli" set show "$set_id" | awk '$2 == "FAILED" { print $1; exit }')
    snapshot=$("$cli" set show "$set_id" | awk '$2 == "FAILED" { print $6; exit }')
    says "it is never restored silently" 3 "pack|blob" repo restore "$snapshot" --target "$LAB/restore/damaged"
    says "nor through the agent" 3 "failed .*$part" "$cli" set restore "$set_id" --partition "$part" --target "$LAB/restore/${part%%/*}/damaged"
    flip_bits # what follows may find its data in there
}

check_full_disk() {
    local id
    head -c 20000000 /dev/urandom >"$LAB/bulk/file"
    group_of bulk small node-1/bulk
    head -c 100000000 /dev/zero >"$LAB/small/ballast" 2>/dev/null
    id=$("$cli" set create bulk) || not_ok "a set onto a full disk begins"
    group_of two ledger node-2/ledger
    says "other sets go on" 0 'COMPLETE' "$cli" set create two --watch
    check "the full disk is retried first" lab_wait 20 grep -q "will_retry .*$id.*no space\|will_retry .*$id.*No space" "$LAB/log/agent-1"
    says "whoever watches is told why" 124 "is full: free space there" timeout -s INT 5 "$cli" set watch "$id"
    rm "$LAB/small/ballast"
    check "with space again it goes on by itself" lab_wait 60 is_in "$id" COMPLETE
    says "and a new set is COMPLETE" 0 'COMPLETE' "$cli" set create bulk --watch
    says "and the repository is whole" 0 '' "$cli" repo check --read-data --repo "$LAB/small/repo" --password-file "$LAB/etc/password"
}

# ---- the run ----

extra_config() { # further partitions and a repository on a small disk, for node 1
    local f=$LAB/etc/node-1.yaml
    mkdir -p "$LAB/plain" "$LAB/bulk" && touch "$LAB/plain/file" "$LAB/bulk/file"
    sed -i "s|^repositories:|  - {name: plain, path: $LAB/plain, quiesce: {method: none}, capture: {method: copy, dir: $LAB/captures/plain}}\n  - {name: bulk, path: $LAB/bulk, read_only: true, quiesce: {method: none}, capture: {method: copy, dir: $LAB/captures/bulk}}\nrepositories:\n  - {name: small, url: $LAB/small/repo, password_file: $LAB/etc/password}|" "$f"
}

small_disk() {
    mkdir -p "$LAB/small"
    truncate -s 64M "$LAB/disk/small.img"
    mkfs.ext4 -q "$LAB/disk/small.img" && mount -o loop "$LAB/disk/small.img" "$LAB/small" &&
        "$cli" repo init --repo "$LAB/small/repo" --password-file "$LAB/etc/password" -q >/dev/null
}

lab_up
small_disk || lab_die "no small disk"
lab_coordinator 1
lab_node_config 1
extra_config
lab_guardian 1
lab_agent 1
lab_node 2
lab_shards
lab_group 10s
check_files
check_admin
check_worker
check_agent
check_bytes
check_identities
check_sets
check_reports
check_races
check_repositories
check_full_disk
check "the coordinator lives" kill -0 "$(cat "$LAB/run/coord-1.pid")"
check "the agents live" kill -0 "$(cat "$LAB/run/agent-1.pid")" "$(cat "$LAB/run/agent-2.pid")"
says "nothing is lost" 0 '2 connected of 2' "$cli" status
report
