#!/usr/bin/env python3
"""A seeded sample of mutants of what decides a verdict, held against the ledger of known survivors.

`just mutants [N] [SEED]` calls it. It copies the sources to `target/mutants/<n>/tree`, one copy for each processor, where cargo-mutants
changes them in place: a working tree is never touched, and all mutants of a copy share its build folder. A copy has only the modules that a verdict is made of:
each mutant is compiled anew, and the rest of the library is most of that. The same seed and sources give the same sample.
Exit status: 0 when every survivor stands in the ledger as equivalent, 1 when one does not, 2 when the tools are missing.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LEDGER = ROOT / "tests/mutants/ledger.md"
OUT = ROOT / "target/mutants"
FILES = [
    "crates/verify/src/deliveries.rs",
    "crates/verify/src/fold/**/*.rs",
    "crates/verify/src/decode/**/*.rs",
    "crates/verify/src/checks/**/*.rs",
    "crates/verify/src/text/**/*.rs",
    "crates/harness/src/run/chronicle/**/*.rs",
    "crates/harness/src/run/judge/**/*.rs",
]
# What has to be copied for the library and its unit tests.
PARTS = ["Cargo.toml", "Cargo.lock", "ARCHITECTURE.md", "README.md", "src", "crates", "benches", "examples", "fixtures", "scenarios", "tests"]
# What is left of each of these: the modules that the mutated ones need.
MODULES = {
    "crates/harness/src/lib.rs": {"run", "scenario"},
    "crates/harness/src/run/mod.rs": {"chronicle", "judge"},
}
# The crates of these files. Nothing else is built: what uses a crate does not find in its copy the modules that were left out.
PACKAGES = sorted({file.split("/")[1] for file in FILES})
# The tests of what is mutated; all others would only cost time.
TESTS = ["checks::", "decode::", "deliveries::", "fold::", "observation::", "text::", "run::chronicle::", "run::judge::"]

TEST_FILE = re.compile(r"/(tests|properties|neighbours)\.rs$")


def packages():
    return [word for package in PACKAGES for word in ("--package", f"cdc-{package}")]


def command(*arguments):
    return ["cargo", "mutants", *packages(), *arguments]


def identity(mutant):
    """A name that stays when lines move: file, function, and what is put in the place of what."""
    name = re.sub(r"^[^ ]*?:\d+:\d+: ", "", mutant["name"])
    return f"{mutant['file']}: {name}"


def ranked(mutants, seed):
    """All mutants in the seed's order; of several with one name each has its number."""
    seen, keyed = {}, []
    for mutant in mutants:
        name = identity(mutant)
        number = seen[name] = seen.get(name, 0) + 1
        digest = hashlib.sha256(f"{seed}\0{name}\0{number}".encode()).hexdigest()
        keyed.append((digest, mutant))
    return [mutant for _, mutant in sorted(keyed, key=lambda pair: pair[0])]


def trimmed(text, modules):
    """A file that declares and re-exports modules, with only these of them."""
    kept = lambda m: m[0] if m[1] in modules else ""
    text = re.sub(r"^(?:pub(?:\([a-z]+\))? )?mod (\w+);\n", kept, text, flags=re.M)
    return re.sub(r"^(?:pub(?:\([a-z]+\))? )?use (\w+)::[^;]*;\n", kept, text, flags=re.M)


def content(file):
    """What stands in the copy of a file."""
    modules = MODULES.get(str(file.relative_to(ROOT)))
    return file.read_bytes() if modules is None else trimmed(file.read_text(), modules).encode()


def synchronise(tree):
    """Makes a tree what the sources are; files that are equal keep their times, or all would be built anew."""
    wanted = set()
    for part in PARTS:
        source = ROOT / part
        files = [source] if source.is_file() else [f for f in source.rglob("*") if f.is_file()]
        for file in (f for f in files if "target" not in f.relative_to(ROOT).parts):
            copy = tree / file.relative_to(ROOT)
            wanted.add(copy)
            wanted_content = content(file)
            if not copy.exists() or copy.read_bytes() != wanted_content:
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(wanted_content)
    for copy in (f for f in tree.rglob("*") if f.is_file() and f not in wanted):
        copy.unlink()


