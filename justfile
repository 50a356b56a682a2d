# Recipes for people; CI runs the README's test command through .ci/run.

# Formatting, lints and everything that needs no stack.
default: fmt lint test-fast

fmt:
    cargo fmt --all

lint:
    cargo fmt --all -- --check
    cargo clippy --workspace --all-targets -- -D warnings

# Unit tests and the fast integration tests.
test-fast:
    cargo test --lib
    cargo test --test fast

# Everything, the live drills and their controls included.
test:
    cargo test

# A pipeline that somebody else started: permissions, markers, and a recovery that leaves its neighbours alone.
attach:
    cargo test --test live attach -- --nocapture

# Stand-ins for the images of the Docker backend, where the official ones cannot be pulled; needs root and debootstrap.
images:
    cargo run --quiet -- setup --json > target/setup.json
    fixtures/docker/build.sh target/setup.json

# The night, the month and the bad day in pods, on a Kubernetes of its own that is built once (17 minutes of one core). Needs root, Go and a Docker
# engine with the images of `just images`; names of scenarios run those alone.
kubernetes *SCENARIOS:
    cargo build --release --bin cdc-drill
    fixtures/kubernetes/run.sh target/release/cdc-drill {{SCENARIOS}}

# All drills in containers, on the images that the environment names; `just drill-stand-ins` on those of `just images`.
drill-docker *ARGS:
    cargo run --release -- run --backend docker {{ARGS}}

drill-stand-ins *ARGS:
    set -a; . fixtures/docker/stand-ins.env; cargo run --release -- run --backend docker {{ARGS}}

# The example of a pipeline of one's own, on a stack of its own.
example:
    cargo test -p own-pipeline

# All drills, as a person runs them.
drill *ARGS:
    cargo run --release -- run {{ARGS}}

# Writes the JSON schema of the scenario language; a test compares it.
schema:
    cargo run -- scenario schema > scenarios/schema.json

# Runs the small drills whose chronicles are judged again by `tests/fast`, and keeps what they leave.
chronicles:
    rm -rf target/chronicles
    cargo run --release -- run fixtures/chronicles/small.yaml --keep --report-dir target/chronicles
    for drill in target/chronicles/*/drills/small/*; do zstd -q -19 -f "$drill/chronicle.json" -o "fixtures/chronicles/$(basename "$drill").json.zst"; done

# Random single faults on repositories of both formats, this many on each; `cargo test` has a sample.
faults COUNT="1000":
    CDC_DRILL_FAULTS={{COUNT}} cargo test -p cdc-engine --lib -- single_faults

# So many recoveries in a row on one repository, `IN` a folder or a bucket, each compared with what a client wrote down; `cargo test` has a
# sample in a folder.
recoveries COUNT="10" IN="folder":
    CDC_DRILL_RECOVERIES={{COUNT}} CDC_DRILL_RECOVERIES_IN={{IN}} cargo test --test live prefixes -- --nocapture

# Kills backups into a bucket, of a pipeline and of a topic, at each of their moments.
bucket-moments:
    CDC_DRILL_MOMENTS=all cargo test --test live bucket::a_ -- --nocapture

# Documentation, with broken links as errors.
docs:
    RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --no-deps --document-private-items

# Folding speed of verify, start-up and RTO at a million rows; `just bench --bench recovery` for one alone.
bench *ARGS:
    cargo bench {{ARGS}}

# Archiving and backups beside pgBackRest, Barman and pg_basebackup, on PostgreSQL 15: `WHAT` is push, commits, drain, replay or backup. Needs
# `apt-get install postgresql pgbackrest barman zstd`, and leaves out what is not there.
bench-backup WHAT="backup" *ARGS:
    cargo build --release --bin cdc-drill
    python3 benches/archive.py {{WHAT}} {{ARGS}}

# An hour of pgbench with a recovery point every five minutes, four to keep, and a budget: the repository is never over it, and every point that is
# left restores; `cargo test` has a sample. Needs `zstd`.
retention SECONDS="3600" *ARGS:
    cargo build --release --bin cdc-drill
    python3 tests/machine/retention.py --dir "$(mktemp -d)/stack" --seconds {{SECONDS}} {{ARGS}}

# Every step of every playbook, and `backup create`, killed and failed at each of its moments; then the same command again. `WHICH` is a part of
# the drills' names; the tables are in target/engine-drills/.
engine-drills WHICH="all":
    CDC_DRILL_ENGINE={{quote(WHICH)}} cargo test --test live engine:: -- --nocapture

# Every restore of a part of a recovery point, and of a data folder, killed and failed at each of its moments; then the same command again. `WHICH`
# is a part of the names, as `restore-topics:made:kill`.
part-moments WHICH="all":
    CDC_DRILL_PARTS={{quote(WHICH)}} cargo test --test live parts_interrupted -- --nocapture

# A topic of so many records (2 GiB) backed up and replayed, with the memory that this takes, and compared by Kafka's own consumer; `cargo test`
# has a sample.
topics COUNT="5000000":
    CDC_DRILL_TOPIC_RECORDS={{COUNT}} cargo test --test live topics::a_large_topic -- --nocapture

# Ten runs with ten seeds; stops at the first that is not green.
soak:
    for seed in 1 2 3 4 5 6 7 8 9 10; do cargo run --release -- run --seed $seed || exit 1; done

# The default run with the machine taken away: half a core for everything (`quota`, needs root), or 16 busy processes beside it (`busy`).
starved MODE="quota" *ARGS="":
    cargo build --release
    tests/machine/starved.sh {{MODE}} target/release/cdc-drill run {{ARGS}}

# So many runs with as many seeds, in turns quiet and starved; what is not green goes into tests/machine/ledger.md.
flakes N *SEED="":
    tests/machine/flakes.sh {{N}} {{SEED}}

# Every type under every converter and mode; the table of what verify says of each is written to tests/zoo/types.md.
zoo:
    CDC_DRILL_ZOO=all cargo test --test zoo visit:: -- --nocapture

# A seeded sample of mutants of what decides a verdict, under the unit tests; a survivor has to stand in tests/mutants/ledger.md.
mutants N="300" SEED="1":
    python3 tests/mutants/run.py {{N}} {{SEED}}

# Writes the pages and pictures in docs/ that are generated from the program; a test compares them.
pages:
    CDC_DRILL_WRITE_PAGES=1 cargo test --test fast docs

# An archive of the program for a target, static unless another is named, with its checksum and the list of what it is made of (CycloneDX), in
# target/release-archives. Needs `rustup target add x86_64-unknown-linux-musl`; a C compiler for musl comes by pip.
release TARGET="x86_64-unknown-linux-musl":
    deploy/release/build.sh {{TARGET}}

# Licences and sources of all packages, by deny.toml; needs `cargo install cargo-deny`, which builds four hundred packages: CI asks the same of
# `cargo metadata` in a second (`tests/fast/licences.rs`).
deny:
    cargo deny check licenses bans sources
