#!/bin/sh
# Runs every bench, then prints the lines `ratio | WHAT | OURS | BASELINE: THEIRS | RATIO` of all of
# them as one table.
set -eu
cargo=${CARGO:-cargo}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

bench() {
    status=0
    "$cargo" bench --locked "$@" || status=$?
    [ "$status" -eq 0 ] || echo "not run: cargo bench $* ended with $status"
}

{
    uptime
    bench -p solve
    bench -p mill --bench image_solve
    bench -p recipe --bench catalog
    bench -p registry
    bench -p image
    bench -p stage --bench catalog
    bench -p stage --bench planning
    uptime
} | tee "$log"

echo
awk -F ' [|] ' '
    BEGIN { printf "%-58s %12s %60s %8s\n", "what", "here", "baseline", "ratio" }
    $1 == "ratio" { printf "%-58s %12s %60s %8s\n", $2, $3, $4, $5 }
    /^not run:/ { print }
' "$log"
