#!/usr/bin/env bash
# Relaxed groups and freeze waves with real daemons: what cannot be taken is MISSING and says why, what is taken
# is one cut, proved and restorable; waves freeze in their order; a group that changes during a run and runs that
# overlap; an agent of an older protocol, and one whose clock is a year off.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=deploy/lab.sh
. deploy/lab.sh
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
# shellcheck source=tests/integration/ledger.sh
. tests/integration/ledger.sh

# What two applications on node 1 run in, where cgroups can be made.
tiers=(front back)
tier_cgroup() { printf '%s/%s/%s' "$(lab_cgroup_root)" "$LAB_NAME" "$1"; }

down() {
    lab_down
    [[ $lab_mode == real ]] || return 0
    for tier in "${tiers[@]}"; do rmdir "$(tier_cgroup "$tier")"; done 2>/dev/null
    rmdir "$(lab_cgroup_root)/$LAB_NAME" 2>/dev/null
}
trap 'down' EXIT

# Partitions beside the ledger, on plain directories: a hook that does nothing, and one that waits for a file.
lab_quiesce() {
    local hooks=$LAB/etc/hooks-$1
    mkdir -p "$hooks" "$LAB/mnt/$1/side"
    printf 'side %s\n' "$1" >"$LAB/mnt/$1/side/file"
    cat >"$hooks/freeze" <<HOOK
#!/bin/sh
date +%s%N >"$hooks/frozen"
if [ -e "$hooks/fail" ]; then echo "told to fail" >&2; exit 1; fi
while [ -e "$hooks/wait" ]; do sleep 0.02; done
exit 0
HOOK
    printf '#!/bin/sh\ndate +%%s%%N >"%s/thawed"\n' "$hooks" >"$hooks/thaw"
    chmod 755 "$hooks/freeze" "$hooks/thaw"
    cat <<YAML
    quiesce: {method: hook, hook: {freeze: ["$hooks/freeze"], thaw: ["$hooks/thaw"]}}
    capture: {method: copy, dir: $LAB/captures/$1}
  - name: side
    path: $LAB/mnt/$1/side
    quiesce: {method: none}
    read_only: true
    capture: {method: copy, dir: $LAB/captures/$1}
YAML
    [[ $1 == 1 && $lab_mode == real ]] || return 0
    for tier in "${tiers[@]}" front-too; do
        mkdir -p "$LAB/mnt/1/$tier" && touch "$LAB/mnt/1/$tier/file"
        printf '  - name: %s\n    path: %s\n' "$tier" "$LAB/mnt/1/$tier"
        printf '    quiesce: {method: cgroup, cgroup: /%s/%s}\n' "$LAB_NAME" "${tier%-too}"
        printf '    capture: {method: copy, dir: %s}\n' "$LAB/captures/1"
    done
}

# One process a tier, in its cgroup: a frozen one must have something to freeze.
tiers_start() {
    for tier in "${tiers[@]}"; do
        mkdir -p "$(tier_cgroup "$tier")"
        # The name that it goes by says whose it is, for lab_down.
        # shellcheck disable=SC2016 # the inner shell's
        lab_start "$tier" bash -c 'echo $$ >"$0/cgroup.procs"; exec -a "$1" sleep 1000' "$(tier_cgroup "$tier")" "$LAB"
        lab_wait 5 grep -q "^populated 1" "$(tier_cgroup "$tier")/cgroup.events" || lab_die "$tier does not run"
    done
}

# group NAME LINE…: applies a group file of these lines.
group() {
    local name=$1
    shift
    { printf 'group: %s\nrepository: ledger\n' "$name" && printf '%s\n' "$@"; } >"$LAB/etc/$name.yaml"
    "$cli" group apply -f "$LAB/etc/$name.yaml" -q
}

# refused WANT COMMAND…: it fails and says so.
refused() {
    local want=$1 out
    shift
    if out=$("$@" 2>&1); then printf 'accepted: %s\n' "$out" && return 1; fi
    grep -qE -- "$want" <<<"$out" || { printf '%s\n' "$out" && return 1; }
}

