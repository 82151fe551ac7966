/* Clones of templates beside programs that start cold: the same bytes, the same ends, whatever the program has done
 * before its first use of a channel; who cannot be cloned starts cold by itself; nothing is left behind, and a clone
 * has no rights. */
#include "lib/census.h"
#include "lib/clones.h"
#include "lib/test.h"
#include "sandbox/forker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CLONES     8   /* of each program */
#define DEADLINE_S 30

/* --- the same bytes --- */

static void programs(void **state)
{
    static const struct {
        const char *program, *line;
    } row[] = {
        {"grep", "grep 1"},
        {"grep", "grep -c nothing"},
        {"sort", "sort -k2"},
        {"sort", "sort -R"},
        {"sed", "sed -n 's/1/2/p'"},
        {"awk", "awk '{ s += $3 } END { print s, rand() }'"},
        {"cat", "cat"},
        {"cat", "cat -n /dev/stdin"},
        {"cat", "cat - nowhere"},
        {"cut", "cut -c 2-"},
        {"tr", "tr a-z A-Z"},
        {"wc", "wc"},
        {"uniq", "uniq -c"},
        {"head", "head -n 2"},
        {"tail", "tail -n 2"},
        {"shuf", "shuf"},
        {"true", "true"},
        {"sh", "sh -c 'echo $$ $PPID; read x; echo $x; cat | (cat; echo $$; exit 3)'"},
        {"sh", "sh -c 'read x; true & echo $! $x; wait; true & wait; echo $!'"},
        {"sh", "sh -c 'read x; kill -TERM 1; echo $? $$ $x'"},
        {"bash", "bash -c 'trap \"echo term\" TERM; while read x; do echo $x $RANDOM; done; kill $$; echo $BASHPID'"},
        {"sh", "sh -c 'read x; date; sleep 3; python3 -c \"import time; time.sleep(5); print(time.time())\"; date'"},
        {"python3", "python3 -c 'import sys, time; a = time.time(); sys.stdin.read(); b = time.time(); time.sleep(2); print(a, b, time.time())'"},
        {"bash", "bash -c 'umask 077; cd /tmp; read x; pwd; umask; kill -9 $$'"},
        {"perl", "perl -e 'use POSIX; $h{$_}++ for 1..99; print join(q( ), keys %h), rand(), getpgrp, $$; while (<>) { print }'"},
        {"perl", "perl -e '$SIG{ALRM} = sub { print qq(alarm\\n); exit 4 }; <>; alarm 2; sleep 9'"},
        {"python3", "python3 -c 'import faulthandler, sys; faulthandler.enable(); sys.stdin.read(); sys.setrecursionlimit(10**9)\n"
                    "def f(n): return f(n + 1) if n else 0\nprint(f(0))'"},
        {"lua5.4", "lua5.4 -e 'for l in io.lines() do print(l) end'"},
        {"python3", "python3 -c 'import sys, json, re, os, random\n"
                    "a = [bytes(1000) for i in range(999)]\n"
                    "print(os.getpid(), os.getppid(), os.getsid(0), random.random(), os.urandom(4), hash(\"a\"), id(a))\n"
                    "d = sys.stdin.read()\n"
                    "a += [bytes(100000) for i in range(200)]\n"
                    "print(len(d), random.random(), os.urandom(4), id(a[-1]), os.listdir(\"/job\"), os.fstat(0), os.fstat(1))'"},
        {"python3", "python3 -c 'import sys, decimal\nimport time; t = time.time(); sys.stdin.read(); print(t, time.time())\n"
                    "open(\"/tmp/a\")'"},
    };
    (void)state;
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        if (have(row[i].program)) {
            if (!clones_are_same(&(struct boxed_plan){.line = row[i].line, .in = input, .out = -1}, CLONES))
                fail_msg("'%s' starts cold: %s", row[i].line, b.stage[0].cold);
            if (!clones_are_same(&(struct boxed_plan){.line = row[i].line, .in = empty, .out = -1}, CLONES))
                fail_msg("'%s' starts cold: %s", row[i].line, b.stage[0].cold);
        }
    boxed_close(&b);
}

