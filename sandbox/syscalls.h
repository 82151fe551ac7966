/* How every system call is treated, as data.  syscalls.def names each call once; filter.c compiles it to BPF, notify.c
 * answers the NOTIFIED ones, and tests walk it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seccomp_data;

/* What happens to a call.  The low 16 bits of REFUSED are the errno; 0 is success without effect.
 */
#define ACTION_END           0u /* no action: ends a list of rules */
#define ALLOWED              0x10000u
#define NOTIFIED             0x20000u
/* Notified if the task's variant of the filter asks for it, else ALLOWED. */
#define OPENING              0x30000u /* opens a file */
#define GROWING              0x50000u /* takes memory */
#define HOLDING              0x70000u /* takes a descriptor */
#define WRITING              0x90000u /* makes a file longer */
#define LOOKING              0x80000u /* asks about a file */
/* OPENING and LOOKING in programs that are watched: NOTIFIED unless the loader asks (shim.h). */
#define WATCHED              0xa0000u
#define REFUSED(number)      (0x40000u | (number))
#define FAKED                REFUSED(0)
#define ACTION_KIND(action)  ((action)&0xf0000u)
#define ACTION_ERRNO(action) ((action)&0xffffu)

enum cond_op {
    COND_NONE,   /* always true: the second half of a rule with one condition */
    COND_MASKED, /* (low word & mask) == value: for int arguments, whose high word the kernel
                    ignores */
    COND_ANY,    /* (low word & mask) != 0 */
    COND_NIL,    /* the whole 64 bits are 0: for pointers */
    COND_SET,    /* the whole 64 bits are not 0 */
    COND_BELOW,  /* the whole 64 bits are less than value */
    COND_FROM,   /* the whole 64 bits are value or more */
    COND_OWN,    /* low word == syscalls_own(value): only we know it */
};

struct cond {
    uint8_t op;  /* enum cond_op */
    uint8_t arg; /* 0 to 5 */
    uint32_t mask, value;
};

struct rule {
    struct cond when[2]; /* both must hold */
    uint32_t then;
};

struct syscall_row {
    int nr;
    const char *name;
    uint32_t otherwise;      /* if no rule matches */
    const struct rule *rule; /* the first that matches decides; ends with ACTION_END */
};

/* Sorted by nr, each nr once. */
extern const struct syscall_row *syscalls_table(size_t *count);

#define SYSCALLS_X32 0x40000000 /* the first number of another ABI */

/* The row of a call, or NULL.  Then the call is REFUSED(ENOSYS): by zpipe-box, which notes the number (notify.c), or, from
 * SYSCALLS_X32 on, by the filter. */
const struct syscall_row *syscalls_find(int nr);

/* What a task's filter must do, as bits. */
enum filter_variant {
    FILTER_PLAIN = 0,
    FILTER_OPENS = 1,  /* OPENING and LOOKING calls are notified, except the loader's, so that /dev/stdin and its kin are answered */
    FILTER_MEMORY = 2, /* GROWING calls are notified: the task has a limit of memory */
    FILTER_FILES = 8,  /* OPENING and HOLDING calls are notified: the task has a limit of open files */
    FILTER_QUOTA = 32, /* WRITING calls are notified: a named output has a limit of bytes */
    FILTER_TRACE = 16, /* refused calls are notified too, and zpipe-box refuses them */
};

/* The action in a variant: ALLOWED, NOTIFIED, WATCHED or REFUSED. */
uint32_t syscalls_resolve(uint32_t action, unsigned variant);

/* Two random words, drawn once in a process and inherited by its children.  A call with them in its arguments was made by
 * an init's child before its exec, or by a forker.  The words are in memory that is gone when the program runs (discarded
 * by the exec, or in the stack of a clone's forker), and a program could only guess them. */
#define SYSCALLS_OWN_WORDS 2
uint32_t syscalls_own(unsigned which);

/* Decides one x86-64 call from the table (ALLOWED, NOTIFIED or REFUSED): the BPF must agree with it. */
uint32_t syscalls_decide(const struct seccomp_data *call, unsigned variant);
