#!/bin/bash
# The guardian on real filesystems: whatever is killed, writers go on.
# Needs root, loop devices, btrfs, xfs, ext4 and a cgroup2 mount; skips what is missing.
# Programs come from $BUILD (default build/release-gcc).
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build/release-gcc}
BUILD=$(realpath "$BUILD")
PASSED=0 FAILED=0 SKIPPED=0
ONLY=${1:-}

if [ "$(id -u)" != 0 ]; then
    echo "skip everything (needs root)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi

WORK=$(mktemp -d "${TMPDIR:-/tmp}/guardian-test.XXXXXX")
CGROUPS=$(findmnt -n -l -t cgroup2 -o TARGET | head -1)
GROUP=guardian-test-$$
LOOPS=() MOUNTS=() BEATS=()
declare -A BEAT_OF
KEEPER=
SOCKET=$WORK/run/guardian.sock

# shellcheck source=tests/integration/guardian_world.sh
. tests/integration/guardian_world.sh

# ---- Cases, for each filesystem ----

case_cut() {
    local copy
    start_ctl
    freeze "$1" "cut-$1" 3000
    ask commit "cut-$1" "$1"
    expect "item $1 ok"
    expect "unbroken=1"
    goes_on "$1" 200
    copy=$(capture_dir "$1")/cut-$1.$1
    # What the copy shows is one beat, whole, and earlier than now.
    [ "$(tr -d ' \n' < "$copy/beat")" -le "$(beats "$1")" ] || fail "no beat in $copy"
    ask list
    expect "capture=cut-$1.$1"
    ask abort "cut-$1"
    [ -e "$copy" ] && fail "abort left $copy"
    [ -z "$(ls -A "$(capture_dir "$1")")" ] || fail "abort left $(ls -A "$(capture_dir "$1")")"
    stop_ctl
}

case_client_killed() {
    start_ctl
    freeze "$1" "client-$1" 5000
    kill -9 "$CTL_PROCESS"
    goes_on "$1" 1000
    stop_ctl
}

case_doer_killed() {
    start_ctl
    freeze "$1" "doer-$1" 5000
    # shellcheck disable=SC2046  # a list
    kill -9 $(doers)
    goes_on "$1" 1000
    ask commit "doer-$1" "$1"
    expect "error CONFLICT"
    expect "died"
    ask abort "doer-$1"
    freeze "$1" "doer-again-$1" 2000
    ask abort "doer-again-$1"
    goes_on "$1" 500
    stop_ctl
}

case_keeper_killed() {
    local orphans
    start_ctl
    freeze "$1" "keeper-$1" 5000
    orphans=$(doers)
    kill -9 "$KEEPER"
    goes_on "$1" 1000
    # shellcheck disable=SC2086  # a list
    await_death $orphans
    stop_ctl
    start_guardian || fail "the guardian did not start again"
}

case_all_killed() {
    start_ctl
    freeze "$1" "all-$1" 5000
    # Stopped first, so that none of them sees another die.
    # shellcheck disable=SC2046  # a list
    kill -STOP "$KEEPER" $(doers)
    # shellcheck disable=SC2046  # a list
    kill -9 $(doers) "$KEEPER"
    stop_ctl
    stands_still "$1"
    launch_guardian
    goes_on "$1" 1000
    await_ready || fail "the guardian did not start again"
    grep -n recovered "$WORK/guardian.log" | head -1 | grep -q '^1:' || fail "READY came before the thaw"
}

case_expiry() {
    start_ctl
    freeze "$1" "late-$1" 1000
    goes_on "$1" 2000
    ask commit "late-$1" "$1"
    expect "error CONFLICT"
    expect "hold limit"
    [ -e "$(capture_dir "$1")/late-$1.$1" ] && fail "an expired hold has a capture"
    stop_ctl
}

case_stopped_doer() {
    start_ctl
    freeze "$1" "stuck-$1" 1000
    # shellcheck disable=SC2046  # a list
    kill -STOP $(doers)
    ask commit "stuck-$1" "$1"
    expect "item $1 error CONFLICT"
    goes_on "$1" 200
    # shellcheck disable=SC2046  # a list
    kill -CONT $(doers)
    stop_ctl
    # Its capture, if it made one after all, is accounted for.
    start_ctl
    ask abort "stuck-$1"
    gone "stuck-$1"
    stop_ctl
}