/* A script that its program reads on: each clone has its own place in it. */
static void offsets(void **state)
{
    char path[] = "/tmp/zpipe-template-XXXXXX";
    int fd = mkstemp(path);
    (void)state;
    assert_true(fd >= 0);
    dprintf(fd, "read x\necho first $x\n");
    for (int i = 0; i < 2000; i++)
        dprintf(fd, "# a comment that makes this script longer than one read\n");
    dprintf(fd, "read x\necho second $x\n");
    close(fd);
    struct box_file file = {.name = "s", .path = path, .fd = -1};
    boxed_open(&b, BOX_ISOLATION_FULL);
    static const char *const line[] = {"sh s", "bash s"};
    for (int i = 0; i < 2; i++) {
        struct boxed_plan p = {.line = line[i], .in = input, .out = -1, .task = {.file = &file, .file_count = 1}};
        if (!have(i ? "bash" : "sh"))
            continue;
        assert_true(clones_are_same(&p, CLONES));
        assert_non_null(strstr(b.output, "second line 1"));
    }
    unlink(path);
    boxed_close(&b);
}

/* Each block has random bytes of its own, but for what was drawn before its first use of a channel. */
static void streams(void **state)
{
    static const char line[] = "python3 -c 'import os, sys; print(os.urandom(4)); sys.stdin.read(); print(os.urandom(4))'";
    char cold[3][64] = {""};
    (void)state;
    if (!have("python3"))
        return;
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (int i = 0, warm = 0; warm < CLONES && i < RUNS_MAX && !refused; i++) {
        struct boxed_plan p = {.line = line, .in = input, .out = -1, .task.stream = 5 + ((uint64_t)(i % 3) << 32)};
        run(&p);
        warm += !*b.stage[0].cold;
        if (i < 3)
            snprintf(cold[i], sizeof cold[i], "%.60s", b.output);
        assert_string_equal(b.output, cold[i % 3]);
    }
    size_t first = strcspn(cold[0], "\n");
    assert_int_equal(strncmp(cold[0], cold[1], first + 1), 0);
    assert_string_not_equal(cold[0], cold[1]);
    assert_string_not_equal(cold[1], cold[2]);
    boxed_close(&b);
}

static void write_script(const char *path, const char *word)
{
    char other[128], text[128];
    int n = snprintf(text, sizeof text, "#!/bin/sh\nread x\necho %s $x\n", word);
    snprintf(other, sizeof other, "%s.new", path);
    int fd = open(other, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    assert_true(fd >= 0 && write(fd, text, (size_t)n) == n && close(fd) == 0 && rename(other, path) == 0);
}

/* A program of the image becomes another, in its place or in its bytes: the next task is none of the old one's. */
static void changed(void **state)
{
    char path[64];
    struct boxed_plan p = {.line = path, .in = input, .out = -1};
    (void)state;
    if (access("/usr/local/bin", W_OK) < 0)
        return;
    snprintf(path, sizeof path, "/usr/local/bin/zpipe-test-%d", (int)getpid());
    write_script(path, "one");
    boxed_open(&b, BOX_ISOLATION_FULL);
    assert_true(clones_are_same(&p, 2));
    assert_string_equal(b.output, "one line 0 x0\n");
    write_script(path, "two");
    assert_true(clones_are_same(&p, 2));
    assert_string_equal(b.output, "two line 0 x0\n");
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0 && pwrite(fd, "six", 3, (off_t)strlen("#!/bin/sh\nread x\necho ")) == 3 && close(fd) == 0);
    run(&p);
    assert_string_equal(b.output, "six line 0 x0\n");
    assert_true(clones_are_same(&p, 2));
    char *bytes = (fd = open(path, O_RDWR | O_CLOEXEC)) < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(bytes, MAP_FAILED);
    close(fd);
    memcpy(strstr(bytes, "six"), "ten", 3);
    munmap(bytes, 4096);
    run(&p);
    assert_string_equal(b.output, "ten line 0 x0\n");
    unlink(path);
    boxed_close(&b);
}

