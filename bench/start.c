/* bench/start [--cgroup] [RUNS]: from the request to the end of life of one program, in a sandbox of a running zpipe-box --server,
 * as a clone of a template, by posix_spawn and wait, by bubblewrap where it is installed, and as no more than a fork of the program where it
 * stands before its first read (stopped.h: a clone's floor); alternating, all on one CPU.
 *
 * zpipe-box makes the next task's place ready after it has answered, which is no part of a start; so there is a rest after
 * each, in which that is done, and "in a row" says what it costs: starts without any rest, with all that they need.
 *
 * Then how long a clone takes to its first instruction, and what templates cost in memory: one that stands, which is with the clone that
 * waits, and while that runs and has read a line.
 *
 * --cgroup: instead, what a cgroup for each task costs: by two zpipe-boxes, one of which was given a cgroup to divide. It needs root, and
 * cgroups of version 2 that are nobody's, as in the machine of `make kernel`.
 *
 * Prints a table and writes build/bench/start.json.  Figures are medians; the smallest stands beside them, since a busy
 * machine moves the median.  A goal that is missed is said, and is no failure: this is no test. */
#include "bench/stopped.h"
#include "sandbox/box.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define RUNS_MAX  100000
#define WORDS_MAX 16
#define LONG_MS   120000 /* a machine may be a program */
#define WARM_UP_RUNS 200
#define REST_NS      2000000 /* several times what a place takes */

extern char **environ;

struct row {
    const char *name;
    const char *word[WORDS_MAX];
    const char *file;   /* NULL, or the program, to be shown in the sandbox */
    double ratio, more_us; /* goals; 0: none */
    double ratio_bwrap;
    double ratio_warm; /* a clone's */
    int part;          /* of the runs; it is slow */
};

struct figure {
    double median, least; /* us */
};

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "bench/start: %s: %s\n", what, why);
    exit(1);
}

/* --- the three ways --- */

static int null_fd;
static bool over, cloned;
static char cold_why[256], cgroup_why[256];

static void on_task(void *owner, uint64_t region, uint32_t task, const struct box_result *r)
{
    (void)owner, (void)region, (void)task;
    if (r->end != BOX_EXITED || (r->status && r->status != 1))
        die("a program failed in its sandbox", r->text);
    cloned = !*r->cold_why;
    snprintf(cold_why, sizeof cold_why, "%s", r->cold_why);
    snprintf(cgroup_why, sizeof cgroup_why, "%s", r->cgroup_why);
}

static void on_pump(void *owner, uint64_t region, uint32_t channel, uint64_t bytes, int sys, bool reading)
{
    (void)owner, (void)region, (void)channel, (void)bytes, (void)sys, (void)reading;
}

static void on_region(void *owner, uint64_t region)
{
    (void)owner, (void)region;
    over = true;
}

static void on_lost(void *owner, const struct err *why)
{
    (void)owner;
    die("zpipe-box", why->text);
}

static void finish(struct box *b, const char *what)
{
    while (!over) {
        struct pollfd p = {.fd = box_fd(b), .events = POLLIN};
        if (poll(&p, 1, LONG_MS) <= 0)
            die(what, "no end after two minutes");
        box_dispatch(b);
    }
}

/* To the task's end; or, where it writes to a pipe of which `from` is the other end, to what it writes there. */
static double run_task(struct box *b, const struct box_task *task, int from, void *written, size_t size, const char *name)
{
    static uint64_t id;
    struct box_region region = {.task = task, .task_count = 1};
    struct err e;
    over = false;
    double began = now_us();
    if (box_run(b, ++id, &region, &e) < 0)
        die("cannot run", e.text);
    if (from >= 0 && read(from, written, size) != (ssize_t)size)
        die("pipe", strerror(errno));
    double to_byte = now_us();
    finish(b, name);
    return (from >= 0 ? to_byte : now_us()) - began;
}

