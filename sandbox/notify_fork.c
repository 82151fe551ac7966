/* Answers for a template and its clones.  All of them are under one filter, whose listener belongs to the template.  Only
 * one of them runs at a time, so calls come from that one.  The state from which calls are answered is copied for each.
 *
 * Two calls are allowed to the forker only, and refused to all others as if they did not exist: to enter, once, the user
 * namespace that it gets, and to drop rights for all below it.  The forker's clone calls and the waits of clones' first
 * processes are not notified (syscalls_own). */
#include "sandbox/notify_task.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

void notify_trace_start(struct notify *n)
{
    n->trace_start = true;
}

pid_t notify_traced(const struct notify *n)
{
    return n->traced;
}

bool notify_copies(struct notify *n)
{
    return !n->timers && random_idle(n) && !n->named_count && !n->trace;
}

void notify_forker(struct notify *n, pid_t pid, const int fd[FORKER_OWN], const int number[FORKER_OWN])
{
    n->forker = pid;
    n->entering = true;
    for (int i = 0; i < FORKER_OWN; i++) {
        n->forker_fd[i] = fd[i];
        n->forker_number[i] = number[i];
    }
}

static bool is_forker(const struct notify *n, const struct seccomp_notif *q)
{
    return n->forker && (pid_t)q->pid == n->forker;
}

void answer_setns(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    a->error = ENOSYS;
    if (!n->entering || !is_forker(n, q))
        return;
    n->entering = false;
    for (int i = 0; i < FORKER_OWN; i++) {
        struct seccomp_notif_addfd give = {.id = q->id, .flags = SECCOMP_ADDFD_FLAG_SETFD,
                                           .srcfd = (uint32_t)n->forker_fd[i],
                                           .newfd = (uint32_t)n->forker_number[i], .newfd_flags = O_CLOEXEC};

        if (n->forker_fd[i] >= 0 && ioctl(n->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &give) < 0)
            return;
    }
    a->error = 0;
    a->go_on = true;
}

void answer_prctl(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    uint32_t what = (uint32_t)q->data.args[0];

    a->value = 1;
    if (what == PR_GET_DUMPABLE)
        return;
    a->go_on = what == PR_SET_PDEATHSIG || is_forker(n, q);
    a->error = EINVAL;
    if (what == PR_SET_PDEATHSIG)
        signals_sent(n, q->data.args[1]);
}

struct notify *notify_copy(const struct notify *n, struct err *e)
{
    struct notify *c = malloc(sizeof *c);

    if (!c) {
        err_nomem(e);
        return NULL;
    }
    *c = *n;
    c->given = NULL;
    c->listing = (struct listing){0};
    c->crowd = (struct crowd){0};
    c->given_count = 0;
    c->random_epoll = c->root = c->asker = -1;
    c->asked = NULL;
    c->met = false;
    c->more_tellers |= c->teller[0] != 0; /* the clone has another number */
    c->entering = c->trace_start = false;
    c->traced = 0;
    c->listener = fcntl(n->listener, F_DUPFD_CLOEXEC, 0);
    if (c->listener < 0 || seen_copy(&c->seen) < 0) {
        if (c->listener >= 0)
            close(c->listener);
        free(c);
        err_set(e, ERR_NOMEM, "there is no room to copy a template's state");
        return NULL;
    }
    return c;
}

void notify_become(struct notify *n, uint64_t stream)
{
    n->stream = stream;
    n->parted = stream == (uint32_t)stream;
}

void notify_uses(struct notify *n, bool (*uses)(void *owner), void *owner)
{
    n->uses = uses;
    n->uses_owner = owner;
}

void notify_exchange(struct notify *n, dev_t device, ino_t inode, dev_t by_device, ino_t by_inode)
{
    seen_exchange(&n->seen, device, inode, by_device, by_inode);
}