/* What is told to a shell about `at`, a directory of the image that is ours. */
static void told(const char *at, const char *text)
{
    pid_t pid = fork();
    int status = -1;
    if (pid == 0) {
        if (chdir(at) == 0)
            execl("/bin/sh", "sh", "-ec", text, NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* Names that mean something else now, though no file has changed that the program had open; ~ is the directory. */
static void names(void **state)
{
    static const struct {
        const char *program, *before, *line, *change, *output;
    } row[] = {
        {"sh", "", "sh -c '[ -e ~/new ] && x=yes; read l; echo got $x'", "touch new", "got yes\n"},
        {"sh", "", "sh -c '[ -e ~/no/such/file ] && x=yes; read l; echo got $x'", "mkdir -p no/such; touch no/such/file", "got yes\n"},
        {"perl", "echo >f", "perl -e '$n = -s \"~/f\"; <>; print $n'", "echo more >>f", "6"},
        {"perl", "mkdir d; touch d/a", "perl -e 'opendir D, \"~/d\"; @n = readdir D; closedir D; <>; print scalar @n'", "touch d/b", "4"},
        {"perl", "mkdir e; touch e/a e/b", "perl -e 'opendir D, \"~/e\"; @n = readdir D; closedir D; <>; print scalar @n'", "rm e/b", "3"},
        {"sh", "echo x=one >one; echo x=two >two; ln -s one link", "sh -c '. ~/link; read l; echo $x'", "ln -s two other; mv -T other link", "two\n"},
        {"sh", "mkdir v1 v2; echo x=one >v1/f; echo x=two >v2/f; ln -s v1 v", "sh -c '. ~/v/f; read l; echo $x'", "ln -s v2 v3; mv -T v3 v", "two\n"},
        {"sh", "mkdir -p n/a/b m/a/b; echo x=one >n/a/b/f; echo x=two >m/a/b/f", "sh -c '. ~/n/a/b/f; read l; echo $x'", "mv n old; mv m n", "two\n"},
        {"sh", "mkdir p q; printf '#!/bin/sh\\nread l; echo q' >q/tool; chmod +x q/tool", "env PATH=~/p:~/q tool",
         "printf '#!/bin/sh\\nread l; echo p' >p/toil; chmod +x p/toil; mv p/toil p/tool", "p\n"},
        {"bash", "ln -s /usr/bin/dash shell; printf '#!'$PWD'/shell\\nread l; echo ${BASH_VERSION:+bash}' >script; chmod +x script", "~/script",
         "ln -s /usr/bin/bash bash; mv -T bash shell", "bash\n"},
    };
    char at[64], line[512];
    (void)state;
    if (access("/usr/local/lib", W_OK) < 0)
        return;
    snprintf(at, sizeof at, "/usr/local/lib/zpipe-test-%d", (int)getpid());
    assert_int_equal(mkdir(at, 0755), 0);
    boxed_open(&b, BOX_ISOLATION_FULL);
    int wrong = 0;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        size_t size = 0;
        if (!have(row[i].program))
            continue;
        for (const char *c = row[i].line; *c; c++)
            size += (size_t)snprintf(line + size, sizeof line - size, *c == '~' ? "%s" : "%.1s", *c == '~' ? at : c);
        told(at, row[i].before);
        struct boxed_plan p = {.line = line, .in = input, .out = -1};
        assert_true(clones_are_same(&p, 2));
        told(at, row[i].change);
        run(&p);
        if (strcmp(b.output, row[i].output)) {
            print_error("'%s', after '%s': %s\n", line, row[i].change, b.output);
            wrong++;
        }
    }
    told("/usr/local/lib", (snprintf(line, sizeof line, "rm -r %s", at), line));
    boxed_close(&b);
    assert_int_equal(wrong, 0);
}

/* What everybody writes to is no file that changes. */
static void unchanged(void **state)
{
    struct boxed_plan p = {.line = "sh -c 'exec 2>/dev/null; read x; echo $x'", .in = input, .out = -1};
    (void)state;
    boxed_open(&b, BOX_ISOLATION_FULL);
    assert_true(clones_are_same(&p, 2));
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
    run(&p);
    assert_true(refused || !*b.stage[0].cold);
    boxed_close(&b);
}

/* --- who starts cold by itself --- */

static void cold(void **state)
{
    static const struct {
        const char *program, *line;
    } row[] = {
        {"sh", "sh -c 'echo x >f; cat f -'"},
        {"sh", "sh -c 'true | cat; cat'"},
        {"sh", "sh -c 'mkdir d; cd d; pwd; cat'"},
        {"sh", "sh -c 'echo x; cat'"},
        {"sh", "sh -c 'kill -9 $$'"},
        {"python3", "python3 -c 'import threading, sys; t = threading.Thread(target=lambda: 0); t.start(); t.join(); print(sys.stdin.read())'"},
        {"python3", "python3 -c 'import os, sys; r, w = os.pipe(); print(sys.stdin.read())'"},
        {"python3", "python3 -c 'import mmap, sys; m = mmap.mmap(-1, 4096); m[0] = 65; print(sys.stdin.read(), m[0])'"},
        {"python3", "python3 -c 'import signal, sys; signal.alarm(1000); print(sys.stdin.read(), signal.alarm(0))'"},
        {"python3", "python3 -c 'import sys; a = bytearray(100000000); print(sys.stdin.read())'"},
    };
    (void)state;
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct boxed_plan p = {.line = row[i].line, .in = input, .out = -1};
        bool writes = i == 3; /* its first use of a channel: it is cloned */
        if (have(row[i].program) && clones_are_same(&p, CLONES) != writes && !refused)
            fail_msg("'%s' is%s cloned", row[i].line, writes ? " not" : "");
    }
    boxed_close(&b);
}

/* What is read from a fifo is there once: each task has its own, and no template takes any. */
static void fifo(void **state)
{
    char path[64];
    (void)state;
    snprintf(path, sizeof path, "/tmp/zpipe-fifo-%d", (int)getpid());
    assert_int_equal(mkfifo(path, 0600), 0);
    struct box_file file = {.name = "f", .path = path, .fd = -1};
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (int i = 0; i < 4; i++) {
        char want[32];
        pid_t writer = fork();
        if (writer == 0) {
            alarm(DEADLINE_S);
            int fd = open(path, O_WRONLY | O_CLOEXEC);
            _exit(fd < 0 || dprintf(fd, "number %d\n", i) < 0);
        }
        run(&(struct boxed_plan){.line = "sh -c 'read y < f; read x; echo got $y'", .in = input, .out = -1,
                                 .task = {.file = &file, .file_count = 1, .expected = BOX_MANY}});
        snprintf(want, sizeof want, "got number %d\n", i);
        kill(writer, SIGKILL);
        waitpid(writer, NULL, 0);
        assert_string_equal(b.output, want);
        assert_true(*b.stage[0].cold);
    }
    unlink(path);
    boxed_close(&b);
}

/* A clone that writes files was the last of its template, and the next one sees none of them. */
static void scratch(void **state)
{
    struct boxed_plan p = {.line = "sh -c 'read x; ls /tmp /job; echo $x >f; echo $x >/tmp/g'", .in = input, .out = -1};
    int warm = 0;
    (void)state;
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (int i = 0; i < RUNS_MAX && !warm && !refused; i++) {
        run(&p);
        warm += !*b.stage[0].cold;
        assert_string_equal(b.output, "/job:\n\n/tmp:\n");
        assert_int_equal(b.stage[0].made_count, 1);
    }
    for (int i = 0; i < 5; i++) {
        run(&p);
        assert_string_equal(b.output, "/job:\n\n/tmp:\n");
        assert_true(*b.stage[0].cold);
    }
    boxed_close(&b);
}

/* The process of a clone: the second of a pid namespace that lies in its template's.  Signals are blocked until
 * it is the program's; before, it waits for its task. */
static pid_t find_clone_that(pid_t server, const char *program, bool waits)
{
    pid_t all[CENSUS_PROCESSES];
    int count = census_family(server, all, 0);
    for (int i = 0; i < count; i++) {
        char pids[128], name[64], blocked[64];
        int own, zygote, template, clone;
        line_of(all[i], "NSpid:", pids, sizeof pids);
        line_of(all[i], "Name:", name, sizeof name);
        line_of(all[i], "SigBlk:", blocked, sizeof blocked);
        if (!strcmp(name, program) && !strcmp(blocked, "0000000000000000") == !waits && sscanf(pids, "%d %d %d %d", &own, &zygote, &template, &clone) == 4 &&
            clone == 2)
            return all[i];
    }
    return 0;
}

static pid_t find_clone(pid_t server, const char *program)
{
    return find_clone_that(server, program, false);
}

/* Our own words lie in the forker's stack (forker.h): when its program goes on a clone has nothing but zeros there. */
static bool has_words(pid_t pid)
{
    static const char zeros[FORKER_STACK_BYTES];
    char path[40], there[FORKER_STACK_BYTES];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    int memory = open(path, O_RDONLY | O_CLOEXEC);
    bool has = memory < 0 || pread(memory, there, sizeof there, FORKER_STACK) != sizeof there || memcmp(there, zeros, sizeof zeros);
    if (memory >= 0)
        close(memory);
    return has;
}

/* Of the forker's own (forker.h). */
static bool has_descriptors(pid_t pid)
{
    char path[40];
    bool has = false;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *d = opendir(path);
    for (struct dirent *entry; d && (entry = readdir(d));)
        has |= atoi(entry->d_name) > 2;
    if (d)
        closedir(d);
    return has;
}

/* Of a line for sh: it has its input, says so, and waits for more. */
#define HELLO "read x; echo; read y"

/* Runs a clone of sh that says HELLO, and asks `look` of it in a process of its own while it waits.  0: it was cold. */
static long look_at_clone(const char *line, long (*look)(pid_t clone))
{
    int in[2], out[2], told[2];
    long seen = 0;
    char said;
    pid_t server = census_server(), clone;
    assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC) | pipe2(told, O_CLOEXEC), 0);
    pid_t looker = fork();
    if (looker == 0) {
        close(out[1]);
        if (write(in[1], "x\n", 2) == 2 && read(out[0], &said, 1) == 1 && (clone = find_clone(server, "sh")))
            seen = look(clone);
        _exit(write(told[1], &seen, sizeof seen) != sizeof seen || write(in[1], "y\n", 2) != 2);
    }
    close(in[1]);
    assert_int_equal(boxed_run(&b, &(struct boxed_plan){.line = line, .in = in[0], .out = out[1]}), 0);
    assert_int_equal(read(told[0], &seen, sizeof seen), sizeof seen);
    assert_int_equal(waitpid(looker, NULL, 0), looker);
    const int fd[] = {in[0], out[0], out[1], told[0], told[1]};
    for (size_t i = 0; i < sizeof fd / sizeof *fd; i++)
        close(fd[i]);
    return *b.stage[0].cold ? 0 : seen;
}

