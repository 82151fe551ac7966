#!/bin/sh
# check_layers.sh [TREE]: the layers of the design, as far as #include lines show them.  Each folder may include
# itself and the folders named after it; each outside library is seen by one folder only.
cd "${1:-$(dirname "$0")/..}" || exit 2
status=0
layers='base:
proto: base
dsl: base proto
store: base
sandbox: base
scheduler: base proto store dsl
worker: base proto store sandbox
client: base proto dsl
embed: base proto scheduler worker sandbox
cli:'
folders='base|proto|dsl|store|sandbox|scheduler|worker|client|embed|cli'
while IFS=: read -r folder allowed; do
    for file in "$folder"/*.[ch]; do
        [ -e "$file" ] || continue
        for used in $(sed -nE "s,^#include \"($folders)/.*,\\1,p" "$file" | sort -u); do
            case " $folder $allowed " in
            *" $used "*) ;;
            *) echo "$file: a file of $folder includes $used/"; status=1 ;;
            esac
        done
    done
done <<END
$layers
END
outside='base: ev.h openssl/ xxhash.h
proto: zmq.h msgpack.h
sandbox: seccomp.h
store: sqlite3.h'
while IFS=: read -r folder headers; do
    for header in $headers; do
        found=$(grep -lE "^#include <$header" -- */*.[ch] | grep -v "^$folder/" | grep -Ev '^(tests|bench)/')
        [ -z "$found" ] || { echo "<$header is for $folder alone: $found"; status=1; }
    done
done <<END
$outside
END
exit $status
