/* Threads that wait for each other: futexes, answered here and not by the kernel.
 *
 * Only one thread of the task is at work, so memory does not change while we look at it, and operations on it are atomic.  A
 * thread waits as long as the answer to its call is kept; a thread that is woken goes on when it is its turn, in the order
 * in which they came.  A limit of time is one of the logical clock, which moves on when no other thread can go on.
 *
 * What must stay true: a call that we do not answer is answered by the kernel at once, with an error; and when turns are
 * given up (turns_lose), threads that wait make their calls again, in the kernel. */
#include "sandbox/turns_member.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ALL_BITS  0xffffffffu
#define MAPS_MAX  4096       /* lines of /proc/PID/maps that are read for one futex */
#define SHARED    (1ull << 63) /* marks the number of a file, not a process */

static bool same(const struct futex_key *a, const struct futex_key *b)
{
    return a->space[0] == b->space[0] && a->space[1] == b->space[1] && a->at == b->at;
}

static bool of_process(const struct member *m, uint64_t at, struct futex_key *k)
{
    *k = (struct futex_key){{(uint64_t)m->process, 0}, at};
    return true;
}

/* Find the key of a futex.  Shared memory has different addresses in different processes.  False: it cannot be found. */
static bool key_of(const struct member *m, uint64_t at, bool shared, struct futex_key *k)
{
    char path[40], line[512], kind[5];
    unsigned long begin, end, offset, inode;
    unsigned major, minor;
    if (!shared)
        return of_process(m, at, k);
    snprintf(path, sizeof path, "/proc/%d/maps", (int)m->process);
    FILE *f = fopen(path, "re");
    bool found = false;
    for (int i = 0; f && !found && i < MAPS_MAX && fgets(line, sizeof line, f); i++) {
        if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu", &begin, &end, kind, &offset, &major, &minor, &inode) != 7)
            continue; /* the rest of a long name */
        found = at >= begin && at < end;
    }
    if (f)
        fclose(f);
    if (found && kind[3] != 's')
        return of_process(m, at, k);
    *k = (struct futex_key){{SHARED | (uint64_t)major << 32 | minor, inode}, at - begin + offset};
    return found;
}

static struct member *first_waiter(const struct turns *ts, const struct futex_key *k, uint32_t bits)
{
    struct member *first = NULL;
    for (struct member *o = ts->member; o; o = o->next)
        if (o->waits == WAITS_FUTEX && same(&o->key, k) && o->bits & bits && (!first || o->place < first->place))
            first = o;
    return first;
}

/* Wake up to `most` threads, but at least one, as the kernel does. */
static int64_t wake(struct turns *ts, const struct futex_key *k, uint32_t bits, int32_t most)
{
    struct member *o;
    int64_t woken = 0;
    do {
        if (!(o = first_waiter(ts, k, bits)))
            break;
        turns_ready(o, 0);
        woken++;
    } while (woken < most);
    return woken;
}

static int64_t requeue(struct turns *ts, const struct futex_key *k, const struct futex_key *to, int32_t wakes,
                       int32_t most)
{
    struct member *o;
    int64_t count = 0;
    while (count - wakes < most && (o = first_waiter(ts, k, ALL_BITS))) {
        if (++count <= wakes) {
            turns_ready(o, 0);
        } else {
            if (same(k, to))
                break; /* they wait there already */
            o->key = *to;
            o->place = ++ts->places;
        }
    }
    return count;
}

static bool said(struct notify_reply *r, int error, int64_t value)
{
    r->go_on = r->timed = false;
    r->error = error;
    r->value = value;
    return false;
}

static bool wait(struct member *m, const struct seccomp_notif *q, uint32_t bits, bool shared, struct notify_reply *r)
{
    uint32_t word;
    if (!bits || q->data.args[0] % 4 || !turns_read_memory((pid_t)q->pid, q->data.args[0], &word, sizeof word))
        return false; /* an error, which the kernel will report */
    if (word != (uint32_t)q->data.args[2])
        return said(r, EAGAIN, 0);
    if (m && !key_of(m, q->data.args[0], shared, &m->key)) {
        turns_lose(m->turns, "a thread waits in memory of which too much is to be read");
        return false;
    }
    if (m) {
        m->bits = bits;
        if (turns_keep(m, q, r, WAITS_FUTEX))
            return true;
    }
    if (r->timed) { /* no other thread can wake it */
        r->go_on = false;
        r->error = ETIMEDOUT;
    }
    return false;
}

