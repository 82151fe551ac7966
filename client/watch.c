/* Descriptors of the program's own on the client's loop: zpipe.h's zpipe_watch. */
#include "client/client.h"

#include <stdlib.h>

struct zpipe_watch {
    struct loop *loop;
    struct loop_fd on;
    void (*run)(void *owner, int events);
    void *owner;
};

static void ready(struct loop_fd *on, int events)
{
    struct zpipe_watch *w = on->owner;
    w->run(w->owner, (events & LOOP_READ ? ZPIPE_READABLE : 0) | (events & LOOP_WRITE ? ZPIPE_WRITABLE : 0));
}

struct zpipe_watch *zpipe_watch(struct zpipe *z, int fd, int events, void (*run)(void *owner, int events), void *owner,
                                struct zpipe_error *error)
{
    struct zpipe_watch *w = calloc(1, sizeof *w);
    struct err e;
    if (!w) {
        err_nomem(&e);
        client_error(error, &e);
        return NULL;
    }
    *w = (struct zpipe_watch){.loop = z->loop, .run = run, .owner = owner};
    w->on.run = ready;
    w->on.owner = w;
    loop_fd_start(w->loop, &w->on, fd, (events & ZPIPE_READABLE ? LOOP_READ : 0) | (events & ZPIPE_WRITABLE ? LOOP_WRITE : 0));
    return w;
}

void zpipe_unwatch(struct zpipe_watch *w)
{
    if (!w)
        return;
    loop_fd_stop(w->loop, &w->on);
    free(w);
}
