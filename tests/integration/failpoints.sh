# shellcheck shell=bash
# For tests that have a daemon die or stop at a named state: BUILD becomes a build with failpoints, made if need
# be. Sourced before lab.sh.
BUILD=${BUILD:-build/asan-gcc}
if ! grep -qsa STILLPOINT_FAILPOINT "$BUILD/stillpoint-agent"; then
    BUILD=build/asan-gcc
    make -s VARIANT=asan all || exit 1
fi

# wishing NAME COMMAND…: starts the daemon so that wish NAME MACHINE:STATE[:stop] reaches it while it runs.
wishing() {
    LAB_ENV=STILLPOINT_FAILPOINT=@$LAB/run/wish-$1 "${@:2}"
}
wish() {
    printf '%s\n' "$2" >"$LAB/run/wish-$1.new" && mv "$LAB/run/wish-$1.new" "$LAB/run/wish-$1"
}

# Such tests ask whether writers go on, not how much they get done.
export LEDGER_PACE_MS=5
export LSAN_OPTIONS=suppressions=$PWD/tests/lint/lsan.supp:print_suppressions=0
