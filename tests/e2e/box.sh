#!/bin/sh
# zpipe-box by itself: streams, statuses, files, and a row of attempts to see or change the host.
# usage: box.sh ZPIPE-BOX
box=$1
limit_s=120 # of a run that hangs
[ "$MACHINE_ACCEL" != tcg ] || limit_s=3000
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work" || exit 1
failed=0

# check NAME EXPECTED-STATUS EXPECTED-OUTPUT COMMAND...
check() {
    name=$1 want=$2 text=$3
    shift 3
    got=$(timeout "$limit_s" "$@" 2>err)
    status=$?
    if [ $status -ne "$want" ] || [ "$got" != "$text" ]; then
        echo "FAILED $name: status $status, output '$got', stderr '$(cat err)'"
        failed=1
    fi
}

echo secret >host.txt
printf 'b\na\n' >in.txt
check output 0 hello "$box" -- echo hello
check status 7 '' "$box" -- sh -c 'exit 7'
check signal 143 '' "$box" -- sh -c 'kill -TERM $$'
check missing 127 '' "$box" -- no-such-program
check not-run 126 '' "$box" -- /job
check usage 125 '' "$box" --no-such-option
check with-here 0 "zpipe-box: '.' is one file too many, or cannot be shown under that name: give a path without \`.\`, \`..\` and \`//\` in it, as in --with \"\$PWD\"" \
    sh -c "$box --with . -- true 2>&1 | head -n 1"
check timeout 124 '' "$box" --timeout 1s -- sh -c 'while :; do :; done'
check stdin-file 0 "$(printf 'a\nb')" "$box" -- sort <in.txt
check stdin-pipe 0 6 sh -c "echo hello | $box -- wc -c"
check stdin-closed 0 0 sh -c "$box -- wc -c <&-"
check stdin-name 0 "$(cat in.txt)" "$box" -- cat /dev/stdin <in.txt
check stdin-name-pipe 0 hello sh -c "echo hello | $box -- cat /dev/stdin"
check with 0 "$(cat in.txt)" "$box" --with in.txt -- cat in.txt
# nothing that a program makes is older than what it was made from; what python has compiled before is still good
check not-newer 0 '' "$box" -- sh -c 'touch /tmp/x; find /usr/bin/. /usr/lib /bin/sh -maxdepth 1 ! -name "*.py" -newer /tmp/x; perl -e "for (1..20) { print qq(\$_ newer) if (stat q(/usr/bin/perl))[9] > (stat q(/tmp/x))[9] }"'
if command -v python3 >/dev/null && [ -e /usr/lib/python3/dist-packages ]; then
    check compiled 0 0 "$box" -- sh -c '/usr/bin/python3 -v -c "import json, email, csv" 2>&1 | grep -c "code object from.*\.py.$"; true'
fi
check own-name 0 "$(printf '/usr/bin/readlink\n/usr/bin/perl 5 /usr/')" "$box" -- sh -c "readlink /proc/self/exe; perl -e '\$b = q(12345678); \$p = qq(/proc/thread-self/exe\\0);
    print readlink(q(/proc/self/exe)), q( ), syscall(89, \$p, \$b, 5), q( ), substr(\$b, 0, 5)'"
if command -v cc >/dev/null; then # a library beside the program, which the loader finds by the program's name
    mkdir lib && echo 'int answer(void) { return 42; }' | cc -shared -fPIC -o lib/libanswer.so -x c - &&
        echo 'int answer(void); int main(void) { return answer(); }' | cc -o asks -x c - -Llib -lanswer -Wl,-rpath,'$ORIGIN/lib' ||
        failed=1
    check beside-it 42 '' "$box" --with asks --with lib -- ./asks
fi
check with-absolute 0 "$(cat in.txt)" "$box" --with "$work/in.txt" -- cat "$work/in.txt"
check env 0 1 "$box" --env X=1 -- sh -c 'echo $X'
check seed 0 "$("$box" --seed 5 -- python3 -c 'import random; print(random.random())')" \
    "$box" --seed 5 -- python3 -c 'import random; print(random.random())'
check date 0 'Wed Jan  1 00:00:00 UTC 2020' "$box" -- date
check sleep 0 '' "$box" --timeout 20s -- sleep 100000
check late 0 "$(printf 'early\nlate')" sh -c "$box -- sh -c '(cat; echo late) </dev/null & echo early' | sort"
# Once they take no turns, children end while their shell asks for the next: its calls are not broken by that.
check beside 0 200 "$box" -- sh -c 'sleep 9 & kill -STOP $!; /bin/true; kill -9 $!; i=0; while [ $i -lt 200 ]; do true | true; i=$((i+1)); done; echo $i'
check many-children 0 400 "$box" -- sh -c 'i=0; while [ $i -lt 400 ]; do true & i=$((i+1)); done; wait; echo $i'
check out 0 '' "$box" --out o.txt -- sh -c 'echo made >o.txt; echo more >left.txt'
check out-made 0 made cat o.txt
grep -q "left.txt" err 2>/dev/null || "$box" -- sh -c 'echo >left.txt' 2>&1 | grep -q left.txt || {
    echo "FAILED left: not named"
    failed=1
}
# What the first process calls was looked up before it began: its clones have nothing to look up.
check bound 0 'looked up: 1, later: 0' sh -c "echo x | $box -- env LD_DEBUG=bindings,files cat 2>&1 |
    awk '/transferring control: cat/ { begun = 1 } /binding file cat / { n[begun + 0]++ }
         END { print \"looked up: \" (n[0] > 0) \", later: \" n[1] + 0 }'"
check report 0 '' "$box" --report r.txt -- true
check report-end 0 '  "end": "exited",' grep '"end"' r.txt

# The wall.
check no-host-file 0 no "$box" -- sh -c "cat $work/host.txt 2>/dev/null || echo no"
check no-home 0 no "$box" -- sh -c 'ls /home /root /var 2>/dev/null || echo no'
check no-shadow 0 no "$box" -- sh -c 'cat /etc/shadow 2>/dev/null || echo no'
check no-write 0 no "$box" --with in.txt -- sh -c '(echo x >in.txt) 2>/dev/null || echo no'
check no-write-usr 0 no "$box" -- sh -c 'touch /usr/x /etc/x /x /dev/x 2>/dev/null || echo no'
check no-mount 0 no "$box" -- sh -c 'mount -t tmpfs x /tmp 2>/dev/null || echo no'
check no-userns 0 no "$box" -- sh -c 'unshare -Ur true 2>/dev/null || echo no'
check no-net 0 no "$box" -- python3 -c 'import socket
try: socket.socket(socket.AF_INET); print("yes")
except OSError: print("no")'
check no-processes 0 no "$box" -- sh -c 'kill -0 3 2>/dev/null || echo no'
check no-parent 0 2 "$box" -- sh -c 'kill -9 1; echo $$'
check no-fds 0 '0 1 2' "$box" -- python3 -c 'import os
def there(n):
    try: os.fstat(n); return True
    except OSError: return False
print(*[n for n in range(4096) if there(n)])' <in.txt
check unchanged 0 "$(printf 'b\na')" cat in.txt
[ $failed -eq 0 ] && echo ok
exit $failed
