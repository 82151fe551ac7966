#!/bin/sh
# run.sh BUILD SECONDS: each fuzz target of a fuzz build for so long, over a copy of its corpus.
set -eu
build=$1
seconds=${2:-60}
here=$(cd "$(dirname "$0")" && pwd)
for target in "$build"/tests/fuzz_*; do
    [ -x "$target" ] || continue
    name=${target##*/fuzz_}
    work=$(mktemp -d)
    [ ! -d "$here/corpus/$name" ] || cp -r "$here/corpus/$name/." "$work"
    echo "== $name, $seconds s"
    "$target" -max_total_time="$seconds" -max_len=4096 -rss_limit_mb=4096 -print_final_stats=1 "$work" 2>&1 | tail -n 3
    rm -rf "$work"
done