enum { RIGHT = 1, WRONG };

static long its_rights(pid_t clone)
{
    static const struct {
        const char *name, *value;
    } want[] = {{"CapInh:", "0000000000000000"}, {"CapPrm:", "0000000000000000"}, {"CapEff:", "0000000000000000"},
                {"CapBnd:", "0000000000000000"}, {"CapAmb:", "0000000000000000"}, {"NoNewPrivs:", "1"},
                {"Seccomp:", "2"},               {"Seccomp_filters:", "1"},       {"TracerPid:", "0"}};
    long is = RIGHT;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        char value[128];
        line_of(clone, want[i].name, value, sizeof value);
        if (*value && strcmp(value, want[i].value)) {
            fprintf(stderr, "a clone has %s %s\n", want[i].name, value);
            is = WRONG;
        }
    }
    if (has_words(clone)) {
        fprintf(stderr, "a clone finds something in its forker's stack\n");
        is = WRONG;
    }
    if (has_descriptors(clone)) {
        fprintf(stderr, "a clone has its forker's descriptors\n");
        is = WRONG;
    }
    return is;
}

static long its_parent(pid_t clone)
{
    char parent[32] = "0";
    line_of(clone, "PPid:", parent, sizeof parent);
    return atol(parent);
}

/* The first process of a clone that left nothing behind has the next but one, too; where something is left, it ends. */
static void stays(void **state)
{
    static const struct {
        const char *line;
        bool stays;
    } row[] = {{"sh -c '" HELLO "; exit 3'", true},
               {"sh -c '" HELLO "; true & wait'", true},
               {"sh -c '" HELLO "; kill -TERM 1'", false},         /* a signal that waits there */
               {"sh -c '" HELLO "; sleep 1 >&- 2>&- & exit'", false}}; /* somebody is left */
    (void)state;
    if (access("/proc/sys/kernel/ns_last_pid", W_OK) < 0) {
        print_message("no first process stays here: /proc/sys/kernel/ns_last_pid: %s\n", strerror(errno));
        skip();
    }
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (size_t r = 0; r < sizeof row / sizeof *row; r++) {
        long seen[CLONES];
        int found = 0, again = 0;
        for (int i = 0; i < RUNS_MAX && found < CLONES && !refused; i++) {
            long one = look_at_clone(row[r].line, its_parent);
            if (one)
                seen[found++] = one;
        }
        for (int i = 2; i < found; i++)
            again += seen[i] == seen[i - 2];
        if (!refused)
            assert_true(row[r].stays == (again > 0)); /* a busy machine has a second template, and some by each */
    }
    boxed_close(&b);
}

