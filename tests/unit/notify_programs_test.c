/* Real programs under the filter, the answers and the shim: twice the same, whatever the time and
 * the kernel's random bytes are; another seed, other random bytes.  As root and as an ordinary
 * user. */
#include "lib/test.h"
#include "lib/guarded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EPOCH 1600000000 /* 2020-09-13 12:26:40 UTC */

struct row {
    const char *name;
    const char *argv[6];
    const char *input;
    bool opens, random; /* random: another seed gives other output */
    bool side_by_side;  /* how often its processes ask is not the same each time.  Not of dash: its children run beside it here, and one
                         * that ends cuts short what it asks us before we have taken it (no SA_RESTART), even a fork */
    int status;
    const char *expected; /* NULL: only that two runs agree */
};

static const struct row rows[] = {
    {.name = "date", .argv = {"/bin/date", "+%F %T"}, .expected = "2020-09-13 12:26:40\n"},
    {.name = "mktemp", .argv = {"/bin/mktemp", "-u"}, .random = true},
    {.name = "shuf", .argv = {"/usr/bin/shuf", "-i", "1-50"}, .random = true},
    {.name = "uname",
     .argv = {"/bin/uname", "-a"},
     .expected = "Linux zpipe 6.1.0-zpipe #1 SMP zpipe x86_64 GNU/Linux\n"},
    {.name = "nproc", .argv = {"/usr/bin/nproc"}, .expected = "1\n"},
    {.name = "sleep", .argv = {"/bin/sleep", "1000"}, .expected = ""},
    {.name = "date after sleep",
     .argv = {"/bin/sh", "-c", "date +%T; date +%T; sleep 100; date +%T"},
     .expected = "12:26:40\n12:26:40\n12:28:20\n"},
    {.name = "cat from a socket", .argv = {"/bin/cat"}, .input = "a\nb\n", .expected = "a\nb\n"},
    {.name = "cat /dev/stdin",
     .argv = {"/bin/cat", "/dev/stdin"},
     .input = "in\n",
     .opens = true,
     .expected = "in\n"},
    {.name = "cat /proc/self/fd/0",
     .argv = {"/bin/cat", "/proc/self/fd/0"},
     .input = "in\n",
     .opens = true,
     .expected = "in\n"},
    {.name = "tee /dev/stdout",
     .argv = {"/bin/bash", "-c", "echo x | tee /dev/stderr"},
     .opens = true,
     .side_by_side = true,
     .expected = "x\nx\n"},
    {.name = "a regular file is opened anew",
     .argv = {"/bin/bash", "-c",
              "exec 3</etc/passwd; head -c 5 <&3; head -c 5 /dev/fd/3; echo x >/dev/fd/3"},
     .opens = true,
     .status = 1,
     .expected = "root:root:/bin/bash: line 1: /dev/fd/3: Permission denied\n"},
    {.name = "no such descriptor",
     .argv = {"/bin/sh", "-c", "cat /dev/fd/77 2>/dev/null; echo $?"},
     .opens = true,
     .expected = "1\n"},
    {.name = "bash's pid and RANDOM",
     .argv = {"/bin/bash", "-c", "echo $$ $RANDOM $RANDOM $EPOCHSECONDS"},
     .opens = true},
    {.name = "process substitution",
     .argv = {"/bin/bash", "-c", "cat <(echo one) <(echo two)"},
     .opens = true,
     .side_by_side = true,
     .expected = "one\ntwo\n"},
    {.name = "nested exec",
     .argv = {"/bin/sh", "-c", "env sh -c 'bash -c \"date +%Y\"'"},
     .opens = true, /* bash, of the terminal */
     .expected = "2020\n"},
    {.name = "pipes inside",
     .argv = {"/bin/bash", "-c", "seq 1000 | sort -rn | head -2; yes | head -1"},
     .opens = true, /* bash looks for a terminal */
     .side_by_side = true,
     .expected = "1000\n999\ny\n"},
    {.name = "the clock, by its page and by a call",
     .argv = {"/usr/bin/python3", "-c",
              "import ctypes as c, os, time\n"
              "call, t = c.CDLL(None).syscall, (c.c_long * 2)()\n"
              "def asked(): call(228, 1, t); return t[0] * 10**9 + t[1]\n"
              "def looks(): return [f() for f in [time.monotonic_ns, time.monotonic_ns, asked] * 3]\n"
              "def steps(l): return {b - a for a, b in zip(l, l[1:])}\n"
              "a = looks(); time.sleep(5); b = looks()\n"
              "if os.fork() == 0: time.sleep(7); print(steps(looks()), flush=True); os._exit(0)\n"
              "os.wait(); asked(); d = looks()\n"
              "print(steps(a), steps(b), steps(d), b[0] - a[-1] > 5 * 10**9, d[0] - b[-1] > 7 * 10**9)"},
     .opens = true,
     .expected = "{10000}\n{10000} {10000} {10000} True True\n"},
    {.name = "no rseq",
     .argv = {"/bin/bash", "-c", "LD_SHOW_AUXV=1 /bin/true | grep -c RSEQ"},
     .status = 1,
     .opens = true, /* bash looks for a terminal */
     .side_by_side = true,
     .expected = "0\n"},
    {.name = "auxiliary vector", .argv = {"/bin/sh", "-c", "LD_SHOW_AUXV=1 /bin/true"}},
    {.name = "AT_RANDOM",
     .argv = {"/usr/bin/python3", "-c",
              "import ctypes as c;g=c.CDLL(None).getauxval;g.restype=c.c_ulong;"
              "print(c.string_at(g(25),16).hex(), g(33) > 0)"},
     .opens = true,
     .expected = "243f6a8885a308d313198a2e03707344 True\n"},
    {.name = "the loader as a program",
     .argv = {"/lib64/ld-linux-x86-64.so.2", "/bin/date", "+%Y"},
     .expected = "2020\n"},
    {.name = "the loader lists", .argv = {"/lib64/ld-linux-x86-64.so.2", "--list", "/bin/true"}},
    {.name = "exit status", .argv = {"/bin/sh", "-c", "exit 7"}, .status = 7},
    {.name = "abort", .argv = {"/bin/sh", "-c", "kill -ABRT $$"}, .status = 134},
    {.name = "gawk", .argv = {"/usr/bin/gawk", "BEGIN { srand(); print rand(), systime() }"}},
    {.name = "mawk", .argv = {"/usr/bin/mawk", "BEGIN { srand(); print rand() }"}},
    {.name = "perl",
     .argv = {"/usr/bin/perl", "-e",
              "print rand(), ' ', time(), ' ', $$, ' ', \\1, ' ', join(',', keys %ENV), \"\\n\"; "
              "select(undef, undef, undef, 50); print time(), \"\\n\""},
     .opens = true,
     .random = true},
    {.name = "python",
     .argv = {"/usr/bin/python3", "-c",
              "import os,time;print(os.urandom(4),time.time(),time.monotonic(),os.getpid(),"
              "hash('a'),id(os),time.process_time(),os.sched_getaffinity(0),os.uname())"},
     .opens = true,
     .random = true},
    {.name = "python random, tempfile, uuid",
     .argv = {"/usr/bin/python3", "-c",
              "import "
              "random,tempfile,uuid,secrets;print(random.random(),uuid.uuid4(),secrets.token_hex(),"
              "next(tempfile._get_candidate_names()))"},
     .opens = true,
     .random = true},
    {.name = "python sleeps",
     .argv = {"/usr/bin/python3", "-c",
              "import time;a=time.time();time.sleep(3600);b=time.time();"
              "print(round(b-a))"},
     .opens = true,
     .expected = "3600\n"},
    {.name = "python asyncio sleeps",
     .argv = {"/usr/bin/python3", "-c", "import asyncio;asyncio.run(asyncio.sleep(0.2));print(1)"},
     .opens = true,
     .expected = "1\n"},
    {.name = "python subprocess",
     .argv = {"/usr/bin/python3", "-c",
              "import subprocess as s;print(s.run(['date','+%Y'],"
              "capture_output=True,text=True).stdout)"},
     .opens = true,
     .side_by_side = true,
     .expected = "2020\n\n"},
    {.name = "no network",
     .argv = {"/usr/bin/python3", "-c",
              "import socket\n"
              "try: socket.socket()\n"
              "except OSError as e: print(e)"},
     .opens = true,
     .expected = "[Errno 97] Address family not supported by protocol\n"},
    {.name = "urandom",
     .argv = {"/bin/bash", "-c", "head -c 1000000 /dev/urandom | md5sum"},
     .opens = true,
     .side_by_side = true,
     .random = true},
    {.name = "urandom in one read",
     .argv = {"/bin/dd", "if=/dev/urandom", "bs=300000", "count=1", "of=/dev/null", "status=none"},
     .opens = true},
    {.name = "urandom twice",
     .argv = {"/bin/bash", "-c",
              "read -N 9 a </dev/urandom; a=$(head -c 8 /dev/urandom|od -x);"
              "b=$(head -c 8 /dev/urandom|od -x); echo $a; [ \"$a\" = \"$b\" ] || echo differ"},
     .opens = true,
     .random = true},
    {.name = "limits",
     .argv = {"/bin/bash", "-c", "ulimit -n 64 && ulimit -c 0 && echo fine"},
     .opens = true,
     .expected = "fine\n"},
    {.name = "link a program",
     .argv = {"/bin/bash", "-c",
              "d=$(mktemp -d) && cd $d && printf '#include <stdio.h>\\nint main(void) { "
              "puts(__DATE__); }' "
              ">a.c && cc a.c -o a && ./a; rm -r $d"},
     .opens = true,
     .side_by_side = true,
     .expected = "Sep 13 2020\n"},
    {.name = "timeout and nice",
     .argv = {"/bin/sh", "-c", "timeout 5 nice echo hi"},
     .side_by_side = true,
     .expected = "hi\n"},
    {.name = "time",
     .argv = {"/bin/bash", "-c", "TIMEFORMAT='%U %S'; time (date +%Y)"},
     .opens = true,
     .expected = "2020\n0.000 0.000\n"},
};

