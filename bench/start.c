/* bench/start [RUNS]: from the request to the end of life of one program, in a sandbox of a running zpipe-box --server,
 * as a clone of a template, by posix_spawn and wait, and by bubblewrap where it is installed; alternating, all on one CPU.
 *
 * zpipe-box makes the next task's place ready after it has answered, which is no part of a start; so there is a rest after
 * each, in which that is done, and "in a row" says what it costs: starts without any rest, with all that they need.
 *
 * Prints a table and writes build/bench/start.json.  Figures are medians; the smallest stands beside them, since a busy
 * machine moves the median.  A goal that is missed is said, and is no failure: this is no test. */
#include "sandbox/box.h"

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

#define RUNS_MAX  100000
#define WORDS_MAX 16
#define TEN_S_MS  10000
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
static char cold_why[256];

static void on_task(void *owner, uint64_t region, uint32_t task, const struct box_result *r)
{
    (void)owner, (void)region, (void)task;
    if (r->end != BOX_EXITED || (r->status && r->status != 1))
        die("a program failed in its sandbox", r->text);
    cloned = !*r->cold_why;
    snprintf(cold_why, sizeof cold_why, "%s", r->cold_why);
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

static double by_box(struct box *b, const struct row *row)
{
    static const char *const env[] = {"PATH=/usr/bin:/bin", "LC_ALL=C", NULL};
    static uint64_t id;
    struct box_port port[3];
    for (int fd = 0; fd < 3; fd++)
        port[fd] = (struct box_port){.fd = fd, .write = fd > 0, .channel = -1, .file = -1};
    struct box_file file = {.name = "program", .path = row->file, .fd = -1};
    struct box_task task = {.argv = row->word, .env = env, .port = port, .port_count = 3, .file = &file,
                            .file_count = row->file ? 1 : 0};
    struct box_region region = {.task = &task, .task_count = 1};
    struct err e;
    over = false;
    double began = now_us();
    if (box_run(b, ++id, &region, &e) < 0)
        die("cannot run", e.text);
    while (!over) {
        struct pollfd p = {.fd = box_fd(b), .events = POLLIN};
        if (poll(&p, 1, TEN_S_MS) <= 0)
            die(row->name, "no end after ten seconds");
        box_dispatch(b);
    }
    return now_us() - began;
}

static double by_spawn(const char *const *word)
{
    static const char *const env[] = {"PATH=/usr/bin:/bin", "LC_ALL=C", NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status;
    posix_spawn_file_actions_init(&actions);
    for (int fd = 0; fd < 3; fd++)
        posix_spawn_file_actions_adddup2(&actions, null_fd, fd);
    double began = now_us();
    int r = posix_spawnp(&pid, word[0], &actions, NULL, (char *const *)(uintptr_t)word,
                         (char *const *)(uintptr_t)env);
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
    struct figure bare, box, warm, bwrap; /* medians of 0: none */
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
    double *figure[4];
    const char *outside[WORDS_MAX];
    int warm = 0;
    runs = row->part ? runs / row->part + 1 : runs;
    for (int i = 0; i < 4; i++)
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
    }
    struct row_result r = {.bare = figure_of(figure[0], runs), .box = figure_of(figure[1], runs)};
    if (warm)
        r.warm = figure_of(figure[2], warm);
    if (with_bwrap)
        r.bwrap = figure_of(figure[3], runs);
    measure_rows(b, row, outside, runs, &r);
    report(row, why, &r, first, json);
    for (int i = 0; i < 4; i++)
        free(figure[i]);
}

static bool have(const char *program)
{
    char command[128];
    snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", program);
    return system(command) == 0;
}

/* Beside this program. */
static const char *tiny(const char *self)
{
    static char path[4096];
    char *whole = realpath(self, NULL);
    if (!whole)
        die(self, strerror(errno));
    snprintf(path, sizeof path, "%.*s/tiny", (int)(strrchr(whole, '/') - whole), whole);
    free(whole);
    return path;
}

int main(int argc, char **argv)
{
    static const struct box_events events = {
        .task_ended = on_task, .pump_ended = on_pump, .region_ended = on_region, .lost = on_lost};
    int runs = argc > 1 ? atoi(argv[1]) : 300;
    const struct row rows[] = {
        {"static, 2 instructions", {"./program", NULL}, tiny(argv[0]), 0, 60, 0, 0, 0},
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
    fprintf(json, "\n]}\n");
    fclose(json);
    box_close(b);
    box_close(templates);
    return 0;
}
