# shellcheck shell=bash
# A whole Stillpoint installation on one machine, for the quickstart and the tests: certificates,
# coordinators, three agents with guardians, and a three-shard ledger under load. Sourced, not run.
# Everything lies below $LAB; lab_down takes all of it away again. Loopback only.
#
#   lab_up            make LAB, certificates, volumes; choose real or fallback quiescing
#   lab_coordinator N / lab_node N / lab_shards / lab_load      start them
#   lab_down          stop what was started, unmount, remove
#
# LAB_ENV ("NAME=VALUE …") goes into the environment of the daemons being started. Who sources this may say
# otherwise where daemons live: lab_address NAME prints the address of one, lab_enter NAME what to run it by.

BUILD=${BUILD:-build/release-gcc}
LAB_NODES=${LAB_NODES:-3}
LAB_PORT=${LAB_PORT:-$((20000 + RANDOM % 10000))} # below the ephemeral ports
lab_pids=()  # "pid name" of everything started
lab_mode=""  # real: cgroup + btrfs; fallback: hook + copy

lab_address() { printf '127.0.0.1'; }
lab_enter() { :; }
# shellcheck disable=SC2046 # several words
lab_cli() { $(lab_enter coord-1) "$BUILD/stillpoint" "$@"; }

lab_say() { printf '%s\n' "$*"; }
lab_die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# lab_wait SECONDS COMMAND…: until the command succeeds. Asks ever less often, since it may be a whole program.
lab_wait() {
    local until=$((SECONDS + $1)) pause_ms=30
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < until)) || return 1
        sleep "0.$(printf '%03d' "$pause_ms")"
        pause_ms=$((pause_ms < 300 ? pause_ms * 3 / 2 : 300))
    done
}

# lab_start NAME COMMAND…: in the background, its output in $LAB/log/NAME; sets lab_pid.
lab_start() {
    local name=$1
    shift
    "$@" >>"$LAB/log/$name" 2>&1 </dev/null &
    lab_pid=$!
    lab_pids+=("$lab_pid $name")
    printf '%s\n' "$lab_pid" >"$LAB/run/$name.pid"
}

# lab_stop NAME [SIGNAL]: ends what lab_start started by that name, or has died, and waits for it.
lab_stop() {
    local pid kept=() entry
    pid=$(cat "$LAB/run/$1.pid" 2>/dev/null) || return 0
    lab_signal "$pid" "${2:-TERM}"
    wait "$pid" 2>/dev/null
    rm -f "$LAB/run/$1.pid"
    for entry in "${lab_pids[@]}"; do [[ $entry == "$pid $1" ]] || kept+=("$entry"); done
    lab_pids=("${kept[@]}")
}

# A daemon's log begins anew when it starts; what it said before is kept in NAME.before.
lab_new_log() {
    [[ ! -s $LAB/log/$1 ]] || cat "$LAB/log/$1" >>"$LAB/log/$1.before"
    : >"$LAB/log/$1"
}

lab_cgroup_root() {
    awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts
}

lab_can_mount() {
    local dir=$LAB/probe
    mkdir -p "$dir" && truncate -s 128M "$LAB/probe.img" && mkfs.btrfs -q "$LAB/probe.img" &&
        mount -o loop "$LAB/probe.img" "$dir" && umount "$dir"
}

lab_can_cgroup() {
    local root
    root=$(lab_cgroup_root) && [[ -n $root ]] && mkdir -p "$root/$LAB_NAME" &&
        [[ -e $root/$LAB_NAME/cgroup.freeze ]]
}

lab_up() {
    ((EUID == 0)) || lab_die "must be root: it mounts volumes and freezes cgroups (use sudo)"
    LAB_NAME=stillpoint-lab-$$
    LAB=${LAB:-/var/lib/$LAB_NAME}
    mkdir -p "$LAB"/{log,run,etc,pki,state,disk,mnt,sock,repo,restore} || lab_die "cannot make $LAB"
    chmod 700 "$LAB"
    lab_mode=real
    # LAB_FALLBACK=1 tries what is done where mounting or cgroups are not permitted.
    if [[ -n ${LAB_FALLBACK:-} ]] || ! lab_can_mount >/dev/null 2>&1 || ! lab_can_cgroup >/dev/null 2>&1; then
        lab_mode=fallback
    fi
    deploy/certs init "$LAB/pki" lab >/dev/null || lab_die "certificates"
    deploy/certs issue "$LAB/pki" operator admin >/dev/null || lab_die "certificates"
    head -c 24 /dev/urandom | base64 >"$LAB/etc/password"
    chmod 600 "$LAB/etc/password"
    "$BUILD/stillpoint" repo init --repo "$LAB/repo/ledger" --password-file "$LAB/etc/password" -q \
        >/dev/null || lab_die "repository"
    for ((n = 1; n <= LAB_NODES; n++)); do lab_volume "$n"; done
}

