/* See serve.h. */
#include "cli/serve/serve.h"
#include "base/fds.h"
#include "cli/serve/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define DRAIN_BYTES (64u << 10) /* read by one call */

struct server {
    struct zpipe *z;
    struct zpipe_submission job;  /* what the jobs of all requests have in common */
    struct request *first, **end; /* requests that wait or run */
    uint32_t running; /* jobs */
    uint64_t body_max, answer_max; /* answer_max 0: the job's own limit applies */
    int timer;
    struct zpipe_watch *ticks;
    struct http *http;
    struct plain *plain;
};

static volatile sig_atomic_t asked_to_end; /* how many signals came */

static void on_signal(int signo)
{
    (void)signo;
    if (asked_to_end < 2)
        asked_to_end++;
}

struct zpipe *server_zpipe(struct server *s)
{
    return s->z;
}

uint64_t server_body_max(const struct server *s)
{
    return s->body_max;
}

/* ---- requests */

struct request *request_new(struct server *s, void (*done)(struct request *r), void *owner)
{
    struct request *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    *r = (struct request){.server = s, .done = done, .owner = owner, .certified = true, .in = BODY_INIT, .out = BODY_INIT,
                           .stdin_fd = -1, .feed = -1, .stdout_fd = -1, .drain = -1};
    return r;
}

int request_add(struct request *r, const void *data, size_t size_bytes)
{
    if (size_bytes > r->server->body_max - r->in.size_bytes) {
        errno = EFBIG;
        return -1;
    }
    return body_add(&r->in, data, size_bytes);
}

void request_run(struct request *r)
{
    struct server *s = r->server;
    r->link = s->end;
    *s->end = r;
    s->end = &r->next;
    r->ready = true;
}

static void leave(struct request *r)
{
    if (!r->link)
        return;
    *r->link = r->next;
    if (r->next)
        r->next->link = r->link;
    else
        r->server->end = r->link;
    r->link = NULL;
    r->next = NULL;
}

static void end_feed(struct request *r)
{
    zpipe_unwatch(r->feeding);
    r->feeding = NULL;
    fd_close(&r->feed);
}

static void end_drain(struct request *r)
{
    zpipe_unwatch(r->draining);
    r->draining = NULL;
    fd_close(&r->drain);
    fd_close(&r->stdout_fd);
}

static void free_job(struct request *r)
{
    if (r->job)
        r->server->running--;
    zpipe_job_free(r->job);
    r->job = NULL;
}

void request_free(struct request *r)
{
    if (!r)
        return;
    leave(r);
    end_feed(r);
    end_drain(r);
    free_job(r);
    fd_close(&r->stdin_fd);
    body_clear(&r->in);
    body_clear(&r->out);
    free(r);
}

void request_cancel(struct request *r)
{
    if (r->job)
        zpipe_cancel(r->job);
    else if (r->ready && !r->over) /* it is queued and its job has not begun */
        r->error = (struct zpipe_error){.code = ZPIPE_CANCELLED, .text = "the client has left"};
}

static void on_event(void *owner, const struct zpipe_event *e)
{
    struct request *r = owner;
    if (e->kind == ZPIPE_TASK)
        r->certified &= e->certified;
}

/* Writes as much of the body as the job takes now. */
static void on_room(void *owner, int events)
{
    struct request *r = owner;
    (void)events;
    ssize_t n;
    while ((n = body_send(&r->in, r->feed, &r->fed)) > 0 || (n < 0 && errno == EINTR))
        ;
    if (n == 0 || errno != EAGAIN) /* all is written, or the job wants no more */
        end_feed(r);
}

/* Cancels the job; `text` and `more` are what its client is told. */
static void stop(struct request *r, int code, int status, const char *text, const char *more)
{
    end_drain(r);
    r->error.code = code;
    r->status = status;
    snprintf(r->error.text, sizeof r->error.text, "%s%s", text, more);
    zpipe_cancel(r->job);
}