/* A clone that is ended before it has taken its task leaves nothing of it open: who reads its output has an end. */
static void unread(void **state)
{
    int pair[2], stopped = 0;
    (void)state;
    boxed_open(&b, BOX_ISOLATION_FULL);
    assert_true(clones_are_same(&(struct boxed_plan){.line = "cat", .in = input, .out = -1}, 1));
    assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
    alarm(DEADLINE_S * 2);
    for (int i = 0; i < RUNS_MAX && stopped < CLONES && !refused; i++) {
        pid_t clone = find_clone_that(census_server(), "cat", true);
        if (clone)
            assert_int_equal(kill(clone, SIGSTOP), 0);
        assert_int_equal(boxed_run(&b, &(struct boxed_plan){.line = "cat", .in = pair[0], .out = -1, .stop_after_ns = 20000000}), 0);
        assert_int_equal(b.stage[0].end, BOX_KILLED);
        stopped += clone && !*b.stage[0].cold;
    }
    alarm(0);
    assert_true(stopped == CLONES || refused);
    assert_true(clones_are_same(&(struct boxed_plan){.line = "cat", .in = input, .out = -1}, CLONES));
    close(pair[0]);
    close(pair[1]);
    boxed_close(&b);
}

static void rights(void **state)
{
    long is = 0;
    (void)state;
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (int i = 0; i < 20 && !is && !refused; i++)
        is = look_at_clone("sh -c '" HELLO "'", its_rights);
    assert_true(is == RIGHT || refused);
    boxed_close(&b);
}

