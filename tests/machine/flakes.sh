#!/usr/bin/env bash
# Runs the drills again and again, each time with another seed, in turns on a quiet and on a starved machine:
# `flakes.sh RUNS [FIRST_SEED]`. Every run is a line in target/flakes/runs.tsv. One that is not green is kept with its events in
# target/flakes/<run>/ and gets a line in tests/machine/ledger.md, which waits for its explanation.
set -euo pipefail
cd "$(dirname "$0")/../.."

runs=${1:?how many runs}
seed=${2:-$((RANDOM + 1000))}
program=target/release/cdc-drill
kept=target/flakes
ledger=tests/machine/ledger.md

cargo build --release --quiet
commit=$(git rev-parse --short HEAD)
mkdir -p "$kept"
red=0
for ((n = 0; n < runs; n++, seed++)); do
    modes=(quiet quota quiet busy)
    mode=${modes[n % 4]}
    command=("$program" run --seed "$seed" --report-dir "$kept" --json)
    [[ $mode == quiet ]] || command=(tests/machine/starved.sh "$mode" "${command[@]}")
    exit=0
    "${command[@]}" >"$kept/report.json" 2>"$kept/run.log" || exit=$?
    # What the report says of itself: run, verdict, seconds, peak memory, scale, and why it is not green.
    line=$(python3 - "$kept/report.json" <<'PY'
import json, sys
r = json.load(open(sys.argv[1]))
speed = r.get("speed") or {}
peak = (r.get("peak_pss_bytes") or 0) / 2**30
print("\t".join([r["run"], r["verdict"], f"{r['seconds']:.0f}", f"{peak:.2f}", f"{speed.get('scale', 0):.1f}", str(speed.get("jobs", "")), r["reason"].replace("\n", " ")]))
PY
    ) || line=$'-\tno report\t\t\t\t\t'
    IFS=$'\t' read -r run verdict seconds peak scale jobs reason <<<"$line"
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$commit" "$seed" "$mode" "$exit" "$verdict" "$seconds" "$peak" "$scale" "$jobs" >>"$kept/runs.tsv"
    echo "seed $seed, $mode: exit $exit, $verdict, $seconds s, $peak GiB, scale $scale, $jobs drills at a time"
    if ((exit == 0)); then
        rm -rf "${kept:?}/${run:?}"
    else
        red=$((red + 1))
        mv "$kept/run.log" "$kept/$run/run.log" 2>/dev/null || true
        printf '| %s | %s | %s | %s | %s | %s | %s | open |\n' "$commit" "$seed" "$mode" "$exit" "$seconds" "$run" "${reason//|//}" >>"$ledger"
    fi
done
echo "$red of $runs runs were not green"
((red == 0))
