/* zpipe status, zpipe cancel: jobs of a cluster that another zpipe has submitted with the same key; zpipe drain. */
#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct zpipe *cli_open_cluster(struct cli *c, const char *name)
{
    struct zpipe_error e;
    if (!c->open.cluster || !c->open.cluster[0]) {
        cli_say(ZPIPE_STATUS_FAILED, "zpipe %s asks a cluster: set ZPIPE_CLUSTER and ZPIPE_KEYS, or give --cluster and --keys",
                name);
        return NULL;
    }
    struct zpipe *z = zpipe_open(&c->open, &e);
    if (!z)
        cli_fail(ZPIPE_STATUS_FAILED, &e);
    return z;
}

int cli_job_number(const char *word, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(word, &end, 10);
    bool good = word[0] >= '0' && word[0] <= '9' && !*end && !errno && *out;
    return good ? 0 : cli_say(-1, "'%s' is no job's number: `zpipe status` lists them", word);
}

/* Prints one line, whose texts other people chose. */
__attribute__((format(printf, 1, 2))) static void print_row(const char *format, ...)
{
    char *row;
    va_list args;
    va_start(args, format);
    int size = vasprintf(&row, format, args);
    va_end(args);
    if (size < 0)
        return;
    puts(zpipe_plain(row, false));
    free(row);
}

static double gib(uint64_t bytes)
{
    return (double)bytes / (1 << 30);
}

/* When workers differ, what a job sees depends on the worker that gets it, so the differences are listed. */
static void print_workers(const struct zpipe_status *s)
{
    const struct zpipe_status_worker *w = s->worker;
    bool images = false, domains = false;
    for (size_t i = 1; i < s->worker_count; i++) {
        images |= strcmp(w[i].image, w[0].image) != 0;
        domains |= strcmp(w[i].domain, w[0].domain) != 0;
    }
    for (size_t i = 0; i < s->worker_count; i++)
        print_row("worker %s  %u of %u slots taken, %.1f of %.1f GiB of memory%s%s%.12s%s%s", w[i].name, w[i].used, w[i].slots,
                  gib(w[i].memory_used_bytes), gib(w[i].memory_bytes), w[i].draining ? ", drains" : "",
                  images ? "  image " : "", images ? w[i].image : "", domains ? "  on " : "", domains ? w[i].domain : "");
}

static void print_status(const struct zpipe_status *s)
{
    for (size_t i = 0; i < s->job_count; i++) {
        const struct zpipe_status_job *j = &s->job[i];
        if (!j->stages) /* the job waits at its keeper, or is over */
            print_row("job %" PRIu64 "  %s  %" PRIu64 ".%" PRIu64 " s  %s", j->job, j->state, j->age_ms / 1000,
                      j->age_ms % 1000 / 100, j->text);
        else
            print_row("job %" PRIu64 "  %s  attempt %u  %u of %u stages ended  %" PRIu64 ".%" PRIu64 " s  on %s  %s", j->job, j->state,
                      j->attempt, j->stages_ended, j->stages, j->age_ms / 1000, j->age_ms % 1000 / 100,
                      j->workers[0] ? j->workers : "no worker", j->text);
    }
    print_workers(s);
}

int cmd_status(struct cli *c)
{
    struct zpipe_error e;
    uint64_t job = 0;
    if (c->word_count > 1)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe status wants one JOB, or none");
    if (c->word_count && cli_job_number(c->word[0], &job) < 0)
        return ZPIPE_STATUS_FAILED;
    struct zpipe *z = cli_open_cluster(c, "status");
    if (!z)
        return ZPIPE_STATUS_FAILED;
    struct zpipe_status *s = zpipe_status(z, job, &e);
    int status = s ? 0 : cli_fail(ZPIPE_STATUS_FAILED, &e);
    if (s)
        print_status(s);
    zpipe_status_free(s);
    zpipe_close(z);
    return status;
}

int cmd_cancel(struct cli *c)
{
    struct zpipe_error e;
    uint64_t job;
    if (c->word_count != 1)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe cancel wants one JOB");
    if (cli_job_number(c->word[0], &job) < 0)
        return ZPIPE_STATUS_FAILED;
    struct zpipe *z = cli_open_cluster(c, "cancel");
    if (!z)
        return ZPIPE_STATUS_FAILED;
    int status = zpipe_cancel_number(z, job, &e) == 0 ? 0 : cli_fail(ZPIPE_STATUS_FAILED, &e);
    zpipe_close(z);
    return status;
}

int cmd_drain(struct cli *c)
{
    struct zpipe_error e;
    if (c->word_count != 1)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe drain wants one worker's name");
    c->open.owner = true;
    struct zpipe *z = cli_open_cluster(c, "drain");
    if (!z)
        return ZPIPE_STATUS_FAILED;
    int status = zpipe_drain(z, c->word[0], &e) == 0 ? 0 : cli_fail(ZPIPE_STATUS_FAILED, &e);
    zpipe_close(z);
    return status;
}
