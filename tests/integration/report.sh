# shellcheck shell=bash
# How integration scripts say what they saw: `ok NAME`, `not ok NAME`, `skip NAME`, and a closing
# count. Sourced.
passed=0 failed=0 skipped=0

ok() { printf 'ok %s\n' "$1" && passed=$((passed + 1)); }
not_ok() { printf 'not ok %s%s\n' "$1" "${2:+: $2}" && failed=$((failed + 1)); }
skip() { printf 'skip %s%s\n' "$1" "${2:+: $2}" && skipped=$((skipped + 1)); }

# check NAME COMMAND…: ok if the command, run in a shell of its own, succeeds. What it printed is
# in $said afterwards.
check() {
    local name=$1
    shift
    if said=$("$@" 2>&1); then ok "$name"; else not_ok "$name" "$(tail -n 3 <<<"$said" | tr '\n' ' ')"; fi
}

# says NAME STATUS PATTERN COMMAND…: ends with that status, and its output matches.
says() {
    local name=$1 want=$2 pattern=$3 got output
    shift 3
    output=$("$@" 2>&1 </dev/null)
    got=$?
    if ((got != want)); then
        not_ok "$name" "exit status $got instead of $want: $(tail -c 600 <<<"$output")"
    elif ! grep -Eq -- "$pattern" <<<"$output"; then
        not_ok "$name" "no /$pattern/ in: $(tail -c 600 <<<"$output")"
    else
        ok "$name"
    fi
}

report() {
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    ((failed == 0))
}
