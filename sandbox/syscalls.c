/* The table of syscalls.def as sorted rows.  The file is ordered by subject, for people.  The filter's tree needs it by
 * number, so it is sorted once, at first use, while the process has one thread.  What must stay true: a call is named once
 * (the sort asserts it), and syscalls_decide reads rules exactly as filter.c compiles them: the first match decides, int
 * arguments by their low word. */
#include "sandbox/syscalls.h"
#include "sandbox/forker.h"
#include "sandbox/filter.h"
#include "sandbox/notify.h"
#include "sandbox/shim.h"

#include <asm/prctl.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOWEST_ADDRESS (FORKER_STACK + FORKER_STACK_BYTES) /* below it is a clone's forker */
#define TMPFILE_BIT 020000000 /* O_TMPFILE without O_DIRECTORY, as the kernel tests it */
/* NEWTIME shares its bit with the exit signal's mask: clone cannot make a time namespace. */
#define NAMESPACE_FLAGS                                                                            \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
     CLONE_NEWNET)

#define MASKED(n, bits, is)                                                                        \
    {                                                                                              \
        COND_MASKED, n, (uint32_t)(bits), (uint32_t)(is)                                           \
    }
#define IS(n, is)                                                                                  \
    {                                                                                              \
        COND_MASKED, n, 0xffffffffu, (uint32_t)(is)                                                \
    }
#define ANY(n, bits)                                                                               \
    {                                                                                              \
        COND_ANY, n, (uint32_t)(bits), 0                                                           \
    }
#define NIL(n)                                                                                     \
    {                                                                                              \
        COND_NIL, n, 0, 0                                                                          \
    }
#define SET(n)                                                                                     \
    {                                                                                              \
        COND_SET, n, 0, 0                                                                          \
    }
#define BELOW(n, limit)                                                                            \
    {                                                                                              \
        COND_BELOW, n, 0, limit                                                                    \
    }
#define FROM(n, limit)                                                                             \
    {                                                                                              \
        COND_FROM, n, 0, limit                                                                     \
    }
#define OWN(n, which)                                                                              \
    {                                                                                              \
        COND_OWN, n, 0, which                                                                      \
    }
#define IF(condition, action)                                                                      \
    {                                                                                              \
        {condition, {0}}, action                                                                   \
    }
#define IF2(first, second, action)                                                                 \
    {                                                                                              \
        {first, second}, action                                                                    \
    }
#define SYS(name, action, ...)                                                                     \
    {__NR_##name, #name, action,                                                                   \
     (const struct rule[]){__VA_ARGS__ __VA_OPT__(, ){{{0}, {0}}, ACTION_END}}},

static struct syscall_row rows[] = {
#include "sandbox/syscalls.def"
};

#define ROWS (sizeof rows / sizeof *rows)

static bool sorted;

static int by_number(const void *a, const void *b)
{
    return ((const struct syscall_row *)a)->nr - ((const struct syscall_row *)b)->nr;
}

const struct syscall_row *syscalls_table(size_t *count)
{
    if (!sorted) {
        qsort(rows, ROWS, sizeof *rows, by_number);
        for (size_t i = 1; i < ROWS; i++)
            assert(rows[i - 1].nr < rows[i].nr);
        sorted = true;
    }
    *count = ROWS;
    return rows;
}

const struct syscall_row *syscalls_find(int nr)
{
    size_t count;
    const struct syscall_row *table = syscalls_table(&count);

    return bsearch(&(struct syscall_row){.nr = nr}, table, count, sizeof *table, by_number);
}

uint32_t syscalls_own(unsigned which)
{
    static uint32_t word[SYSCALLS_OWN_WORDS];

    if (!word[0] && getentropy(word, sizeof word) < 0)
        abort(); /* no kernel refuses this */
    word[0] |= 1;
    return word[which % SYSCALLS_OWN_WORDS];
}

static bool cond_holds(const struct cond *c, const uint64_t args[6])
{
    uint32_t low = (uint32_t)args[c->arg];

    switch (c->op) {
    case COND_MASKED:
        return (low & c->mask) == c->value;
    case COND_ANY:
        return (low & c->mask) != 0;
    case COND_NIL:
        return args[c->arg] == 0;
    case COND_SET:
        return args[c->arg] != 0;
    case COND_BELOW:
        return args[c->arg] < c->value;
    case COND_FROM:
        return args[c->arg] >= c->value;
    case COND_OWN:
        return low == syscalls_own(c->value);
    default:
        return true;
    }
}

uint32_t syscalls_resolve(uint32_t action, unsigned variant)
{
    unsigned asked = 0;

    switch (ACTION_KIND(action)) {
    case OPENING:
        asked = FILTER_OPENS | FILTER_FILES;
        break;
    case LOOKING:
        asked = FILTER_OPENS;
        break;
    case GROWING:
        asked = FILTER_MEMORY;
        break;
    case WRITING:
        asked = FILTER_QUOTA;
        break;
    case HOLDING:
        asked = FILTER_FILES;
        break;
    case REFUSED(0):
        return variant & FILTER_TRACE ? NOTIFIED : action;
    default:
        return action;
    }
    if (variant & asked & ~(unsigned)FILTER_OPENS || (variant & asked && variant & FILTER_TRACE))
        return NOTIFIED;
    return variant & asked ? WATCHED : ALLOWED;
}

uint32_t syscalls_decide(const struct seccomp_data *call, unsigned variant)
{
    const struct syscall_row *row = call->nr < 0 ? NULL : syscalls_find(call->nr);
    uint64_t args[6];
    uint32_t action;

    if (!row)
        return syscalls_resolve(call->nr >= 0 && call->nr < SYSCALLS_X32 ? NOTIFIED : REFUSED(ENOSYS), variant);
    for (int i = 0; i < 6; i++)
        args[i] = call->args[i];
    action = row->otherwise;
    for (const struct rule *r = row->rule; r->then != ACTION_END; r++)
        if (cond_holds(&r->when[0], args) && cond_holds(&r->when[1], args)) {
            action = r->then;
            break;
        }
    action = syscalls_resolve(action, variant);
    if (action == WATCHED)
        action = call->instruction_pointer - SHIM_LOADER_AT < SHIM_LOADER_ROOM ? ALLOWED : NOTIFIED;
    return action;
}
