# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034  # BUILD, WORK, CGROUPS and the tables are the script's
# Writers of tests/integration/guardian.sh: who beats, and whether it goes on. Sourced.

start_beat() { # PART FOLDER [CGROUP]
    "$BUILD/tests/tools/guard_beat" "$2/beat" "$WORK/status-$1" &
    BEATS+=($!)
    disown $!
    [ -n "${3:-}" ] && echo $! > "$CGROUPS/$3/cgroup.procs"
    BEAT_OF[$1]=$!
    sleep 0.05
}

beats() {
    cut -c1-20 "$WORK/status-$1" | tr -d ' '
}

# The writer of $1 is writing: fails unless it goes on within $2 ms from now.
goes_on() {
    local from before
    from=$(now_ms)
    before=$(beats "$1")
    while [ "$(beats "$1")" -le "$((before + 2))" ]; do
        if [ $(($(now_ms) - from)) -gt "$2" ]; then
            fail "the writer of $1 did not go on within $2 ms"
            return 1
        fi
        sleep 0.01
    done
}

stands_still() {
    local before
    sleep 0.03
    before=$(beats "$1")
    sleep 0.1
    [ "$(beats "$1")" = "$before" ] || fail "the writer of $1 was not paused"
}
