#!/usr/bin/env bash
# The same judges in newer versions than this system's: restic and etcd of the next Debian
# suites. Each is skipped, with the reason, where it cannot be fetched. SUITES: "trixie sid".
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
BUILD=${BUILD:-build/release-gcc}

# newer NAME PACKAGE SUITE PATH COMMAND…: the command finds the program in $program.
newer() {
    local name=$1 reason
    reason=$(mktemp)
    if program=$(tests/interop/fetch "$2" "$3" "$4" 2>"$reason"); then
        export program
        check "$name" "${@:5}"
    else
        skip "$name" "$(tail -n 1 "$reason")"
    fi
    rm -f "$reason"
}

# Where the system's restic judges the even policies, the newer one takes the others.
[[ ${POLICIES:-} != even ]] || export POLICIES=odd

restic() { RESTIC=$program tests/interop/restic.sh; }
restic_life() { RESTIC=$program RECLAIM_ROUNDS=${RECLAIM_ROUNDS:-10} tests/interop/lifecycle.sh; }
etcd_units() {
    local t
    for t in "$BUILD"/tests/unit/etcd/*_test; do ETCD_BIN=$program "$t" || return 1; done
}

for suite in ${SUITES:-trixie sid}; do
    newer "repositories under restic of $suite" restic "$suite" usr/bin/restic restic
    newer "the life of a repository under restic of $suite" restic "$suite" usr/bin/restic restic_life
    newer "etcd of $suite" etcd-server "$suite" usr/bin/etcd etcd_units
done
report
