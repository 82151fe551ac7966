#!/bin/sh
# run.sh BUILD SECONDS: each fuzz target of a fuzz build for so long, over a copy of its corpus.  What breaks one is kept
# as BUILD/found-TARGET-*, and the status is 1.
set -u
build=$1
seconds=${2:-60}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
count=0
status=0
for target in "$build"/tests/fuzz_*; do
    [ -x "$target" ] || continue
    name=${target##*/fuzz_}
    mkdir "$work/$name"
    [ ! -d "$here/corpus/$name" ] || cp -r "$here/corpus/$name/." "$work/$name"
    echo "== $name, $seconds s"
    "$target" -max_total_time="$seconds" -max_len=4096 -rss_limit_mb=4096 -print_final_stats=1 \
        -artifact_prefix="$build/found-$name-" "$work/$name" > "$work/log" 2>&1 || { echo "FAIL: $name"; status=1; }
    grep -E '^(stat::number_of_executed_units|stat::new_units_added|SUMMARY|.*Test unit written)' "$work/log"
    count=$((count + 1))
done
[ $count -gt 0 ] || { echo "no fuzz target in $build/tests"; exit 2; }
exit $status
