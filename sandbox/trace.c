/* A task's trace: its phases, and the calls that were not left to the kernel alone, as lines of text for the caller.  Before the
 * first blank of a line is the real time; what follows is the same every time the task runs, if the task does the same. */
#include "sandbox/server.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS           ((uint64_t)1000000000)
#define SEND_BYTES   32768
#define TRACE_LINES  1000000 /* of one task; then one line says that there were more */
#define LINE_MAX_LEN 128

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

void trace_flush(struct task *t)
{
    struct wire h = {.kind = WIRE_TRACE, .region = t->region->id, .task = t->index};
    if (t->trace.size)
        server_tell(t->region->server, h, t->trace.data, t->trace.size, NULL, 0);
    buf_clear(&t->trace);
    t->trace = BUF_INIT(WIRE_DATA_MAX);
}

static void add_line(struct task *t, const char *what)
{
    char line[LINE_MAX_LEN + 32];
    uint64_t us = trace_age_ns(t) / 1000;
    int n = snprintf(line, sizeof line, "%" PRIu64 ".%06" PRIu64 " %s\n", us / 1000000, us % 1000000, what);
    if (t->trace_lines > TRACE_LINES || n < 0 || (size_t)n >= sizeof line)
        return;
    if (t->trace_lines++ == TRACE_LINES)
        n = snprintf(line, sizeof line, "0.000000 and more\n");
    buf_add(&t->trace, line, (size_t)n);
    if (t->trace.size > SEND_BYTES)
        trace_flush(t);
}

uint64_t trace_age_ns(const struct task *t)
{
    return now_ns() - t->asked_ns;
}

void trace_begin(struct task *t)
{
    t->asked_ns = now_ns();
    t->trace = BUF_INIT(WIRE_DATA_MAX);
}

void trace_phase(struct task *t, const char *what)
{
    char line[LINE_MAX_LEN];
    if (!t->region->spec.region.task[t->index].trace)
        return;
    snprintf(line, sizeof line, "phase %s", what);
    add_line(t, line);
}

void trace_call(void *owner, const struct notify_call *c)
{
    char line[LINE_MAX_LEN], name[32], result[48];
    const char *error = c->error ? strerrorname_np(c->error) : NULL;
    snprintf(name, sizeof name, "%d", c->nr);
    if (c->ran)
        snprintf(result, sizeof result, "runs");
    else if (c->error)
        snprintf(result, sizeof result, "%s", error ? error : "an error");
    else
        snprintf(result, sizeof result, "%" PRId64, c->value);
    snprintf(line, sizeof line, "%s = %s, clock %" PRIu64 ".%09" PRIu64, c->name ? c->name : name, result,
             c->clock_ns / NS, c->clock_ns % NS);
    add_line(owner, line);
}
