/* zpipe-keeper, which `zpipe keeper` becomes: the daemon that holds submitted jobs. */
#include "cli/cli.h"

#include <stdio.h>

static void ready(const char *url)
{
    printf("ready %s\n", url);
    fflush(stdout);
}

static int keep(const struct cli *c)
{
    struct zpipe_error e;
    struct zpipe_keeper_options o = {.keys = c->open.keys,
                                     .scheduler = c->scheduler,
                                     .directory = c->state,
                                     .data_listen = c->data_listen,
                                     .advertise = c->advertise,
                                     .shared = c->shared,
                                     .store_max_bytes = c->store_max};
    if (c->word_count || !o.keys || !o.scheduler || !o.directory)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe keeper wants --keys DIRECTORY, --scheduler URL and --state DIRECTORY");
    if (c->check)
        return zpipe_check_keeper(&o, &e) < 0 ? cli_fail(ZPIPE_STATUS_FAILED, &e) : 0;
    return zpipe_run_keeper(&o, ready, &e) < 0 ? cli_fail(ZPIPE_STATUS_FAILED, &e) : 0;
}

int main(int argc, char **argv)
{
    struct cli c;
    int status = cli_parse(&c, argc - 1, argv + 1, "keeper", CLI_KEEPER) < 0 ? ZPIPE_STATUS_FAILED : 0;
    cli_hold_descriptors(&c.submission.io);
    if (status == 0)
        status = keep(&c);
    cli_clear(&c);
    return cli_end(status);
}
