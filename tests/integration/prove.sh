#!/usr/bin/env bash
# A set's proof outlives the daemons: checked at the coordinator, then with everything stopped from the
# repository alone and from set.json as stock restic gives it out. Whatever is changed in it is found and named,
# also by somebody who signs again with a certificate of his own.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
LAB_NODES=2
# shellcheck source=deploy/lab.sh
. deploy/lab.sh
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
# shellcheck source=tests/integration/ledger.sh
. tests/integration/ledger.sh
trap 'lab_down' EXIT

proves() { # PATTERN COMMAND…
    local pattern=$1 output
    shift
    output=$("$@" 2>&1) || { printf '%s\n' "$output" && return 1; }
    grep -E -- "$pattern" <<<"$output"
}

offline() { "$cli" set prove "$set_id" --offline "$1" --ca "$LAB/pki/ca.pem"; }
from_repo() {
    "$cli" set prove "$set_id" --repo "$1" --password-file "$LAB/etc/password" --ca "$LAB/pki/ca.pem"
}

# sealed FILE: signs it as coordinator 1 would, so that only what is inside is at fault.
sealed() {
    local key=$LAB/pki/coordinator-coord-1
    jq --arg s "$(openssl dgst -sha256 -sign "$key.key" "$1" | base64 -w0)" '.signature = $s' \
        "$LAB/out/set.json.sig" >"$1.sig"
}

# edited NAME PATTERN FILTER: set.json changed by jq, and sealed again by a coordinator who lies.
edited() {
    jq "$3" "$LAB/out/set.json" >"$LAB/out/edited.json" && sealed "$LAB/out/edited.json"
    if cmp -s "$LAB/out/set.json" "$LAB/out/edited.json"; then not_ok "$1" "nothing was changed"; return; fi
    says "$1" 1 "$2" offline "$LAB/out/edited.json"
}

lab_up
lab_coordinator 1
for ((n = 1; n <= LAB_NODES; n++)); do lab_node "$n"; done
lab_shards
lab_group 10s
set_id=$("$cli" set create ledger)
check "a set is COMPLETE" lab_wait 60 set_is "$set_id" COMPLETE
check "it is proved at the coordinator" proves 'signed that it sent the first Commit .* after' "$cli" set prove "$set_id"
check "as JSON too" proves '"proved": ?true' "$cli" set prove "$set_id" --json

# An agent that signs something else is found out before its answer counts.
becomes_a_liar() {
    lab_stop agent-2
    LAB_ENV=LD_PRELOAD=$(realpath -e build/tests/tools/preload/missign.so) lab_agent 2
    lab_wait 20 lab_all_ready
}
refuses_the_liar() {
    local said
    said=$("$cli" set create ledger --watch 2>&1) && echo "it succeeded" && return 1
    printf '%s\n' "$said"
    grep -q ABORTED <<<"$said" && grep "not what 'node-2' signed" <<<"$said"
}
becomes_a_liar
check "a set with an agent that signs something else is aborted" refuses_the_liar

for p in "$LAB"/run/*.pid; do kill "$(cat "$p")" 2>/dev/null; done
unset STILLPOINT_CONFIG
repo=$LAB/repo/ledger
check "with all daemons gone, from the repository" proves 'snapshots of all 2 parts' from_repo "$repo"
mkdir -p "$LAB/out"
dump() {
    restic --no-cache -q -r "$repo" -p "$LAB/etc/password" dump --tag "stillpoint-set,set=$set_id" latest "/$1" >"$LAB/out/$1"
}
check "restic gives out set.json" dump set.json
check "and its signature" dump set.json.sig
check "they prove the set, offline" proves 'set.json is what spiffe://.*/coordinator/coord-1 signed' offline "$LAB/out/set.json"
jq . "$LAB/out/set.json" >"$LAB/out/same.json" && sealed "$LAB/out/same.json"
check "written and sealed again it proves the same" offline "$LAB/out/same.json"