/* The wall's questions (docs/SECURITY.md), asked in a clone.  Some are about a file of the caller's at 0. */
static void wall(void **state)
{
    struct box_file file = {.name = "probe", .path = getenv("WALL_PROBE"), .fd = -1};
    char line[128];
    struct boxed_plan p = {.line = line, .in = input, .out = -1, .task = {.file = &file, .file_count = 1}};
    int warm = 0;
    (void)state;
    assert_non_null(file.path);
    snprintf(line, sizeof line, "sh -c 'read x; exec ./probe full none %d <&2'", (int)getpid());
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (int i = 0; i < RUNS_MAX && !warm && !refused; i++) {
        run(&p);
        const char *wrong = strstr(b.output, "WRONG");
        if (wrong || b.stage[0].status)
            fail_msg("%s: %.200s", *b.stage[0].cold ? "cold" : "clone", wrong ? wrong : b.errors);
        warm += !*b.stage[0].cold;
    }
    assert_true(warm || refused);
    boxed_close(&b);
}

/* Limits of ours, and our own stop, reach a clone as they reach any other. */
static void ends(void **state)
{
    struct boxed_plan loop = {.line = "sh -c 'read x; while :; do :; done'", .in = input, .out = -1,
                              .task.limit.wall_ns = 300000000};
    struct boxed_plan big = {.line = "sh -c 'read x; yes'", .in = input, .out = -1, .break_after = 50000};
    struct boxed_plan left = {.line = "sh -c 'read x; (while :; do :; done) >&- 2>&- & echo $x'", .in = input, .out = -1};
    (void)state;
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (int i = 0, warm = 0; i < 30 && warm < 3 && !refused; i++) {
        run(&loop);
        assert_int_equal(b.stage[0].end, BOX_LIMIT);
        assert_string_equal(b.stage[0].limit, "timeout");
        warm += !*b.stage[0].cold;
    }
    for (int i = 0, warm = 0; i < RUNS_MAX && warm < 5 && !refused; i++) {
        run(&big);
        assert_int_equal(b.stage[0].status, 128 + SIGPIPE);
        warm += !*b.stage[0].cold;
    }
    for (int i = 0, warm = 0; i < RUNS_MAX && warm < 5 && !refused; i++) {
        run(&left);
        assert_string_equal(b.output, "line 0 x0\n");
        assert_int_equal(b.stage[0].status, 0);
        warm += !*b.stage[0].cold;
    }
    loop.task.limit.wall_ns = 0;
    loop.stop_after_ns = 20000000;
    for (int i = 0; i < 10; i++) {
        run(&loop);
        assert_int_equal(b.stage[0].end, BOX_KILLED);
    }
    boxed_close(&b);
}

