# shellcheck shell=bash
# For tests that have a daemon die at a named state: BUILD becomes a build with failpoints, made if need
# be. Sourced before lab.sh.
BUILD=${BUILD:-build/asan-gcc}
if ! grep -qsa STILLPOINT_FAILPOINT "$BUILD/stillpoint-agent"; then
    BUILD=build/asan-gcc
    make -s VARIANT=asan all || exit 1
fi
