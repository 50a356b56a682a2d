#!/bin/sh
# What runs unattended, in pods and by the units of deploy/systemd:
#
#   tasks.sh night CONFIG                            a recovery point, what need not be kept, and a check
#   tasks.sh validation CONFIG REPORTS [OPTIONS]     three drills with their controls in a stack of their own (OPTIONS are those of `cdc-drill run`),
#                                                    then a proof of the newest recovery point; neither touches the pipeline
#
# A task that fails keeps none of the others from running; the first failure is the exit status.
set -u
what=$1
config=$2
shift 2
first=0

task() {
    echo "== cdc-drill $*"
    cdc-drill "$@"
    code=$?
    echo "== exit code $code"
    [ "$first" -ne 0 ] || first=$code
}

case $what in
night)
    task backup create --config "$config"
    task backup prune --config "$config"
    task backup check --config "$config"
    ;;
validation)
    reports=$1
    shift
    task run database-corruption slot-loss schema-conflict --report-dir "$reports" --record "$config" "$@"
    task prove --config "$config"
    ;;
*)
    echo "expected night or validation, found $what" >&2
    exit 2
    ;;
esac
exit "$first"
