#!/bin/sh
# build.sh [TARGET [FOLDER]]: builds the program for a target (x86_64-unknown-linux-musl, a static one, unless given) and makes an archive with its
# checksum in a folder (target/release-archives). Needs git, GNU tar, gzip and Python 3 with venv; for musl, `rustup target add` and the
# Python package `ziglang`, a C compiler, which comes into target/release-tools by pip where no `zig` is on the path. The bytes follow from
# the commit, the folder of the checkout and the compilers.
set -eu
cd "$(dirname "$0")/../.."

target=${1:-x86_64-unknown-linux-musl}
out=${2:-target/release-archives}
zig_version=0.17.1
tools=$PWD/target/release-tools
cargo_home=${CARGO_HOME:-$HOME/.cargo}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

# Paths of this machine stay out of the program.
export RUSTFLAGS="--remap-path-prefix=$PWD=/cdc-drill --remap-path-prefix=$cargo_home=/cargo"
features=
case $target in
*-musl)
    # librdkafka, OpenSSL, aws-lc, zstd and mimalloc are C: this compiles them for musl, and the standard library of the target brings the rest.
    mkdir -p "$tools/bin"
    if command -v zig >/dev/null; then
        zig="zig"
    else
        [ -x "$tools/python/bin/python" ] || python3 -m venv "$tools/python"
        "$tools/python/bin/python" -m ziglang version >/dev/null 2>&1 ||
            "$tools/python/bin/pip" install --quiet "ziglang==$zig_version"
        zig="$tools/python/bin/python -m ziglang"
    fi
    for word in cc c++; do
        # The name of the target by which build scripts call it is not Zig's.
        cat >"$tools/bin/cdc-drill-$word" <<END
#!/bin/sh
for word in "\$@"; do
    shift
    case \$word in --target=*) ;; *) set -- "\$@" "\$word" ;; esac
done
exec $zig $word -target ${target%%-*}-linux-musl -fno-sanitize=undefined "\$@"
END
        chmod +x "$tools/bin/cdc-drill-$word"
    done
    export PATH=$tools/bin:$PATH ZIG_GLOBAL_CACHE_DIR=$tools/zig ZIG_LOCAL_CACHE_DIR=$tools/zig
    # librdkafka's configure reads CC and CFLAGS alone; what runs here while it builds has the others.
    export CC=cdc-drill-cc CXX=cdc-drill-c++ HOST_CC=cc HOST_CXX=c++ HOST_CFLAGS=
    CFLAGS="-ffile-prefix-map=$PWD=/cdc-drill -ffile-prefix-map=$cargo_home=/cargo"
    export CFLAGS
    export "CFLAGS_$(echo "$target" | tr - _)=$CFLAGS"
    # librdkafka makes its shared library too, whose version script names symbols that are not in it: Zig's linker minds, GNU's does not.
    export LDFLAGS="-Wl,--undefined-version"
    features="--features kafka-tls-vendored"
    ;;
esac

[ -d "$(rustc --print target-libdir --target "$target")" ] || {
    echo "no standard library of $target: expected it from \`rustup target add $target\`" >&2
    exit 1
}
mkdir -p "$tools"
messages=$tools/built-$target.json
# shellcheck disable=SC2086  # none or two words
cargo build --locked --profile dist --target "$target" --bin cdc-drill $features \
    --message-format=json-render-diagnostics >"$messages"
program=target/$target/dist/cdc-drill

sbom=$tools/cdc-drill-$version-$target.cdx.json
# shellcheck disable=SC2086
python3 deploy/release/sbom.py --target "$target" $features --built "$messages" >"$sbom"
archive=$(deploy/release/pack.sh "$program" "$version" "$target" "$sbom" "$out")
deploy/release/check.sh "$archive" "$version" "$target"
echo "$archive"
