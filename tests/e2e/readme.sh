#!/bin/sh
# readme.sh BIN SOURCE: what the README and the examples tell a user to type works as it stands there: every
# `zpipe` line under "Use it", then the block under "On several machines" as a whole.
set -eu
bin=$(cd "$1" && pwd)
source=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cp -r "$source/examples" .
PATH=$bin:$PATH
export PATH
printf 'fox\nax\nthe\nbox\n' > words.txt
cp words.txt a.txt
cp words.txt b.txt
printf 'a\tb\tc\nd\te\tf\n' > t.tsv
mkdir logs
printf 'two words\nno\n' > logs/1.txt
printf '#!/usr/bin/python3\nimport sys\nprint(sys.argv[1], sys.stdin.read().count("two words"))\n' > parse.py
chmod +x parse.py

section() {
    awk -v name="$1" '/^## /{ on = $0 == "## " name } on && /^    /{ print substr($0, 5) }' "$source/README.md"
}

passed=0
section "Use it" > lines
while IFS= read -r line; do
    echo "+ $line"
    sh -c "$line" < words.txt
    passed=$((passed + 1))
done < lines
[ "$(cat sorted.txt)" = "$(cut -f1,3 t.tsv | sort)" ]
[ "$(cat copy.txt)" = "$(cut -f1,3 t.tsv)" ]

# The block as it stands but for the port, which may be taken here, and waiting for the scheduler to listen.
port=$((20000 + $$ % 20000))
section "On several machines" | sed "s/7117/$port/g" > cluster.sh
sed -i -e 's|^\(zpipe scheduler.*\) &$|mkfifo ready\n\1 > ready \&\nread -r line < ready|' \
    -e 's|^\(zpipe worker.*\) &$|\1 > /dev/null \&|' cluster.sh
echo 'status=$?; kill $(jobs -p); wait; exit $status' >> cluster.sh
got=$(bash cluster.sh)
[ "$got" = "$(grep x words.txt | sort)" ]
passed=$((passed + 1))
echo "$passed passed, 0 failed"
