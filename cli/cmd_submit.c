/* zpipe submit, attach, logs: jobs that a keeper holds. */
#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool stopped(void *owner)
{
    (void)owner;
    return cli_signal();
}

static bool is_job_file(const char *word)
{
    size_t size = strlen(word);
    return size > 3 && !strcmp(word + size - 3, ".zp");
}

int cmd_submit(struct cli *c)
{
    struct zpipe_error e;
    uint64_t job;
    char *text = NULL;
    if (c->word_count != 1)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe submit wants one pipeline, in one pair of quotes, or one job file");
    c->submission.text = c->word[0];
    if (is_job_file(c->word[0])) {
        c->submission.text = text = cli_read_file(c->word[0]);
        c->submission.job_file = c->word[0];
        if (!text)
            return ZPIPE_STATUS_FAILED;
    }
    struct zpipe *z = cli_open_cluster(c, "submit");
    int status = ZPIPE_STATUS_FAILED;
    if (z && zpipe_deposit(z, &c->submission, &job, &e) < 0)
        cli_fail(status, &e);
    else if (z)
        status = printf("%" PRIu64 "\n", job) < 0 || fflush(stdout) != 0
                     ? cli_say(ZPIPE_STATUS_FAILED, "cannot write the job's number, %" PRIu64, job)
                     : 0;
    free(text);
    zpipe_close(z);
    return status;
}

int cmd_attach(struct cli *c)
{
    struct zpipe_error e;
    uint64_t job;
    if (c->word_count != 1)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe attach wants one JOB");
    if (cli_job_number(c->word[0], &job) < 0)
        return ZPIPE_STATUS_FAILED;
    cli_catch_signals();
    struct zpipe *z = cli_open_cluster(c, "attach");
    if (!z)
        return ZPIPE_STATUS_FAILED;
    int status = zpipe_attach(z, job, c->submission.io.stdout_fd, stopped, NULL, &e);
    if (e.code && !cli_signal())
        cli_fail(ZPIPE_STATUS_FAILED, &e);
    zpipe_close(z);
    if (cli_signal())
        return cli_die(cli_signal());
    return status < 0 ? ZPIPE_STATUS_FAILED : status;
}

int cmd_logs(struct cli *c)
{
    struct zpipe_error e;
    uint64_t job;
    if (c->word_count != 1)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe logs wants one JOB");
    if (cli_job_number(c->word[0], &job) < 0)
        return ZPIPE_STATUS_FAILED;
    pid_t child;
    int fd = plain_begin(c->submission.io.stdout_fd, &child); /* before there are threads */
    struct zpipe *z = fd < 0 ? NULL : cli_open_cluster(c, "logs");
    int status = ZPIPE_STATUS_FAILED;
    if (z)
        status = zpipe_logs(z, job, fd, &e) < 0 ? cli_fail(ZPIPE_STATUS_FAILED, &e) : 0;
    zpipe_close(z);
    plain_end(fd, child);
    return status;
}
