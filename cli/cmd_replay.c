/* zpipe replay: a task that failed, run again here by itself and compared.
 *
 * Before: main.c.  Next: client/replay.c. */
#include "cli.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { SAME = 0, DIFFERENT = 1 };

/* The record of a submitted job's task is at the job's keeper: JOB is then the number of a job of the cluster.  Where nothing
 * can be fetched the record may be on this machine. */
static void fetch(struct cli *c, const char *name)
{
    struct zpipe_error e;
    char *end;
    uint64_t job = strtoull(name, &end, 10);
    if (!c->open.cluster || !c->open.cluster[0] || !job || *end != '/')
        return;
    struct zpipe *z = zpipe_open(&c->open, &e);
    if ((!z || zpipe_fetch(z, job, c->record, &e) < 0) && e.code != ZPIPE_MISSING)
        cli_fail(0, &e);
    zpipe_close(z);
}

int cmd_replay(struct cli *c)
{
    struct zpipe_error e;
    char verdict[ZPIPE_VERDICT_BYTES];
    if (c->word_count != 1)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe replay wants one JOB/STAGE/BLOCK, or a record's directory");
    signal(SIGPIPE, SIG_IGN);
    fetch(c, c->word[0]);
    c->open.cluster = NULL; /* the replay itself runs in this process */
    struct zpipe *z = zpipe_open(&c->open, &e);
    if (!z)
        return cli_fail(ZPIPE_STATUS_FAILED, &e);
    int same = zpipe_replay(z, c->word[0], c->record, c->submission.io.stdout_fd, c->submission.io.stderr_fd, verdict, &e);
    zpipe_close(z);
    if (same < 0)
        return cli_fail(ZPIPE_STATUS_FAILED, &e);
    return cli_say(same ? SAME : DIFFERENT, "%s", verdict);
}