/* Do what FUTEX_WAKE_OP does to the second word; *wakes: threads that wait there are woken, too.  false: an error. */
static bool operate(uint32_t code, uint32_t *word, bool *wakes)
{
    int32_t argument = (int32_t)(code << 8) >> 20, against = (int32_t)(code << 20) >> 20;
    int32_t was = (int32_t)*word;
    uint32_t by = code >> 31 & 1 ? 1u << (argument & 31) : (uint32_t)argument;
    switch (code >> 28 & 7) {
    case FUTEX_OP_SET:
        *word = by;
        break;
    case FUTEX_OP_ADD:
        *word += by;
        break;
    case FUTEX_OP_OR:
        *word |= by;
        break;
    case FUTEX_OP_ANDN:
        *word &= ~by;
        break;
    case FUTEX_OP_XOR:
        *word ^= by;
        break;
    default:
        return false;
    }
    switch (code >> 24 & 15) {
    case FUTEX_OP_CMP_EQ:
        *wakes = was == against;
        return true;
    case FUTEX_OP_CMP_NE:
        *wakes = was != against;
        return true;
    case FUTEX_OP_CMP_LT:
        *wakes = was < against;
        return true;
    case FUTEX_OP_CMP_LE:
        *wakes = was <= against;
        return true;
    case FUTEX_OP_CMP_GT:
        *wakes = was > against;
        return true;
    case FUTEX_OP_CMP_GE:
        *wakes = was >= against;
        return true;
    default:
        return false;
    }
}

/* Operations on two futexes: the arguments are (first, operation, how many, how many at the second, second, operation or
 * value). */
static bool on_two(struct member *m, const struct seccomp_notif *q, uint32_t what, bool shared, struct notify_reply *r)
{
    struct futex_key first, second;
    uint64_t at = q->data.args[0], other = q->data.args[4];
    int32_t count = (int32_t)q->data.args[2], more = (int32_t)q->data.args[3];
    uint32_t code = (uint32_t)q->data.args[5], word;
    bool wakes = false;
    if (at % 4 || other % 4 || !turns_read_memory(m->pid, what == FUTEX_WAKE_OP ? other : at, &word, sizeof word) ||
        !key_of(m, at, shared, &first) || !key_of(m, other, shared, &second))
        return false;
    if (what != FUTEX_WAKE_OP) {
        if (count < 0 || more < 0)
            return false;
        if (what == FUTEX_CMP_REQUEUE && word != code)
            return said(r, EAGAIN, 0);
        return said(r, 0, requeue(m->turns, &first, &second, count, more));
    }
    if (!operate(code, &word, &wakes) || !turns_write_memory(m->pid, other, &word, sizeof word))
        return false;
    int64_t woken = wake(m->turns, &first, ALL_BITS, count);
    return said(r, 0, woken + (wakes ? wake(m->turns, &second, ALL_BITS, more) : 0));
}

bool turns_futex(struct member *m, const struct seccomp_notif *q, struct notify_reply *r)
{
    uint32_t op = (uint32_t)q->data.args[1], what = op & FUTEX_CMD_MASK;
    bool shared = !(op & FUTEX_PRIVATE_FLAG);
    uint32_t bits = what == FUTEX_WAIT_BITSET || what == FUTEX_WAKE_BITSET ? (uint32_t)q->data.args[5] : ALL_BITS;
    struct futex_key k;
    switch (what) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
        return wait(m, q, bits, shared, r);
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
        if (!m || !bits || q->data.args[0] % 4 || !key_of(m, q->data.args[0], shared, &k))
            return false; /* no thread waits, or it is an error */
        return said(r, 0, wake(m->turns, &k, bits, (int32_t)q->data.args[2]));
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE:
    case FUTEX_WAKE_OP:
        return m ? on_two(m, q, what, shared, r) : false;
    default:
        return false;
    }
}

/* Wake one of the threads that wait for a lock whose owner has died, as the kernel has noted in the lock. */
static void wake_heirs(struct turns *ts)
{
    uint32_t word;
    for (struct member *o = ts->member; o; o = o->next)
        if (o->waits == WAITS_FUTEX && turns_read_memory(o->pid, o->asked.data.args[0], &word, sizeof word) &&
            word & FUTEX_OWNER_DIED && !((uint32_t)o->asked.data.args[2] & FUTEX_OWNER_DIED))
            wake(ts, &o->key, ALL_BITS, 1);
}

/* The kernel does this for a lock if the thread that was woken for it died before it took it. */
void turns_futex_unused(const struct member *m)
{
    bool wait = m->asked.data.nr == SYS_futex && m->kept && m->waits == WAITS_TURN;
    if (wait && !m->reply.error)
        wake(m->turns, &m->key, ALL_BITS, 1);
}

void turns_futex_ended(struct turns *ts, pid_t process, uint64_t clear_tid)
{
    struct futex_key k = {{(uint64_t)process, 0}, clear_tid};
    if (clear_tid)
        wake(ts, &k, ALL_BITS, 1);
    wake_heirs(ts);
}