for_each_disk() {
    local disk
    for disk in ext4 xfs btrfs; do
        wanted "$1_$disk" || continue
        begin "$1_$disk"
        "case_$1" "$disk"
        finish
    done
}

# ---- Cases of one kind ----

case_repeated_freeze_has_one_epoch() {
    local first
    start_ctl
    freeze btrfs repeat 3000
    first=$(epoch_in)
    ask freeze repeat 3000 1000
    [ "$(epoch_in)" = "$first" ] || fail "another epoch: $ANSWER"
    ask abort repeat
    goes_on btrfs 500
    stop_ctl
}

case_three_domains_in_one_set() {
    start_ctl
    ask arm three 0 ext4 xfs btrfs
    ask freeze three 4000 2000
    stands_still ext4
    stands_still btrfs
    ask commit three ext4 xfs btrfs
    [ "$(grep -c ' ok .*unbroken=1' <<< "$ANSWER")" = 3 ] || fail "$ANSWER"
    goes_on ext4 200
    goes_on xfs 200
    goes_on btrfs 200
    ask drop xfs three.xfs
    ask list
    [[ $ANSWER == *capture=three.xfs* ]] && fail "drop left it"
    expect three.ext4
    ask abort three
    ask list
    [[ $ANSWER == *three.* ]] && fail "abort left: $ANSWER"
    stop_ctl
}

case_foreign_freeze_is_refused() {
    fsfreeze -f "$WORK/ext4"
    echo 1 > "$CGROUPS/$GROUP/db/cgroup.freeze"
    start_ctl
    ask arm foreign 0 ext4 btrfs
    fsfreeze -u "$WORK/ext4"
    echo 0 > "$CGROUPS/$GROUP/db/cgroup.freeze"
    expect "item ext4 error CONFLICT"
    expect "frozen by somebody else"
    expect "item btrfs error CONFLICT"
    expect "frozen already"
    goes_on ext4 500
    ask abort foreign
    stop_ctl
}

case_foreign_thaw_is_noticed() {
    start_ctl
    freeze ext4 disturbed 4000
    fsfreeze -u "$WORK/ext4"
    ask commit disturbed ext4
    expect "item ext4 error CONFLICT"
    expect "did not stay frozen"
    freeze btrfs disturbed2 4000
    echo 0 > "$CGROUPS/$GROUP/db/cgroup.freeze"
    goes_on btrfs 500
    ask commit disturbed2 btrfs
    expect "item btrfs error CONFLICT"
    gone disturbed
    stop_ctl
}

# Mounts, open files and captures inside are told by their paths, which a link hides.
case_path_through_a_link_is_refused() {
    start_ctl
    ask arm aliased 0 aliased inward
    expect "item aliased error INVALID"
    expect "'$WORK/xfs/one'"
    expect "item inward error INVALID"
    expect "'$WORK/btrfs/hooked2/here'"
    stop_ctl
}

# What is mounted after Prepare has looked would be an empty folder in the copy.
case_mount_after_prepare_fails_the_capture() {
    start_ctl
    mkdir -p "$WORK/xfs/tree/late"
    ask arm mounted 0 tree
    expect "item tree ok"
    mount -t tmpfs none "$WORK/xfs/tree/late"
    ask freeze mounted 3000 1000
    ask commit mounted tree
    umount "$WORK/xfs/tree/late"
    rmdir "$WORK/xfs/tree/late"
    expect "item tree error"
    expect "another filesystem is mounted"
    ask abort mounted
    stop_ctl
}

# Its path leads elsewhere by the time of the capture.
case_swapped_partition_fails_the_capture() {
    local swapped=$WORK/btrfs/data
    start_ctl
    freeze btrfs swapped 5000
    mv "$swapped" "$swapped.kept"
    btrfs -q subvolume create "$swapped"
    mkdir -m 700 "$swapped/.stillpoint"
    ask commit swapped btrfs
    expect "item btrfs error CONFLICT"
    expect "another folder than the one that was checked"
    [ -z "$(ls -A "$swapped/.stillpoint")" ] || fail "it captured $(ls -A "$swapped/.stillpoint")"
    btrfs -q subvolume delete "$swapped" > /dev/null
    mv "$swapped.kept" "$swapped"
    goes_on btrfs 1000
    ask abort swapped
    stop_ctl
}