lists() {
    "$cli" "$1" list | grep -q -- "$2"
}

# take GROUP: a set, waited for; its name in $id and its exit in $status.
take() {
    "$cli" set create "$1" --watch --json >"$LAB/log/take" 2>&1
    status=$?
    id=$(sed -nE 's/^\{"record":\{"schema":1,"set":"([^"]*)".*/\1/p' "$LAB/log/take" | tail -n 1)
}

part_state() {
    "$cli" set show "$1" | awk -v p="$2" '$1 == p { print $2; exit }'
}

part_is() {
    [[ $(part_state "$1" "$2") == "$3" ]] || { "$cli" set show "$1" && return 1; }
}

in_record() {
    "$cli" set show "$1" | grep -qE -- "$2" || { "$cli" set show "$1" && return 1; }
}

proved() {
    "$cli" set prove "$1" --ca "$LAB/pki/ca.pem" --repo "$LAB/repo/ledger" --password-file "$LAB/etc/password"
}

proof_says() {
    proved "$1" | grep -qE -- "$2"
}

# edited SED: what proving says of set.json of $id, taken from the repository and changed.
edited() {
    local seal
    seal=$("$cli" set show "$id" | awk '$1 == "seal" { print $3 }')
    for file in set.json set.json.sig; do
        "$cli" repo dump "$seal" "/$file" --repo "$LAB/repo/ledger" --password-file "$LAB/etc/password" >"$LAB/run/$file" || return 0
    done
    sed -i "0,/$(cut -d/ -f2 <<<"$1")/$1" "$LAB/run/set.json"
    "$cli" set prove "$id" --offline "$LAB/run/set.json" --ca "$LAB/pki/ca.pem"
}

exits() { [[ $status == "$1" ]] || { printf 'exit %s\n' "$status" && cat "$LAB/log/take" && return 1; }; }

# restored SET: all that there is goes to node 1.
restored() {
    local target=$LAB/restore/node-1/$1 got
    "$cli" set restore "$1" --node node-1 --target "$target" >"$LAB/log/restore" 2>&1
    status=$?
    got=$(find "$target" -name file -exec cat {} + | sort | tr '\n' ' ')
    [[ $got == "ledger 1 ledger 3 " ]] || { printf '%s\n' "$got" && cat "$LAB/log/restore" && return 1; }
    [[ $status == 3 ]] && grep -q "node-2/ledger is missing in this set: " "$LAB/log/restore"
}

all=('partitions: [node-1/ledger, node-2/ledger, node-3/ledger]' 'hold_limit: 8s' 'freeze_timeout: 3s')

lab_up
for ((n = 1; n <= 3; n++)); do printf 'ledger %s\n' "$n" >"$LAB/mnt/$n/data/file"; done
lab_coordinator 1
for ((n = 1; n <= 3; n++)); do lab_node "$n"; done
lab_wait 15 lab_all_ready || lab_die "not all agents have registered"

# ---- relaxed ----

check "a relaxed group is accepted" group loose 'consistency: relaxed' "${all[@]}"
check "and shown as one" grep -q "consistency: relaxed" <("$cli" group show loose)

take loose
check "with nothing in the way a relaxed set is complete" set_is "$id" COMPLETE
check "and nothing is missing" exits 0

touch "$LAB/etc/hooks-2/fail"
take loose
check "a partition whose hook fails leaves the others complete" set_is "$id" COMPLETE
check "which is said by the exit status" exits 3
check "it is MISSING" part_is "$id" node-2/ledger MISSING
check "with what went wrong" in_record "$id" "node-2/ledger MISSING: .*hook"
check "the others are VERIFIED" part_is "$id" node-3/ledger VERIFIED
check "the list counts what there is" grep -qE "^$id .* 2/3 " <("$cli" set list)
check "it is proved from the repository alone" proved "$id"
check "and the proof names what is missing" proof_says "$id" "^   node-2/ledger: "
check "restoring it restores what there is, and says what there is not" restored "$id"
check "what is missing is not restored from it" refused "node-2/ledger' is missing in set" \
    "$cli" set restore "$id" --partition node-2/ledger --target "$LAB/restore/node-2/none"
