#!/usr/bin/env bash
# Builds the images of this folder.
#
#   image.sh PROGRAM          the image for backups and recoveries, with this cdc-drill (cargo build --release)
#   image.sh PROGRAM drills   and the one for drills and proofs, with what `PROGRAM setup` has fetched
#
#   BASE      the image that PostgreSQL's programs are taken from; postgres:18 by default
#   KUBECTL   the kubectl that goes in; the one on the PATH by default
#   IMAGE, DRILLS_IMAGE   the names that they get
#   ENGINE    docker by default, or podman
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=${1:?usage: image.sh PROGRAM [drills]}
base=${BASE:-postgres:18}
image=${IMAGE:-registry.example/cdc-drill:18}
drills=${DRILLS_IMAGE:-registry.example/cdc-drill-drills:18}
engine=${ENGINE:-docker}
kubectl=${KUBECTL:-$(command -v kubectl || true)}
[[ -n $kubectl ]] || { echo "no kubectl on the PATH: hooks need it; KUBECTL names one" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

build() { # NAME CONTAINERFILE CONTEXT [ARGUMENT=VALUE]
    local name=$1 file=$2 context=$3
    shift 3
    # No network: everything comes from the base image and the context.
    DOCKER_BUILDKIT=0 "$engine" build --network none --file "$here/$file" --tag "$name" "${@/#/--build-arg=}" "$context" >"$work/build.log" 2>&1 ||
        { tail -30 "$work/build.log" >&2; exit 1; }
    echo "$name"
}

mkdir "$work/operations"
# Symbols are of use to a debugger alone.
strip -o "$work/operations/cdc-drill" "$program"
cp -L "$kubectl" "$work/operations/kubectl"
cp "$here/gather.sh" "$work/operations/"
build "$image" Containerfile "$work/operations" "BASE=$base"
rm -rf "$work/operations"

[[ ${2:-} == drills ]] || exit 0
components=$("$program" setup --json | sed -n 's/^ *"programs": "\(.*\)",\?$/\1/p')
cache=$(dirname "$components")
mkdir -p "$work/drills/cache"
# Without what only tests of this project need.
cp -a "$components" "$cache"/plugins-* "$work/drills/cache/"
build "$drills" Containerfile.drills "$work/drills" "OPERATIONS=$image" "CACHE=$cache"
