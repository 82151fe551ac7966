#!/bin/sh
# systemd.sh BUILD: who is given a cgroup by systemd, and who is not, on a machine that tests/lib/machine.py --systemd has made.
# What zpipe-box(1) says a user must do is done here: a scope, and a service's unit, with Delegate=yes.
box=/tmp/zpipe-box # which somebody may run
failed=0

# NAME, and what the report's cgroup should be, as a pattern.
judge() {
    found=$(python3 -c 'import json; r = json.load(open("/tmp/made/report"))["cgroup"]; print(r["path"] if r else "none")' 2>&1)
    case $found in
    $2) echo "ok     $1: $found" ;;
    *) echo "FAIL   $1: $found: $(cat /tmp/made/said)"; failed=1 ;;
    esac
    rm -f /tmp/made/*
}

# NAME, pattern, settings of the scope.
scope() {
    name=$1 want=$2
    shift 2
    timeout 600 systemd-run --quiet --scope "$@" "$box" --report /tmp/made/report -- true >/tmp/made/said 2>&1 </dev/null
    judge "$name" "$want"
}

# NAME, pattern, settings of the service.
service() {
    printf '[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nStandardOutput=file:/tmp/made/said\nStandardError=inherit\n' >$unit
    printf 'ExecStart=%s --report /tmp/made/report -- true\n%b' "$box" "$3" >>$unit
    systemctl daemon-reload
    timeout 600 systemctl start zpipe-try.service
    judge "$1" "$2"
}

unit=/run/systemd/system/zpipe-try.service
uname -srv
systemctl --version | head -n 1
cp "$1/bin/zpipe-box" $box
mkdir /tmp/made
chmod 1777 /tmp /tmp/made
scope "a scope, delegated" "/system.slice/run-*.scope/*" -p Delegate=yes
scope "a scope" "none"
service "a service, delegated" "/system.slice/zpipe-try.service/*" 'Delegate=yes\n'
service "a service" "none" ''
# Of a user whom the password file names: systemd starts no service for another, whatever the program (217/USER).
service "a user's service, delegated" "/system.slice/zpipe-try.service/*" 'User=nobody\nDelegate=yes\n'
service "a user's service" "none" 'User=nobody\n'
exit $failed
