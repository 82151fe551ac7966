#!/bin/sh
# Hosts of a network of their own, on this machine: namespaces joined by a switch.
#   hosts.sh COUNT    prints "ready", the process that holds each host, and is over with its stdin
# Host I is 10.99.0.I; `nsenter -t PROCESS -n -- COMMAND` runs something there.  Nothing is left when the reader of our
# output, who also holds our stdin, is gone, however it ended.  Status 77 and a sentence: not permitted here.
set -u
count=$1
exec 3<&0

refuse() {
    echo "not permitted here: $1"
    exit 77
}

# A namespace lives as long as somebody in it, who says when it is there.
hold() {
    { unshare -n sh -c 'echo yes >&4; exec cat' <&3 4>"$said" >/dev/null 2>&1 || echo no 2>/dev/null >"$said"; } &
    read -r made <"$said"
    [ "$made" = yes ] || refuse "a network namespace"
    holder=$(cat /proc/$!/task/$!/children 2>/dev/null)
    holder=${holder%% *}
}

[ "$(id -u)" = 0 ] || refuse "only root makes network namespaces"
command -v ip >/dev/null || refuse "there is no ip(8)"
said=$(mktemp -u)
mkfifo "$said" || exit 1
trap 'rm -f "$said"' EXIT
hold
switch=$holder
nsenter -t $switch -n ip link add name switch type bridge 2>/dev/null || refuse "a bridge"
nsenter -t $switch -n ip link set switch up
all=
i=1
while [ $i -le "$count" ]; do
    hold
    nsenter -t $switch -n ip link add port$i type veth peer name eth0 netns $holder 2>/dev/null || refuse "a pair of interfaces"
    nsenter -t $switch -n ip link set port$i master switch up
    nsenter -t $holder -n ip link set lo up
    nsenter -t $holder -n ip addr add 10.99.0.$i/24 dev eth0
    nsenter -t $holder -n ip link set eth0 up
    all="$all $holder"
    i=$((i + 1))
done
echo "ready$all"
rm -f "$said"
wait
