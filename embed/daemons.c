/* `zpipe scheduler` and `zpipe worker`: the parts of a cluster as processes of their own, and the keys
 * they need.  Declared in include/zpipe.h. */
#include "base/ending.h"
#include "base/log.h"
#include "base/spool.h"
#include "proto/kept.h"
#include "proto/keys.h"
#include "proto/peer.h"
#include "sandbox/box.h"
#include "scheduler/daemon.h"
#include "worker/agent.h"
#include "worker/image.h"
#include "zpipe.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int public_error(struct zpipe_error *to, const struct err *from)
{
    if (to) {
        to->code = from->code;
        to->sys = from->sys;
        memcpy(to->text, from->text, sizeof to->text);
    }
    return -1;
}

/* ---- a loop that ends by signal or by failure */

struct service {
    struct loop *loop;
    struct ending ending;
    void (*ready)(const char *url); /* or NULL */
    const char *url;                /* passed to `ready` */
    bool failed;
    struct err why;
};

static void on_ending(void *owner)
{
    struct service *s = owner;
    loop_stop(s->loop);
}

static void on_lost(void *owner, const struct err *why)
{
    struct service *s = owner;
    s->failed = why->code != ERR_NONE; /* ERR_NONE: it was told to end */
    s->why = *why;
    loop_stop(s->loop);
}

static void on_ready(void *owner)
{
    const struct service *s = owner;
    if (s->ready)
        s->ready(s->url);
}

static int service_open(struct service *s, struct err *e)
{
    s->loop = loop_new(e);
    if (!s->loop)
        return -1;
    ending_start(s->loop, &s->ending, on_ending, s);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    return 0;
}

static int service_run(struct service *s, struct err *e)
{
    if (!s->failed)
        loop_run(s->loop);
    if (s->failed)
        *e = s->why;
    return s->failed ? -1 : 0;
}

static void service_close(struct service *s)
{
    if (!s->loop)
        return;
    ending_stop(s->loop, &s->ending);
    loop_free(s->loop);
}

int zpipe_keygen(const char *directory, struct zpipe_error *error)
{
    struct err e;
    return keys_generate(directory, &e) < 0 ? public_error(error, &e) : 0;
}

int zpipe_keypair(const char *directory, char public_key[41], struct zpipe_error *error)
{
    struct err e;
    return keys_generate_own(directory, public_key, &e) < 0 ? public_error(error, &e) : 0;
}

int zpipe_allow(const char *directory, const char *role, const char *public_key, const char *name, struct zpipe_error *error)
{
    struct err e;
    return keys_allow(directory, keys_role(role), public_key, name, &e) < 0 ? public_error(error, &e) : 0;
}

int zpipe_deny(const char *directory, const char *public_key, struct zpipe_error *error)
{
    struct err e;
    return keys_deny(directory, public_key, &e) < 0 ? public_error(error, &e) : 0;
}

static struct daemon_options options_of(const struct zpipe_scheduler_options *o, struct service *s)
{
    return (struct daemon_options){.url = o->listen, .state = o->state, .worker_wait_s = o->worker_wait_s, .client_wait_s = o->client_wait_s,
                                   .lost = on_lost, .owner = s};
}

int zpipe_check_scheduler(const struct zpipe_scheduler_options *o, struct zpipe_error *error)
{
    struct service s = {0};
    struct err e = {0};
    struct net *n = NULL;
    struct net_options no = {.keys = o->keys, .role = MSG_SCHEDULER};
    struct daemon_options options = options_of(o, &s);
    int r = service_open(&s, &e);
    if (r == 0 && (!(n = net_new(s.loop, &no, &e)) || daemon_check(n, &options, &e) < 0))
        r = -1;
    net_free(n);
    service_close(&s);
    return r < 0 ? public_error(error, &e) : 0;
}

