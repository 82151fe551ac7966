/* One run of one program.  See alone.h. */
#include "sandbox/alone.h"
#include "base/fds.h"
#include "sandbox/box_link.h"
#include "sandbox/server.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static const char *const stream_name[] = {"stdin", "stdout", "stderr"};

/* --- what happens --- */

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

static void amount(char *text, size_t size, uint64_t value, bool time)
{
    if (time)
        snprintf(text, size, "%" PRIu64 ".%03u s", value / 1000000000, (unsigned)(value / 1000000 % 1000));
    else
        snprintf(text, size, "%" PRIu64 " bytes", value);
}

static void say_limit(const struct run *r)
{
    const struct box_limits *l = &r->alone->task.limit;
    char text[48] = "";
    const char *name = r->result.limit, *program = r->alone->task.argv[0];
    if (!strcmp(name, "memory"))
        amount(text, sizeof text, l->memory_bytes, false);
    else if (!strcmp(name, "output"))
        amount(text, sizeof text, l->output_bytes, false);
    else if (!strcmp(name, "scratch") && l->scratch_bytes)
        amount(text, sizeof text, l->scratch_bytes, false);
    else if (!strcmp(name, "cpu"))
        amount(text, sizeof text, l->cpu_ns, true);
    else if (!strcmp(name, "timeout"))
        amount(text, sizeof text, l->wall_ns, true);
    else if (!strcmp(name, "procs") || !strcmp(name, "files"))
        snprintf(text, sizeof text, "%" PRIu32, *name == 'p' ? l->procs : l->files);
    fprintf(stderr, "zpipe-box: '%s' met its limit on %s%s%s; --%s allows more\n", program, name,
            *text ? ": " : "", text, name);
}

static void on_result(void *owner, uint64_t region, uint32_t task, const struct box_result *r)
{
    struct run *run = owner;
    (void)region;
    (void)task;
    run->result = *r;
    snprintf(run->limit, sizeof run->limit, "%s", r->limit);
    snprintf(run->why, sizeof run->why, "%s", r->uncertified_why);
    snprintf(run->text, sizeof run->text, "%s", r->text);
    run->result.limit = run->limit;
    run->result.uncertified_why = run->why;
    snprintf(run->cold, sizeof run->cold, "%s", r->cold_why);
    run->result.cold_why = run->cold;
    snprintf(run->cgroup, sizeof run->cgroup, "%s", r->cgroup);
    run->result.cgroup = run->cgroup;
    snprintf(run->cgroup_why, sizeof run->cgroup_why, "%s", r->cgroup_why);
    run->result.cgroup_why = run->cgroup_why;
    snprintf(run->unknown, sizeof run->unknown, "%s", r->unknown_calls);
    run->result.unknown_calls = run->unknown;
    run->result.text = run->text;
    run->status = status_of(r);
    for (uint32_t i = 0; i < r->made_count; i++) {
        struct alone_made *m = &run->made[run->made_count];
        if (run->made_count == sizeof run->made / sizeof *run->made || !(m->name = strdup(r->made[i].name))) {
            if (r->made[i].fd >= 0)
                close(r->made[i].fd);
            continue;
        }
        m->fd = r->made[i].fd;
        m->kind = r->made[i].kind;
        run->made_count++;
    }
}

static struct alone_stream *stream_of(struct run *run, uint32_t channel)
{
    for (uint32_t i = 0; i < run->stream_count; i++)
        if (run->stream[i].channel == (int32_t)channel)
            return &run->stream[i];
    return NULL;
}

static void on_pump(void *owner, uint64_t region, uint32_t channel, uint64_t bytes, int sys, bool reading)
{
    struct run *run = owner;
    struct alone_stream *s = stream_of(run, channel);
    (void)region;
    if (s)
        s->bytes = bytes;
    if (!s || !sys || sys == EPIPE || (sys == EDQUOT && reading))
        return;
    fprintf(stderr, "zpipe-box: %s %s: %s\n", reading ? "reading" : "writing", s->name,
            strerror(sys));
    if (!run->status)
        run->status = STATUS_FAILED;
}

static void on_digested(void *owner, uint64_t region, uint32_t channel, const uint8_t sha256[32])
{
    struct alone_stream *s = stream_of(owner, channel);
    (void)region;
    if (!s)
        return;
    s->digested = true;
    memcpy(s->sha256, sha256, sizeof s->sha256);
}

static void on_trace(void *owner, uint64_t region, uint32_t task, const char *text, size_t size)
{
    struct run *run = owner;
    (void)region;
    (void)task;
    if (run->trace && fwrite(text, 1, size, run->trace) != size && !run->status)
        run->status = STATUS_FAILED;
}

static void on_region(void *owner, uint64_t region)
{
    struct run *run = owner;
    (void)region;
    run->over = true;
}