case_nested_subvolume_is_refused() {
    btrfs -q subvolume create "$WORK/btrfs/data/inner" > /dev/null
    mkdir "$WORK/ext4/below"
    mount -t tmpfs none "$WORK/ext4/below"
    start_ctl
    ask arm nested 0 btrfs ext4
    umount "$WORK/ext4/below"
    btrfs -q subvolume delete "$WORK/btrfs/data/inner" > /dev/null
    expect "item btrfs error INVALID"
    expect "subvolume '$WORK/btrfs/data/inner' lies inside"
    expect "item ext4 error INVALID"
    expect "a tmpfs filesystem is mounted inside"
    stop_ctl
}

# Before Prepare it is refused; after it, found while all stands still, before the capture gets its name.
case_foreign_writer_is_refused() {
    start_ctl
    exec 9> "$WORK/btrfs/data/foreign"
    ask arm writer 0 btrfs
    exec 9>&-
    expect "item btrfs error CONFLICT"
    expect "process $$ (guardian.sh)"
    expect "/foreign"
    ask arm writer 0 btrfs
    expect "item btrfs ok"
    exec 9> "$WORK/btrfs/data/foreign"
    ask freeze writer 4000 1000
    ask commit writer btrfs
    exec 9>&-
    rm "$WORK/btrfs/data/foreign"
    expect "item btrfs error CONFLICT"
    expect "process $$ (guardian.sh)"
    goes_on btrfs 500
    gone writer
    stop_ctl
}

case_empty_cgroup_is_refused() {
    echo "${BEAT_OF[btrfs]}" > "$CGROUPS/cgroup.procs"
    start_ctl
    ask arm empty 0 btrfs
    expect "holds no process"
    echo "${BEAT_OF[btrfs]}" > "$CGROUPS/$GROUP/db/cgroup.procs"
    stop_ctl
}

case_full_disk_is_refused() {
    truncate -s 16M "$WORK/small.img"
    mkfs.ext4 -q "$WORK/small.img" > /dev/null 2>&1
    mkdir -p "$WORK/state/captures"
    mount -o loop "$WORK/small.img" "$WORK/state/captures"
    start_ctl
    ask arm full 0 ext4
    umount "$WORK/state/captures"
    rm "$WORK/small.img"
    expect "item ext4 error NO_SPACE"
    stop_ctl
}

case_second_set_on_a_domain_is_refused() {
    start_ctl
    ask arm one 0 ext4
    ask arm two 0 ext4
    expect "item ext4 error CONFLICT another set holds"
    ask abort one
    ask arm two 0 ext4
    expect "item ext4 ok"
    ask abort two
    stop_ctl
}

case_hooks_pause_and_resume() {
    echo hello > "$WORK/btrfs/hooked/file"
    start_ctl
    ask arm hook 0 hooked
    expect "item hooked ok"
    ask freeze hook 4000 2000
    expect "item hooked ok"
    [ -e "$WORK/hook-frozen" ] || fail "the freeze command did not run"
    ask commit hook hooked
    expect "evidence=3"
    [ -e "$WORK/hook-frozen" ] && fail "the thaw command did not run"
    [ "$(cat "$WORK/btrfs/hooked/.stillpoint/hook.hooked/file")" = hello ] || fail "no capture"
    ask abort hook
    ask arm no 0 refusing
    expect "item refusing ok"
    ask freeze no 4000 2000
    expect "exited with status 3: the database said no"
    sleep 0.1
    [ -e "$WORK/hook-frozen" ] && fail "a half-done freeze was not undone"
    stop_ctl
}

case_hook_is_undone_when_the_keeper_dies() {
    local orphans
    start_ctl
    ask arm hook 0 hooked
    ask freeze hook 4000 2000
    orphans=$(doers)
    kill -9 "$KEEPER"
    # shellcheck disable=SC2086  # a list
    await_death $orphans
    [ -e "$WORK/hook-frozen" ] && fail "the doer did not run the thaw command"
    stop_ctl
    start_guardian || fail "the guardian did not start again"
}

