#!/bin/sh
# start, stop and running of a StatefulSet with one replica: hooks.sh VERB NAMESPACE STATEFULSET
set -eu
verb=$1
namespace=$2
name=$3

case "$verb" in
start)
    kubectl -n "$namespace" scale "statefulset/$name" --replicas=1
    kubectl -n "$namespace" rollout status "statefulset/$name" --timeout=280s
    ;;
stop)
    kubectl -n "$namespace" scale "statefulset/$name" --replicas=0
    # The pod is gone only when its server has ended: then the volume is this Job's alone.
    kubectl -n "$namespace" wait --for=delete "pod/$name-0" --timeout=280s
    ;;
running)
    replicas=$(kubectl -n "$namespace" get "statefulset/$name" -o 'jsonpath={.status.replicas}')
    test "${replicas:-0}" != 0
    ;;
*)
    echo "expected start, stop or running, found $verb" >&2
    exit 2
    ;;
esac