static void on_lost(void *owner, const struct err *why)
{
    struct run *run = owner;
    fprintf(stderr, "zpipe-box: %s\n", why->text);
    run->status = STATUS_FAILED;
    snprintf(run->text, sizeof run->text, "%s", why->text);
    run->result = (struct box_result){.end = BOX_FAILED, .text = run->text, .limit = "", .uncertified_why = "the sandbox failed",
                                      .cold_why = "it was not started", .cgroup = "", .cgroup_why = "it was not started", .unknown_calls = ""};
    run->over = true;
}

struct box *run_box(struct run *r, struct err *e)
{
    static const struct box_events events = {.task_ended = on_result,
                                             .pump_ended = on_pump,
                                             .digested = on_digested,
                                             .traced = on_trace,
                                             .region_ended = on_region,
                                             .lost = on_lost};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        err_sys(e, "cannot make a socket");
        return NULL;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        _exit(server_main(pair[1], &(struct server_options){.isolation_none = r->alone->none, .no_templates = r->alone->cold}));
    }
    close(pair[1]);
    if (pid < 0) {
        err_sys(e, "cannot fork");
        close(pair[0]);
        return NULL;
    }
    return box_adopt(pair[0], pid, &events, r, e);
}

/* --- the streams --- */

/* Does somebody want to know how many bytes come out?  Then they pass a pump, also into /dev/null. */
static bool is_counted(const struct run *r)
{
    return r->alone->report || r->alone->task.limit.output_bytes;
}

static bool is_null(const struct stat *s)
{
    return S_ISCHR(s->st_mode) && s->st_rdev == makedev(1, 3);
}

/* A stream is passed to the program as it is if the program can use it for nothing else, and if nobody wants the bytes of a
 * pipe counted.  Otherwise (terminals, sockets, files open both ways) it goes through a pump. */
static bool passes(const struct run *r, int i, const struct stat *s, int flags)
{
    if (r->captured || (flags & O_ACCMODE) != (i ? O_WRONLY : O_RDONLY))
        return false;
    return S_ISREG(s->st_mode) || (i && S_ISFIFO(s->st_mode) && !is_counted(r));
}

static void add_channel(struct run *r, int i, bool write, bool lines)
{
    struct alone_stream *s = &r->stream[i];
    s->channel = (int32_t)r->region.channel_count;
    r->port[i].channel = s->channel;
    r->source[i] = (struct box_source){.fd = s->fd, .offset = BOX_ALL};
    r->channel[r->region.channel_count++] = (struct box_channel){.end = write ? BOX_DRAIN : BOX_FEED,
                                                                 .lines = lines,
                                                                 .digest = r->alone->digest,
                                                                 .source = write ? NULL : &r->source[i],
                                                                 .source_count = write ? 0 : 1,
                                                                 .sink = write ? s->fd : -1,
                                                                 .caller_fd = -1};
}

static void plan_stream(struct run *r, int i, int fd)
{
    struct alone_stream *s = &r->stream[i];
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    *s = (struct alone_stream){.name = stream_name[i], .fd = fd, .channel = -1, .from = -1};
    r->port[i] = (struct box_port){.fd = i, .write = i != 0, .channel = -1, .file = -1};
    s->none = flags < 0 || fstat(fd, &st) < 0 || (is_null(&st) && !(i && is_counted(r)));
    if (s->none)
        return;
    if (passes(r, i, &st, flags)) {
        r->port[i].file = fd;
        if (S_ISREG(st.st_mode))
            s->from = i && (flags & O_APPEND) ? st.st_size : lseek(fd, 0, SEEK_CUR);
        return;
    }
    r->port[i].null = i && is_null(&st);
    add_channel(r, i, i != 0, !i && isatty(fd));
}

/* The program opens a file itself, as often as it likes and wherever it likes to read.  Anything that is not a file is a
 * stream. */
