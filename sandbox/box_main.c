/* zpipe-box: a server for a worker (--server FD), or one program in a sandbox by itself. */
#include "base/fds.h"
#include "base/log.h"
#include "sandbox/box.h"
#include "sandbox/box_link.h"
#include "sandbox/server.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define WITH_MAX 1024
#define ENV_MAX  1024
#define OUT_MAX  256
#define EPOCH_S  1577836800 /* 2020-01-01 */

enum { STATUS_LIMIT = 124, STATUS_FAILED = 125, STATUS_NOT_RUN = 126, STATUS_NOT_FOUND = 127 };

struct alone {
    struct box_file with[WITH_MAX];
    const char *env[ENV_MAX + 1], *out[OUT_MAX];
    struct box_port port[3];
    struct box_channel channel[3];
    struct box_source source;
    struct box_task task;
    struct box_region region;
    const char *report;
    bool none, over;
    int status;
};

static const char usage[] =
    "usage: zpipe-box [--with PATH]... [--out NAME]... [--env NAME=VALUE]... [--seed N]\n"
    "                 [--timeout SECONDS] [--memory BYTES] [--report FILE] -- PROGRAM [WORD]...\n";

static void on_result(void *owner, uint64_t region, uint32_t task, const struct box_result *r);
static void on_pump(void *owner, uint64_t region, uint32_t channel, uint64_t bytes, int sys, bool reading);
static void on_region(void *owner, uint64_t region);
static void on_lost(void *owner, const struct err *why);

static void write_report(const struct alone *a, const struct box_result *r)
{
    static const char *const word[] = {"exited",    "signalled", "limit", "not-found",
                                       "not-run", "failed",    "killed"};
    FILE *f = fopen(a->report, "we");
    if (!f) {
        fprintf(stderr, "zpipe-box: cannot write '%s': %s\n", a->report, strerror(errno));
        return;
    }
    fprintf(f,
            "end=%s\nstatus=%d\nsignal=%d\nlimit=%s\ncpu_user_ns=%" PRIu64 "\ncpu_sys_ns=%" PRIu64
            "\nwall_ns=%" PRIu64 "\nmemory_peak_bytes=%" PRIu64 "\ncertified=%s\nuncertified_why=%s\n",
            word[r->end], r->status, r->signal, r->limit, r->cpu_user_ns, r->cpu_sys_ns, r->wall_ns,
            r->memory_peak_bytes, r->certified ? "yes" : "no", r->uncertified_why);
    fclose(f);
}

