#!/bin/sh
# kernel.sh BUILD [NAME]...: the sandbox on the kernel that runs, as on a machine that tests/lib/machine.py has made: cgroups, the
# filter, regions, templates, turns, the wall, what programs see, and a few pipelines, as root and as somebody.  With names only these.
# A machine that is a program (tcg) is given four times as long.  One thing is no failure there: a program that took longer than a
# template's may (TEMPLATE_CPU_NS) before its first read.
build=$1
shift
only=" $* "
here=tests/e2e bin=$PWD/$build/bin tests=$PWD/$build/tests
export ZPIPE_BOX="$bin/zpipe-box" WALL_PROBE="$tests/wall_probe" STATES="$tests/states"
somebody=20017 # no password file knows it
pipelines="top-words grep-logs-script cut-tee-sort job-big base64 sort-temp-files cat-big-head"
failed=
limit_s=1500
[ "$MACHINE_ACCEL" != tcg ] || limit_s=6000
slow="works too long before it uses a channel"
uname -srv

try() {
    name=$1
    shift
    case $only in "  " | *" $name "*) ;; *) return 0 ;; esac
    begun=$(date +%s)
    timeout $limit_s "$@" >/tmp/said 2>&1
    status=$?
    took="$(($(date +%s) - begun)) s"
    case $status in
    0) echo "ok     $name ($took)" ;;
    77) echo "skip   $name: $(tail -n 1 /tmp/said)" ;;
    *)
        if [ "$MACHINE_ACCEL" = tcg ] && [ $status != 124 ] && grep -q "$slow" /tmp/said; then
            echo "skip   $name: this machine is too slow for it ($(grep -c "$slow" /tmp/said) times a template took too long; status $status; $took)"
            grep '^ok \|  OK ' /tmp/said | tail -n 3
            return 0
        fi
        failed="$failed $name"
        echo "FAIL   $name: status $status, after $took"
        grep -v '  OK \| RUN \|^ok ' /tmp/said | tail -n 40
        ;;
    esac
}

for user in "" "--user $somebody"; do
    mark=${user:+_user}
    # shellcheck disable=SC2086 # words
    {
        try "cgroups$mark" python3 $here/cgroups.py --bin "$bin" $user
        try "pipelines$mark" python3 $here/run.py --bin "$bin" $user $pipelines
        try "wall$mark" python3 $here/wall.py --bin "$bin" --probe "$WALL_PROBE" --refuse "$tests/refuse" --fuzz "$tests/wall_fuzz" $user
    }
done
for unit in filter_kernel fence box_copy box_keep box_wide box_region box_places box_states box_template box_template_many notify_programs notify_answers; do
    try $unit "$tests/test_$unit"
done
try box_states_user "$tests/test_box_states" $somebody
try box_alone $here/box.sh "$ZPIPE_BOX"
try box_report python3 $here/box_report.py "$ZPIPE_BOX" "$tests/gate_probe"
try tangle python3 $here/tangle.py --box "$ZPIPE_BOX" --tangle "$tests/tangle"
try golden "$tests/golden_run" "$ZPIPE_BOX" "$tests/golden" "$tests/golden-static"
try settings python3 $here/settings.py --bin "$bin"
try programs python3 $here/programs.py --bin "$bin" --static "$tests/no-libc"
[ "$failed" ] && echo "failed:$failed"
[ -z "$failed" ]