static void run(const struct row *row, uint64_t seed, struct guarded_result *r)
{
    struct guarded g = {.argv = row->argv,
                        .input = row->input,
                        .opens = row->opens,
                        .seed = seed,
                        .stream = 3,
                        .epoch_s = EPOCH};

    guarded_run(&g, r);
}

static void program(void **context)
{
    const struct row *row = *context;
    static struct guarded_result first, second, other;

    if (access(row->argv[0], X_OK) < 0) {
        print_message("%s is not installed\n", row->argv[0]);
        skip();
    }
    run(row, 7, &first);
    run(row, 7, &second);
    if (getenv("ZPIPE_TEST_SHOW"))
        print_message("%s%s (%llu calls, opens %llu)\n", first.output, first.report.uncertified_why,
                      (unsigned long long)first.report.calls, (unsigned long long)first.opened);
    if (first.status != row->status)
        fail_msg("status %d: %s", first.status, first.output);
    if (row->expected)
        assert_string_equal(first.output, row->expected);
    assert_string_equal(first.output, second.output);
    assert_int_equal(first.status, second.status);
    assert_true(row->side_by_side || first.report.calls == second.report.calls);
    assert_true(row->opens || first.opened == 0);
    if (row->random) {
        run(row, 8, &other);
        assert_string_not_equal(first.output, other.output);
    }
}

int main(void)
{
    struct CMUnitTest tests[sizeof rows / sizeof *rows];

    if (!guarded_possible()) {
        print_message("no user namespaces here: skipped\n");
        return 0;
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        tests[i] =
            (struct CMUnitTest){rows[i].name, program, NULL, NULL, (void *)(uintptr_t)&rows[i]};
    if (cmocka_run_group_tests(tests, NULL, NULL) != 0)
        return 1;
    return guarded_as_nobody();
}