rm "$LAB/etc/hooks-2/fail"

# What the coordinator signed cannot be edited: neither hiding what is missing nor calling more of it so.
check "calling more parts missing is no proof" refused "is not proved.*is missing, but proved" edited 's/VERIFIED/MISSING/'
check "nor is calling it strict" refused "is not proved.*has no proof" edited 's/_RELAXED/_STRICT/'

touch "$LAB/etc/hooks-2/wait"
take loose
rm "$LAB/etc/hooks-2/wait"
check "one that freezes too slowly is left out at freeze_timeout" part_is "$id" node-2/ledger MISSING
check "the set is complete" set_is "$id" COMPLETE
check "with the reason" in_record "$id" "node-2/ledger MISSING: .*(freeze_timeout|frozen)"
check "nothing of it stays captured" lab_wait 15 no_captures

lab_stop agent-2 KILL
lab_wait 20 lists node "node-2 .* away"
take loose
check "an agent that is away leaves the others complete" set_is "$id" COMPLETE
check "it is MISSING, too" part_is "$id" node-2/ledger MISSING
lab_agent 2
lab_wait 15 lab_all_ready || lab_die "agent 2 does not come back"
take loose
check "back again, it is in the next set" part_is "$id" node-2/ledger VERIFIED

check "a partition that no agent has" group odd 'consistency: relaxed' \
    'partitions: [node-1/ledger, node-1/nonsense, node-9/ledger]'
take odd
check "is missing" part_is "$id" node-1/nonsense MISSING
check "for a reason that helps" in_record "$id" "node-1/nonsense MISSING: the agent's file has no such partition"
check "while the one beside it is stored" part_is "$id" node-1/ledger VERIFIED

# One node, two partitions: the one that cannot be prepared does not take the other along.
rm -rf "$LAB/mnt/3/side"
check "two partitions of a node" group pair 'consistency: relaxed' 'partitions: [node-3/ledger, node-3/side]'
take pair
check "one cannot be prepared" part_is "$id" node-3/side MISSING
check "the other is captured all the same" part_is "$id" node-3/ledger VERIFIED
check "and proved" proved "$id"

for ((n = 1; n <= 3; n++)); do touch "$LAB/etc/hooks-$n/fail"; done
take loose
check "without a single partition a relaxed set is ABORTED" set_is "$id" ABORTED
check "and says why" in_record "$id" "no partition of the group can be taken: .*node-"
for ((n = 1; n <= 3; n++)); do rm "$LAB/etc/hooks-$n/fail"; done

check "a partition may be required" group firm 'consistency: relaxed' "${all[@]}" 'required: [node-2/ledger]'
touch "$LAB/etc/hooks-1/fail"
take firm
check "others may be missing then" part_is "$id" node-1/ledger MISSING
touch "$LAB/etc/hooks-2/fail"
take firm
check "without it there is no set" set_is "$id" ABORTED
check "and its error is the set's" in_record "$id" "error +Freeze on node 'node-2'"
rm "$LAB/etc/hooks-1/fail" "$LAB/etc/hooks-2/fail"
check "of a strict group all are required anyway" refused "say 'consistency: relaxed'" \
    group wrong 'partitions: [node-1/ledger]' 'required: [node-1/ledger]'
check "and only its own can be" refused "'node-2/ledger' is none of the group's" \
    group wrong 'consistency: relaxed' 'partitions: [node-1/ledger]' 'required: [node-2/ledger]'

check "a strict group still takes all or nothing" group tight "${all[@]}"
touch "$LAB/etc/hooks-3/fail"
take tight
check "it is ABORTED" set_is "$id" ABORTED
rm "$LAB/etc/hooks-3/fail"