# The volume of node N: a btrfs loop volume with a subvolume, or a plain directory.
lab_volume() {
    local dir=$LAB/mnt/$1
    mkdir -p "$dir"
    if [[ $lab_mode == real ]]; then
        truncate -s 2G "$LAB/disk/$1.img"
        mkfs.btrfs -q "$LAB/disk/$1.img" >/dev/null 2>&1 || lab_die "mkfs.btrfs"
        mount -o loop "$LAB/disk/$1.img" "$dir" || lab_die "mount"
        btrfs -q subvolume create "$dir/data" || lab_die "subvolume"
        mkdir -p "$(lab_cgroup_root)/$LAB_NAME/shard-$1"
    else
        mkdir -p "$dir/data"
    fi
}

lab_coordinator_list() {
    local list="" i
    for ((i = 1; i <= ${LAB_COORDINATORS:-1}; i++)); do list+="\"coord-$i@$(lab_address "coord-$i"):$((LAB_PORT + i))\", "; done
    printf '[%s]' "${list%, }"
}

# lab_coordinator N: with etcd embedded, or $LAB_ETCD ("http://…") when there are several.
lab_coordinator() {
    local name=coord-$1 etcd="embedded: true"
    [[ -n ${LAB_ETCD:-} ]] && etcd="endpoints: [\"$LAB_ETCD\"]"
    [[ -e $LAB/pki/coordinator-$name.pem ]] ||
        deploy/certs issue "$LAB/pki" coordinator "$name" localhost 127.0.0.1 >/dev/null || lab_die "certificates"
    cat >"$LAB/etc/$name.yaml" <<YAML
cluster: lab
name: $name
listen: $(lab_address "$name"):$((LAB_PORT + $1))
tls: {ca: $LAB/pki/ca.pem, cert: $LAB/pki/coordinator-$name.pem, key: $LAB/pki/coordinator-$name.key}
etcd: {$etcd}
state_dir: $LAB/state/$name
lease: ${LAB_LEASE:-10s}
drills: ${LAB_DRILLS:-false}
YAML
    cat >"$LAB/etc/client.yaml" <<YAML
cluster: lab
coordinators: $(lab_coordinator_list)
tls: {ca: $LAB/pki/ca.pem, cert: $LAB/pki/operator-admin.pem, key: $LAB/pki/operator-admin.key}
YAML
    export STILLPOINT_CONFIG=$LAB/etc/client.yaml
    lab_new_log "$name"
    # shellcheck disable=SC2086,SC2046 # several words
    lab_start "$name" $(lab_enter "$name") env ${LAB_ENV:-} "$BUILD/stillpoint-coordinator" --config "$LAB/etc/$name.yaml"
    lab_wait 30 grep -q "^info coordinator started" "$LAB/log/$name" ||
        lab_die "coordinator did not start: $(tail -n 3 "$LAB/log/$name")"
}

lab_quiesce() {
    local sock=$LAB/sock/$1 client
    client=$(realpath "$BUILD/tests/tools/ledger_client")
    if [[ $lab_mode == real ]]; then
        printf '    quiesce: {method: cgroup, cgroup: /%s/shard-%s}\n    capture: {method: btrfs}\n' "$LAB_NAME" "$1"
    else
        printf '    quiesce: {method: hook, hook: {freeze: ["%s", send, "%s", pause], thaw: ["%s", send, "%s", resume]}}\n' \
            "$client" "$sock" "$client" "$sock"
        printf '    capture: {method: copy, dir: %s/captures/%s}\n' "$LAB" "$1"
    fi
}

lab_node_config() {
    local name=node-$1
    [[ -e $LAB/pki/agent-$name.pem ]] ||
        deploy/certs issue "$LAB/pki" agent "$name" localhost 127.0.0.1 >/dev/null || lab_die "certificates"
    mkdir -p "$LAB/run/$name" "$LAB/restore/$name" "$LAB/captures/$1"
    {
        cat <<YAML
cluster: lab
node: $name
listen: $(lab_address "$name"):$((LAB_PORT + 20 + $1))
coordinators: $(lab_coordinator_list)
tls: {ca: $LAB/pki/ca.pem, cert: $LAB/pki/agent-$name.pem, key: $LAB/pki/agent-$name.key}
guardian_socket: $LAB/run/$name/guardian.sock
state_dir: $LAB/state/$name
restore_dirs: ["$LAB/restore/$name"]
drills: ${LAB_DRILLS:-false}
partitions:
  - name: ledger
    path: $LAB/mnt/$1/data
YAML
        lab_quiesce "$1"
        cat <<YAML
repositories:
  - {name: ledger, url: $LAB/repo/ledger, password_file: $LAB/etc/password}
YAML
    } >"$LAB/etc/$name.yaml"
}

