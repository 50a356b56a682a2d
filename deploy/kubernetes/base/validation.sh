#!/bin/sh
# What backup-recovery-validation runs: validation.sh CONFIG REPORTS [OPTIONS of `cdc-drill run`]. Three drills with their controls in a stack of
# this pod's own, then a proof of the newest recovery point. Neither touches the pipeline. The first failure is the exit status.
set -u
config=$1
reports=$2
shift 2
first=0

task() {
    echo "== cdc-drill $*"
    cdc-drill "$@"
    code=$?
    echo "== exit code $code"
    [ "$first" -ne 0 ] || first=$code
}

task run database-corruption slot-loss schema-conflict --report-dir "$reports" --record "$config" "$@"
task prove --config "$config"
exit "$first"
