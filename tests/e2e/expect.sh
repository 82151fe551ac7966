#!/bin/sh
# expect.sh FILE COMMAND...: the command succeeds and prints exactly the file.  It is skipped if a program of $NEEDS is not there.
for program in $NEEDS; do
    command -v "$program" > /dev/null || { echo "skipped: there is no $program here"; exit 77; }
done
expected=$1
shift
out=$(mktemp) || exit 2
trap 'rm -f "$out"' EXIT
"$@" > "$out" < /dev/null
status=$?
[ $status -eq 0 ] || { echo "status $status"; exit 1; }
diff "$expected" "$out"