static int plan_named(struct run *r, const struct alone_named *named)
{
    uint32_t i = r->stream_count;
    struct alone_stream *s = &r->stream[i];
    struct stat st;
    *s = (struct alone_stream){.name = named->name, .channel = -1, .from = -1};
    s->fd = named->write && r->captured ? memfd_create(named->name, MFD_CLOEXEC)
            : named->write              ? open(named->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666)
                                        : open(named->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (s->fd < 0 || fstat(s->fd, &st) < 0) {
        fprintf(stderr, "zpipe-box: cannot open '%s' for the channel '%s': %s\n", named->path, named->name,
                strerror(errno));
        return -1;
    }
    r->stream_count++;
    r->port[i] = (struct box_port){.fd = -1, .write = named->write, .channel = -1, .file = -1,
                                   .name = named->name, .quota = named->quota};
    if (S_ISREG(st.st_mode)) {
        r->port[i].file = s->fd;
        s->from = 0;
        return 0;
    }
    if (named->quota) {
        fprintf(stderr, "zpipe-box: '%s' is no file: a stream has no quota (see --output)\n", named->path);
        return -1;
    }
    add_channel(r, (int)i, named->write, false);
    return 0;
}

/* The digest of bytes [from, to) of a file, read by a descriptor of our own, as the stream may be for writing only. */
static bool digest_file(int stream, int64_t from, int64_t to, uint8_t sha256[32])
{
    char buffer[65536];
    struct sha256 hash;
    int fd = fd_reopen(stream, O_RDONLY);
    sha256_begin(&hash);
    while (fd >= 0 && from < to) {
        size_t want = to - from < (int64_t)sizeof buffer ? (size_t)(to - from) : sizeof buffer;
        ssize_t n = pread(fd, buffer, want, from);
        if (n <= 0)
            break;
        sha256_add(&hash, buffer, (size_t)n);
        from += n;
    }
    sha256_end(&hash, sha256);
    fd_close(&fd);
    return from >= to;
}

void run_measure(struct run *r)
{
    for (uint32_t i = 0; i < r->stream_count; i++) {
        struct alone_stream *s = &r->stream[i];
        struct stat st;
        if (s->from < 0 || fstat(s->fd, &st) < 0)
            continue;
        bool whole = i >= 3 || (i && (fcntl(s->fd, F_GETFL) & O_APPEND));
        int64_t to = whole ? st.st_size : lseek(s->fd, 0, SEEK_CUR);
        s->bytes = to > s->from ? (uint64_t)(to - s->from) : 0;
        if (r->alone->digest)
            s->digested = digest_file(s->fd, s->from, to, s->sha256);
    }
}

/* --- what it left --- */

/* Saves an output in the current directory under its own name.  It is never written through a link that is there. */
static int save(const struct alone_made *m)
{
    char buffer[65536];
    ssize_t n;
    int to = open(basename(m->name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (to < 0)
        return -1;
    while ((n = read(m->fd, buffer, sizeof buffer)) > 0)
        if (fd_write_all(to, buffer, (size_t)n) < 0)
            n = -1;
    return close(to) < 0 || n < 0 ? -1 : 0;
}

/* What happens to files that were not asked for, or that cannot be saved. */
static const struct {
    const char *what, *then;
} left_behind[BOX_MADE_KINDS] = {
    [BOX_MADE_FILE] = {"the file", "is left behind (see --out)"},
    [BOX_MADE_LINK] = {"the link", "is left behind (see --out)"},
    [BOX_MADE_NOWHERE] = {"the link", "is left behind: it leads to no file of the program's"},
    [BOX_MADE_DIRECTORY] = {"the empty directory", "is left behind: only files are saved"},
    [BOX_MADE_SPECIAL] = {"the fifo or socket", "is left behind: only files are saved"},
    [BOX_MADE_GONE] = {"the program's", "was removed or renamed there, and is still here"},
};

void run_save(struct run *r)
{
    char name[ERR_NAME_MAX];
    for (uint32_t i = 0; i < r->made_count; i++) {
        const struct alone_made *m = &r->made[i];
        if (m->fd < 0) {
            fprintf(stderr, "zpipe-box: %s '%s' %s\n", left_behind[m->kind].what, err_name(m->name, name), left_behind[m->kind].then);
        } else if (lseek(m->fd, 0, SEEK_SET) < 0 || save(m) < 0) {
            fprintf(stderr, "zpipe-box: cannot save '%s': %s\n", err_name(m->name, name), strerror(errno));
            r->status = r->status ? r->status : STATUS_FAILED;
        }
    }
}

void run_clear(struct run *r)
{
    for (uint32_t i = 0; i < r->made_count; i++) {
        free(r->made[i].name);
        fd_close(&r->made[i].fd);
    }
    r->made_count = 0;
    for (uint32_t i = 3; i < r->stream_count; i++)
        fd_close(&r->stream[i].fd);
}

int run_once(struct run *r, struct box *b, const int fd[3])
{
    static uint64_t id;
    struct box_task task = r->alone->task;
    struct err e;
    r->over = false;
    r->region = (struct box_region){.task = &task, .task_count = 1, .channel = r->channel};
    r->stream_count = 3;
    for (int i = 2; i >= 0; i--)
        plan_stream(r, i, fd[i]);
    for (uint32_t i = 0; i < r->alone->named_count; i++)
        if (plan_named(r, &r->alone->named[i]) < 0) {
            r->status = STATUS_FAILED;
            return -1;
        }
    task.port = r->port;
    task.port_count = r->stream_count;
    task.trace = r->trace != NULL;
    if (box_run(b, ++id, &r->region, &e) < 0) {
        fprintf(stderr, "zpipe-box: %s\n", e.text);
        r->status = STATUS_FAILED;
        return -1;
    }
    while (!r->over) {
        struct pollfd p = {.fd = box_fd(b), .events = POLLIN};
        if (poll(&p, 1, -1) > 0)
            box_dispatch(b);
    }
    if (r->result.end == BOX_LIMIT)
        say_limit(r);
    else if (*r->text && r->status != STATUS_FAILED)
        fprintf(stderr, "zpipe-box: %s\n", r->text);
    else if (*r->text && r->result.end == BOX_FAILED && r->result.sys)
        fprintf(stderr, "zpipe-box: %s\n", r->text);
    return 0;
}