int zpipe_run_scheduler(const struct zpipe_scheduler_options *o, void (*ready)(const char *url),
                        struct zpipe_error *error)
{
    struct service s = {0};
    struct err e = {0};
    struct daemon *d = NULL;
    struct net *n = NULL;
    int r = service_open(&s, &e);
    struct net_options no = {.keys = o->keys, .role = MSG_SCHEDULER};
    struct daemon_options options = options_of(o, &s);
    if (r == 0 && (!(n = net_new(s.loop, &no, &e)) || !(d = daemon_new(s.loop, n, &options, &e))))
        r = -1;
    if (r == 0) {
        if (ready)
            ready(daemon_url(d));
        r = service_run(&s, &e);
    }
    daemon_free(d);
    net_free(n);
    service_close(&s);
    return r < 0 ? public_error(error, &e) : 0;
}

static int check_worker(const struct net *n, const struct zpipe_worker_options *o, struct err *e)
{
    char box[4096];
    struct image named;
    if (o->image && image_find(&named, o->image, false, e) < 0)
        return -1;
    if (peer_check_url(n, o->scheduler, false, e) < 0)
        return err_wrap(e, "the scheduler");
    if (o->data_listen && peer_check_url(n, o->data_listen, true, e) < 0)
        return err_wrap(e, "the data port");
    if (peer_check_data_url(o->advertise ? o->advertise : "", e) < 0 ||
        (!o->advertise && o->data_listen && !strchr(o->data_listen, '*') && peer_check_data_url(o->data_listen, e) < 0))
        return -1;
    if (o->box && access(o->box, X_OK) < 0)
        return err_sys(e, "cannot run '%s'", o->box);
    return o->box || o->no_isolation ? 0 : box_program(box, sizeof box, e);
}

int zpipe_check_worker(const struct zpipe_worker_options *o, struct zpipe_error *error)
{
    struct service s = {0};
    struct err e = {0};
    struct net *n = NULL;
    struct net_options no = {.keys = o->keys, .role = MSG_WORKER};
    int r = o->shared ? kept_shared_check(o->shared, &e) : 0;
    if (r == 0 && o->store)
        r = spool_place(o->store, &e);
    if (r == 0)
        r = service_open(&s, &e);
    if (r == 0 && (!(n = net_new(s.loop, &no, &e)) || check_worker(n, o, &e) < 0))
        r = -1;
    net_free(n);
    service_close(&s);
    return r < 0 ? public_error(error, &e) : 0;
}

int zpipe_run_worker(const struct zpipe_worker_options *o, void (*ready)(const char *url),
                     struct zpipe_error *error)
{
    struct service s = {.ready = ready, .url = o->scheduler};
    struct err e = {0};
    struct agent *a = NULL;
    struct net *n = NULL;
    int r = o->shared ? kept_shared_check(o->shared, &e) : 0;
    if (r == 0)
        r = service_open(&s, &e);
    struct agent_options ao = {.name = o->name,
                               .slots = o->slots,
                               .memory_bytes = o->memory_bytes,
                               .data_listen = o->data_listen ? o->data_listen : "tcp://127.0.0.1:*",
                               .advertise = o->advertise,
                               .image = o->image,
                               .shared = o->shared,
                               .box = o->box,
                               .no_isolation = o->no_isolation,
                               .no_templates = o->no_templates};
    struct net_options no = {.keys = o->keys, .role = MSG_WORKER};
    if (r == 0 && o->store)
        r = spool_place(o->store, &e);
    if (r == 0 && (!(a = agent_new(s.loop, &ao, &e)) || !(n = net_new(s.loop, &no, &e)) ||
                   agent_start(a, n, o->scheduler, on_ready, on_lost, &s, &e) < 0))
        r = -1;
    if (r == 0)
        r = service_run(&s, &e);
    agent_free(a);
    net_free(n);
    service_close(&s);
    return r < 0 ? public_error(error, &e) : 0;
}

const char *zpipe_box_path(void)
{
    static char path[4096];
    return box_program(path, sizeof path, NULL) == 0 ? path : NULL;
}