# ---- waves ----

waves=('waves:' '  - partitions: [node-3/ledger]' '  - partitions: [node-1/ledger]' '  - partitions: [node-2/ledger]')
check "waves are accepted" group ordered "${all[@]}" "${waves[@]}"
"$cli" group show ordered >"$LAB/run/ordered.yaml"
check "and shown as a group file" "$cli" group apply -f "$LAB/run/ordered.yaml" -q

frozen_at() { cat "$LAB/etc/hooks-$1/frozen"; }
thawed_at() { cat "$LAB/etc/hooks-$1/thawed"; }
in_order() {
    (($(frozen_at 3) < $(frozen_at 1) && $(frozen_at 1) < $(frozen_at 2))) &&
        (($(frozen_at 2) < $(thawed_at 3)))
}
take ordered
check "a set in waves is complete" set_is "$id" COMPLETE
check "its partitions were frozen in that order, and all at once" in_order
check "and it is proved" proved "$id"

# The second wave waits for the first, and the set for both.
rm -f "$LAB"/etc/hooks-*/frozen
touch "$LAB/etc/hooks-3/wait"
id=$("$cli" set create ordered) || lab_die "no set"
check "the first wave begins" lab_wait 10 test -e "$LAB/etc/hooks-3/frozen"
check "the second waits for it" test ! -e "$LAB/etc/hooks-1/frozen"
rm "$LAB/etc/hooks-3/wait"
check "then it goes on" lab_wait 30 set_is "$id" COMPLETE

# One machine whose front must stop before its back, another in between.
proof_time() {
    "$cli" set show "$id" --json | jq -r --arg p "$1" --arg when "$2" '.parts[] | select(.partition == $p) | .proof[$when]'
}
front_to_back() {
    local front between back
    front=$(proof_time front frozenAtNs) between=$(proof_time ledger frozenAtNs) back=$(proof_time back frozenAtNs)
    [[ -n $front && -n $between && -n $back ]] && ((front < between && between < back)) &&
        ((back < $(proof_time front thawedAtNs)))
}
if [[ $lab_mode == real ]]; then
    tiers_start
    tiered=('partitions: [node-1/front, node-1/back, node-2/ledger]' 'hold_limit: 8s' 'freeze_timeout: 3s' 'waves:')
    check "one machine may freeze in two waves" group tiered "${tiered[@]}" \
        '  - partitions: [node-1/front]' '  - partitions: [node-2/ledger]' '  - partitions: [node-1/back]'
    take tiered
    check "such a set is complete" set_is "$id" COMPLETE
    check "its front stops first, its back last, and all at once" front_to_back
    check "and it is proved" proved "$id"
    check "what one pause stops cannot be in two waves" group shared \
        'partitions: [node-1/front, node-1/front-too]' 'waves:' '  - partitions: [node-1/front]' '  - partitions: [node-1/front-too]'
    check "which is refused before anything freezes, saying why" \
        refused "one pause stops both.*put them into one wave" "$cli" set create shared
else
    skip "waves within one machine" "needs cgroup v2"
fi

check "so is a partition in no wave" refused "'node-1/ledger' is in none of them" group wrong \
    'partitions: [node-3/ledger, node-1/ledger]' 'waves:' '  - partitions: [node-3/ledger]'
check "and a wave of others" refused "'node-2/ledger' is none of the group's" group wrong \
    'partitions: [node-3/ledger]' 'waves:' '  - partitions: [node-3/ledger, node-2/ledger]'

# ---- a group that changes, and runs that overlap ----

rm -f "$LAB"/etc/hooks-*/frozen
touch "$LAB/etc/hooks-1/wait"
id=$("$cli" set create tight) || lab_die "no set"
lab_wait 10 test -e "$LAB/etc/hooks-1/frozen" || lab_die "nothing freezes"
check "a group may change during a run" group tight 'partitions: [node-2/ledger]'
check "a run that overlaps is refused by partition, set and group" \
    refused "partition 'node-1/ledger' is being captured in set '$id' of group 'tight'" "$cli" set create ordered