lab_guardian() {
    lab_new_log "guardian-$1"
    # shellcheck disable=SC2086,SC2046 # several words
    lab_start "guardian-$1" $(lab_enter "node-$1") env ${LAB_ENV:-} "$BUILD/stillpoint-guardian" --config "$LAB/etc/node-$1.yaml"
    lab_wait 10 test -S "$LAB/run/node-$1/guardian.sock" ||
        lab_die "guardian $1 did not start: $(tail -n 3 "$LAB/log/guardian-$1")"
}

lab_agent() {
    lab_new_log "agent-$1"
    # shellcheck disable=SC2086,SC2046 # several words
    lab_start "agent-$1" $(lab_enter "node-$1") env ${LAB_ENV:-} "$BUILD/stillpoint-agent" --config "$LAB/etc/node-$1.yaml"
    lab_wait 20 grep -q "^info agent started" "$LAB/log/agent-$1" ||
        lab_die "agent $1 did not start: $(tail -n 3 "$LAB/log/agent-$1")"
}

lab_node() {
    lab_node_config "$1"
    lab_guardian "$1"
    lab_agent "$1"
}

# One SQLite server a shard, each in its own cgroup.
lab_shard() {
    # shellcheck disable=SC2016 # expanded by the inner shell
    local enter='[[ -z $0 ]] || echo $$ >"$0/cgroup.procs"; exec "$@"' group=""
    [[ $lab_mode == real ]] && group=$(lab_cgroup_root)/$LAB_NAME/shard-$1
    lab_start "shard-$1" bash -c "$enter" "$group" \
        "$BUILD/tests/tools/ledger_shard" "$LAB/mnt/$1/data" "$LAB/sock/$1"
    lab_wait 10 grep -q ready "$LAB/log/shard-$1" || lab_die "shard $1 did not start"
}

lab_shards() {
    for ((n = 1; n <= LAB_NODES; n++)); do lab_shard "$n"; done
}

# lab_load NAME: a client that debits one shard and, only after the answer, credits another.
lab_load() {
    local sockets=()
    for ((n = 1; n <= LAB_NODES; n++)); do sockets+=("$LAB/sock/$n"); done
    lab_start "client-$1" "$BUILD/tests/tools/ledger_client" "$1" "$LAB/run/count-$1" "${sockets[@]}"
}

lab_transfers() {
    local n=0
    read -r n _ <"$LAB/run/count-$1" 2>/dev/null
    printf '%s' "${n:-0}"
}

# True once $1's client has made at least $2 transfers.
lab_transferred() {
    (($(lab_transfers "$1") >= $2))
}

lab_group() {
    {
        printf 'group: ledger\nrepository: ledger\nhold_limit: %s\npartitions:\n' "${1:-10s}"
        for ((n = 1; n <= LAB_NODES; n++)); do printf '  - node-%s/ledger\n' "$n"; done
    } >"$LAB/etc/ledger.yaml"
    lab_wait 15 lab_all_ready || lab_die "not all agents have registered"
    lab_cli group apply -f "$LAB/etc/ledger.yaml" -q || lab_die "group"
}

# Every agent is there, and so is every guardian: an agent without one has an error to tell.
lab_all_ready() {
    (($(lab_cli node list | grep -c " connected ") == LAB_NODES)) &&
        ! lab_cli partition list --json | grep -qE '"error": ?"[^"]'
}

# lab_adopt DIR: takes over what an earlier run left running there, for lab_down.
lab_adopt() {
    local file
    [[ -d $1/run && -d $1/pki && ${1##*/} == stillpoint-lab-* ]] || lab_die "'$1' is no lab"
    LAB=$1 LAB_NAME=${1##*/}
    for file in "$LAB"/run/*.pid; do
        [[ -e $file ]] && lab_pids+=("$(cat "$file") $(basename "$file" .pid)")
    done
}

lab_down() {
    local entry i
    for ((i = ${#lab_pids[@]} - 1; i >= 0; i--)); do
        entry=${lab_pids[i]}
        lab_signal "${entry%% *}" TERM
    done
    for entry in "${lab_pids[@]}"; do
        # A frozen process hears SIGTERM only after its thaw, which its guardian's end brings.
        lab_wait 10 lab_gone "${entry%% *}" || lab_signal "${entry%% *}" KILL
        wait "${entry%% *}" 2>/dev/null
    done
    lab_pids=()
    for ((n = 1; n <= LAB_NODES; n++)); do
        mountpoint -q "$LAB/mnt/$n" && umount "$LAB/mnt/$n"
        rmdir "$(lab_cgroup_root)/$LAB_NAME/shard-$n" 2>/dev/null
    done
    rmdir "$(lab_cgroup_root)/$LAB_NAME" 2>/dev/null
    rm -rf --one-file-system "$LAB"
}

# Ids are given again: only a process that was started with a path of this lab is one of ours.
lab_gone() {
    ! grep -qsF "$LAB" "/proc/$1/cmdline"
}

lab_signal() {
    lab_gone "$1" || kill "-$2" "$1" 2>/dev/null
}
