#!/usr/bin/env bash
# The command line as an operator meets it: help, empty lists, JSON, Ctrl-C, terminals, and no
# coordinator at all.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=deploy/lab.sh
. deploy/lab.sh
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh

# shellcheck disable=SC2034 # lab.sh reads it
LAB_NODES=1
cli=$(realpath "$BUILD")/stillpoint
trap 'lab_down' EXIT

commands() { "$cli" --help | awk '/^Commands:/ { on = 1; next } /^$/ { on = 0 } on { print $1, $2 }'; }

each_has_help() {
    local noun verb n=0
    while read -r noun verb; do
        # shellcheck disable=SC2046 # a noun alone has no verb
        "$cli" "$noun" $(commands_verb "$noun" "$verb") --help >"$LAB/run/help" 2>&1 || return 1
        grep -q '^Examples:' "$LAB/run/help" && grep -q -- '--json' "$LAB/run/help" || return 1
        n=$((n + 1))
    done < <(commands)
    ((n > 20))
}

# "status show …" in the list is the noun `status` followed by its summary.
commands_verb() { [[ $1 == status ]] || printf '%s' "$2"; }

json_lines() { "$@" 2>/dev/null | jq -es 'length > 0' >/dev/null; }

# Ctrl-C as soon as the set is being uploaded: 130, at once, the set goes on.
interrupt() {
    local pid until=$((SECONDS + 20))
    # A background job of a script ignores SIGINT unless a shell of its own makes it not.
    bash -ic "exec '$cli' set create ledger --watch" >"$LAB/run/watch" 2>&1 </dev/null &
    pid=$!
    until grep -q CAPTURED "$LAB/run/watch" || ((SECONDS > until)); do sleep 0.01; done
    kill -INT "$pid"
    wait "$pid"
    (($? == 130)) && grep -q 'goes on: follow it with `stillpoint set watch' "$LAB/run/watch"
}
newest_is_complete() { "$cli" set list | awk 'NR == 2 { exit $2 != "COMPLETE" }'; }

redraws() { # on a terminal: the cursor goes up as many lines as were drawn
    TERM=xterm script -qec "stty cols 40; $cli set create ledger --watch" /dev/null >"$LAB/run/tty"
    grep -q $'\033\\[2A' "$LAB/run/tty" && ! grep -Eq $'^(\033\\[[0-9]*[AK])*  [^\033]{39}' "$LAB/run/tty"
}
plain_when_dumb() {
    TERM=dumb script -qec "$cli set create ledger --watch" /dev/null >"$LAB/run/tty"
    ! grep -q $'\033' "$LAB/run/tty"
}

# The reason within two seconds, the end after the turns that an election may take.
says_what_was_tried() {
    local pid
    "$cli" set list >"$LAB/run/away" 2>&1 &
    pid=$!
    lab_wait 2 grep -q 'tried coord-1@127.0.0.1:.*trying again' "$LAB/run/away"
    local said=$?
    kill -TERM "$pid"
    wait "$pid"
    (($? == 130)) && return "$said"
}

lab_up
lab_coordinator 1
check "every command has help with examples" each_has_help
says "no command" 2 'Commands:' "$cli"
says "a wrong verb is guessed" 2 "did you mean 'create'" "$cli" set craete x
says "a wrong option is guessed" 2 "did you mean '--watch'" "$cli" set create x --wathc
says "a missing argument" 2 'takes GROUP' "$cli" set create
"$cli" repo init --repo "$LAB/repo/lines" --password-file "$LAB/etc/password" -q
says "lost output is a failure" 1 'write the output: No space left' sh -c "'$cli' repo key list --json \
    --repo '$LAB/repo/lines' --password-file '$LAB/etc/password' >/dev/full"
says "no sets" 0 'no sets yet.*set create' "$cli" set list
says "nothing to report" 0 'no captured sets yet.*set create' "$cli" report pauses
says "no groups" 0 'no groups yet.*group apply' "$cli" group list
says "no nodes" 0 'no agent has registered' "$cli" node list
says "no partitions" 0 'no partitions' "$cli" partition list
says "--from takes a number" 2 "'abc' is not a whole number" "$cli" audit list --from abc
lab_node 1
lab_shards
lab_group 10s
check "Ctrl-C ends the watching, not the set" interrupt
check "the set became COMPLETE" lab_wait 20 newest_is_complete
check "a terminal is redrawn and nothing wraps" redraws
check "a dumb terminal gets no control sequences" plain_when_dumb
id=$("$cli" set list | awk 'NR == 2 { print $1 }')
says "the seal is shown" 0 '^seal +snapshot [0-9a-f]{8}' "$cli" set show "$id"
for arguments in status "node list" "partition list" "group list" "group show ledger" "group check ledger" \
    "set list" "report pauses" "set show $id" "set watch $id" "set prove $id" "set verify $id" "audit list" \
    "set restore $id --target $LAB/restore/node-1/x"; do
    # shellcheck disable=SC2086 # words
    check "JSON of ${arguments%% "$id"*}" json_lines "$cli" $arguments --json
done
lab_stop coord-1
check "without a coordinator it says what was tried" says_what_was_tried
says "the error is JSON too" 1 '^\{"message_type":"exit_error"' timeout 40 "$cli" status --json
report
