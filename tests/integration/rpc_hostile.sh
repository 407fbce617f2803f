#!/usr/bin/env bash
# What a server's port bears and whom it lets in: certificates of every wrong kind, then
# misuse of TLS and HTTP/2, while another client's calls still have to be answered.
# Needs: build/<variant>/tests/tools/{rpc_peer,http2_abuse}; B names the build folder.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/integration/grpc_curl.sh
. tests/integration/grpc_curl.sh
build=${B:-build/release-gcc}
peer=$build/tests/tools/rpc_peer
abuse=$build/tests/tools/http2_abuse
dir=$(mktemp -d "${TMPDIR:-/tmp}/stillpoint-hostile-XXXXXX")
port=7421
passed=0 failed=0
pids=()

finish() {
    ((${#pids[@]})) && kill "${pids[@]}" 2>/dev/null
    wait
    rm -rf "$dir"
}
trap finish EXIT

check() {
    local name=$1
    shift
    if "$@"; then
        printf 'ok %s\n' "$name"
        passed=$((passed + 1))
    else
        printf 'not ok %s\n' "$name"
        failed=$((failed + 1))
    fi
}

# forge LEAF CA URIS BASIC DATES...: a leaf that deploy/certs would not make.
forge() {
    local leaf=$1 ca=$2 names=$3 basic=$4
    shift 4
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 \
        -out "$dir/$leaf.key" 2>/dev/null
    openssl req -new -key "$dir/$leaf.key" -subj /O=x |
        openssl x509 -req -CA "$ca/ca.pem" -CAkey "$ca/ca.key" -set_serial 7 \
            -extfile <(printf 'subjectAltName=%s\nbasicConstraints=critical,%s\n' \
                "$names" "$basic") -out "$dir/$leaf.pem" "$@" 2>/dev/null
}

# Asks for health as LEAF; prints the gRPC status, or "none" when TLS already refused.
ask() {
    local status
    status=$(grpc_curl '' --cacert "$dir/ca.pem" --cert "$dir/$1.pem" --key "$dir/$1.key" \
        --resolve "n1:$port:127.0.0.1" "https://n1:$port${2:-/grpc.health.v1.Health/Check}" |
        sed -n 's/^grpc-status: //p')
    printf '%s' "${status:-none}"
}

status_is() {
    local got
    got=$(ask "$1" "${3:-}")
    [[ $got == "$2" ]] || { printf '# %s got %s\n' "$1" "$got" && false; }
}

alive() {
    kill -0 "$server" 2>/dev/null && status_is operator-ann 0
}

resident_kb() {
    sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$server/status"
}

small() {
    local kb
    kb=$(resident_kb)
    ((kb < 256 * 1024)) || { printf '# %s kB\n' "$kb" && false; }
}

# One call on another client's standing connection, in milliseconds.
call_ms() {
    local before lines=0
    before=$(wc -l <"$dir/caller.out")
    kill -HUP "$caller"
    for _ in {1..500}; do
        lines=$(wc -l <"$dir/caller.out")
        ((lines > before)) && break
        sleep 0.02
    done
    sed -n '$s/^ms //p' "$dir/caller.out"
}

# Calls as long as PID lives, at least once; each must be answered within a second.
prompt_during() {
    local ms worst=0 calls=0
    while ((calls == 0)) || kill -0 "$1" 2>/dev/null && ((calls < 50)); do
        ms=$(call_ms)
        ((${ms:-9999} > worst)) && worst=${ms:-9999}
        calls=$((calls + 1))
    done
    printf '# %d calls, slowest %d ms\n' "$calls" "$worst"
    ((worst < 1000))
}

wait_ready() {
    for _ in {1..200}; do
        grep -q ready "$1" && return
        sleep 0.05
    done
}

deploy/certs init "$dir" demo
deploy/certs issue "$dir" agent n1
deploy/certs issue "$dir" operator ann
deploy/certs issue "$dir" coordinator c1
deploy/certs init "$dir/other" demo
deploy/certs issue "$dir/other" operator eve
mv "$dir"/other/operator-eve.* "$dir"

"$peer" "$dir" agent-n1 $port serve >"$dir/server.out" 2>"$dir/server.log" &
server=$!
pids+=("$server")
wait_ready "$dir/server.out"
"$peer" "$dir" coordinator-c1 $((port + 1)) call 1 $port agent n1 \
    >"$dir/caller.out" 2>"$dir/caller.log" &
caller=$!
pids+=("$caller")
wait_ready "$dir/caller.out"

good='URI:spiffe://demo/operator/x'
forge two-uris "$dir" "$good,URI:spiffe://demo/agent/y" CA:FALSE -days 1
forge authority "$dir" "$good" CA:TRUE -days 1
forge nameless "$dir" DNS:x CA:FALSE -days 1
forge unknown-role "$dir" URI:spiffe://demo/root/x CA:FALSE -days 1
forge stranger "$dir" URI:spiffe://elsewhere/operator/x CA:FALSE -days 1
forge expired "$dir" "$good" CA:FALSE -days -1

reflect=/grpc.reflection.v1.ServerReflection/ServerReflectionInfo
check operator_is_let_in status_is operator-ann 0
check operator_may_reflect status_is operator-ann 0 $reflect
check agent_may_not_reflect status_is agent-n1 7 $reflect
check unknown_method_is_refused status_is operator-ann 12 /no.Such/Method
check two_identities_are_refused status_is two-uris 7
check authority_is_refused status_is authority 7
check no_identity_is_refused status_is nameless 7
check unknown_role_is_refused status_is unknown-role 7
check other_cluster_is_refused status_is stranger 7
check expired_is_refused status_is expired none
check other_authority_is_refused status_is operator-eve none
check no_certificate_is_refused \
    test "$(curl -s -m 5 --http2 --cacert "$dir/ca.pem" --resolve "n1:$port:127.0.0.1" \
        -o /dev/null -w '%{http_code}' "https://n1:$port/")" = 000
check plaintext_is_refused \
    test "$(curl -s -m 5 --http2-prior-knowledge -o /dev/null -w '%{http_code}' \
        "http://127.0.0.1:$port/")" = 000
check denials_are_logged grep -q 'kind=DENIED.*2 URI names' "$dir/server.log"

for attack in resets continuations headers padding garbage; do
    "$abuse" "$dir" coordinator-c1 $port "$attack" >"$dir/abuse.out" 2>&1 &
    attacker=$!
    check "calls_during_$attack" prompt_during "$attacker"
    wait "$attacker"
    check "alive_after_$attack" alive
done

head -c 100000000 /dev/zero >"$dir/large"
curl -s -m 20 --http2 --cacert "$dir/ca.pem" --cert "$dir/operator-ann.pem" \
    --key "$dir/operator-ann.key" --resolve "n1:$port:127.0.0.1" \
    -H 'Content-Type: application/grpc' -H 'TE: trailers' -o /dev/null \
    --data-binary @<(printf '\0\5\365\341\0' && cat "$dir/large") \
    "https://n1:$port/grpc.health.v1.Health/Check"
check alive_after_a_large_message alive

# A thousand connections that never finish their handshake, held open by one process.
{
    for ((i = 0; i < 1000; i++)); do
        exec {fd}<>"/dev/tcp/127.0.0.1/$port" && printf '\026\003\001' >&"$fd"
    done
    : >"$dir/held"
    sleep 20
} 2>/dev/null &
holder=$!
pids+=("$holder")
for _ in {1..100}; do
    [[ -e $dir/held ]] && break
    sleep 0.1
done
check calls_during_half_open_handshakes prompt_during "$$"
check alive_with_half_open_handshakes alive
check memory_is_bounded small
kill "$holder" 2>/dev/null
printf '%d passed, %d failed, 0 skipped\n' "$passed" "$failed"
((failed == 0))