check "a relaxed one, too" refused "partition 'node-1/ledger' is being captured in set '$id'" "$cli" set create odd
check "and one of the same group" refused "set '$id' of group 'tight' is being taken" "$cli" set create tight
rm "$LAB/etc/hooks-1/wait"
check "the run ends with the partitions it began with" lab_wait 30 set_is "$id" COMPLETE
check "all three of them" part_is "$id" node-3/ledger VERIFIED
take tight
check "the next one has those of the group as it is now" grep -q "^$id .* COMPLETE * 1 " <("$cli" set list)

# ---- agents that do not fit ----

# register NODE JSON: what an agent would say of itself.
register() {
    "$BUILD/tests/tools/rpc_ask" "$LAB/pki/ca.pem" "$LAB/pki/agent-$1.pem" "$LAB/pki/agent-$1.key" \
        "coord-1@127.0.0.1:$((LAB_PORT + 1))" WorkerService RegisterNode "$2"
}

lab_stop agent-3
check "an agent of the protocol before registers" register node-3 \
    '{"node":{"node":"node-3","address":"127.0.0.1:9","repositories":["ledger"],"partitions":[
        {"node":"node-3","partition":"ledger","path":"/x","quiesce":"hook","capture":"copy","domain":"node-3/hook:ledger"}]}}'
check "it is told of, before anything freezes" refused "node-3/ledger: its agent speaks protocol 1, this coordinator 3" \
    "$cli" set create ordered
check "in the list, too" lists partition "node-3/ledger.*protocol 1"

shim=$PWD/build/tests/tools/preload/clock.so
if [[ $(ldd "$BUILD/stillpoint-agent") =~ (/[^ ]*libasan[^ ]*) ]]; then shim=${BASH_REMATCH[1]}:$shim; fi
year=$((365 * 24 * 3600))
rm -f "$LAB"/etc/hooks-*/frozen
# clocked SECONDS: agent 3 with its clock so far off.
clocked() {
    lab_stop agent-3
    LAB_ENV="LD_PRELOAD=$shim CLOCK_AHEAD_S=$1" lab_agent 3
}
clocked $((year - 86000))
lab_wait 20 lists partition "the node's clock is"
check "an agent whose clock is a year ahead is refused" refused "node-3/ledger: .*clock is 364 days ahead of" \
    "$cli" set create ordered
clocked 3600
check "one that is an hour ahead, too" lab_wait 20 refused "node-3/ledger: .*clock is (59|60) minutes ahead" \
    "$cli" set create ordered
clocked "-$year"
check "by one a year behind no certificate is valid, which its log says" lab_wait 20 \
    grep -qE "error register clock .*is valid from .*this machine's clock shows .*: set the clock" "$LAB/log/agent-3"
lab_stop agent-3
check "nothing was frozen for them" test ! -e "$LAB/etc/hooks-1/frozen"
lab_agent 3
lab_wait 20 lab_all_ready
# What a node is told that has a set open which was captured without it (its answers may have been lost).
touch "$LAB/etc/hooks-3/fail"
take loose
rm "$LAB/etc/hooks-3/fail"
verdict() {
    register "$1" "{\"openSets\":[{\"set\":\"$id\",\"state\":\"SESSION_CAPTURED\"}],\"node\":$(
        "$cli" node list --json | jq -c --arg n "$1" '.nodes[] | select(.node == $n)')}" | grep -q "\"state\": *\"$2\""
}
check "a node that was left out hears ABORTED" verdict node-3 SET_ABORTED
check "one that was not, hears COMPLETE" verdict node-1 SET_COMPLETE
lab_wait 20 lab_all_ready
take ordered
check "with its clock right, its partition is in the next set" part_is "$id" node-3/ledger VERIFIED
check "nothing is left captured" lab_wait 15 no_captures
stop_daemons
check "no daemon has anything to report" no_sanitizer_reports
report
