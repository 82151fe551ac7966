#!/bin/sh
# check_layers.sh [TREE]: the layers of the design, as far as #include lines show them.  Each folder may include itself and
# the folders named after it; each outside library is seen by one folder alone.
cd "${1:-$(dirname "$0")/..}" || exit 2
layers='base:
proto: base
dsl: base proto
store: base
sandbox: base
scheduler: base proto dsl
worker: base proto sandbox
client: base proto dsl store
embed: base proto scheduler worker sandbox
cli:'
outside='base: ev.h openssl/ xxhash.h
proto: zmq.h msgpack.h msgpack/
sandbox: seccomp.h
store: sqlite3.h'
include='^[ 	]*#[ 	]*include[ 	]*["<]'
said=$(
    while IFS=: read -r folder allowed; do
        grep -sHoE "$include[^\">]*/" "$folder"/*.[ch] | while IFS=: read -r file line; do
            used=$(expr "$line" : '[^"<]*["<]\([^/]*\)')
            case " $folder $allowed " in *" $used "*) continue ;; esac
            case "$used" in
            base | proto | dsl | store | sandbox | scheduler | worker | client | embed | cli | tests | . | ..)
                echo "$file: a file of $folder includes $used/" ;;
            esac
        done
    done <<END
$layers
END
    while IFS=: read -r folder headers; do
        for header in $headers; do
            grep -lE "$include$header" -- */*.[ch] | grep -Ev "^(tests|bench|$folder)/" |
                sed "s,\$,: <$header> is for $folder alone,"
        done
    done <<END
$outside
END
)
[ -z "$said" ] || { echo "$said"; exit 1; }
