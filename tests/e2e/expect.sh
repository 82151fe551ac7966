#!/bin/sh
# expect.sh FILE COMMAND...: the command succeeds and prints exactly the file.
expected=$1
shift
out=$(mktemp) || exit 2
trap 'rm -f "$out"' EXIT
"$@" > "$out" < /dev/null
status=$?
[ $status -eq 0 ] || { echo "status $status"; exit 1; }
diff "$expected" "$out"