part='.parts[0].proof'
node=$(jq -r '.parts[0].node' "$LAB/out/set.json")
edited "another epoch" "part '$node/ledger'|node '$node'|domain" "$part.epoch = (.parts[1].proof.epoch)"
edited "another digest" "$node/ledger" "$part.epochsDigest = \"$(head -c 32 /dev/zero | base64)\""
edited "a hold that was broken" "$node/ledger" "del($part.unbroken)"
edited "an earlier capture" "part '$node/ledger': the proof is: not what '$node' signed" "$part.capturedAtNs |= (tonumber - 1 | tostring)"
edited "a later thaw" "part '$node/ledger': the proof is: not what" "$part.thawedAtNs |= (tonumber + 1000 | tostring)"
edited "stronger evidence" "part '$node/ledger': the proof is: not what" "$part.evidence = \"EVIDENCE_ASSERTED\""
edited "another boot" "part '$node/ledger': the proof is: not what" "$part.bootId = \"x\""
edited "another token" "part '$node/ledger': the proof is: not what" "$part.token.revision = \"1\""
edited "another capture" "part '$node/ledger': the proof is: not what" "$part.capture = \"x.ledger\""
edited "no signature" "part '$node/ledger': the proof is: not signed" "del($part.signature)"
edited "another node's signature" "part '$node/ledger': the proof is: not what" "$part.signature = .parts[1].proof.signature"
edited "the other's certificate" "certificate says" \
    "(.signers[] | select(.id | endswith(\"agent/$node\")) | .certificates) = [.signers[] | select(.id | endswith(\"agent/$node\") | not)][0].certificates"
edited "no certificate" "no certificate of agent '$node'" ".signers |= map(select(.id | endswith(\"agent/$node\") | not))"
edited "an earlier Commit" "order of answers is: not what|Commit was sent before" ".order.commitAtNs = \"1\""
edited "an answer that was not given" "order of answers is: not what" ".order.answers[0].frozenAtNs |= (tonumber - 1 | tostring)"
edited "another time of the cut" "not what" ".cutUnixMs |= (tonumber + 1 | tostring)"
edited "a part left out" "domain|part" "del(.parts[1])"

cp "$LAB/out/set.json" "$LAB/out/plain.json" && cp "$LAB/out/set.json.sig" "$LAB/out/plain.json.sig"
sed -i 's/"path": "/&\/elsewhere/' "$LAB/out/plain.json" # which no agent signed
says "what nobody signed but the coordinator" 1 "set.json: not what" offline "$LAB/out/plain.json"
rm "$LAB/out/plain.json.sig"
says "no seal" 1 "signature is stored beside" offline "$LAB/out/plain.json"

deploy/certs init "$LAB/pki2" "$(basename "$LAB")" >/dev/null
says "another authority" 1 "not vouched for" "$cli" set prove "$set_id" --offline "$LAB/out/set.json" --ca "$LAB/pki2/ca.pem"
printf 'x' >"$LAB/out/none"
says "no authority" 1 "holds no certificate" "$cli" set prove "$set_id" --offline "$LAB/out/set.json" --ca "$LAB/out/none"
says "another set's record" 1 "record of set '$set_id'" "$cli" set prove other --offline "$LAB/out/set.json" --ca "$LAB/pki/ca.pem"

says "two places at once" 2 "two places to take the set from" \
    "$cli" set prove "$set_id" --offline "$LAB/out/set.json" --repo "$repo" --ca "$LAB/pki/ca.pem"

snapshot=$(jq -r '.parts[0].snapshotId' "$LAB/out/set.json")
restic --no-cache -q -r "$repo" -p "$LAB/etc/password" forget "$snapshot" >/dev/null
says "a snapshot that is gone" 1 "part '$node/ledger': snapshot ${snapshot:0:8}" from_repo "$repo"
report
