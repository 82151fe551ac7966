/* zpipe-box: a server for a worker (--serve FD), or one program in a sandbox by itself. */
#include "base/fds.h"
#include "base/spool.h"
#include "base/units.h"
#include "sandbox/alone.h"
#include "sandbox/server.h"
#include "sandbox/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define EPOCH_S     1577836800 /* 2020-01-01 */
#define FILES_LEAST 4
#define FILES_MOST  1024

static const char usage[] =
    "usage: zpipe-box [OPTION]... [--] PROGRAM [WORD]...\n"
    "       zpipe-box --serve FD [--templates=never] [--lane]\n"
    "  --with PATH, --out NAME, --env NAME=VALUE, --seed N     what it is given, what is kept of it\n"
    "  --in NAME=FILE, --out NAME=FILE, --quota NAME=SIZE     channels, opened as /dev/in/NAME and /dev/out/NAME\n"
    "  --memory, --output, --scratch SIZE; --cpu, --timeout TIME; --procs, --files N     limits\n"
    "  --report FILE, --digest, --trace FILE, --verify     what it did, and whether it does it again\n"
    "  --isolation=none     no sandbox at all\n";

static struct alone asked;

static bool add_with(const char *path)
{
    static char name[ALONE_WITH_MAX][256];
    uint32_t i = asked.task.file_count;
    if (i == ALONE_WITH_MAX)
        return false;
    const char *n = path;
    while (!strncmp(n, "./", 2))
        n += 2;
    snprintf(name[i], sizeof name[i], "%s", n);
    size_t size = strlen(name[i]);
    while (size > 1 && name[i][size - 1] == '/')
        name[i][--size] = '\0';
    asked.with[i] = (struct box_file){.name = strlen(n) < 256 ? name[i] : n, .path = path, .fd = -1};
    asked.task.file_count++;
    return spec_name_good(asked.with[i].name);
}

static bool add_env(const char *text)
{
    uint32_t i = 0;
    size_t n = strcspn(text, "=");
    if (text[n] != '=')
        return false;
    while (asked.env[i] && strncmp(asked.env[i], text, n + 1) != 0)
        i++;
    if (i == ALONE_ENV_MAX)
        return false;
    asked.env[i] = text;
    return true;
}

/* NAME=FILE: a channel. */
static bool add_named(const char *text, bool write)
{
    struct alone_named *named = &asked.named[asked.named_count];
    size_t n = strcspn(text, "=");
    if (!n || text[n] != '=' || !text[n + 1] || n > 128 || memchr(text, '/', n) || asked.named_count == ALONE_NAMED_MAX)
        return false;
    snprintf(named->name, sizeof named->name, "%s/%.*s", write ? "out" : "in", (int)n, text);
    for (uint32_t i = 0; i < asked.named_count; i++)
        if (!strcmp(asked.named[i].name, named->name))
            return false;
    named->path = text + n + 1;
    named->write = write;
    asked.named_count++;
    return true;
}

/* The quota of a channel that an --out before it names. */
static bool add_quota(const char *text)
{
    size_t n = strcspn(text, "=");
    for (uint32_t i = 0; text[n] && i < asked.named_count; i++) {
        struct alone_named *named = &asked.named[i];
        if (named->write && strlen(named->name) == n + 4 && !strncmp(named->name + 4, text, n))
            return units_named(text + n + 1) && units_size(text + n + 1, &named->quota) && named->quota;
    }
    return false;
}

static bool add_out(const char *name)
{
    if (strchr(name, '='))
        return add_named(name, true);
    if (asked.task.output_count == ALONE_OUT_MAX)
        return false;
    asked.out[asked.task.output_count++] = name;
    return true;
}

/* Limits of 0 are refused: a limit of 0 means that there is none. */
static bool size_of(const char *text, uint64_t *bytes)
{
    return units_named(text) && units_size(text, bytes) && *bytes;
}

static bool time_of(const char *text, uint64_t *ns)
{
    return units_named(text) && units_time(text, ns) && *ns;
}

static bool count_of(const char *text, uint32_t *count)
{
    uint64_t n;
    if (!units_count(text, &n) || !n || n > INT32_MAX)
        return false;
    *count = (uint32_t)n;
    return true;
}

enum option_kind { WITH, IN, OUT, QUOTA, ENV, SEED, MEMORY, CPU, TIMEOUT, PROCS, FILES, OUTPUT, SCRATCH, REPORT, DIGEST, TRACE,
                   VERIFY, ISOLATION, TEMPLATES, STORE, LANE, SERVE, VERSION, HELP };

