/* zpipe replay: a task that failed, run again here by itself and compared.
 *
 * Before: main.c.  Next: client/replay.c. */
#include "cli.h"

#include <signal.h>
#include <stdio.h>

enum { SAME = 0, DIFFERENT = 1 };

int cmd_replay(struct cli *c)
{
    struct zpipe_error e;
    char verdict[ZPIPE_VERDICT_BYTES];
    if (c->word_count != 1)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe replay wants one JOB/STAGE/BLOCK, or a record's directory");
    signal(SIGPIPE, SIG_IGN);
    c->open.cluster = NULL; /* it runs here */
    struct zpipe *z = zpipe_open(&c->open, &e);
    if (!z)
        return cli_fail(ZPIPE_STATUS_FAILED, &e);
    int same = zpipe_replay(z, c->word[0], c->record, 1, 2, verdict, &e);
    zpipe_close(z);
    if (same < 0)
        return cli_fail(ZPIPE_STATUS_FAILED, &e);
    return cli_say(same ? SAME : DIFFERENT, "%s", verdict);
}