/* Outputs land beside us under their own names, not over what is there by a link. */
static int save(const struct box_made *m)
{
    const char *base = strrchr(m->name, '/');
    char buffer[65536];
    ssize_t n;
    base = base ? base + 1 : m->name;
    int to = open(base, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (to < 0)
        return -1;
    while ((n = read(m->fd, buffer, sizeof buffer)) > 0)
        if (fd_write_all(to, buffer, (size_t)n) < 0)
            n = -1;
    return close(to) < 0 || n < 0 ? -1 : 0;
}

static int status_of(const struct box_result *r)
{
    switch (r->end) {
    case BOX_EXITED:
        return r->status;
    case BOX_SIGNALLED:
        return 128 + r->signal;
    case BOX_LIMIT:
        return STATUS_LIMIT;
    case BOX_NOT_FOUND:
        return STATUS_NOT_FOUND;
    case BOX_NOT_RUN:
        return STATUS_NOT_RUN;
    default:
        return STATUS_FAILED;
    }
}

static void on_result(void *owner, uint64_t region, uint32_t task, const struct box_result *r)
{
    struct alone *a = owner;
    (void)region;
    (void)task;
    a->status = status_of(r);
    if (r->end == BOX_LIMIT)
        fprintf(stderr, "zpipe-box: ended by the limit on '%s'\n", r->limit);
    else if (*r->text)
        fprintf(stderr, "zpipe-box: %s\n", r->text);
    for (uint32_t i = 0; i < r->made_count; i++) {
        const struct box_made *m = &r->made[i];
        if (m->fd < 0) {
            fprintf(stderr, "zpipe-box: the file '%s' is left behind (see --out)\n", m->name);
        } else if (save(m) < 0) {
            fprintf(stderr, "zpipe-box: cannot save '%s': %s\n", m->name, strerror(errno));
            a->status = a->status ? a->status : STATUS_FAILED;
        }
        if (m->fd >= 0)
            close(m->fd);
    }
    if (a->report)
        write_report(a, r);
}

static void on_pump(void *owner, uint64_t region, uint32_t channel, uint64_t bytes, int sys, bool reading)
{
    struct alone *a = owner;
    (void)region;
    (void)channel;
    (void)bytes;
    if (!sys || sys == EPIPE)
        return;
    fprintf(stderr, "zpipe-box: %s: %s\n", reading ? "reading" : "writing", strerror(sys));
    if (!a->status)
        a->status = STATUS_FAILED;
}

static void on_region(void *owner, uint64_t region)
{
    struct alone *a = owner;
    (void)region;
    a->over = true;
}

static void on_lost(void *owner, const struct err *why)
{
    struct alone *a = owner;
    fprintf(stderr, "zpipe-box: %s\n", why->text);
    a->status = STATUS_FAILED;
    a->over = true;
}

/* stdin, stdout, stderr as they are where a program can do nothing with them but what they are for;
 * by a pump otherwise (terminals, sockets, files open both ways). */
static void plan_port(struct alone *a, int fd)
{
    struct box_port *p = &a->port[fd];
    struct stat s;
    int flags = fcntl(fd, F_GETFL);
    bool write = fd != 0;
    *p = (struct box_port){.fd = fd, .write = write, .channel = -1, .file = -1};
    if (flags < 0 || fstat(fd, &s) < 0 || (S_ISCHR(s.st_mode) && s.st_rdev == makedev(1, 3)))
        return;
    if ((flags & O_ACCMODE) == (write ? O_WRONLY : O_RDONLY) &&
        (S_ISREG(s.st_mode) || (write && S_ISFIFO(s.st_mode)))) {
        p->file = fd;
        return;
    }
    p->channel = (int32_t)a->region.channel_count;
    a->source = (struct box_source){.fd = fd, .offset = BOX_ALL};
    a->channel[a->region.channel_count++] =
        (struct box_channel){.end = write ? BOX_DRAIN : BOX_FEED,
                             .lines = !write && isatty(fd),
                             .source = write ? NULL : &a->source,
                             .source_count = write ? 0 : 1,
                             .sink = write ? fd : -1,
                             .caller_fd = -1};
}

static struct box *open_box(const struct alone *a, const struct box_events *events, struct err *e)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        err_sys(e, "cannot make a socket");
        return NULL;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        _exit(server_main(pair[1], a->none));
    }
    close(pair[1]);
    if (pid < 0) {
        err_sys(e, "cannot fork");
        close(pair[0]);
        return NULL;
    }
    return box_adopt(pair[0], pid, events, (void *)(uintptr_t)a, e);
}

static int run_alone(struct alone *a)
{
    static const struct box_events events = {
        .task_ended = on_result, .pump_ended = on_pump, .region_ended = on_region, .lost = on_lost};
    struct err e;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    struct box *b = open_box(a, &events, &e);
    for (int fd = 2; fd >= 0; fd--)
        plan_port(a, fd);
    a->task.port = a->port;
    a->task.port_count = 3;
    a->task.file = a->with;
    a->task.output = a->out;
    a->task.env = a->env;
    a->region.task = &a->task;
    a->region.task_count = 1;
    a->region.channel = a->channel;
    if (!b || box_run(b, 1, &a->region, &e) < 0) {
        fprintf(stderr, "zpipe-box: %s\n", e.text);
        box_close(b);
        return STATUS_FAILED;
    }
    while (!a->over) {
        struct pollfd p = {.fd = box_fd(b), .events = POLLIN};
        if (poll(&p, 1, -1) > 0)
            box_dispatch(b);
    }
    box_close(b);
    return a->status;
}