static double by_box(struct box *b, const struct row *row)
{
    static const char *const env[] = {"PATH=/usr/bin:/bin", "LC_ALL=C", NULL};
    struct box_port port[3];
    for (int fd = 0; fd < 3; fd++)
        port[fd] = (struct box_port){.fd = fd, .write = fd > 0, .channel = -1, .file = -1};
    struct box_file file = {.name = "program", .path = row->file, .fd = -1};
    struct box_task task = {.argv = row->word, .env = env, .port = port, .port_count = 3, .file = &file,
                            .file_count = row->file ? 1 : 0};
    return run_task(b, &task, -1, NULL, 0, row->name);
}

/* From the request to what a clone does first after its template's stop (first.c), in the processor's counts; `*byte`: to the first
 * byte that it writes, in us. */
static double to_first_instruction(struct box *b, const char *program, double *byte)
{
    static const char *const word[] = {"./program", NULL}, *const env[] = {NULL};
    static int pair[2] = {-1, -1};
    unsigned long long counted, began;
    if (pair[0] < 0 && pipe2(pair, O_CLOEXEC) < 0)
        die("pipe", strerror(errno));
    struct box_port port[3] = {{.fd = 0, .channel = -1, .file = -1}, {.fd = 1, .write = true, .channel = -1, .file = pair[1]},
                               {.fd = 2, .write = true, .channel = -1, .file = -1}};
    struct box_file file = {.name = "program", .path = program, .fd = -1};
    struct box_task task = {.argv = word, .env = env, .port = port, .port_count = 3, .file = &file, .file_count = 1};
    began = __rdtsc();
    *byte = run_task(b, &task, pair[0], &counted, sizeof counted, "first");
    return (double)(counted - began);
}

static const char *const outside_env[] = {"PATH=/usr/bin:/bin", "LC_ALL=C", NULL};

static double by_spawn(const char *const *word)
{
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status;
    posix_spawn_file_actions_init(&actions);
    for (int fd = 0; fd < 3; fd++)
        posix_spawn_file_actions_adddup2(&actions, null_fd, fd);
    double began = now_us();
    int r = posix_spawnp(&pid, word[0], &actions, NULL, (char *const *)(uintptr_t)word,
                         (char *const *)(uintptr_t)outside_env);
    if (r)
        die(word[0], strerror(r));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    double took = now_us() - began;
    posix_spawn_file_actions_destroy(&actions);
    if (!WIFEXITED(status) || WEXITSTATUS(status) > 1) /* grep found nothing: 1 */
        die(word[0], "it failed");
    return took;
}

static double by_bwrap(const char *const *word)
{
    const char *all[WORDS_MAX + 8] = {"bwrap", "--unshare-all", "--ro-bind", "/", "/"};
    for (int i = 0; i <= WORDS_MAX - 1 && word[i]; i++)
        all[5 + i] = word[i];
    return by_spawn(all);
}

/* --- figures --- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct figure figure_of(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_size);
    return (struct figure){v[n / 2], v[0]};
}

static const char *met(bool yes)
{
    return yes ? "met" : "MISSED";
}

static void rest(void)
{
    nanosleep(&(struct timespec){.tv_nsec = REST_NS}, NULL);
}

struct row_result {
    struct figure bare, box, warm, bwrap, floor; /* medians of 0: none */
    double bare_row, box_row;             /* us of each, in a row */
};

static void put(FILE *json, const char *name, struct figure f)
{
    fprintf(json, ", \"%s_us\": %.1f, \"%s_min_us\": %.1f", name, f.median, name, f.least);
}