case_reflinked_tree_is_complete() {
    local t=$WORK/xfs/tree c
    mkdir -p "$t/sub/deep"
    echo one > "$t/file"
    ln "$t/file" "$t/sub/again"
    ln -s ../file "$t/sub/link"
    mkfifo "$t/sub/fifo"
    truncate -s 1M "$t/sparse"
    setfattr -n user.colour -v blue "$t/file"
    chown 12:34 "$t/sub/deep"
    chmod 4751 "$t/file"
    touch -d '2001-02-03 04:05:06.789' "$t/sub/deep" "$t/sparse"
    start_ctl
    ask arm tree 0 tree
    ask freeze tree 4000 2000
    ask commit tree tree
    expect "item tree ok"
    c=$WORK/xfs/tree/.stillpoint/tree.tree
    list_tree "$t" > "$WORK/want"
    list_tree "$c" > "$WORK/got"
    diff "$WORK/want" "$WORK/got" || fail "the trees differ"
    [ "$(stat -c %i "$c/file")" = "$(stat -c %i "$c/sub/again")" ] || fail "the hard link is lost"
    [ "$(getfattr --only-values -n user.colour "$c/file" 2> /dev/null)" = blue ] || fail "the attribute is lost"
    tr '\0' '\n' < "$c.manifest" | grep -q "^$(stat -c %i "$t/file") .* file$" || fail "no inode in the manifest"
    tr '\0' '\n' < "$c.manifest" | grep -q '^end 8$' || fail "the manifest has no end"
    ask drop tree tree.tree
    [ -z "$(ls -A "$t/.stillpoint")" ] || fail "drop left something"
    stop_ctl
}

list_tree() {
    (cd "$1" && find . -path ./.stillpoint -prune -o -printf '%p %y %m %U %G %T@ %l\n' | sort)
    (cd "$1" && find . -path ./.stillpoint -prune -o -type f -exec sha256sum {} + | sort)
}

# Killed in the midst of a long copy: what is there is listed as partial, and can go.
case_killed_copy_is_accounted_for() {
    mkdir "$WORK/ext4/many"
    (cd "$WORK/ext4/many" && seq 8000 | xargs touch)
    start_ctl
    freeze ext4 half 8000
    echo "commit half ext4" >&"${CTL[1]}"
    for _ in $(seq 200); do
        [ -e "$WORK/state/captures/.half.ext4.partial" ] && break
        sleep 0.002
    done
    # shellcheck disable=SC2046  # a list
    kill -STOP "$KEEPER" $(doers)
    # shellcheck disable=SC2046  # a list
    kill -9 $(doers) "$KEEPER"
    stop_ctl
    start_guardian || fail "the guardian did not start again"
    goes_on ext4 1000
    rm -r "$WORK/ext4/many"
    start_ctl
    ask list
    expect "partial=1 capture=half.ext4"
    ask drop ext4 half.ext4
    [ -z "$(ls -A "$WORK/state/captures")" ] || fail "something is left"
    stop_ctl
}

# A copy that outlives its hold: thawed in time, refused, and removed.
case_late_copy_is_removed() {
    mkdir "$WORK/ext4/many"
    (cd "$WORK/ext4/many" && seq 8000 | xargs touch)
    start_ctl
    ask arm slow 100 ext4
    expect "more than half of the hold limit"
    ask arm slow 0 ext4
    ask freeze slow 250 200
    expect "item ext4 ok"
    ask commit slow ext4
    expect "item ext4 error CONFLICT the hold limit was reached first"
    goes_on ext4 200
    rm -r "$WORK/ext4/many"
    ask abort slow
    [ -z "$(ls -A "$WORK/state/captures")" ] || fail "something is left"
    stop_ctl
}

# The disk fills up between the check and the capture.
case_full_disk_loses_the_capture_only() {
    mkdir -p "$WORK/state/captures"
    mount -t tmpfs -o size=40M,mode=700 none "$WORK/state/captures"
    head -c 4M /dev/urandom > "$WORK/ext4/data"
    start_ctl
    freeze_after_filling
    ask commit filled ext4
    expect "item ext4 error NO_SPACE"
    goes_on ext4 200
    gone filled
    stop_ctl
    umount "$WORK/state/captures"
    rm "$WORK/ext4/data"
}

