/* zpipe keygen, zpipe scheduler, zpipe worker. */
#include "cli.h"

#include <stdio.h>
#include <string.h>

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

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
    if (c->word_count > 1)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe keygen wants one name: that of the machine or user");
    if (!c->word_count)
        return zpipe_keygen(directory, &e) < 0 ? cli_fail(ZPIPE_STATUS_FAILED, &e) : 0;
    char key[41];
    if (!c->word[0][0] || c->word[0][strspn(c->word[0], LETTERS "0123456789-._@+")]) /* it goes into commands that are to be copied to a shell */
        return cli_say(ZPIPE_STATUS_FAILED, "a name has letters, digits and -._@+, unlike '%s'", c->word[0]);
    if (zpipe_keypair(directory, key, &e) < 0)
        return cli_fail(ZPIPE_STATUS_FAILED, &e);
    printf("made %s/own.key; put the scheduler's scheduler.pub beside it, and on the scheduler's host say one of\n"
           "zpipe scheduler allow client '%s' %s --keys DIRECTORY\n"
           "zpipe scheduler allow worker '%s' %s --keys DIRECTORY\n"
           "zpipe scheduler allow keeper '%s' %s --keys DIRECTORY\n",
           directory, key, c->word[0], key, c->word[0], key, c->word[0]);
    return 0;
}

/* zpipe scheduler allow worker|client|keeper KEY [NAME], zpipe scheduler deny KEY */
static int change_list(struct cli *c)
{
    struct zpipe_error e;
    const char *keys = c->open.keys, *const *w = c->word;
    bool allow = !strcmp(w[0], "allow");
    int r;
    if (c->listen || c->state || c->check)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe scheduler %s takes --keys and no other option", w[0]);
    if (!keys)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe scheduler %s wants --keys DIRECTORY, the scheduler's", w[0]);
    if (allow && (c->word_count == 3 || c->word_count == 4))
        r = zpipe_allow(keys, w[1], w[2], c->word_count == 4 ? w[3] : w[1], &e);
    else if (!allow && !strcmp(w[0], "deny") && c->word_count == 2)
        r = zpipe_deny(keys, w[1], &e);
    else
        return cli_say(ZPIPE_STATUS_FAILED, "want zpipe scheduler allow worker|client|keeper KEY [NAME], or zpipe scheduler deny KEY");
    return r < 0 ? cli_fail(ZPIPE_STATUS_FAILED, &e) : 0;
}

int cmd_scheduler(struct cli *c)
{
    struct zpipe_error e;
    if (c->word_count)
        return change_list(c);
    struct zpipe_scheduler_options o = {
        .keys = c->open.keys, .listen = c->listen, .state = c->state, .worker_wait_s = c->worker_wait_s, .client_wait_s = c->client_wait_s};
    if (!o.keys || !o.listen)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe scheduler wants --keys DIRECTORY and --listen URL");
    if (c->check)
        return zpipe_check_scheduler(&o, &e) < 0 ? cli_fail(ZPIPE_STATUS_FAILED, &e) : 0;
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
                                     .image = c->image,
                                     .shared = c->shared,
                                     .box = c->open.box,
                                     .slots = c->open.slots,
                                     .memory_bytes = c->memory,
                                     .no_isolation = c->open.no_isolation,
                                     .no_templates = c->open.no_templates,
                                     .store = c->open.store};
    if (!o.keys || !o.scheduler)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe worker wants --keys DIRECTORY and --scheduler URL");
    if (c->check)
        return zpipe_check_worker(&o, &e) < 0 ? cli_fail(ZPIPE_STATUS_FAILED, &e) : 0;
    return zpipe_run_worker(&o, ready, &e) < 0 ? cli_fail(ZPIPE_STATUS_FAILED, &e) : 0;
}