/* The CPU time of a clone is its own, however it ends: its first process has had others, which it told the server of at the door, and its
 * init hears of none of them. */
static void spent(void **state)
{
    static const char line[] = "sh -c 'read x; while [ \"$x\" = work ] && [ $((i += 1)) -lt 30000 ]; do :; done; [ \"$x\" = work ] || kill -ABRT $$'";
    int work = memfd_create("work", MFD_CLOEXEC), none = memfd_create("none", MFD_CLOEXEC);
    uint64_t most = 0;
    int warm = 0, killed = 0;
    (void)state;
    assert_int_equal(write(work, "work\n", 5), 5);
    assert_int_equal(write(none, "none\n", 5), 5);
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (int i = 0; i < RUNS_MAX && killed < CLONES && !refused; i++) {
        bool works = warm < 8;
        run(&(struct boxed_plan){.line = line, .in = works ? work : none, .out = -1});
        assert_int_equal(b.stage[0].end, works ? BOX_EXITED : BOX_SIGNALLED);
        if (*b.stage[0].cold)
            continue;
        if (works && b.stage[0].cpu_ns > most)
            most = b.stage[0].cpu_ns;
        if (!works && b.stage[0].cpu_ns > most)
            fail_msg("a clone that did nothing used %llu us, those before it %llu at most", (unsigned long long)b.stage[0].cpu_ns / 1000,
                     (unsigned long long)most / 1000);
        killed += !works;
        warm++;
    }
    assert_true(killed == CLONES || refused);
    boxed_close(&b);
    close(work);
    close(none);
}

/* A template that does not come to its stop is given up: nobody waits for it. */
static void endless(void **state)
{
    static const char *const line[] = {"sh -c 'while :; do :; done'", "sh -c 'while :; do [ -e / ]; done'"};
    (void)state;
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (int k = 0; k < 2; k++) {
        bool given_up = false;
        for (int i = 0; i < RUNS_MAX && !given_up && !refused; i++) {
            run(&(struct boxed_plan){.line = line[k], .in = input, .out = -1, .task.limit.wall_ns = 100000000});
            assert_string_equal(b.stage[0].limit, "timeout");
            given_up = strstr(b.stage[0].cold, "works too long");
        }
        if (!given_up && !refused)
            fail_msg("%s: %s", line[k], b.stage[0].cold);
    }
    boxed_close(&b);
}

/* argv[1]: a test's name, to run it alone. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs), cmocka_unit_test(offsets), cmocka_unit_test(streams), cmocka_unit_test(changed),
        cmocka_unit_test(names),    cmocka_unit_test(unchanged), cmocka_unit_test(cold),  cmocka_unit_test(scratch),
        cmocka_unit_test(stays),    cmocka_unit_test(rights),  cmocka_unit_test(wall),    cmocka_unit_test(ends),
        cmocka_unit_test(endless),  cmocka_unit_test(fifo),    cmocka_unit_test(unread),  cmocka_unit_test(spent)};
    clones_inputs();
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
