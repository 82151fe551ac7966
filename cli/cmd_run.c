/* zpipe 'PIPELINE', zpipe run FILE, zpipe plan: open, submit, wait.
 *
 * Before: main.c.  Next: client/job.c. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOB_FILE_BYTES_MAX (16u << 20)

static int pump(struct zpipe *z, struct zpipe_job *j, struct progress *p, struct zpipe_error *e)
{
    bool asked = false;
    while (!zpipe_over(j)) {
        if (cli_signal() && !asked) {
            asked = true;
            zpipe_cancel(j);
        }
        zpipe_turn(z, true);
        progress_tick(p);
    }
    return zpipe_wait(j, e);
}

/* Everything here that follows the job's events. */
struct watchers {
    struct progress *progress;
    struct joblog *log;
    uint64_t compared;
};

static void on_event(void *owner, const struct zpipe_event *event)
{
    struct watchers *w = owner;
    progress_event(w->progress, event);
    joblog_event(w->log, event);
    if (event->kind == ZPIPE_TASK)
        w->compared += event->compared;
}

static int run_text(struct cli *c)
{
    struct zpipe_error e = {0};
    struct zpipe_submission *s = &c->submission;
    cli_catch_signals();
    struct zpipe *z = zpipe_open(&c->open, &e);
    if (!z)
        return cli_fail(ZPIPE_STATUS_FAILED, &e);
    struct watchers w = {0};
    if (c->joblog && !(w.log = joblog_open(c->joblog))) {
        zpipe_close(z);
        return ZPIPE_STATUS_FAILED;
    }
    w.progress = progress_new(c->progress, c->quiet);
    s->tell_blocks = w.log;
    s->records = !c->record ? "" : strcmp(c->record, "no") ? c->record : NULL;
    s->io.on_event = on_event;
    s->io.owner = &w;
    struct zpipe_job *j = zpipe_submit(z, s, &e);
    int status = ZPIPE_STATUS_FAILED;
    if (j)
        status = pump(z, j, w.progress, &e);
    progress_free(w.progress);
    if (joblog_close(w.log) < 0 && status == 0)
        status = ZPIPE_STATUS_FAILED;
    if (e.code && !(cli_signal() && e.code == ZPIPE_CANCELLED))
        cli_fail(status, &e);
    else if (s->audit)
        cli_say(0, "audit: %llu task%s run twice, different: 0", (unsigned long long)w.compared,
                w.compared == 1 ? " was" : "s were");
    zpipe_job_free(j);
    zpipe_close(z);
    return cli_signal() ? cli_die(cli_signal()) : status;
}

int cmd_pipeline(struct cli *c)
{
    if (c->word_count > 1)
        return cli_say(ZPIPE_STATUS_FAILED,
                       "`%s` is neither NAME=VALUE nor `:::`; put the whole pipeline in one pair of quotes",
                       c->word[1]);
    c->submission.text = c->word[0];
    return run_text(c);
}

char *cli_read_file(const char *name)
{
    return cli_read(strcmp(name, "-") ? open(name, O_RDONLY | O_CLOEXEC) : dup(0), "job file", name, JOB_FILE_BYTES_MAX);
}

int cmd_run(struct cli *c)
{
    if (c->word_count != 1)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe run wants one job file");
    char *text = cli_read_file(c->word[0]);
    if (!text)
        return ZPIPE_STATUS_FAILED;
    c->submission.text = text;
    c->submission.job_file = c->word[0];
    int status = run_text(c);
    free(text);
    return status;
}

int cmd_plan(struct cli *c)
{
    struct zpipe_error e = {0};
    char *text = NULL;
    if (c->word_count != 1)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe plan wants one pipeline, in one pair of quotes");
    c->submission.text = c->word[0];
    struct stat s;
    size_t size = strlen(c->word[0]);
    if (size > 3 && !strcmp(c->word[0] + size - 3, ".zp") && stat(c->word[0], &s) == 0) {
        c->submission.text = text = cli_read_file(c->word[0]);
        c->submission.job_file = c->word[0];
        if (!text)
            return ZPIPE_STATUS_FAILED;
    }
    struct zpipe *z = zpipe_open(&c->open, &e);
    char *plan = z ? zpipe_plan(z, &c->submission, c->json, &e) : NULL;
    int status = 0;
    if (plan)
        fputs(plan, stdout);
    else
        status = cli_fail(ZPIPE_STATUS_FAILED, &e);
    free(plan);
    free(text);
    zpipe_close(z);
    return status;
}
