#!/bin/sh
# install.sh SOURCE BUILD [SANITIZERS]: installs into a fresh directory and builds and runs examples/graph.c from there, as a
# stranger would: with pkg-config, the public header and the shared library alone; from where the tree was moved to.
set -eu
source=$1
build=$2
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
DESTDIR=$root cmake --install "$build" > "$root/log"
prefix=$root$(sed -n 's/^CMAKE_INSTALL_PREFIX:PATH=//p' "$build/CMakeCache.txt")
for file in bin/zpipe libexec/zpipe/zpipe-box libexec/zpipe/zpipe-serve libexec/zpipe/zpipe-keeper include/zpipe.h share/zpipe/commands.conf \
    lib/systemd/system/zpipe-scheduler.service lib/systemd/system/zpipe-worker.service lib/systemd/system/zpipe-keeper.service; do
    [ -s "$prefix/$file" ] || { echo "not installed: $file"; exit 1; }
done
for page in zpipe.1 zpipe-box.1 zpipe-serve.1 zpipe-language.5 zpipe.commands.5 zpipe.conf.5 zpipe-scheduler.8 zpipe-worker.8 zpipe-keeper.8; do
    ! command -v scdoc > /dev/null || [ -s "$prefix/share/man/man${page##*.}/$page" ] || { echo "not installed: $page"; exit 1; }
done
mv "$prefix" "$root/moved"
prefix=$root/moved
PKG_CONFIG_PATH=$(dirname "$(find "$root" -name zpipe.pc)")
export PKG_CONFIG_PATH
mkdir "$root/own"
# shellcheck disable=SC2046 # words
cc -Wall -Werror ${3:+-fsanitize="$3"} -o "$root/own/graph" "$source/examples/graph.c" $(pkg-config --cflags --libs zpipe)
LD_LIBRARY_PATH=$(dirname "$PKG_CONFIG_PATH") "$source/tests/e2e/expect.sh" "$source/examples/graph.expected" "$root/own/graph"
# Nothing but the interface is to be seen.
others=$(nm -D --defined-only "$(dirname "$PKG_CONFIG_PATH")/libzpipe.so" | awk '$3 !~ /^zpipe_/ { print $3 }' | grep -v asan || true)
[ -z "$others" ] || { echo "libzpipe.so also exports: $others"; exit 1; }
"$prefix/bin/zpipe" --version
[ "$("$prefix/bin/zpipe" "echo moved")" = moved ]
