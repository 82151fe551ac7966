/* Is the result the same every time?  The program is run twice, under conditions that differ in what must not influence its
 * results: the machine's load, the CPU, the supervisor's descriptors, environment and stack, the age of its zygote.
 * Everything that it did is compared: its streams, its status, its files, and each call that was answered for it, with its
 * answer. */
#include "sandbox/alone.h"
#include "base/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BUSY_MAX      64 /* processes that load the machine */
#define OTHER_FDS     97 /* additional descriptors of the second supervisor */
#define OTHER_ENV     61
#define OTHER_STACK   12345
#define OLDER         25 /* tasks that the second zygote has run before */
#define CALLS_BEFORE  5  /* calls shown before a difference */

struct side {
    struct run run;
    int fd[3]; /* what the run read and wrote */
    FILE *trace;
};

static const char *const name[] = {"stdin", "stdout", "stderr"};

/* --- conditions --- */

static uint32_t load_begin(pid_t *busy, uint32_t count)
{
    pid_t self = getpid();
    for (uint32_t i = 0; i < count; i++) {
        busy[i] = fork();
        if (busy[i] < 0)
            return i;
        if (busy[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            while (getppid() == self)
                ;
            _exit(0);
        }
    }
    return count;
}

static void load_end(const pid_t *busy, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        kill(busy[i], SIGKILL);
        while (waitpid(busy[i], NULL, 0) < 0 && errno == EINTR)
            ;
    }
}

/* Moves us to the first or the last of the CPUs that we may use. */
static void stay_on(const cpu_set_t *may, bool last)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE; i++) {
        size_t cpu = last ? CPU_SETSIZE - 1 - i : i;
        if (!CPU_ISSET(cpu, may))
            continue;
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

static void other_circumstances(void)
{
    for (int i = 0; i < OTHER_FDS; i++)
        if (open("/dev/null", O_RDWR | O_CLOEXEC) < 0)
            break;
    for (int i = 0; i < OTHER_ENV; i++) {
        char variable[32], value[64];
        snprintf(variable, sizeof variable, "ZPIPE_OTHER_%d", i);
        snprintf(value, sizeof value, "%d-%ld", (int)getpid(), (long)i * 7919);
        setenv(variable, value, 1);
    }
}

/* Runs some tasks first, so that the zygote is not new. */
static int grow_old(struct run *r, struct box *b)
{
    static const char *const words[] = {"true", NULL};
    const struct run asked = *r;
    struct alone *plain = calloc(1, sizeof *plain);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), failed = !plain || null < 0;
    for (int i = 0; i < OLDER && !failed; i++) {
        *plain = (struct alone){.none = asked.alone->none, .task = {.argv = words, .env = asked.alone->task.env}};
        *r = (struct run){.alone = plain, .captured = true};
        failed = run_once(r, b, (const int[]){null, null, null}) < 0;
    }
    *r = asked;
    fd_close(&null);
    free(plain);
    return failed ? -1 : 0;
}

/* --- the two runs --- */

/* Copies all of stdin, so that it can be read twice; a file is used as it is. */
static int keep_input(void)
{
    struct stat s;
    char buffer[65536];
    ssize_t n;
    if (fstat(0, &s) < 0)
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (S_ISREG(s.st_mode))
        return fcntl(0, F_DUPFD_CLOEXEC, 3);
    char path[] = "/tmp/zpipe-box-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0 || unlink(path) < 0)
        return -1;
    while ((n = read(0, buffer, sizeof buffer)) > 0)
        if (fd_write_all(fd, buffer, (size_t)n) < 0)
            return -1;
    return n < 0 || lseek(fd, 0, SEEK_SET) < 0 ? -1 : fd;
}

static int run_side(struct side *s, const struct alone *a, int input, off_t from, bool other)
{
    struct err e;
    s->run = (struct run){.alone = a, .captured = true};
    s->fd[0] = input;
    s->fd[1] = memfd_create("stdout", MFD_CLOEXEC);
    s->fd[2] = memfd_create("stderr", MFD_CLOEXEC);
    s->trace = tmpfile();
    if (s->fd[1] < 0 || s->fd[2] < 0 || !s->trace || lseek(input, from, SEEK_SET) < 0) {
        fprintf(stderr, "zpipe-box: cannot keep what the program writes: %s\n", strerror(errno));
        return -1;
    }
    s->run.trace = s->trace;
    struct box *b = run_box(&s->run, &e);
    if (!b) {
        fprintf(stderr, "zpipe-box: %s\n", e.text);
        return -1;
    }
    int r = other && grow_old(&s->run, b) < 0 ? -1 : run_once(&s->run, b, s->fd);
    box_close(b);
    return r < 0 || s->run.result.end == BOX_FAILED ? -1 : 0;
}

