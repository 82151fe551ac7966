#!/bin/sh
# check_layers_test.sh: check_layers.sh finds every kind of violation, and nothing in a tree without one.
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d) || exit 2
trap 'rm -rf "$tree"' EXIT
for folder in base proto dsl store sandbox scheduler worker client embed cli; do
    mkdir "$tree/$folder"
    printf '#include "%s/own.h"\n#include <stdio.h>\n#include <sys/stat.h>\n' $folder > "$tree/$folder/a.c"
done
printf '#include <ev.h>\n#include <openssl/evp.h>\n' > "$tree/base/loop.c"
printf '#include "scheduler/daemon.h"\n#include "worker/agent.h"\n' > "$tree/embed/embed.c"
printf '#include "zpipe.h"\n#include "cli.h"\n' > "$tree/cli/main.c"
"$here/check_layers.sh" "$tree" || { echo "FAIL: a tree that keeps the layers was refused"; exit 1; }
failed=0
plant() { # FILE LINE
    echo "$2" > "$tree/$1"
    found=$("$here/check_layers.sh" "$tree") && { echo "FAIL: not found: $2 in $1"; failed=1; }
    case "$found" in "$1: "*) ;; *) echo "FAIL: '$found' does not name $1"; failed=1 ;; esac
    rm "$tree/$1"
}
plant base/up.c '#include "proto/msg.h"'
plant proto/side.h '#include "dsl/dsl.h"'
plant dsl/side.c '#include "store/store.h"'
plant sandbox/side.c '  #  include "proto/graph.h"'
plant scheduler/side.c '#include "worker/agent.h"'
plant worker/side.c '#include "dsl/dsl.h"'
plant scheduler/disk.c '#include "store/journal.h"'
plant client/up.c '#include <embed/embed.h>'
plant cli/down.c '#include "client/client.h"'
plant cli/detour.c '#include "../base/err.h"'
plant worker/ev.c '#include <ev.h>'
plant client/ssl.c '#include <openssl/sha.h>'
plant scheduler/zmq.h '#include <zmq.h>'
plant dsl/pack.c '#include <msgpack.h>'
plant worker/seccomp.c '#include "seccomp.h"'
plant scheduler/sql.c '#include <sqlite3.h>'
exit $failed