static void report(const struct row *row, const char *no_clone, const struct row_result *r, bool first, FILE *json)
{
    const struct figure box = r->box, warm = r->warm, bare = r->bare, bwrap = r->bwrap;
    printf("%-22s bare      %8.0f us (min %7.0f)\n", row->name, bare.median, bare.least);
    printf("%-22s zpipe-box %8.0f us (min %7.0f)   %5.2fx of bare, %+.0f us", "", box.median, box.least,
           box.median / bare.median, box.median - bare.median);
    if (row->ratio > 0)
        printf("   goal <= %.2fx: %s", row->ratio, met(box.median <= row->ratio * bare.median));
    if (row->more_us > 0)
        printf("   goal <= +%.0f us: %s", row->more_us, met(box.median - bare.median <= row->more_us));
    fprintf(json, "%s\n  {\"name\": \"%s\", \"ratio\": %.3f", first ? "" : ",", row->name, box.median / bare.median);
    put(json, "box", box);
    put(json, "bare", bare);
    printf("\n%-22s in a row  %8.0f us each, bare %.0f us      %5.2fx of bare", "", r->box_row, r->bare_row,
           r->box_row / r->bare_row);
    fprintf(json, ", \"box_row_us\": %.1f, \"bare_row_us\": %.1f", r->box_row, r->bare_row);
    if (warm.median > 0) {
        printf("\n%-22s clone     %8.0f us (min %7.0f)   %5.2fx of bare", "", warm.median, warm.least,
               warm.median / bare.median);
        if (row->ratio_warm > 0)
            printf("   goal <= %.2fx: %s", row->ratio_warm, met(warm.median <= row->ratio_warm * bare.median));
        put(json, "warm", warm);
        if (r->floor.median > 0) {
            printf("\n%-22s its floor %8.0f us (min %7.0f)   %5.2fx of bare: forked where it stands, and its end", "", r->floor.median,
                   r->floor.least, r->floor.median / bare.median);
            put(json, "floor", r->floor);
        }
    } else {
        printf("\n%-22s no clone: %s", "", no_clone);
    }
    if (bwrap.median > 0) {
        printf("\n%-22s bwrap     %8.0f us (min %7.0f)   zpipe-box %.2fx of it", "", bwrap.median, bwrap.least,
               box.median / bwrap.median);
        if (row->ratio_bwrap > 0)
            printf("   goal <= %.2fx: %s", row->ratio_bwrap, met(box.median <= row->ratio_bwrap * bwrap.median));
        put(json, "bwrap", bwrap);
    }
    printf("\n");
    fflush(stdout);
    fprintf(json, "}");
}

/* Until it is a clone; false: it never is. */
static bool warm_up(struct box *b, const struct row *row)
{
    for (int i = 0; i < WARM_UP_RUNS; i++) {
        by_box(b, row);
        if (cloned)
            return true;
    }
    return false;
}

static void measure_rows(struct box *b, const struct row *row, const char *const *outside, int runs, struct row_result *r)
{
    double began = now_us();
    for (int i = 0; i < runs; i++)
        by_spawn(outside);
    double between = now_us();
    for (int i = 0; i < runs; i++)
        by_box(b, row);
    r->bare_row = (between - began) / runs;
    r->box_row = (now_us() - between) / runs;
}

static void measure(struct box *b, struct box *templates, const struct row *row, int runs, bool with_bwrap, bool first,
                    FILE *json)
{
    double *figure[5];
    const char *outside[WORDS_MAX];
    int warm = 0;
    runs = row->part ? runs / row->part + 1 : runs;
    for (int i = 0; i < 5; i++)
        if (!(figure[i] = calloc((size_t)runs, sizeof(double))))
            die("memory", strerror(ENOMEM));
    memcpy(outside, row->word, sizeof outside);
    if (row->file)
        outside[0] = row->file;
    by_box(b, row);
    by_spawn(outside);
    bool clones = warm_up(templates, row);
    char why[sizeof cold_why];
    memcpy(why, cold_why, sizeof why);
    bool stands = clones && row->ratio_warm > 0.1 /* python3 never reads */ && stopped_start(outside, outside_env, null_fd) == 0;
    int forked = 0;
    for (int i = 0; i < runs; i++) {
        rest();
        figure[0][i] = by_spawn(outside);
        figure[1][i] = by_box(b, row);
        rest();
        if (clones)
            figure[2][warm] = by_box(templates, row);
        warm += clones && cloned;
        if (with_bwrap)
            figure[3][i] = by_bwrap(outside);
        rest();
        if (stands && (figure[4][forked] = stopped_run()) > 0)
            forked++;
    }
    if (stands)
        stopped_end();
    struct row_result r = {.bare = figure_of(figure[0], runs), .box = figure_of(figure[1], runs)};
    if (warm)
        r.warm = figure_of(figure[2], warm);
    if (forked)
        r.floor = figure_of(figure[4], forked);
    if (with_bwrap)
        r.bwrap = figure_of(figure[3], runs);
    measure_rows(b, row, outside, runs, &r);
    report(row, why, &r, first, json);
    for (int i = 0; i < 5; i++)
        free(figure[i]);
}

