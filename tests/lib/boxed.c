/* See boxed.h. */
#include "lib/boxed.h"
#include "base/fds.h"
#include "lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS_MAX 128

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void on_task(void *owner, uint64_t region, uint32_t task, const struct box_result *r)
{
    struct boxed *b = owner;
    struct boxed_stage *s = &b->stage[task];
    (void)region;
    s->end = r->end;
    s->status = r->end == BOX_SIGNALLED ? 128 + r->signal : r->status;
    snprintf(s->text, sizeof s->text, "%s", r->text);
    snprintf(s->limit, sizeof s->limit, "%s", r->limit);
    snprintf(s->why, sizeof s->why, "%s", r->uncertified_why);
    snprintf(s->cold, sizeof s->cold, "%s", r->cold_why);
    s->memory_peak = r->memory_peak_bytes;
    s->cpu_ns = r->cpu_user_ns + r->cpu_sys_ns;
    for (uint32_t i = 0; i < r->made_count; i++) {
        const struct box_made *m = &r->made[i];
        if (s->made_count < 128) {
            snprintf(s->made[s->made_count].name, 256, "%s", m->name);
            s->made[s->made_count].kind = m->kind;
            char *bytes = s->made[s->made_count++].bytes;
            ssize_t n = m->fd < 0 ? -1 : fd_read_all(m->fd, bytes, 63);
            strcpy(n < 0 ? bytes : bytes + n, n < 0 ? "-" : "");
        }
        if (m->fd >= 0)
            close(m->fd);
    }
    b->results++;
}

static void on_pump(void *owner, uint64_t region, uint32_t channel, uint64_t bytes, int sys, bool reading)
{
    struct boxed *b = owner;
    (void)region;
    (void)channel;
    (void)reading;
    if (b->log.pumps < 4) {
        b->log.pump_bytes[b->log.pumps] = bytes;
        b->log.pump_sys[b->log.pumps] = sys;
    }
    b->log.pumps++;
}

static void on_region(void *owner, uint64_t region)
{
    struct boxed *b = owner;
    b->log.region_ended = region == b->region;
}

static void on_lost(void *owner, const struct err *why)
{
    struct boxed *b = owner;
    b->log.lost = true;
    snprintf(b->log.lost_why, sizeof b->log.lost_why, "%s", why->text);
}

void boxed_open(struct boxed *b, enum box_isolation isolation)
{
    boxed_open_as(b, &(struct box_options){.isolation = isolation});
}

void boxed_lost(void *owner, const struct err *why)
{
    (void)owner;
    fail_msg("lost: %s", why->text);
}

struct box *boxed_bare(const struct box_events *events)
{
    struct box_options options = {.program = getenv("ZPIPE_BOX")};
    struct err e;
    struct box *box = box_open(&options, events, NULL, &e);
    if (!box)
        fail_msg("%s", e.text);
    return box;
}

void boxed_open_as(struct boxed *b, const struct box_options *asked)
{
    static const struct box_events events = {
        .task_ended = on_task, .pump_ended = on_pump, .region_ended = on_region, .lost = on_lost};
    struct box_options options = *asked;
    struct rlimit files;
    /* As zpipe does.  The kernel counts descriptors that are under way for all processes of a user, against the limit of
     * the sender. */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    options.program = getenv("ZPIPE_BOX");
    struct err e;
    uint64_t region = b->region;
    memset(b, 0, sizeof *b);
    b->region = region;
    b->box = box_open(&options, &events, b, &e);
    if (!b->box) {
        fprintf(stderr, "boxed: %s\n", e.text);
        exit(1);
    }
}

void boxed_close(struct boxed *b)
{
    box_close(b->box);
    b->box = NULL;
}

/* Into words; stages end with NULL.  The number of stages. */
static uint32_t split(char *line, const char **word, const char ***stage)
{
    uint32_t stages = 0, n = 0;
    for (char *at = line; *at;) {
        if (*at == ' ') {
            at++;
            continue;
        }
        if (!stages || (at[0] == '|' && (at[1] == ' ' || !at[1]))) {
            if (stages) {
                word[n++] = NULL;
                at++;
            }
            stage[stages++] = &word[n];
            continue;
        }
        char end = ' ';
        if (*at == '\'')
            end = *at++;
        word[n++] = at;
        at += strcspn(at, (char[]){end, '\0'});
        if (*at)
            *at++ = '\0';
    }
    word[n] = NULL;
    return stages;
}

struct running {
    struct box_channel channel[BOXED_STAGES_MAX + 2];
    struct box_task task[BOXED_STAGES_MAX];
    struct box_port port[BOXED_STAGES_MAX][3];
    struct box_region region;
    struct box_source in;
    int errors, got; /* where stderr goes; the output's end */
};

static int32_t add_channel(struct running *r, struct box_channel c)
{
    r->channel[r->region.channel_count] = c;
    return (int32_t)r->region.channel_count++;
}