freeze_after_filling() {
    ask arm filled 0 ext4
    expect "item ext4 ok"
    head -c 64M /dev/zero > "$WORK/state/captures/.filler" 2> /dev/null
    ask freeze filled 4000 1000
    expect "item ext4 ok"
}

case_hijacked_capture_folder_is_refused() {
    mkdir -p "$WORK/elsewhere"
    rmdir "$WORK/xfs/tree/.stillpoint" 2> /dev/null
    ln -s "$WORK/elsewhere" "$WORK/xfs/tree/.stillpoint"
    start_ctl
    ask arm hijack 0 tree
    expect "item tree error DENIED"
    rm "$WORK/xfs/tree/.stillpoint"
    ask arm hijack 0 tree
    expect "item tree ok"
    ask freeze hijack 4000 1000
    rmdir "$WORK/xfs/tree/.stillpoint"
    ln -s "$WORK/elsewhere" "$WORK/xfs/tree/.stillpoint"
    ask commit hijack tree
    expect "item tree error DENIED"
    [ -z "$(ls -A "$WORK/elsewhere")" ] || fail "it followed the link"
    rm "$WORK/xfs/tree/.stillpoint"
    stop_ctl
}

case_only_root_may_connect() {
    chmod 755 "$WORK" "$WORK/run"
    setpriv --reuid 65534 --regid 65534 --clear-groups "$BUILD/tests/tools/guard_ctl" "$SOCKET" < /dev/null > "$WORK/out" 2>&1
    grep -q "error DENIED" "$WORK/out" || fail "$(cat "$WORK/out")"
    chmod 666 "$SOCKET"
    setpriv --reuid 65534 --regid 65534 --clear-groups "$BUILD/tests/tools/guard_ctl" "$SOCKET" < /dev/null > "$WORK/out" 2>&1
    grep -q "error UNAVAILABLE" "$WORK/out" || fail "$(cat "$WORK/out")"
    chmod 600 "$SOCKET"
    chmod 700 "$WORK"
}

case_second_guardian_is_refused() {
    start_ctl
    freeze btrfs twice 3000
    timeout 20 "$BUILD/stillpoint-guardian" --config "$WORK/agent.yaml" 2> "$WORK/out"
    [ $? = 1 ] || fail "it started, or something else went wrong"
    grep -q "another guardian runs" "$WORK/out" || fail "$(cat "$WORK/out")"
    stands_still btrfs
    ask abort twice
    stop_ctl
}

# How many of the guardian's doers run in real time.
urgent_doers() {
    local p n=0
    for p in $(doers); do
        chrt -p "$p" | grep -q 'policy: SCHED_RR' && n=$((n + 1))
    done
    echo "$n"
}

case_urgent_only_while_writers_wait() {
    cp "$WORK/freeze.sh" "$WORK/freeze.kept"
    printf '#!/bin/sh\nchrt -p $$ >%s/hook-policy\nnice >>%s/hook-policy\n' "$WORK" "$WORK" > "$WORK/freeze.sh"
    start_ctl
    freeze btrfs urgent 3000
    chrt -p "$KEEPER" | grep -q 'policy: SCHED_RR' || fail "$(chrt -p "$KEEPER")"
    [ "$(urgent_doers)" = 1 ] || fail "$(urgent_doers) doers in real time while writers wait"
    ask commit urgent btrfs
    expect "item btrfs ok"
    [ "$(urgent_doers)" = 0 ] || fail "$(urgent_doers) doers in real time afterwards"
    ask abort urgent
    ask arm calm 0 hooked
    ask freeze calm 3000 1000
    expect "item hooked ok"
    ask abort calm
    stop_ctl
    grep -q 'policy: SCHED_OTHER' "$WORK/hook-policy" || fail "a hook ran with $(cat "$WORK/hook-policy")"
    [ "$(tail -1 "$WORK/hook-policy")" = "$(nice)" ] || fail "a hook ran with nice $(tail -1 "$WORK/hook-policy")"
    mv "$WORK/freeze.kept" "$WORK/freeze.sh"
}

