/* Templates: programs that were run once up to their first use of a channel, and are cloned from there.
 * What such a program has done until then depends on nothing but its words, environment, files, limits
 * and seed; all of that is in its key, and a task with the same key may start as a clone.  Shared by
 * template.c (which there are, and for whom), template_watch.c (up to the stop) and template_stop.c (the
 * forker's way in). */
#pragma once
#include "sandbox/forker.h"
#include "sandbox/server.h"
#include "sandbox/sha256.h"

#include <sys/stat.h>
#include <sys/user.h>

#define TEMPLATES_MAX      32          /* at once */
#define TEMPLATES_MAKING   4           /* of them on their way to the stop */
#define TEMPLATE_KEYS_MAX  256         /* that are remembered, those of long ago forgotten */
#define TEMPLATE_KEY_BYTES (256 << 10) /* of words, environment and names; more: cold */
#define TEMPLATE_KIB_MAX   (32 << 10)  /* memory of a program at its stop; more: cold */
#define TEMPLATES_KIB_MAX  (256 << 10) /* of all that stand, what is no file's and so is shared with nobody */
#define TEMPLATE_CPU_NS    1000000000u /* to its stop; more: cold */
#define TEMPLATE_CALLS_MAX 10000       /* likewise */
#define TEMPLATE_LOOK_NS   50000000    /* between two looks at what it has used */
#define TEMPLATE_WAIT_LOOKS 20         /* so long a task waits for one */
#define TEMPLATE_FDS       1024
#define TEMPLATE_PLACES    5 /* file systems of a sandbox's own, at most */
#define TEMPLATE_PORT      UINT32_MAX  /* in place of an opening: it is a port */
#define TEMPLATE_DATA      (UINT32_MAX - 1) /* ... and a file to be read, of which no clone's is like another's */

enum template_step { STEP_RUN, STEP_ENTER, STEP_TEXT, STEP_STACK, STEP_OVER };

struct template_key {
    uint8_t digest[SHA256_BYTES];
    uint64_t used;    /* server.template_turn at its last sight */
    uint32_t seen;    /* so often, at most BOX_MANY */
    const char *cold; /* NULL, or why no template can be had; static text */
    bool doubtful;    /* one of its templates came to nothing that may be had at another time: no task waits for the next */
};

struct template {
    struct server *server;
    struct template *next;
    uint64_t id, used;
    struct template_key *key; /* borrowed; stays while it has templates */
    bool ready;               /* it stands and waits */
    bool stale;               /* it is used no more: a file has changed, or there is no room for it */
    struct task *task;        /* whose turn it is; NULL: nobody's */
    struct task *made_for;    /* that waits until it stands; NULL: none does */
    uint32_t looks;           /* at it, on its way */
    struct link link;         /* to its init */
    struct template_door {    /* to the clone that waits for its task there */
        struct link link;
        struct watch watch;
        uint32_t born; /* the clone with which the first process there came */
        uint64_t user_ns, sys_ns; /* that its clones have used since */
        bool stays;    /* it has outlived its last clone, and makes the next */
        pid_t init;    /* that process; 0: not known yet */
    } door[FORKER_DOORS];
    struct watch watch, notify_watch;
    struct watch look_watch; /* a timer, until the stop */
    struct notify *notify;   /* as it was at the stop */
    struct cgroup *cgroup;   /* its clones are in it too */
    uint32_t asked, given;   /* clones that were asked for, and tasks that got one; the first is 1 */
    uint32_t told;           /* the last one that its init was told to end */
    struct template_shown {  /* its writable places, and when each was last changed before it had clones */
        int fd;
        struct timespec changed;
    } shown[FORKER_SHOWN_MAX];
    uint32_t shown_count;    /* 0: its init must look */
    uint32_t kib;            /* of memory that is its own, from its stop on */
    uint64_t plan_seed;
    uint32_t plan_stage;
    int64_t plan_epoch_s;
    pid_t init, pid;       /* the host's numbers; pid 0: not begun */
    int control;           /* the init's end of the socket to the forker */
    int theirs[FORKER_OWN - 1]; /* what the forker gets, until it has it: its ends of that and of the doors; the last process number, or -1 */
    uint32_t port_count;   /* stand-ins, in the order in which descriptors are handed over */
    dev_t device[FORKER_PORTS_MAX];
    ino_t inode[FORKER_PORTS_MAX];
    /* On the way to the stop. */
    enum template_step step;
    uint32_t opening[TEMPLATE_FDS];      /* which one a number stems from: duplicates have one offset; 0: none known */
    uint32_t openings;
    uint64_t nr, arg[6];                 /* the call that it is in */
    uint32_t calls;                      /* so far */
    uint64_t tid_address, robust_list, robust_size;
    struct forker_altstack altstack;
    dev_t place[TEMPLATE_PLACES]; /* of the sandbox's own; [0] 0: not looked yet */
    bool unknown; /* something of it could not be read, or watched */
    int number[FORKER_OWN]; /* free ones in it, for the forker's own descriptors */
    struct user_regs_struct regs; /* at the stop */
    struct forker_page *page;
};

/* --- template_key.c --- */
/* All that the program's state at its stop depends on; else why it starts cold. */
const char *template_key_of(const struct task *t, uint8_t digest[SHA256_BYTES]);
/* The one with this digest, or a new one in the place of that which was seen longest ago; NULL: no memory. */
struct template_key *template_key_find(struct server *s, const uint8_t digest[SHA256_BYTES]);
/* Which port comes first that is the same thing as this one? */
uint32_t template_first_same(const struct region *r, const struct box_task *plan, uint32_t i);
/* A file of the caller's that is only to be read: TEMPLATE_DATA. */
bool template_is_data(int fd);

/* --- template.c --- */
/* It comes to nothing, and no other task with this key need try: static text. */
void template_give_up(struct template *m, const char *why);
/* There is room for so much more memory, once others have given way. */
bool template_fits(struct template *m, uint32_t kib);
void template_put_off(struct template *m);

/* --- template_watch.c --- */
/* A change of state of a traced process; false: it is none of ours. */
bool template_stopped(struct server *s, pid_t pid, int status);

/* --- template_files.c --- */
/* -1: it cannot be watched. */
int template_watch_fd(const struct template *m, int fd);
int template_watch_program(struct template *m); /* at its exec */
/* A name that it looks up, from a directory's descriptor or AT_FDCWD. */
int template_watch_way(const struct template *m, int directory, const char *name);
/* Has any watched file changed since the last look?  Then none is watched any more. */
bool templates_changed(struct server *s);

/* --- template_stop.c --- */
/* On its way, has it used more than it may?  Static text, or NULL. */
const char *template_exceeds(const struct template *m);
/* It is about to use a channel for the first time. */
void template_stop(struct template *m);
/* A call that was put in has returned `value`. */
void template_injected(struct template *m, int64_t value);
