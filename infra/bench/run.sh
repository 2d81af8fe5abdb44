#!/bin/sh
# Runs every bench, then prints the lines `ratio | WHAT | OURS | BASELINE: THEIRS | RATIO` of all of
# them as one table.
set -eu
cargo=${CARGO:-cargo}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# By name out of the whole workspace: with a package named, cargo would compile what all share again
# for each package's own features.
bench() {
    status=0
    "$cargo" bench --locked --workspace --bench "$1" || status=$?
    [ "$status" -eq 0 ] || echo "not run: the bench $1 ended with $status"
}

{
    uptime
    for name in alpine image_solve catalog transfer layers planning inventory; do
        bench "$name"
    done
    uptime
} | tee "$log"

echo
awk -F ' [|] ' '
    BEGIN { printf "%-58s %12s %60s %8s\n", "what", "here", "baseline", "ratio" }
    $1 == "ratio" {
        baseline = $4
        for (part = 5; part < NF; part++) baseline = baseline " | " $part
        printf "%-58s %12s %60s %8s\n", $2, $3, baseline, $NF
    }
    /^not run:/ { print }
' "$log"
