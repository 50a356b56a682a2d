#!/bin/sh
# Keeps Strimzi's operators from undoing a recovery: strimzi.sh hold|release NAMESPACE
#
# For `[recovery.operator]`. The resources of the connectors and topics that the recovery names get Strimzi's own annotation that pauses their
# reconciliation, and a mark that it was put there by this: what a person has paused stays paused. One without a resource has no operator.
set -eu
verb=$1
namespace=$2
pause=strimzi.io/pause-reconciliation
mark=cdc-drill/held

k() { kubectl -n "$namespace" "$@"; }

# The resources of these, each with what it has of both annotations: KIND/NAME PAUSED HELD
resources() {
    {
        k get kafkaconnectors -o 'jsonpath={range .items[*]}connector {.metadata.name} {.metadata.name} {.metadata.annotations.strimzi\.io/pause-reconciliation}|{.metadata.annotations.cdc-drill/held}{"\n"}{end}'
        k get kafkatopics -o 'jsonpath={range .items[*]}topic {.metadata.name} {.spec.topicName} {.metadata.annotations.strimzi\.io/pause-reconciliation}|{.metadata.annotations.cdc-drill/held}{"\n"}{end}'
    } >"$list"
    while read -r kind name real marks; do
        case $real in *'|'*)
            # A topic without spec.topicName has the name of its resource.
            marks=$real
            real=$name
            ;;
        esac
        case $kind in
        connector) wanted=${CDC_DRILL_CONNECTORS:-} ;;
        *) wanted=${CDC_DRILL_TOPICS:-} ;;
        esac
        case "
$wanted
" in *"
$real
"*) echo "kafka$kind/$name ${marks%%|*}|${marks#*|}" ;; esac
    done <"$list"
}

list=$(mktemp)
found=$(mktemp)
trap 'rm -f "$list" "$found"' EXIT
resources >"$found"
while read -r resource marks; do
    case "$verb $marks" in
    "hold true|") echo "$resource is paused already" ;;
    hold*)
        k annotate --overwrite "$resource" "$pause=true" "$mark=true" >/dev/null
        # The operator says so itself, when it has seen it: until then it may be at work.
        k wait "$resource" --for=condition=ReconciliationPaused --timeout=90s >/dev/null
        echo "$resource is held"
        ;;
    "release "*"|true")
        k annotate "$resource" "$pause-" "$mark-" >/dev/null
        echo "$resource is released"
        ;;
    release*) echo "$resource was not held by a recovery" ;;
    *)
        echo "expected hold or release, found $verb" >&2
        exit 2
        ;;
    esac
done <"$found"
