#!/bin/sh
# The tasks of a night: night.sh CONFIG. A task that fails keeps none of the others from running; the first failure is the exit status.
set -u
config=$1
first=0

task() {
    echo "== cdc-drill $*"
    cdc-drill "$@"
    code=$?
    echo "== exit code $code"
    [ "$first" -ne 0 ] || first=$code
}

task backup create --config "$config"
task backup prune --config "$config"
task backup check --config "$config"
exit "$first"