static const struct option options[] = {
    {"with", required_argument, NULL, WITH},       {"out", required_argument, NULL, OUT},
    {"in", required_argument, NULL, IN},           {"quota", required_argument, NULL, QUOTA},
    {"env", required_argument, NULL, ENV},         {"seed", required_argument, NULL, SEED},
    {"memory", required_argument, NULL, MEMORY},   {"cpu", required_argument, NULL, CPU},
    {"timeout", required_argument, NULL, TIMEOUT}, {"procs", required_argument, NULL, PROCS},
    {"files", required_argument, NULL, FILES},     {"output", required_argument, NULL, OUTPUT},
    {"scratch", required_argument, NULL, SCRATCH}, {"report", required_argument, NULL, REPORT},
    {"digest", no_argument, NULL, DIGEST},         {"trace", required_argument, NULL, TRACE},
    {"verify", no_argument, NULL, VERIFY},         {"isolation", required_argument, NULL, ISOLATION},
    {"templates", required_argument, NULL, TEMPLATES}, {"store", required_argument, NULL, STORE},
    {"lane", no_argument, NULL, LANE},
    {"serve", required_argument, NULL, SERVE},     {"version", no_argument, NULL, VERSION},
    {"help", no_argument, NULL, HELP},             {NULL, 0, NULL, 0}};

/* What is wrong with an option's value, and what to write instead; for options that can be wrong. */
static const char *const wanted[] = {
    [WITH] = "is one file too many, or cannot be shown under that name: give a path without `.`, `..` and `//` in it, as in --with \"$PWD\"",
    [STORE] = "is no directory that files can be made in",
    [IN] = "is no NAME=FILE, or is named twice",
    [OUT] = "is no NAME=FILE, or named twice, or one output too many",
    [QUOTA] = "is no NAME=SIZE of an --out before it; write the size with its unit, as in 64MiB",
    [ENV] = "is no NAME=VALUE",
    [SEED] = "is no number",
    [MEMORY] = "is no size; write one with its unit, as in 64MiB",
    [CPU] = "is no time; write one with its unit, as in 10s or 300ms",
    [TIMEOUT] = "is no time; write one with its unit, as in 10s or 300ms",
    [PROCS] = "is no number of processes",
    [FILES] = "is no number of open files from 4 to 1024: a program has three when it starts, and needs one to open a file",
    [OUTPUT] = "is no size; write one with its unit, as in 64MiB",
    [SCRATCH] = "is no size; write one with its unit, as in 64MiB",
    [ISOLATION] = "is neither full nor none",
    [TEMPLATES] = "is neither auto nor never",
    [SERVE] = "is no descriptor",
    [HELP] = NULL,
};

static bool take_option(int option, const char *value, int *serve)
{
    struct box_limits *l = &asked.task.limit;
    uint32_t fd = 0;
    switch (option) {
    case WITH:
        return add_with(value);
    case IN:
        return add_named(value, false);
    case OUT:
        return add_out(value);
    case QUOTA:
        return add_quota(value);
    case ENV:
        return add_env(value);
    case SEED:
        return units_count(value, &asked.task.seed);
    case MEMORY:
        return size_of(value, &l->memory_bytes);
    case CPU:
        return time_of(value, &l->cpu_ns);
    case TIMEOUT:
        return time_of(value, &l->wall_ns);
    case PROCS:
        return count_of(value, &l->procs);
    case FILES:
        return count_of(value, &l->files) && l->files >= FILES_LEAST && l->files <= FILES_MOST;
    case OUTPUT:
        return size_of(value, &l->output_bytes);
    case SCRATCH:
        return size_of(value, &l->scratch_bytes);
    case REPORT:
        asked.report = value;
        return true;
    case DIGEST:
        return asked.digest = true;
    case TRACE:
        asked.trace = value;
        return true;
    case VERIFY:
        return asked.verify = true;
    case ISOLATION:
        asked.none = !strcmp(value, "none");
        return asked.none || !strcmp(value, "full");
    case TEMPLATES:
        asked.cold = !strcmp(value, "never");
        return asked.cold || !strcmp(value, "auto");
    case STORE:
        return spool_place(value, NULL) == 0;
    case LANE:
        return asked.lane = true;
    case SERVE:
        if (!count_of(value, &fd) || fd > 1023)
            return false;
        *serve = (int)fd;
        return true;
    default:
        return false;
    }
}

