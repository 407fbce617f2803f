#!/usr/bin/env bash
# What `make install` puts where; units as systemd reads them, and how exposed they are; the
# example files as the programs read them. Needs root for files of root's; starts nothing.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build/release-gcc}
BUILD=$(realpath "$BUILD")
# shellcheck source=tests/integration/report.sh
. tests/integration/report.sh
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

installed() {
    make -s install "PREFIX=$prefix" DESTDIR= CC=gcc VARIANT=release || return
    local f
    for f in bin/stillpoint bin/stillpoint-{coordinator,agent,guardian,certs} \
        lib/systemd/system/stillpoint-{coordinator,agent,guardian}.service \
        lib/{sysusers.d,tmpfiles.d}/stillpoint.conf \
        share/doc/stillpoint/examples/{coordinator,agent,client,group}.yaml; do
        [[ -f $prefix/$f ]] || { printf "no '%s'\n" "$f" && return 1; }
    done
    ! grep -rn '=/usr/bin/' "$prefix/lib/systemd" # the prefix is written into them
}

below_destdir() {
    make -s install "DESTDIR=$work/dest" PREFIX=/usr CC=gcc VARIANT=release &&
        [[ -x $work/dest/usr/bin/stillpoint ]] &&
        grep -q '^ExecStart=/usr/bin/stillpoint-agent ' \
            "$work/dest/usr/lib/systemd/system/stillpoint-agent.service"
}

# Every unit is read without a word of complaint.
verified() {
    local said
    said=$(systemd-analyze verify --man=no "$prefix"/lib/systemd/system/*.service 2>&1 |
        grep stillpoint)
    printf '%s\n' "$said"
    [[ -z $said ]]
}

# exposed UNIT LIMIT: systemd's rating of how much of the system a service may reach, 0 to 100.
exposed() {
    systemd-analyze security --no-pager --offline=true "--threshold=$2" \
        "$prefix/lib/systemd/system/stillpoint-$1.service" | tail -n 1
    ((PIPESTATUS[0] == 0))
}

watched() {
    local unit
    for unit in coordinator agent; do
        grep -qx 'Type=notify' "$prefix/lib/systemd/system/stillpoint-$unit.service" &&
            grep -q '^WatchdogSec=' "$prefix/lib/systemd/system/stillpoint-$unit.service" ||
            return 1
    done
    # A thaw must not wait for anything but the guardian's own restart.
    grep -qx 'Restart=always' "$prefix/lib/systemd/system/stillpoint-guardian.service"
}

# The agent's unit must not take the guardian down with it.
guardian_stands_alone() {
    ! grep -E '^(BindsTo|PartOf|Requires|Requisite)=.*stillpoint' \
        "$prefix"/lib/systemd/system/stillpoint-{agent,guardian}.service
}

users_known() {
    systemd-sysusers --dry-run "$prefix/lib/sysusers.d/stillpoint.conf" 2>&1 |
        tee "$work/users" | grep -q stillpoint || grep -q '^stillpoint:' /etc/passwd
}

# ---- the example files ----

example() {
    install -m 0600 "deploy/examples/$1.yaml" "$work/$1.yaml"
}

accepts() {
    local program=$1 file=$2
    example "$file" && "$BUILD/stillpoint-$program" --config "$work/$file.yaml" --check
}

# A key that is not one is refused: so "accepted" above says something.
refuses() {
    local program=$1 file=$2 output
    example "$file" && printf 'clutser: x\n' >>"$work/$file.yaml"
    output=$("$BUILD/stillpoint-$program" --config "$work/$file.yaml" --check 2>&1) && return 1
    printf '%s\n' "$output"
    [[ $output == *clutser* ]]
}

# The command line gets as far as the certificate that the example names.
client_and_group() {
    local output
    example client && example group
    output=$("$BUILD/stillpoint" group apply --config "$work/client.yaml" \
        --file "$work/group.yaml" 2>&1)
    printf '%s\n' "$output"
    [[ $output == *"open '/etc/stillpoint/tls/ca.pem'"* ]]
}

client_refused() {
    example client && printf 'clutser: x\n' >>"$work/client.yaml"
    "$BUILD/stillpoint" status --config "$work/client.yaml" 2>&1 | grep clutser
}

group_refused() {
    example client && example group && printf 'clutser: x\n' >>"$work/group.yaml"
    "$BUILD/stillpoint" group apply --config "$work/client.yaml" --file "$work/group.yaml" 2>&1 |
        grep clutser
}

check everything-is-installed installed
check installed-below-destdir below_destdir
check the-agent-does-not-take-the-guardian-down guardian_stands_alone
check services-are-watched watched
if command -v systemd-analyze >/dev/null; then
    check units-are-read verified
    check coordinator-exposure-1.5 exposed coordinator 15
    check agent-exposure-3.5 exposed agent 35
    check guardian-exposure-6 exposed guardian 60
    check users-are-read users_known
else
    skip units-are-read "no systemd-analyze"
fi
check coordinator-example-is-accepted accepts coordinator coordinator
check agent-example-is-accepted accepts agent agent
check postgresql-example-is-accepted accepts agent postgresql
check guardian-accepts-the-agents-example accepts guardian agent
check coordinator-refuses-an-unknown-key refuses coordinator coordinator
check agent-refuses-an-unknown-key refuses agent agent
check client-and-group-examples-are-accepted client_and_group
check client-refuses-an-unknown-key client_refused
check group-refuses-an-unknown-key group_refused
report
