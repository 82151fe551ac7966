/* The treatment of every system call, as data.  syscalls.def names each call once; filter.c makes
 * BPF of it, notify.c has an answer for each NOTIFIED one, and tests walk it. */
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
/* Notified where a task's variant of the filter asks for it, else ALLOWED. */
#define OPENING              0x30000u /* opens a file */
#define GROWING              0x50000u /* takes memory */
#define HOLDING              0x70000u /* takes a descriptor */
#define WRITING              0x90000u /* makes a file longer */
#define LOOKING              0x80000u /* asks about a file */
/* Of those two, in programs that are watched: NOTIFIED unless the loader asks (shim.h). */
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
    struct cond when[2]; /* both */
    uint32_t then;
};

struct syscall_row {
    int nr;
    const char *name;
    uint32_t otherwise;      /* when no rule matches */
    const struct rule *rule; /* the first that matches decides; ends with ACTION_END */
};

/* Sorted by nr, each nr once. */
extern const struct syscall_row *syscalls_table(size_t *count);

#define SYSCALLS_X32 0x40000000 /* the first number of another ABI: no call of ours */

/* The row of a call, or NULL: then it is REFUSED(ENOSYS), by zpipe-box, which notes the number (notify.c), or, from SYSCALLS_X32 on,
 * at once. */
const struct syscall_row *syscalls_find(int nr);

/* What a task's filter is asked for, added up. */
enum filter_variant {
    FILTER_PLAIN = 0,
    FILTER_OPENS = 1,  /* OPENING and LOOKING calls are notified, but the loader's: /dev/stdin and its kin are answered */
    FILTER_MEMORY = 2, /* GROWING ones: the task has a limit of memory */
    FILTER_FILES = 8,  /* OPENING and HOLDING ones likewise */
    FILTER_QUOTA = 32, /* WRITING ones: a named output may take so many bytes */
    FILTER_TRACE = 16, /* what is refused is notified too, and refused there */
};

/* An action as a variant takes it: ALLOWED, NOTIFIED, WATCHED or REFUSED. */
uint32_t syscalls_resolve(uint32_t action, unsigned variant);

/* Two random words, drawn once per process and the same in its children.  A call that has them in its arguments was made by an
 * init's child that has not begun its program yet, or by a forker: they are in memory that is gone when the program goes on (with the exec,
 * with a clone's forker's stack), and a program can but guess. */
#define SYSCALLS_OWN_WORDS 2
uint32_t syscalls_own(unsigned which);

/* The decision for one x86-64 call by reading the table, ALLOWED, NOTIFIED or REFUSED: what the BPF must agree with. */
uint32_t syscalls_decide(const struct seccomp_data *call, unsigned variant);
