/* Could it show how far a program came whose reader has left?
 *
 * How far it came is chance, as it depends on the room in a socket and on the reader's speed.  If the program just dies of
 * SIGPIPE in silence, or had ended well before, nobody sees that.  If it has shown something else (on stderr, in a file, by
 * its status), that may differ in the next run, and is not certified.
 *
 * A program that has shown something and came to its end may only have been quicker than its reader.  Whether the reader
 * leaves is known when the reader has ended, and all programs further down the stream, since the reader may itself have
 * lost its own reader.  So the program's result waits for all of these.  About a reader outside of the region we know only
 * whether it has left so far: programs that it left are not certified, and the others came to their normal end.
 *
 * On channels where SIGPIPE meets the writer at the same byte each time (swallow.c) none of this is chance. */
#include "sandbox/server.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const struct box_channel *plan_of(const struct channel *c)
{
    return &c->region->spec.region.channel[c->index];
}

void left_note(struct channel *c, bool writes)
{
    const struct box_channel *plan = plan_of(c);
    int there = 0;
    bool same = plan->exact && !plan->if_files;
    if (plan->end == BOX_INSIDE && !same)
        c->left |= writes || (c->held >= 0 && ioctl(c->held, FIONREAD, &there) == 0 && there > 0);
    else if (plan->end == BOX_DRAIN || plan->end == BOX_REMOTE_READER)
        c->left |= writes;
}

/* Has the program written to this descriptor of the caller's?  A pipe does not tell how much it took, so it may have taken
 * some.  *left: the pipe's reader has gone. */
static bool file_shows(int fd, int64_t stood, bool *left)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    off_t at = lseek(fd, 0, SEEK_CUR);
    *left = at < 0 && poll(&p, 1, 0) > 0 && (p.revents & POLLERR);
    return at < 0 || at != stood;
}

void left_look(struct task *t)
{
    const struct region *r = t->region;
    const struct box_task *plan = &r->spec.region.task[t->index];
    t->shows = t->made > 0;
    for (uint32_t i = 0; i < plan->port_count; i++) {
        const struct box_port *p = &plan->port[i];
        bool left = false;
        if (p->write && p->channel >= 0)
            r->channel[p->channel].written |= channel_written_to(&r->channel[p->channel]);
        else if (p->write && p->file >= 0 && file_shows(r->fd[p->file], r->stood[p->file], &left))
            t->shows |= !left;
        t->pipe_left |= left;
    }
}

/* Is this the end of a program that shows nothing: death by SIGPIPE, or a normal end?  (A limit of output acts like a
 * reader that leaves at its byte.) */
static bool is_silent_end(const struct task *t, const struct box_result *r)
{
    return t->past_output || (r->end == BOX_EXITED ? r->status == 0 : r->end == BOX_SIGNALLED && r->signal == SIGPIPE);
}

/* Has the task shown something other than by channels whose readers left? */
static bool shows(const struct task *t, const struct box_result *r)
{
    const struct box_task *plan = &t->region->spec.region.task[t->index];
    bool any = t->shows || !is_silent_end(t, r);
    for (uint32_t i = 0; !any && i < plan->port_count; i++) {
        const struct channel *c = plan->port[i].channel < 0 ? NULL : &t->region->channel[plan->port[i].channel];
        any = plan->port[i].write && c && c->written && !c->left;
    }
    return any;
}

/* Has the reader of one of its own channels left? */
static bool is_left(const struct task *t)
{
    const struct box_task *plan = &t->region->spec.region.task[t->index];
    bool any = t->pipe_left;
    for (uint32_t i = 0; !any && i < plan->port_count; i++)
        any = plan->port[i].write && plan->port[i].channel >= 0 && t->region->channel[plan->port[i].channel].left;
    return any;
}

/* Has it lost a reader outside of the region, of which we do not know how much it takes? */
static bool is_left_outside(const struct task *t)
{
    const struct region *r = t->region;
    const struct box_task *plan = &r->spec.region.task[t->index];
    bool any = t->pipe_left;
    for (uint32_t i = 0; !any && i < plan->port_count; i++) {
        int32_t channel = plan->port[i].write ? plan->port[i].channel : -1;
        int32_t reader = channel < 0 ? -1 : r->spec.channel[channel].reader;
        any = channel >= 0 && (reader < 0 ? r->channel[channel].left && !t->past_output : r->task[reader].outside_behind);
    }
    return any;
}

void left_settle(struct task *t)
{
    struct region *r = t->region;
    const struct box_task *plan = &r->spec.region.task[t->index];
    if (t->settled || !t->ended)
        return;
    t->left_behind = is_left(t);
    t->outside_behind = is_left_outside(t);
    for (uint32_t i = 0; i < plan->port_count; i++) {
        int32_t channel = plan->port[i].write ? plan->port[i].channel : -1;
        const struct task *reader = channel < 0 || r->spec.channel[channel].reader < 0 ? NULL : &r->task[r->spec.channel[channel].reader];
        if (reader && !reader->settled)
            return;
        t->left_behind |= reader && reader->left_behind;
    }
    t->settled = true;
    for (uint32_t i = 0; i < plan->port_count; i++) {
        int32_t channel = plan->port[i].write ? -1 : plan->port[i].channel;
        struct task *writer = channel < 0 || r->spec.channel[channel].writer < 0 ? NULL : &r->task[r->spec.channel[channel].writer];
        if (!writer)
            continue;
        left_settle(writer);
        task_conclude(writer);
    }
}

bool left_waits(const struct task *t, const struct box_result *r)
{
    return !t->broken && !t->settled && !t->region->server->none && !is_left(t) && shows(t, r);
}

const char *left_why(const struct task *t, const struct box_result *r)
{
    if (is_left(t) && is_left_outside(t))
        return "somebody outside who read its output left";
    if ((is_left(t) || t->left_behind) && shows(t, r))
        return "a reader of what it wrote left, and how far it came shows";
    return "";
}
