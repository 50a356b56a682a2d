#!/bin/sh
# check.sh ARCHIVE VERSION TARGET: looks at an archive as somebody does who has fetched it: its checksum, what is in it, and the program, which for
# musl runs in a root folder that holds nothing else.
set -eu
archive=$1 version=$2 target=$3
name=cdc-drill-$version-$target

wrong() {
    echo "$archive: $*" >&2
    exit 1
}

(cd "$(dirname "$archive")" && sha256sum --check --quiet "$name.tar.gz.sha256") || wrong "its checksum is another"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar -C "$work" -xzf "$archive"
for file in cdc-drill completions/cdc-drill.bash man/cdc-drill.1 LICENSE-MIT LICENSE-APACHE cdc-drill.cdx.json; do
    [ -s "$work/$name/$file" ] || wrong "no $file in it"
done

case $target in
*-musl)
    if readelf --program-headers "$work/$name/cdc-drill" | grep -q INTERP; then
        wrong "expected a static program, found one with an interpreter"
    fi
    # An empty root but for the program.
    mkdir "$work/root"
    cp "$work/$name/cdc-drill" "$work/root/cdc-drill"
    set -- chroot "$work/root" /cdc-drill
    [ "$(id -u)" = 0 ] || set -- unshare --map-root-user "$@"
    ;;
*) set -- "$work/$name/cdc-drill" ;;
esac
said=$("$@" --version)
[ "$said" = "cdc-drill $version" ] || wrong "expected version $version, found: $said"
"$@" scenario check slot-loss >&2 || wrong "it cannot read its own scenarios"
