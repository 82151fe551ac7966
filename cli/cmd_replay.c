/* zpipe replay: a task that failed, run again here by itself and compared.
 *
 * Before: main.c.  Next: client/replay.c. */
#include "cli.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { SAME = 0, DIFFERENT = 1 };

/* The record of a submitted job's task is at the job's keeper: JOB is then the number of a job of the cluster. */
static int fetch(struct cli *c, const char *name)
{
    struct zpipe_error e;
    char *end;
    uint64_t job = strtoull(name, &end, 10);
    if (!c->open.cluster || !c->open.cluster[0] || !job || *end != '/')
        return 0;
    struct zpipe *z = zpipe_open(&c->open, &e);
    int r = z ? zpipe_fetch(z, job, c->record, &e) : -1;
    zpipe_close(z);
    return r == 0 || e.code == ZPIPE_MISSING ? 0 : cli_fail(-1, &e); /* no keeper holds that job: the record may be on this machine */
}

int cmd_replay(struct cli *c)
{
    struct zpipe_error e;
    char verdict[ZPIPE_VERDICT_BYTES];
    if (c->word_count != 1)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe replay wants one JOB/STAGE/BLOCK, or a record's directory");
    signal(SIGPIPE, SIG_IGN);
    if (fetch(c, c->word[0]) < 0)
        return ZPIPE_STATUS_FAILED;
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
