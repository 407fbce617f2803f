# shellcheck shell=bash
# shellcheck disable=SC2034  # NAME and the tables are the script's
# What tests/integration/guardian.sh works with: the books, a guardian with its client, disks with writers. Sourced.

# ---- Bookkeeping ----

begin() {
    NAME=$1
    BROKEN=
}

fail() {
    BROKEN=1
    echo "#   $NAME: $*"
}

finish() {
    if [ -n "$BROKEN" ]; then
        echo "not ok $NAME"
        FAILED=$((FAILED + 1))
        sed 's/^/#   /' "$WORK/guardian.log" | tail -25
    else
        echo "ok $NAME"
        PASSED=$((PASSED + 1))
    fi
}

skip() {
    echo "skip $1 ($2)"
    SKIPPED=$((SKIPPED + 1))
}

wanted() {
    [ -z "$ONLY" ] || [[ $1 == *$ONLY* ]]
}

now_ms() {
    local t
    read -r t _ < /proc/uptime
    t=${t/./}
    echo $((10#$t * 10))
}

# shellcheck disable=SC2317  # called by the trap
cleanup() {
    stop_ctl
    stop_guardian
    local b m l
    for b in "${BEATS[@]}"; do
        kill -9 "$b" 2> /dev/null
    done
    if [ -d "$CGROUPS/$GROUP" ]; then
        find "$CGROUPS/$GROUP" -name cgroup.freeze -exec sh -c 'echo 0 > "$1"' _ {} \; 2> /dev/null
    fi
    for m in "${MOUNTS[@]}"; do
        fsfreeze -u "$m" 2> /dev/null
    done
    await_death "${BEATS[@]}"
    for m in "${MOUNTS[@]}"; do
        umount "$m" || umount -l "$m"
    done
    for l in "${LOOPS[@]}"; do
        losetup -d "$l"
    done
    find "$CGROUPS/$GROUP" -depth -type d -exec rmdir {} \; 2> /dev/null
    rm -rf "$WORK"
}
trap cleanup EXIT

# ---- What is under test ----

launch_guardian() {
    : > "$WORK/guardian.log"
    "$BUILD/stillpoint-guardian" --config "$WORK/agent.yaml" 2>> "$WORK/guardian.log" &
    KEEPER=$!
    disown "$KEEPER"
}

await_ready() {
    for _ in $(seq 300); do
        grep -q "guardian ready" "$WORK/guardian.log" && return 0
        kill -0 "$KEEPER" 2> /dev/null || return 1
        sleep 0.01
    done
    return 1
}

start_guardian() {
    launch_guardian
    await_ready
}

doers() {
    pgrep -P "$KEEPER"
}

# Waits until none of the given processes lives.
await_death() {
    local p
    for p in "$@"; do
        for _ in $(seq 300); do
            [ -d "/proc/$p" ] || break
            [ "$(awk '/^State/ {print $2}' "/proc/$p/status" 2> /dev/null)" = Z ] && break
            sleep 0.01
        done
    done
}

stop_guardian() {
    [ -n "$KEEPER" ] || return 0
    local children
    children=$(doers)
    kill "$KEEPER" 2> /dev/null
    # shellcheck disable=SC2086  # a list
    await_death "$KEEPER" $children
    KEEPER=
}

start_ctl() {
    coproc CTL { exec "$BUILD/tests/tools/guard_ctl" "$SOCKET"; }
    # shellcheck disable=SC2153  # set by coproc
    CTL_PROCESS=$CTL_PID
    disown "$CTL_PROCESS"
}

stop_ctl() {
    [ -n "${CTL_PROCESS:-}" ] || return 0
    kill -9 "$CTL_PROCESS" 2> /dev/null
    await_death "$CTL_PROCESS"
    CTL_PROCESS=
}

# Sends one command; its answer, without the closing "end", is in $ANSWER.
ask() {
    local line
    ANSWER=
    echo "$*" >&"${CTL[1]}"
    while IFS= read -r -t 30 line <&"${CTL[0]}"; do
        [ "$line" = end ] && return 0
        ANSWER+=$line$'\n'
    done
    ANSWER+="error no answer"
}

expect() {
    [[ $ANSWER == *"$1"* ]] || fail "expected '$1', got: $ANSWER"
}

# What is removed behind the answer is gone soon.
gone() {
    for _ in $(seq 200); do
        ask list
        [[ $ANSWER == *capture="$1"* ]] || return 0
        sleep 0.02
    done
    fail "left behind: $ANSWER"
}

epoch_in() {
    sed -n 's/.* epoch=\([0-9a-f]*\).*/\1/p' <<< "$ANSWER" | head -1
}

# shellcheck source=tests/integration/writers.sh
. tests/integration/writers.sh

# ---- The disks ----

make_disk() { # KIND SIZE
    local image=$WORK/$1.img loop
    truncate -s "$2" "$image"
    "mkfs.$1" -q "$image" > /dev/null 2>&1 || return 1
    loop=$(losetup -f --show "$image") || return 1
    LOOPS+=("$loop")
    mkdir -p "$WORK/$1"
    mount "$loop" "$WORK/$1" || return 1
    MOUNTS+=("$WORK/$1")
}

make_world() {
    mkdir -p "$WORK/run" "$WORK/state"
    chmod 700 "$WORK"
    make_disk ext4 64M && make_disk xfs 320M && make_disk btrfs 128M || return 1
    btrfs -q subvolume create "$WORK/btrfs/data" > /dev/null || return 1
    mkdir -p "$CGROUPS/$GROUP/db" "$WORK/xfs/tree" "$WORK/btrfs/hooked" || return 1
    printf '#!/bin/sh\ntouch %s/hook-frozen\n' "$WORK" > "$WORK/freeze.sh"
    printf '#!/bin/sh\nrm -f %s/hook-frozen\n' "$WORK" > "$WORK/thaw.sh"
    printf '#!/bin/sh\ntouch %s/hook-frozen\necho the database said no\nexit 3\n' "$WORK" > "$WORK/refuse.sh"
    chmod 700 "$WORK"/*.sh
    cat > "$WORK/agent.yaml" << END
cluster: test
node: n1
listen: 127.0.0.1:7000
coordinators: [127.0.0.1:7001]
tls: {ca: /nowhere/ca, cert: /nowhere/cert, key: /nowhere/key}
guardian_socket: $SOCKET
state_dir: $WORK/state
partitions:
  - {name: ext4, path: $WORK/ext4, quiesce: {method: fsfreeze}, capture: {method: copy}}
  - {name: xfs, path: $WORK/xfs, quiesce: {method: fsfreeze}, capture: {method: copy}, exclude: [/tree]}
  - {name: btrfs, path: $WORK/btrfs/data, quiesce: {method: cgroup, cgroup: /$GROUP/db}, capture: {method: btrfs}}
  - {name: tree, path: $WORK/xfs/tree, quiesce: {method: none}, read_only: true, capture: {method: reflink}}
  - name: hooked
    path: $WORK/btrfs/hooked
    quiesce: {method: hook, hook: {freeze: [$WORK/freeze.sh], thaw: [$WORK/thaw.sh]}}
    capture: {method: reflink}
  - name: refusing
    path: $WORK/btrfs/refusing
    quiesce: {method: hook, hook: {freeze: [$WORK/refuse.sh], thaw: [$WORK/thaw.sh]}}
    capture: {method: copy}
END
    mkdir "$WORK/btrfs/refusing" "$WORK/xfs/one"
    touch "$WORK/btrfs/hooked/file" "$WORK/btrfs/refusing/file" "$WORK/xfs/tree/file"
    ln -s "$WORK/xfs" "$WORK/alias"
    cat >> "$WORK/agent.yaml" << END
  - {name: aliased, path: $WORK/alias/one, quiesce: {method: none}, read_only: true, capture: {method: copy}}
  - {name: inward, path: $WORK/btrfs/hooked2, quiesce: {method: none}, read_only: true, capture: {method: copy, dir: $WORK/captures/here}}
END
    mkdir -p "$WORK/btrfs/hooked2/here"
    ln -s "$WORK/btrfs/hooked2" "$WORK/captures"
    start_beat ext4 "$WORK/ext4"
    start_beat xfs "$WORK/xfs"
    start_beat btrfs "$WORK/btrfs/data" "$GROUP/db"
}

capture_dir() {
    if [ "$1" = btrfs ]; then
        echo "$WORK/btrfs/data/.stillpoint"
    else
        echo "$WORK/state/captures"
    fi
}

# Arms and freezes $1 as set $2 with a hold limit of $3 ms; its writer stands still.
freeze() {
    ask arm "$2" 0 "$1"
    expect "item $1 ok"
    ask freeze "$2" "$3" 1000
    expect "item $1 ok"
    stands_still "$1"
}
