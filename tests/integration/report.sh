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

report() {
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    ((failed == 0))
}
