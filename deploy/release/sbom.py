#!/usr/bin/env python3
"""What the program is made of, as CycloneDX 1.5 in JSON, from `cargo metadata` and Cargo.lock alone.

Every package that is compiled into the program is a component, with its checksum and licence; so are packages that carry the source
of a C library (`openssl-src`). With --built, the messages of `cargo build --message-format=json` say what was linked for the target,
and one that is missing here is an error. The same packages give the same bytes.
"""
import argparse
import json
import os
import subprocess
import sys
import tomllib

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--target", required=True)
parser.add_argument("--features", default="")
parser.add_argument("--built", help="messages of the build")
parser.add_argument("--offline", action="store_true")
options = parser.parse_args()

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", options.target]
command += ["--features", options.features] if options.features else []
command += ["--offline"] if options.offline else []
metadata = json.loads(subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE).stdout)
with open(os.path.join(root, "Cargo.lock"), "rb") as lock:
    checksums = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.load(lock)["package"]}

packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
program = next(p["id"] for p in metadata["packages"] if p["name"] == "cdc-drill" and p["source"] is None)


def is_macro(package):
    return any("proc-macro" in target["kind"] for target in packages[package]["targets"])


def is_source(package):
    """Whether a build script compiles it in: its own code is not linked, what it carries is."""
    return packages[package]["name"].endswith("-src")


def needed(package):
    """The packages that are linked with one."""
    for dependency in nodes[package]["deps"]:
        kinds = {kind["kind"] for kind in dependency["dep_kinds"]}
        other = dependency["pkg"]
        if None in kinds and not is_macro(other) or "build" in kinds and is_source(other):
            yield other


linked, following = set(), [program]
while following:
    package = following.pop()
    if package not in linked:
        linked.add(package)
        following += needed(package)


def reference(package):
    return f"pkg:cargo/{packages[package]['name']}@{packages[package]['version'].replace('+', '%2B')}"


def component(package):
    found = packages[package]
    said = {
        "type": "application" if package == program else "library",
        "bom-ref": reference(package),
        "name": found["name"],
        "version": found["version"],
        "purl": reference(package),
    }
    if found["license"]:
        # Older packages write a slash for OR.
        said["licenses"] = [{"expression": found["license"].replace("/", " OR ")}]
    checksum = checksums.get((found["name"], found["version"]))
    if checksum:
        said["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return said


rustc = subprocess.run(["rustc", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()[1]
others = sorted(linked - {program}, key=reference)
components = [component(package) for package in others]
# The standard library is linked too, and for musl the C library that it brings.
components.append({"type": "library", "bom-ref": f"rust-std@{rustc}", "name": "rust-std", "version": rustc})
document = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    "version": 1,
    "metadata": {
        "component": component(program),
        "properties": [{"name": "cdc-drill:target", "value": options.target}],
    },
    "components": components,
    "dependencies": [
        {"ref": reference(package), "dependsOn": sorted({reference(other) for other in needed(package)})}
        for package in [program, *others]
    ],
}
epoch = os.environ.get("SOURCE_DATE_EPOCH")
if epoch:
    import datetime

    at = datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc)
    document["metadata"]["timestamp"] = at.strftime("%Y-%m-%dT%H:%M:%SZ")

if options.built:
    folder = f"/{options.target}/"
    seen = 0
    with open(options.built) as messages:
        for line in messages:
            message = json.loads(line)
            if message.get("reason") != "compiler-artifact" or "custom-build" in message["target"]["kind"]:
                continue
            # What runs while building lies elsewhere: the target is named, so the host has a folder of its own.
            if not any(folder in name for name in message["filenames"]):
                continue
            seen += 1
            if message["package_id"] not in linked:
                sys.exit(f"{message['package_id']} is linked for {options.target}, and is not in the list")
    if seen < 100:
        sys.exit(f"{options.built}: expected the packages of a whole build, found {seen}")

json.dump(document, sys.stdout, indent=1)
print()