# Its log goes where nobody reads: no line of it is worth a writer's time.
case_log_that_nobody_reads_delays_nothing() {
    local log=$WORK/log reader
    stop_guardian
    mkfifo "$log"
    exec {reader}<> "$log"
    "$BUILD/stillpoint-guardian" --config "$WORK/agent.yaml" 2> "$log" {reader}>&- &
    KEEPER=$!
    disown "$KEEPER"
    timeout 20 grep -q -m 1 "guardian ready" <&"$reader" || fail "it does not start"
    dd if=/dev/zero of="$log" bs=4096 oflag=nonblock 2> /dev/null
    dd if=/dev/zero of="$log" bs=1 oflag=nonblock 2> /dev/null
    cp "$WORK/thaw.sh" "$WORK/thaw.kept"
    sed -i '2i echo going on' "$WORK/thaw.sh"
    start_ctl
    freeze ext4 unread 1000
    goes_on ext4 2000
    freeze btrfs unread2 5000
    ask commit unread2 btrfs
    expect "item btrfs ok"
    goes_on btrfs 200
    ask abort unread2
    ask arm unread3 0 hooked
    ask freeze unread3 5000 1000
    expect "item hooked ok"
    ask abort unread3
    [ -e "$WORK/hook-frozen" ] && fail "a thaw command waits for whoever reads what it prints: $ANSWER"
    mv "$WORK/thaw.kept" "$WORK/thaw.sh"
    head -c 65536 <&"$reader" > /dev/null
    ask arm read 0 ext4
    ask abort read
    timeout 20 grep -a -q -m 1 "warn log lost lines=[1-9]" <&"$reader" || fail "it does not say that lines are lost"
    exec {reader}<&-
    stop_ctl
    stop_guardian
    start_guardian || fail "the guardian did not start again"
}

case_stop_thaws() {
    start_ctl
    freeze ext4 stop1 5000
    ask arm stop2 0 btrfs
    ask freeze stop2 5000 1000
    stop_guardian
    goes_on ext4 500
    goes_on btrfs 500
    stop_ctl
    start_guardian || fail "the guardian did not start again"
}

case_filesystem_can_be_unmounted_afterwards() {
    local p f
    start_ctl
    freeze xfs busy 3000
    ask abort busy
    goes_on xfs 500
    for p in $KEEPER $(doers); do
        for f in /proc/"$p"/fd/*; do
            [[ $(readlink "$f") == $WORK/xfs* ]] && fail "$f keeps the filesystem busy"
        done
    done
    stop_ctl
}

one() {
    wanted "$1" || return
    begin "$1"
    "case_$1"
    finish
}

if [ -z "$CGROUPS" ]; then
    skip everything "no cgroup2 mount"
elif ! make_world; then
    skip everything "no loop devices, mkfs or mount"
elif ! start_guardian; then
    begin start
    fail "the guardian does not start"
    finish
else
    for_each_disk cut
    for_each_disk client_killed
    for_each_disk doer_killed
    for_each_disk keeper_killed
    for_each_disk all_killed
    for_each_disk expiry
    for_each_disk stopped_doer
    one repeated_freeze_has_one_epoch
    one three_domains_in_one_set
    one foreign_freeze_is_refused
    one foreign_thaw_is_noticed
    one path_through_a_link_is_refused
    one mount_after_prepare_fails_the_capture
    one swapped_partition_fails_the_capture
    one nested_subvolume_is_refused
    one foreign_writer_is_refused
    one empty_cgroup_is_refused
    one full_disk_is_refused
    one second_set_on_a_domain_is_refused
    one hooks_pause_and_resume
    one hook_is_undone_when_the_keeper_dies
    one reflinked_tree_is_complete
    one killed_copy_is_accounted_for
    one late_copy_is_removed
    one full_disk_loses_the_capture_only
    one hijacked_capture_folder_is_refused
    one only_root_may_connect
    one second_guardian_is_refused
    if chrt -r 1 true 2> /dev/null; then
        one urgent_only_while_writers_wait
    else
        skip urgent_only_while_writers_wait "no real time here"
    fi
    one log_that_nobody_reads_delays_nothing
    one stop_thaws
    one filesystem_can_be_unmounted_afterwards
fi
echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
[ "$FAILED" = 0 ]