static void plan_region(struct running *r, const struct boxed_plan *p, const char ***stage, uint32_t n)
{
    static const char *const env[] = {"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "HOME=/job", NULL};
    int32_t before = -1;
    r->in = (struct box_source){.fd = p->in, .offset = BOX_ALL};
    if (p->remote_in)
        before = add_channel(r, (struct box_channel){.end = BOX_REMOTE_WRITER, .sink = -1});
    else if (p->in >= 0 && !p->in_itself)
        before = add_channel(r, (struct box_channel){.end = BOX_FEED, .source = &r->in, .source_count = 1,
                                                     .sink = -1, .lines = p->lines});
    for (uint32_t i = 0; i < n; i++) {
        enum box_channel_end end = i + 1 < n ? BOX_INSIDE : p->out >= 0 ? BOX_DRAIN : BOX_REMOTE_READER;
        int32_t after = add_channel(r, (struct box_channel){.end = end, .sink = p->out, .lines = p->lines});
        if (i == 0)
            r->task[i] = p->task;
        r->task[i].argv = (const char *const *)stage[i];
        r->task[i].env = env;
        r->task[i].port = r->port[i];
        r->task[i].port_count = 3;
        r->port[i][0] = (struct box_port){.fd = 0, .channel = before, .file = i == 0 && p->in_itself ? p->in : -1};
        r->port[i][1] = (struct box_port){.fd = 1, .write = true, .channel = after, .file = -1};
        r->port[i][2] = (struct box_port){.fd = 2, .write = true, .channel = -1, .file = r->errors};
        before = after;
    }
    r->region.task = r->task;
    r->region.task_count = n;
    r->region.channel = r->channel;
}

static pid_t write_endlessly(int fd)
{
    static char data[100000];
    pid_t pid = fork();
    if (pid == 0) {
        while (send(fd, data, sizeof data, MSG_NOSIGNAL) > 0)
            ;
        _exit(errno);
    }
    close(fd);
    return pid;
}

/* One read of the output; false at its end. */
static bool take_output(struct boxed *b, struct running *r, const struct boxed_plan *p)
{
    char waste[65536];
    bool full = b->output_size == sizeof b->output - 1;
    ssize_t n = full ? read(r->got, waste, sizeof waste)
                     : read(r->got, b->output + b->output_size, sizeof b->output - 1 - b->output_size);
    if (n <= 0)
        return false;
    if (!full)
        b->output_size += (size_t)n;
    if (!p->break_after || b->output_size < p->break_after)
        return true;
    box_break(b->box, b->region, r->region.channel_count - 1, NULL);
    return false;
}

static int wait_for(struct boxed *b, struct running *r, const struct boxed_plan *p)
{
    uint64_t begin = now_ns();
    bool stopped = !p->stop_after_ns;
    while (!b->log.lost && (!b->log.region_ended || r->got >= 0)) {
        struct pollfd f[2] = {{box_fd(b->box), POLLIN, 0}, {r->got, POLLIN, 0}};
        uint64_t now = now_ns() - begin;
        if (now > 600000000000u) {
            fprintf(stderr, "boxed: no end of '%s' after ten minutes\n", p->line);
            return -1;
        }
        if (!stopped && now >= p->stop_after_ns) {
            stopped = true;
            box_stop(b->box, b->region, NULL);
        }
        poll(f, 2, stopped ? 1000 : (int)(p->stop_after_ns / 1000000) + 1);
        if (f[0].revents)
            box_dispatch(b->box);
        if (f[1].revents && !take_output(b, r, p))
            fd_close(&r->got);
    }
    if (b->log.lost)
        fprintf(stderr, "boxed: lost: %s\n", b->log.lost_why);
    return b->log.lost ? -1 : 0;
}

int boxed_run(struct boxed *b, const struct boxed_plan *p)
{
    struct running r = {.got = -1};
    struct err e;
    const char *word[WORDS_MAX], **stage[BOXED_STAGES_MAX];
    char *line = strdup(p->line);
    int result = -1;
    memset(&b->log, 0, sizeof b->log);
    memset(b->stage, 0, sizeof b->stage);
    b->results = 0;
    b->output_size = 0;
    int memory = memfd_create("errors", MFD_CLOEXEC);
    r.errors = fd_reopen(memory, O_WRONLY | O_APPEND);
    plan_region(&r, p, stage, split(line, word, stage));
    b->region++;
    if (box_run(b->box, b->region, &r.region, &e) < 0) {
        fprintf(stderr, "boxed: %s\n", e.text);
    } else {
        pid_t writer = p->remote_in ? write_endlessly(r.channel[0].caller_fd) : -1;
        if (p->out < 0)
            r.got = r.channel[r.region.channel_count - 1].caller_fd;
        result = wait_for(b, &r, p);
        int status = 0;
        if (writer > 0 && (kill(writer, result < 0 ? SIGKILL : 0), waitpid(writer, &status, 0)) == writer)
            b->writer_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    fd_close(&r.got);
    close(r.errors);
    ssize_t n = pread(memory, b->errors, sizeof b->errors - 1, 0);
    b->errors[n < 0 ? 0 : n] = '\0';
    b->output[b->output_size] = '\0';
    close(memory);
    free(line);
    return result;
}