/* Counts of the processor in a microsecond. */
static double counts_in_us(void)
{
    double began = now_us();
    unsigned long long counted = __rdtsc();
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    return (double)(__rdtsc() - counted) / (now_us() - began);
}

static void measure_first(struct box *b, const char *program, int runs, FILE *json)
{
    double *took = calloc((size_t)runs, sizeof *took), *bytes = calloc((size_t)runs, sizeof *bytes), us = counts_in_us();
    int warm = 0;
    if (!took || !bytes)
        die("memory", strerror(ENOMEM));
    cloned = false;
    for (int i = 0; i < WARM_UP_RUNS && !cloned; i++)
        to_first_instruction(b, program, &bytes[0]);
    for (int i = 0; i < runs; i++) {
        rest();
        took[warm] = to_first_instruction(b, program, &bytes[warm]) / us;
        warm += cloned;
    }
    if (warm) {
        struct figure f = figure_of(took, warm), byte = figure_of(bytes, warm);
        printf("a clone's first        %8.0f us after the request (min %.0f), instruction   goal <= 100 us: %s\n", f.median, f.least,
               met(f.median <= 100));
        printf("%-22s %8.0f us (min %.0f), byte, when its reader has it\n", "", byte.median, byte.least);
        fprintf(json, ",\n \"first_us\": %.1f, \"first_min_us\": %.1f, \"first_byte_us\": %.1f, \"first_byte_min_us\": %.1f", f.median,
                f.least, byte.median, byte.least);
    }
    free(took);
    free(bytes);
}

/* Pages of the processes below the server, in KiB, those that are shared by their part; `own`: of these, what is of no file. */
struct memory {
    double all, own;
};

/* A clone's first process, which has the memory of its template. */
static bool is_first_of_clones(pid_t pid)
{
    char path[64], line[256];
    bool ours = false, first = false;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        ours |= !strncmp(line, "Name:\tzpipe", 11) || !strncmp(line, "Name:\tstart", 11);
        first |= !strncmp(line, "NSpid:", 6) && strrchr(line, '\t') && !strcmp(strrchr(line, '\t'), "\t1\n");
    }
    if (f)
        fclose(f);
    return first && !ours;
}

static void add_pages(pid_t pid, struct memory *sum)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        sum->all += strncmp(line, "Pss:", 4) ? 0 : strtod(line + 4, NULL);
        sum->own += strncmp(line, "Pss_Anon:", 9) ? 0 : strtod(line + 9, NULL);
    }
    if (f)
        fclose(f);
}

/* Each thread has children of its own: a task's program is a child of a thread of its init. */
static void add_family(pid_t pid, struct memory *sum)
{
    char path[300];
    int child;
    if (!is_first_of_clones(pid))
        add_pages(pid, sum);
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    for (struct dirent *thread; d && (thread = readdir(d));) {
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/children", (int)pid, thread->d_name);
        FILE *f = *thread->d_name == '.' ? NULL : fopen(path, "re");
        while (f && fscanf(f, "%d", &child) == 1)
            add_family(child, sum);
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
}

static struct memory memory_now(void)
{
    struct memory sum = {0};
    add_family(getpid(), &sum);
    return sum;
}

/* A program that reads a pipe to its end; it waits while the writing end, which is given, is open. */
static int begin_reader(struct box *b, const char *const *word)
{
    static const char *const env[] = {"PATH=/usr/bin:/bin", "LC_ALL=C", NULL};
    static uint64_t id = 1ull << 33;
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0)
        die("pipe", strerror(errno));
    struct box_port port[3] = {{.fd = 0, .channel = -1, .file = pair[0]}, {.fd = 1, .write = true, .channel = -1, .file = -1},
                               {.fd = 2, .write = true, .channel = -1, .file = -1}};
    struct box_task task = {.argv = word, .env = env, .port = port, .port_count = 3};
    struct box_region region = {.task = &task, .task_count = 1};
    struct err e;
    over = false;
    if (box_run(b, ++id, &region, &e) < 0)
        die("cannot run", e.text);
    close(pair[0]);
    return pair[1];
}

