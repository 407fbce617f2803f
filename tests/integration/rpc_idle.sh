#!/usr/bin/env bash
# What idle connections cost: a coordinator with 200 agents connected both ways, and an
# agent with one coordinator. B names the build folder.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${B:-build/release-gcc}
peer=$build/tests/tools/rpc_peer
dir=$(mktemp -d "${TMPDIR:-/tmp}/stillpoint-idle-XXXXXX")
port=7431
agents=200
passed=0 failed=0
pids=()

finish() {
    kill "${pids[@]}" 2>/dev/null
    wait
    rm -rf "$dir"
}
trap finish EXIT

# check NAME VALUE LIMIT UNIT
check() {
    printf '# %d %s, limit %d\n' "$2" "$4" "$3"
    if (($2 > 0 && $2 < $3)); then
        printf 'ok %s\n' "$1"
        passed=$((passed + 1))
    else
        printf 'not ok %s\n' "$1"
        failed=$((failed + 1))
    fi
}

start() {
    local name=$1
    shift
    "$peer" "$dir" "$@" >"$dir/$name.out" 2>"$dir/$name.log" &
    pids+=("$!")
    for _ in {1..400}; do
        grep -q ready "$dir/$name.out" && return
        sleep 0.05
    done
    printf 'not ok %s_starts\n' "$name"
    exit 1
}

resident_kb() {
    sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$1/status"
}

ticks() {
    awk '{print $14 + $15}' "/proc/$1/stat"
}

deploy/certs init "$dir" demo
deploy/certs issue "$dir" agent n1
deploy/certs issue "$dir" coordinator c1
start nodes agent-n1 $((port + 1)) serve
start alone coordinator-c1 $((port + 3)) serve
alone=${pids[1]}
start coordinator coordinator-c1 $port call $agents $((port + 1)) agent n1
coordinator=${pids[2]}
start dialling agent-n1 $((port + 2)) call $agents $port coordinator c1
start agent agent-n1 $((port + 4)) call 1 $port coordinator c1
agent=${pids[4]}

base=$(resident_kb "$alone")
check coordinator_of_200_agents $(($(resident_kb "$coordinator") - base)) 65536 'kB more'
check agent_alone "$(resident_kb "$agent")" 24576 kB
before=$(ticks "$coordinator") before_agent=$(ticks "$agent")
sleep 10
spent=$((($(ticks "$coordinator") - before) * 1000 / $(getconf CLK_TCK)))
spent_agent=$((($(ticks "$agent") - before_agent) * 1000 / $(getconf CLK_TCK)))
check coordinator_rests $((spent + 1)) 200 'ms of processor in 10 s'
check agent_rests $((spent_agent + 1)) 30 'ms of processor in 10 s'
printf '%d passed, %d failed, 0 skipped\n' "$passed" "$failed"
((failed == 0))