static int run_alone(void)
{
    static struct run r;
    struct err e;
    r.alone = &asked;
    if (asked.trace && !(r.trace = fopen(asked.trace, "we"))) {
        fprintf(stderr, "zpipe-box: cannot write the trace '%s': %s\n", asked.trace, strerror(errno));
        return STATUS_FAILED;
    }
    struct box *b = run_box(&r, &e);
    if (!b) {
        fprintf(stderr, "zpipe-box: %s\n", e.text);
        return STATUS_FAILED;
    }
    int done = run_once(&r, b, (const int[]){0, 1, 2});
    box_close(b);
    run_measure(&r);
    run_save(&r);
    if (r.trace && fclose(r.trace) != 0) {
        fprintf(stderr, "zpipe-box: cannot write the trace '%s': %s\n", asked.trace, strerror(errno));
        r.status = STATUS_FAILED;
    }
    if (done == 0 && asked.report && report_write(&r, &e) < 0) {
        fprintf(stderr, "zpipe-box: %s\n", e.text);
        r.status = STATUS_FAILED;
    }
    run_clear(&r);
    return r.status;
}

/* If the caller has closed a standard descriptor, no descriptor of ours may get its number. */
static void fill_standard_fds(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd < 3);
    fd_close(&fd);
}

/* An option that would have no effect is refused: whoever gives it expects one. */
static bool check_together(uint32_t given, bool alone)
{
    static const uint32_t served = 1u << SERVE | 1u << ISOLATION | 1u << TEMPLATES | 1u << STORE | 1u << LANE;
    static const uint32_t walled = 1u << IN | 1u << QUOTA | 1u << SEED | 1u << PROCS | 1u << SCRATCH;
    const char *wrong = NULL;
    if (given & 1u << SERVE && (given & ~served || !alone))
        wrong = "with --serve each task comes with what it is given: only --templates, --lane and --isolation go with it";
    else if (!(given & 1u << SERVE) && given & (1u << TEMPLATES | 1u << LANE))
        wrong = "--templates and --lane go with --serve: a single program is always started anew";
    else if (asked.none && (given & walled || asked.named_count))
        wrong = "without isolation no channel has a name, nothing is seeded, and processes and scratch have no limit: leave out --in, "
                "--out NAME=FILE, --quota, --seed, --procs and --scratch";
    else if (given & 1u << DIGEST && !(given & 1u << REPORT))
        wrong = "--digest is for the report: give --report FILE, too";
    else if (given & 1u << TRACE && given & 1u << VERIFY)
        wrong = "--verify compares the calls itself: --trace is for a run without it";
    if (wrong)
        fprintf(stderr, "zpipe-box: %s\n", wrong);
    return !wrong;
}

/* -1: go on; else the status to end with. */
static int take_options(int argc, char **argv, int *serve)
{
    uint32_t given = 0;
    for (int o; (o = getopt_long(argc, argv, "+h", options, NULL)) >= 0;) {
        if (o == VERSION || o == HELP || o == 'h')
            return fputs(o == VERSION ? "zpipe-box " ZPIPE_VERSION "\n" : usage, stdout) < 0;
        given |= o == '?' ? 0 : 1u << o;
        if (o == '?' || !take_option(o, optarg, serve)) {
            if (o != '?')
                fprintf(stderr, "zpipe-box: '%s' %s\n", optarg, wanted[o]);
            return fputs(usage, stderr), STATUS_FAILED;
        }
    }
    if (*serve < 0 && optind == argc)
        return fputs(usage, stderr), STATUS_FAILED;
    return check_together(given, optind == argc) ? -1 : STATUS_FAILED;
}

int main(int argc, char **argv)
{
    static const char *const fixed[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/job", "LC_ALL=C.UTF-8",
                                        "TZ=UTC", "USER=zpipe", "TMPDIR=/tmp"};
    int serve = -1;
    fill_standard_fds();
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        add_env(fixed[i]);
    int status = take_options(argc, argv, &serve);
    if (status >= 0)
        return status;
    if (serve >= 0) {
        fcntl(serve, F_SETFD, FD_CLOEXEC);
        return server_main(serve, &(struct server_options){asked.none, asked.cold, asked.lane});
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    asked.task.epoch_s = EPOCH_S;
    asked.task.argv = (const char *const *)(argv + optind);
    asked.task.file = asked.with;
    asked.task.output = asked.out;
    asked.task.env = asked.env;
    return asked.verify ? verify(&asked) : run_alone();
}
