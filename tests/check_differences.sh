#!/bin/sh
# check_differences.sh: docs/DIFFERENCES.md names every row of differences.test, and no other.
cd "$(dirname "$0")/.." || exit 2
rows=$(sed -n 's/^== \([^ ]*\).*/\1/p' tests/e2e/differences.test | sort)
named=$(sed -n 's/^|.*|.*| *\([a-z][-a-z, ]*[a-z]\) *|$/\1/p' docs/DIFFERENCES.md | grep -v '^shown by$' | tr -d ' ' | tr , '\n' | sort)
[ "$rows" = "$named" ] && exit
echo "rows of differences.test and names in docs/DIFFERENCES.md are not the same:"
echo "$rows" > "${TMPDIR:-/tmp}/rows.$$"
echo "$named" | diff "${TMPDIR:-/tmp}/rows.$$" -
rm -f "${TMPDIR:-/tmp}/rows.$$"
exit 1