static void measure_memory(struct box *b, const char *name, const char *const *word, FILE *json)
{
    rest();
    struct memory before = memory_now();
    cloned = false;
    for (int i = 0; i < WARM_UP_RUNS && !cloned; i++) {
        close(begin_reader(b, word));
        finish(b, name);
    }
    nanosleep(&(struct timespec){.tv_nsec = 100 * REST_NS}, NULL); /* its next clone stands, and what went before is gone */
    struct memory idle = memory_now();
    int to = begin_reader(b, word);
    if (write(to, "some\n", 5) != 5) /* it goes on from its first use of a channel */
        die("pipe", strerror(errno));
    nanosleep(&(struct timespec){.tv_nsec = 100 * REST_NS}, NULL);
    struct memory running = memory_now();
    close(to);
    finish(b, name);
    printf("%-22s an idle template has %.0f KiB of its own, its clone that has read a line %+.0f; with their part of files' pages %.0f, %+.0f%s\n",
           name, idle.own - before.own, running.own - idle.own, idle.all - before.all, running.all - idle.all, cloned ? "" : " (no clone)");
    fprintf(json, ",\n \"memory_kib %s\": [%.0f, %.0f, %.0f, %.0f]", name, idle.all - before.all, running.all - idle.all,
            idle.own - before.own, running.own - idle.own);
}

static bool have(const char *program)
{
    char command[128];
    snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", program);
    return system(command) == 0;
}

/* Beside this program; to be freed. */
static char *beside(const char *self, const char *name)
{
    char path[4096];
    char *whole = realpath(self, NULL);
    if (!whole)
        die(self, strerror(errno));
    snprintf(path, sizeof path, "%.*s/%s", (int)(strrchr(whole, '/') - whole), whole, name);
    free(whole);
    return strdup(path);
}

/* --- cgroups --- */

#define CGROUPS "/sys/fs/cgroup/"

static void cgroup_put(const char *file, const char *text)
{
    int fd = open(file, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        die(file, strerror(errno));
    close(fd);
}

static void cgroup_make(const char *path)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        die(path, strerror(errno));
}

/* A zpipe-box that is started from there. */
static struct box *box_in(const char *cgroup, const struct box_options *options, const struct box_events *events)
{
    char file[128], number[16];
    struct err e;
    snprintf(file, sizeof file, "%s/cgroup.procs", cgroup);
    snprintf(number, sizeof number, "%d", (int)getpid());
    cgroup_put(file, number);
    struct box *b = box_open(options, events, NULL, &e);
    if (!b)
        die("cannot start zpipe-box", e.text);
    return b;
}

/* Below a cgroup that divides nothing there is nothing to be given. */
static void measure_cgroups(const struct box_options *cold, const struct box_events *events, const struct row *row, int rows, int runs)
{
    static const char none[] = CGROUPS "zpipe-bench/none", given[] = CGROUPS "zpipe-bench-given";
    cgroup_make(CGROUPS "zpipe-bench");
    cgroup_make(none);
    cgroup_make(given);
    struct box *without = box_in(none, cold, events);
    cgroup_put(CGROUPS "cgroup.subtree_control", "+memory +pids");
    struct box *with = box_in(given, cold, events);
    double *took[2] = {calloc((size_t)runs, sizeof(double)), calloc((size_t)runs, sizeof(double))};
    if (!took[0] || !took[1])
        die("memory", strerror(ENOMEM));
    for (int i = 0; i < rows; i++) {
        for (int k = -1; k < runs; k++) {
            rest();
            double a = by_box(without, &row[i]);
            if (!*cgroup_why)
                die(none, "there are cgroups to give");
            rest();
            double b = by_box(with, &row[i]);
            if (*cgroup_why)
                die(given, cgroup_why);
            if (k >= 0)
                took[0][k] = a, took[1][k] = b;
        }
        struct figure a = figure_of(took[0], runs), b = figure_of(took[1], runs);
        printf("%-22s %.0f us (min %.0f), in a cgroup of its own %.0f us (min %.0f): %.2fx, %+.0f us\n", row[i].name, a.median, a.least,
               b.median, b.least, b.median / a.median, b.median - a.median);
    }
    free(took[0]);
    free(took[1]);
    box_close(without);
    box_close(with);
}

