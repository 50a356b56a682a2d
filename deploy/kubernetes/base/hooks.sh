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
    # 1 says that it is down, and nothing else does: whatever fails ends with 2.
    replicas=$(kubectl -n "$namespace" get "statefulset/$name" -o 'jsonpath={.spec.replicas}') || exit 2
    pod=$(kubectl -n "$namespace" get pod "$name-0" --ignore-not-found -o name) || exit 2
    case "$replicas$pod" in
    0) exit 1 ;;
    [0-9]*) exit 0 ;;
    *)
        echo "statefulset/$name does not say how many replicas it has" >&2
        exit 2
        ;;
    esac
    ;;
*)
    echo "expected start, stop or running, found $verb" >&2
    exit 2
    ;;
esac