static int run_both(struct side side[2], const struct alone *a)
{
    cpu_set_t may;
    pid_t busy[BUSY_MAX];
    struct rlimit stack;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int input = keep_input();
    off_t from = input < 0 ? -1 : lseek(input, 0, SEEK_CUR);
    if (from < 0 || sched_getaffinity(0, sizeof may, &may) < 0) {
        fprintf(stderr, "zpipe-box: cannot keep the input for a second run: %s\n", strerror(errno));
        return -1;
    }
    stay_on(&may, false);
    int r = run_side(&side[0], a, input, from, false);
    if (r == 0) {
        stay_on(&may, true);
        other_circumstances();
        if (getrlimit(RLIMIT_STACK, &stack) == 0 && stack.rlim_cur > 2 * OTHER_STACK) {
            stack.rlim_cur -= OTHER_STACK;
            setrlimit(RLIMIT_STACK, &stack);
        }
        uint32_t count = load_begin(busy, cpus < 1 ? 1 : cpus < BUSY_MAX ? (uint32_t)cpus : BUSY_MAX);
        r = run_side(&side[1], a, input, from, true);
        load_end(busy, count);
    }
    sched_setaffinity(0, sizeof may, &may);
    close(input);
    return r;
}

/* --- the comparison --- */

/* The first byte that differs, or -1; *ended: one side ends there. */
static int64_t first_difference(int a, int b, bool *ended)
{
    char x[65536], y[65536];
    for (int64_t at = 0;;) {
        ssize_t n = pread(a, x, sizeof x, at), m = pread(b, y, sizeof y, at);
        ssize_t both = n < m ? n : m;
        for (ssize_t i = 0; i < both; i++)
            if (x[i] != y[i]) {
                *ended = false;
                return at + i;
            }
        *ended = true;
        if (n != m)
            return at + (both > 0 ? both : 0);
        if (n <= 0)
            return -1;
        at += n;
    }
}

static bool same_bytes(const char *what, int a, int b)
{
    bool ended;
    int64_t at = first_difference(a, b, &ended);
    char x = 0, y = 0;
    if (at < 0)
        return true;
    if (ended)
        fprintf(stderr, "zpipe-box: not the same: %s ends after byte %" PRId64 " in one of two runs\n", what, at);
    else if (pread(a, &x, 1, at) == 1 && pread(b, &y, 1, at) == 1)
        fprintf(stderr, "zpipe-box: not the same: byte %" PRId64 " of %s is 0x%02x and 0x%02x\n", at + 1, what,
                (unsigned char)x, (unsigned char)y);
    return false;
}

/* The next call of a trace, without its real time; phases are left out. */
static const char *next_call(FILE *f, char *line, size_t size)
{
    while (fgets(line, (int)size, f)) {
        line[strcspn(line, "\n")] = '\0';
        const char *what = strchr(line, ' ');
        if (what && strncmp(what + 1, "phase ", 6))
            return what + 1;
    }
    return NULL;
}

/* Shows the last calls before a difference, and the two that differ. */
static bool same_calls(FILE *a, FILE *b, uint64_t *count)
{
    char x[256], y[256], before[CALLS_BEFORE][256];
    const char *p, *q;
    *count = 0;
    rewind(a);
    rewind(b);
    for (;; ++*count) {
        p = next_call(a, x, sizeof x);
        q = next_call(b, y, sizeof y);
        if ((!p && !q) || !p || !q || strcmp(p, q))
            break;
        snprintf(before[*count % CALLS_BEFORE], sizeof before[0], "%s", p);
    }
    if (!p && !q)
        return true;
    fprintf(stderr, "zpipe-box: the first call that differs is number %" PRIu64 ":\n", *count + 1);
    for (uint64_t i = *count < CALLS_BEFORE ? 0 : *count - CALLS_BEFORE; i < *count; i++)
        fprintf(stderr, "    both    %s\n", before[i % CALLS_BEFORE]);
    fprintf(stderr, "    first   %s\n    second  %s\n", p ? p : "no more", q ? q : "no more");
    return false;
}