def equivalents():
    """The mutants that the ledger calls equivalent."""
    rows = re.findall(r"^\| `(.+?)` \| equivalent", LEDGER.read_text(), re.M) if LEDGER.exists() else []
    return {row.replace("\\|", "|") for row in rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("number", nargs="?", type=int, default=300)
    parser.add_argument("seed", nargs="?", default="1")
    parser.add_argument("--list", action="store_true", help="print the sample and run nothing")
    parser.add_argument("--only", metavar="PREFIX", action="append", default=[], help="sample only files whose path begins so")
    parser.add_argument("--workers", metavar="N", type=int, default=os.cpu_count() or 1, help="copies that are tested side by side")
    parser.add_argument("--again", metavar="FILE", help="of the sample, only the mutants that this file names, one a line")
    options = parser.parse_args()
    if shutil.which("cargo-mutants") is None:
        print("cargo-mutants is not installed: cargo install cargo-mutants --locked", file=sys.stderr)
        return 2
    workers = [OUT / str(n) for n in range(options.workers)]
    for worker in workers:
        synchronise(worker / "tree")
    selection = [part for file in FILES for part in ("--file", file)]
    tree = str(workers[0] / "tree")
    listed = subprocess.run(command("--list", "--json", "--dir", tree, *selection), check=True, capture_output=True)
    mutants = [m for m in json.loads(listed.stdout) if not TEST_FILE.search(m["file"])]
    wanted = [m for m in mutants if not options.only or m["file"].startswith(tuple(options.only))]
    sample = ranked(wanted, options.seed)[: options.number]
    if options.again:
        named = {re.sub(r"^\s*([^ ]*?):\d+:\d+: ", r"\1: ", line) for line in pathlib.Path(options.again).read_text().splitlines()}
        sample = [m for m in sample if identity(m) in named]
    if options.list:
        print("\n".join(m["name"] for m in sample))
        return 0
    if not all([build(worker) for worker in workers]):
        return 1
    # Neighbours in a file are much alike, and are built in turn.
    shares = [(worker, sample[n :: len(workers)]) for n, worker in enumerate(workers)]
    running = [start(worker, mutants, share, selection) for worker, share in shares]
    for process in running:
        process.wait()
    return report(sample, workers)


def environment(worker):
    return {
        **os.environ,
        "CARGO_TARGET_DIR": str(worker / "build"),
        "CARGO_PROFILE_DEV_DEBUG": "0",
        "CARGO_INCREMENTAL": "1",
        # Of the unit tests the properties take longest; their seeds are drawn anew, and a score must not be.
        "PROPTEST_RNG_SEED": "1",
        "PROPTEST_CASES": "64",
    }


def build(worker):
    """Builds a tree as it is, dependencies and all, which a new one does for as long as the machine takes: the limit on a build is that of a
    mutant. Each crate alone, as its mutants are built: with the features that it asks for itself."""
    tests = ["cargo", "test", "--quiet", "--no-run", "--lib"]
    each = [packages(), *([["--package", f"cdc-{package}"] for package in PACKAGES])]
    for chosen in each:
        built = subprocess.run([*tests, *chosen], cwd=worker / "tree", env=environment(worker), stderr=subprocess.PIPE, text=True)
        if built.returncode != 0:
            print(f"{built.stderr}{worker / 'tree'}: the copy without a mutant does not build: see MODULES", file=sys.stderr)
            return False
    return True


def start(worker, mutants, share, selection):
    """Begins to test a share of the sample."""
    select(worker, mutants, share)
    run = command(
        "--dir", str(worker / "tree"), "--in-place", "--output", str(worker), "--iterate", *selection,
        "--no-shuffle", "--colors", "never", "--timeout", "120", "--build-timeout", "600",
        "--cargo-arg", "--lib", "--", "--", *TESTS,
    )
    # Linking is a good part of each mutant; without mold it is only slower.
    faster = ["mold", "-run"] if shutil.which("mold") else []
    return subprocess.Popen([*faster, *run], env=environment(worker))


def select(worker, mutants, sample):
    """Has a worker's next run take these mutants and no others. By `--re` not all kinds of mutants can be chosen, but `--iterate` leaves
    out every one that stands in the lists of the run before."""
    sampled = {m["name"] for m in sample}
    folder = worker / "mutants.out"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "caught.txt").write_text("".join(f"{m['name']}\n" for m in mutants if m["name"] not in sampled))


def report(sample, workers):
    outcomes = []
    for worker in workers:
        file = worker / "mutants.out/outcomes.json"
        outcomes += json.loads(file.read_text())["outcomes"] if file.exists() else []
    counts, survivors = {}, []
    for outcome in outcomes:
        mutant = outcome["scenario"]["Mutant"] if isinstance(outcome["scenario"], dict) else None
        if mutant is None:
            continue
        summary = outcome["summary"]
        counts[summary] = counts.get(summary, 0) + 1
        if summary == "MissedMutant":
            survivors.append(mutant)
    known = equivalents()
    unknown = [m for m in survivors if identity(m) not in known]
    print(f"{len(sample)} mutants sampled:", ", ".join(f"{k} {v}" for k, v in sorted(counts.items())))
    print(f"survivors: {len(survivors)}, of which equivalent by the ledger {len(survivors) - len(unknown)}")
    for mutant in unknown:
        print("  " + mutant["name"])
    return 1 if unknown or sum(counts.values()) < len(sample) else 0


if __name__ == "__main__":
    sys.exit(main())