int main(int argc, char **argv)
{
    bool cgroup = argc > 1 && !strcmp(argv[1], "--cgroup");
    const char *self = argv[0];
    argv += cgroup;
    argc -= cgroup;
    static const struct box_events events = {
        .task_ended = on_task, .pump_ended = on_pump, .region_ended = on_region, .lost = on_lost};
    int runs = argc > 1 ? atoi(argv[1]) : 300;
    char *tiny = beside(self, "tiny"), *first = beside(self, "first");
    const struct row rows[] = {
        {"static, 2 instructions", {"./program", NULL}, tiny, 0, 60, 0, 0, 0},
        {"/bin/true", {"/bin/true", NULL}, NULL, 1.10, 0, 0.35, 0.20, 0},
        {"grep x", {"grep", "x", NULL}, NULL, 0, 0, 0, 0.20, 0},
        {"sort", {"sort", NULL}, NULL, 0, 0, 0, 0.20, 0},
        {"awk", {"mawk", "{ print $1 }", NULL}, NULL, 0, 0, 0, 0.20, 0},
        {"sed", {"sed", "s/a/b/", NULL}, NULL, 0, 0, 0, 0.20, 0},
        {"perl", {"perl", "-ne", "print", NULL}, NULL, 0, 0, 0, 0.20, 2},
        {"lua5.4", {"lua5.4", "-e", "io.read()", NULL}, NULL, 0, 0, 0, 0.20, 2},
        {"python3 -c pass", {"/usr/bin/python3", "-c", "pass", NULL}, NULL, 1.10, 0, 0, 0, 5},
        {"python3, 3 modules", {"/usr/bin/python3", "-c", "import json, re, sys; sys.stdin.read()", NULL}, NULL, 0, 0, 0, 0, 5},
        {"  and _exit", {"/usr/bin/python3", "-c", "import json, os, re, sys; sys.stdin.read(); os._exit(0)", NULL}, NULL, 0, 0, 0, 0.05, 5},
    };
    struct box_options options = {.program = getenv("ZPIPE_BOX")}, cold = {.program = options.program, .no_templates = true};
    struct utsname u;
    struct err e;
    cpu_set_t one;
    if (runs < 1 || runs > RUNS_MAX)
        die(argv[1], "is no number of runs");
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    if (sched_setaffinity(0, sizeof one, &one) < 0)
        die("cannot stay on one CPU", strerror(errno));
    null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (cgroup) {
        measure_cgroups(&cold, &events, rows, 3, runs);
        return 0;
    }
    struct box *b = box_open(&cold, &events, NULL, &e);
    struct box *templates = b ? box_open(&options, &events, NULL, &e) : NULL;
    if (!templates)
        die("cannot start zpipe-box", e.text);
    uname(&u);
    if (mkdir("build", 0755) < 0 && errno != EEXIST)
        die("build", strerror(errno));
    mkdir("build/bench", 0755);
    FILE *json = fopen("build/bench/start.json", "we");
    if (!json)
        die("build/bench/start.json", strerror(errno));
    double load[1] = {0};
    getloadavg(load, 1);
    printf("kernel %s, load %.1f, uid %d, %d runs on CPU 0\n", u.release, load[0], (int)geteuid(), runs);
    fprintf(json, "{\"kernel\": \"%s\", \"load\": %.2f, \"uid\": %d, \"runs\": %d,\n \"rows\": [", u.release, load[0],
            (int)geteuid(), runs);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].file || have(rows[i].word[0]))
            measure(b, templates, &rows[i], runs, rows[i].ratio_bwrap > 0 && have("bwrap"), i == 0, json);
    fprintf(json, "\n]");
    measure_first(templates, first, runs, json);
    measure_memory(templates, "cat", (const char *const[]){"cat", NULL}, json);
    measure_memory(templates, "python3, 3 modules", (const char *const[]){"/usr/bin/python3", "-c", "import json, re, sys; sys.stdin.read()", NULL}, json);
    fprintf(json, "}\n");
    fclose(json);
    box_close(b);
    box_close(templates);
    free(tiny);
    free(first);
    return 0;
}
