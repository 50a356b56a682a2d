#!/usr/bin/env bash
# Runs a command with the machine taken away: `starved.sh quota|busy COMMAND...`
#
# quota  half a core, by a cgroup, for the command and everything that it starts; needs root
# busy   16 processes beside it that never rest
set -euo pipefail

mode=${1:?quota or busy}
shift

busy() {
    local pids=()
    for _ in $(seq 16); do
        (while :; do :; done) &
        pids+=("$!")
    done
    # shellcheck disable=SC2064 # the list as it is now
    trap "kill ${pids[*]} 2>/dev/null || true" EXIT
    "$@"
}

quota() {
    local group=cdc-drill-starved-$$ folder
    if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then
        folder=/sys/fs/cgroup/$group
        mkdir "$folder"
        echo "50000 100000" >"$folder/cpu.max"
    else
        folder=/sys/fs/cgroup/cpu/$group
        mkdir "$folder"
        echo 100000 >"$folder/cpu.cfs_period_us"
        echo 50000 >"$folder/cpu.cfs_quota_us"
    fi
    # Servers that are on their way out leave the group a moment later.
    # shellcheck disable=SC2064
    trap "for _ in \$(seq 50); do rmdir $folder 2>/dev/null && break; sleep 0.2; done" EXIT
    # A child of its own, so that this shell can take the group away behind it.
    sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' starved "$folder" "$@"
}

case $mode in
quota | busy) "$mode" "$@" ;;
*)
    echo "starved.sh: expected quota or busy, found $mode" >&2
    exit 2
    ;;
esac
