/* zpipe keygen, zpipe scheduler, zpipe worker. */
#include "cli.h"

#include <stdio.h>

static void ready(const char *url)
{
    printf("ready %s\n", url);
    fflush(stdout);
}

int cmd_keygen(struct cli *c)
{
    struct zpipe_error e;
    const char *directory = c->directory ? c->directory : c->open.keys;
    if (!directory)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe keygen wants --dir DIRECTORY");
    return zpipe_keygen(directory, &e) < 0 ? cli_fail(ZPIPE_STATUS_FAILED, &e) : 0;
}

int cmd_scheduler(struct cli *c)
{
    struct zpipe_error e;
    struct zpipe_scheduler_options o = {.keys = c->open.keys, .listen = c->listen, .state = c->state};
    if (!o.keys || !o.listen)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe scheduler wants --keys DIRECTORY and --listen URL");
    return zpipe_run_scheduler(&o, ready, &e) < 0 ? cli_fail(ZPIPE_STATUS_FAILED, &e) : 0;
}

int cmd_worker(struct cli *c)
{
    struct zpipe_error e;
    struct zpipe_worker_options o = {.keys = c->open.keys,
                                     .scheduler = c->scheduler,
                                     .name = c->name,
                                     .data_listen = c->data_listen,
                                     .advertise = c->advertise,
                                     .box = c->open.box,
                                     .slots = c->open.slots,
                                     .no_isolation = c->open.no_isolation};
    if (!o.keys || !o.scheduler)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe worker wants --keys DIRECTORY and --scheduler URL");
    return zpipe_run_worker(&o, ready, &e) < 0 ? cli_fail(ZPIPE_STATUS_FAILED, &e) : 0;
}