/* Reads all that the job has written so far. */
static void on_output(void *owner, int events)
{
    static char bytes[DRAIN_BYTES];
    struct request *r = owner;
    ssize_t n;
    (void)events;
    while (r->drain >= 0 && ((n = read(r->drain, bytes, sizeof bytes)) > 0 || (n < 0 && errno == EINTR))) {
        uint64_t max = r->server->answer_max;
        if (n > 0 && max && (uint64_t)n > max - r->out.size_bytes)
            stop(r, ZPIPE_LIMIT, ZPIPE_STATUS_LIMIT, "the answer reached its limit of 256 MiB; --with output=SIZE sets another", "");
        else if (n > 0 && body_add(&r->out, bytes, (size_t)n) < 0)
            stop(r, ZPIPE_IO, ZPIPE_STATUS_FAILED, "the answer cannot be kept: ", strerror(errno));
    }
}

/* Both are pipes, and the connection itself is never given to the job.  So programs that read may be clones of a template,
 * and programs that write get the pipe as it is. */
static int open_pipes(struct request *r)
{
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) < 0)
        return -1;
    r->stdin_fd = in[0];
    r->feed = in[1];
    if (pipe2(out, O_CLOEXEC) < 0)
        return -1;
    r->drain = out[0];
    r->stdout_fd = out[1];
    return fcntl(r->feed, F_SETFL, O_NONBLOCK) < 0 ? -1 : fcntl(r->drain, F_SETFL, O_NONBLOCK);
}

static void submit(struct request *r)
{
    struct zpipe_submission job = r->server->job;
    r->status = ZPIPE_STATUS_FAILED;
    if (open_pipes(r) < 0) {
        r->error = (struct zpipe_error){.code = ZPIPE_IO, .sys = errno, .text = "no pipe could be made for the request"};
        return;
    }
    job.io = (struct zpipe_io){.stdin_fd = r->stdin_fd, .stdout_fd = r->stdout_fd, .stderr_fd = 2, .on_event = on_event, .owner = r};
    r->job = zpipe_submit(r->server->z, &job, &r->error);
    if (!r->job)
        return;
    r->server->running++;
    on_room(r, ZPIPE_WRITABLE);
    if ((r->feed >= 0 && !(r->feeding = zpipe_watch(r->server->z, r->feed, ZPIPE_WRITABLE, on_room, r, &r->error))) ||
        !(r->draining = zpipe_watch(r->server->z, r->drain, ZPIPE_READABLE, on_output, r, &r->error)))
        zpipe_cancel(r->job);
}

/* Notes how the job has ended, unless we stopped it ourselves. */
static void take_end(struct request *r)
{
    struct zpipe_error e = {0};
    int status = zpipe_wait(r->job, &e);
    on_output(r, ZPIPE_READABLE);
    if (r->error.code)
        return;
    r->status = status;
    r->error = e;
}

/* Between two turns of the loop: starts requests that are complete, and answers those that are over. */
static void step(struct server *s)
{
    for (struct request *r = s->first, *next; r; r = next) {
        next = r->next;
        if (r->ready && !r->job && !r->error.code && s->running == SERVE_JOBS_MAX)
            break; /* requests after it wait too */
        if (r->ready && !r->job && !r->error.code)
            submit(r);
        if (r->job && !zpipe_over(r->job))
            continue;
        if (r->job)
            take_end(r);
        end_feed(r);
        end_drain(r);
        free_job(r);
        r->over = true;
        leave(r);
        r->done(r);
    }
}

/* ---- life */

bool server_ends(const struct server *s)
{
    (void)s;
    return asked_to_end;
}

static void on_tick(void *owner, int events)
{
    struct server *s = owner;
    uint64_t ticks;
    (void)events;
    if (read(s->timer, &ticks, sizeof ticks) < 0)
        return;
    http_tick(s->http);
    plain_tick(s->plain);
}

static int tick(struct server *s)
{
    static const struct itimerspec second = {{1, 0}, {1, 0}};
    struct zpipe_error e = {0};
    s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (s->timer >= 0 && timerfd_settime(s->timer, 0, &second, NULL) == 0 &&
        (s->ticks = zpipe_watch(s->z, s->timer, ZPIPE_READABLE, on_tick, s, &e)))
        return 0;
    return cli_say(-1, "cannot set a timer: %s", e.code ? e.text : strerror(errno));
}

/* Runs until a signal comes, then until the running requests are answered or the next signal comes. */
static void run(struct server *s)
{
    while (!asked_to_end || (asked_to_end < 2 && http_rest(s->http) + plain_rest(s->plain) > 0)) {
        zpipe_turn(s->z, true);
        step(s);
    }
}

