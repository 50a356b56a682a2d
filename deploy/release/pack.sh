#!/bin/sh
# pack.sh PROGRAM VERSION TARGET SBOM FOLDER: makes the archive of a built program, with completions, man pages, licences and the list of
# what it is made of, and beside it the checksum and that list again. Prints the archive. The bytes depend on what goes in and on
# $SOURCE_DATE_EPOCH alone. `[package.metadata.binstall]` has the same names.
set -eu
program=$1 version=$2 target=$3 sbom=$4 out=$5
root=$(cd "$(dirname "$0")/../.." && pwd)
: "${SOURCE_DATE_EPOCH:?expected the time of the commit, in seconds}"

name=cdc-drill-$version-$target
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/$name/completions" "$work/$name/man" "$out"
install -m 755 "$program" "$work/$name/cdc-drill"
for shell in bash zsh fish; do
    "$program" completions "$shell" >"$work/$name/completions/cdc-drill.$shell"
done
"$program" man "$work/$name/man" 2>/dev/null
install -m 644 "$root"/README.md "$root"/CHANGELOG.md "$root"/LICENSE-MIT "$root"/LICENSE-APACHE "$work/$name/"
install -m 644 "$sbom" "$work/$name/cdc-drill.cdx.json"
mkdir "$work/$name/ci"
install -m 644 "$root"/deploy/ci/*.yml "$work/$name/ci/"
install -m 755 "$root"/deploy/ci/*.sh "$work/$name/ci/"

archive=$out/$name.tar.gz
tar --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u+rw,go+r,go-w,a+X \
    -C "$work" -cf "$work/archive.tar" "$name"
gzip --best --no-name <"$work/archive.tar" >"$archive"
install -m 644 "$sbom" "$out/$name.cdx.json"
(cd "$out" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
echo "$archive"