static int number(const char *text, uint64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return errno || end == text || *end || *text == '-' ? -1 : 0;
}

static int add_with(struct alone *a, const char *path)
{
    static char name[WITH_MAX][256];
    uint32_t i = a->task.file_count;
    if (i == WITH_MAX)
        return -1;
    const char *n = path;
    while (!strncmp(n, "./", 2))
        n += 2;
    snprintf(name[i], sizeof name[i], "%s", n);
    size_t size = strlen(name[i]);
    while (size > 1 && name[i][size - 1] == '/')
        name[i][--size] = '\0';
    a->with[i] = (struct box_file){.name = strlen(n) < 256 ? name[i] : n, .path = path, .fd = -1};
    a->task.file_count++;
    return 0;
}

static int add_env(struct alone *a, const char *text)
{
    uint32_t i = 0;
    size_t n = strcspn(text, "=");
    if (text[n] != '=')
        return -1;
    while (a->env[i] && strncmp(a->env[i], text, n + 1) != 0)
        i++;
    if (i == ENV_MAX)
        return -1;
    a->env[i] = text;
    return 0;
}

static int take_option(struct alone *a, int option, const char *value)
{
    uint64_t n = 0;
    switch (option) {
    case 'w':
        return add_with(a, value);
    case 'o':
        if (a->task.output_count == OUT_MAX)
            return -1;
        a->out[a->task.output_count++] = value;
        return 0;
    case 'e':
        return add_env(a, value);
    case 's':
        return number(value, &a->task.seed);
    case 't':
        if (number(value, &n) < 0 || n > 1000000000)
            return -1;
        a->task.limit.wall_ns = n * 1000000000ull;
        return 0;
    case 'm':
        return number(value, &a->task.limit.memory_bytes);
    case 'r':
        a->report = value;
        return 0;
    case 'i':
        if (strcmp(value, "none") && strcmp(value, "full"))
            return -1;
        a->none = value[0] == 'n';
        return 0;
    default:
        return -1;
    }
}

/* What the caller closed must not become the number of a descriptor of ours. */
static void fill_standard_fds(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd < 3);
    fd_close(&fd);
}

int main(int argc, char **argv)
{
    static struct alone a;
    static const struct option options[] = {
        {"server", required_argument, NULL, 'S'},  {"with", required_argument, NULL, 'w'},
        {"out", required_argument, NULL, 'o'},     {"env", required_argument, NULL, 'e'},
        {"seed", required_argument, NULL, 's'},    {"timeout", required_argument, NULL, 't'},
        {"memory", required_argument, NULL, 'm'},  {"report", required_argument, NULL, 'r'},
        {"isolation", required_argument, NULL, 'i'}, {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
    static const char *const fixed[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/job", "LC_ALL=C.UTF-8",
                                        "TZ=UTC", "USER=zpipe", "TMPDIR=/tmp"};
    uint64_t server = UINT64_MAX;
    fill_standard_fds();
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        add_env(&a, fixed[i]);
    a.task.epoch_s = EPOCH_S;
    for (int o; (o = getopt_long(argc, argv, "+", options, NULL)) >= 0;) {
        if (o == 'V' || o == 'h')
            return fputs(o == 'V' ? "zpipe-box " ZPIPE_VERSION "\n" : usage, stdout) < 0;
        if (o == 'S' ? number(optarg, &server) < 0 || server > 1023 : take_option(&a, o, optarg) < 0) {
            if (o != '?')
                fprintf(stderr, "zpipe-box: '%s' is no such value\n", optarg);
            return fputs(usage, stderr), STATUS_FAILED;
        }
    }
    if (server != UINT64_MAX) {
        fcntl((int)server, F_SETFD, FD_CLOEXEC);
        return server_main((int)server, a.none);
    }
    if (optind == argc)
        return fputs(usage, stderr), STATUS_FAILED;
    a.task.argv = (const char *const *)(argv + optind);
    return run_alone(&a);
}