static bool has_setting(const struct cli *c, const char *name)
{
    for (size_t i = 0; i < c->submission.with_count; i++)
        if (!strncmp(c->submission.with[i], name, strcspn(name, "=") + 1))
            return true;
    return false;
}

/* Tries the sandbox, so that a host without one is reported now and not to the first client.  In a cluster each worker does
 * this. */
static int try_sandbox(struct server *s)
{
    struct zpipe_submission job = zpipe_submission("true");
    struct zpipe_error e = {0};
    job.io = (struct zpipe_io){.stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    struct zpipe_job *j = zpipe_submit(s->z, &job, &e);
    if (j)
        zpipe_wait(j, &e);
    zpipe_job_free(j);
    return e.code ? cli_fail(-1, &e) : 0;
}

static int prepare(struct server *s, struct cli *c)
{
    struct zpipe_error e = {0};
    const char **with = calloc(c->submission.with_count + 2, sizeof *with);
    if (!with)
        return cli_say(-1, "out of memory");
    size_t count = 0;
    s->answer_max = has_setting(c, "output=") ? 0 : SERVE_ANSWER_MAX;
    if (!has_setting(c, SERVE_TIMEOUT))
        with[count++] = SERVE_TIMEOUT;
    for (size_t i = 0; i < c->submission.with_count; i++)
        with[count++] = c->submission.with[i];
    free(c->with);
    c->with = with;
    s->job = c->submission;
    s->job.with = with;
    s->job.with_count = count;
    s->job.text = c->word[0];
    s->body_max = c->body_max ? c->body_max : SERVE_BODY_MAX;
    s->end = &s->first;
    s->z = zpipe_open(&c->open, &e);
    if (!s->z)
        return cli_fail(-1, &e);
    /* a mistake in the text is reported now, not to the first client */
    char *plan = zpipe_plan(s->z, &s->job, false, &e);
    free(plan);
    if (!plan)
        return cli_fail(-1, &e);
    return c->open.cluster && *c->open.cluster ? 0 : try_sandbox(s);
}

static int serve(struct cli *c)
{
    struct server s = {.timer = -1};
    int at[2] = {-1, -1};
    int r = prepare(&s, c);
    if (r == 0 && c->http)
        r = (at[0] = listen_http(c->http, c->allow_remote)) < 0 || !(s.http = http_open(&s, at[0])) ? -1 : 0;
    if (r == 0 && c->listen)
        r = (at[1] = listen_plain(c->listen, c->allow_remote)) < 0 || !(s.plain = plain_open(&s, at[1])) ? -1 : 0;
    if (r == 0)
        r = tick(&s);
    if (r == 0) {
        if (s.http)
            listen_say("http", at[0]);
        if (s.plain)
            listen_say("plain", at[1]);
        fflush(stdout);
        run(&s);
    }
    plain_close(s.plain);
    http_close(s.http);
    zpipe_unwatch(s.ticks);
    zpipe_close(s.z);
    if (s.timer >= 0)
        close(s.timer);
    if (c->listen)
        listen_forget(c->listen);
    return r < 0 ? ZPIPE_STATUS_FAILED : 0;
}

int main(int argc, char **argv)
{
    struct sigaction end = {.sa_handler = on_signal};
    struct cli c;
    sigaction(SIGTERM, &end, NULL);
    sigaction(SIGINT, &end, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file at its limit fails the request, it must not end the server */
    int status = cli_parse(&c, argc - 1, argv + 1, "serve", CLI_SERVE) < 0 ? ZPIPE_STATUS_FAILED : 0;
    cli_hold_descriptors(&c.submission.io);
    if (status == 0 && c.word_count != 1)
        status = cli_say(ZPIPE_STATUS_FAILED, "zpipe serve wants one pipeline, in one pair of quotes");
    if (status == 0 && !c.http && !c.listen)
        status = cli_say(ZPIPE_STATUS_FAILED, "zpipe serve wants --http HOST:PORT, or --listen tcp://HOST:PORT or unix://PATH");
    if (status == 0)
        status = serve(&c);
    cli_clear(&c);
    return cli_end(status);
}