static bool same_end(const struct box_result *a, const struct box_result *b)
{
    if (a->end == b->end && a->status == b->status && a->signal == b->signal && !strcmp(a->limit, b->limit))
        return true;
    fprintf(stderr, "zpipe-box: not the same: it ended with status %d, signal %d, limit '%s', and with %d, %d, '%s'\n",
            a->status, a->signal, a->limit, b->status, b->signal, b->limit);
    return false;
}

static bool same_files(const struct run *a, const struct run *b)
{
    bool same = a->made_count == b->made_count;
    for (uint32_t i = 0; same && i < a->made_count; i++)
        same = !strcmp(a->made[i].name, b->made[i].name) && a->made[i].kind == b->made[i].kind &&
               (a->made[i].fd < 0) == (b->made[i].fd < 0);
    if (!same)
        fprintf(stderr, "zpipe-box: not the same: it left other files\n");
    for (uint32_t i = 0; same && i < a->made_count; i++)
        same = a->made[i].fd < 0 || same_bytes(a->made[i].name, a->made[i].fd, b->made[i].fd);
    return same;
}

static bool same(struct side s[2])
{
    const struct box_result *one = &s[0].run.result;
    uint64_t calls;
    bool whole = same_end(one, &s[1].run.result);
    for (int i = 1; i < 3; i++)
        whole &= same_bytes(name[i], s[0].fd[i], s[1].fd[i]);
    whole &= same_files(&s[0].run, &s[1].run);
    for (uint32_t i = 3; i < s[0].run.stream_count; i++)
        if (s[0].run.alone->named[i - 3].write)
            whole &= same_bytes(s[0].run.stream[i].name, s[0].run.stream[i].fd, s[1].run.stream[i].fd);
    bool order = same_calls(s[0].trace, s[1].trace, &calls);
    if (!order && whole && !one->certified) { /* the order of calls of processes that run side by side, which we do not promise */
        fprintf(stderr, "zpipe-box: its results are the same, the order of its calls is not: %s\n",
                one->uncertified_why);
        return true;
    }
    whole &= order;
    if (whole)
        fprintf(stderr, "zpipe-box: the same twice: status, streams, files, %" PRIu64 " calls%s%s\n", calls,
                one->certified ? "" : "; yet not certified: ", one->uncertified_why);
    else
        fprintf(stderr, "zpipe-box: this program is not deterministic here%s%s\n",
                one->certified ? ", although it was certified" : ": ", one->uncertified_why);
    return whole;
}

static int pass_on(int from, int to)
{
    char buffer[65536];
    off_t at = 0;
    for (ssize_t n; (n = pread(from, buffer, sizeof buffer, at)) > 0; at += n)
        if (fd_write_all(to, buffer, (size_t)n) < 0)
            return -1;
    return 0;
}

static int pass_named(const struct run *r)
{
    for (uint32_t i = 3; i < r->stream_count; i++) {
        const struct alone_named *named = &r->alone->named[i - 3];
        int to = named->write ? open(named->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666) : -1;
        if (named->write && (to < 0 || pass_on(r->stream[i].fd, to) < 0))
            return fprintf(stderr, "zpipe-box: cannot write '%s': %s\n", named->path, strerror(errno)), -1;
        fd_close(&to);
    }
    return 0;
}

int verify(const struct alone *a)
{
    static struct side side[2];
    int status = STATUS_FAILED;
    struct err e;
    if (run_both(side, a) == 0 && same(side)) {
        run_save(&side[0].run);
        status = side[0].run.status;
        if ((pass_on(side[0].fd[1], 1) < 0 && errno != EPIPE) || pass_on(side[0].fd[2], 2) < 0 || pass_named(&side[0].run) < 0)
            status = STATUS_FAILED;
    }
    if (a->report && report_write(&side[0].run, &e) < 0) {
        fprintf(stderr, "zpipe-box: %s\n", e.text);
        status = STATUS_FAILED;
    }
    for (int i = 0; i < 2; i++)
        run_clear(&side[i].run);
    return status;
}
