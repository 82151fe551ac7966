/* Templates: programs that were run once up to their first use of a channel, and are cloned from there.  The state of such
 * a program at that point depends only on its words, environment, files, limits and seed.  All of these are in its *key*,
 * and a task with the same key may start as a clone.  Shared by template_choose.c (which templates there are, and for
 * which tasks), template.c (a template's life), template_watch.c (up to its stop) and template_stop.c (how the forker gets into it). */
#pragma once
#include "sandbox/forker.h"
#include "sandbox/server.h"
#include "sandbox/sha256.h"

#include <sys/stat.h>
#include <sys/user.h>

#define TEMPLATES_MAX      64          /* at once */
#define TEMPLATES_MAKING   4           /* templates on their way to the stop */
#define TEMPLATE_KEYS_MAX  256         /* keys that are remembered; the one used longest ago is forgotten */
#define TEMPLATE_KEY_BYTES (256 << 10) /* bytes of words, environment and names; with more, tasks start cold */
#define TEMPLATE_KIB_MAX   (32 << 10)  /* memory of a program at its stop; with more, tasks start cold */
#define TEMPLATES_KIB_MAX  (256 << 10) /* memory of all templates, without pages of files, which are shared, */
#define LANE_TEMPLATES_KIB_MAX (64 << 10) /* and in a lane */
#define TEMPLATE_CPU_NS    1000000000u /* CPU time up to its stop; with more, tasks start cold */
#define TEMPLATE_CALLS_MAX 10000       /* system calls up to its stop; the same */
#define TEMPLATE_LOOK_NS   50000000    /* time between two looks at what it has used */
#define TEMPLATE_WAIT_LOOKS 20         /* for so many looks a task waits for a template */
#define TEMPLATE_FDS       1024
#define TEMPLATE_PLACES    5 /* file systems that a sandbox has of its own, at most */
#define TEMPLATE_PORT      UINT32_MAX  /* in template.opening: the descriptor is a port */
#define TEMPLATE_DATA      (UINT32_MAX - 1) /* in template.opening: a port that is a file to be read, which differs in each clone */

enum template_step { STEP_RUN, STEP_ENTER, STEP_TEXT, STEP_STACK, STEP_OVER };

struct template_key {
    uint8_t digest[SHA256_BYTES];
    uint64_t used;    /* server.template_turn when it was used last */
    uint32_t seen;    /* how often it was seen, up to BOX_MANY */
    const char *cold; /* why it can have no template; NULL: it can; static text */
    bool doubtful;    /* one of its templates failed for a passing reason: no task waits for the next one */
};

struct template {
    struct server *server;
    struct template *next;
    uint64_t id, used;
    struct template_key *key; /* borrowed; exists while it has templates */
    bool ready;               /* it has reached its stop, and can be cloned */
    bool stale;               /* it is not used any more: a file has changed, or there is no room for it */
    struct task *task;        /* the task that it serves now; NULL: none */
    struct task *made_for;    /* a task that waits until it is ready; NULL */
    uint32_t looks;           /* how often it was looked at on its way to the stop */
    struct link link;         /* to the template's init */
    struct template_door {    /* a door: the link to a clone that waits for its task */
        struct link link;
        struct watch watch;
        uint32_t born; /* the number of the clone with which the door's first process began */
        uint64_t user_ns, sys_ns; /* CPU time that its clones have used since */
        bool stays;    /* the first process has outlived its last clone, and makes the next */
        pid_t init;    /* the number of that process; 0: not known yet */
    } door[FORKER_DOORS];
    struct watch watch, notify_watch;
    struct watch look_watch; /* a timer that runs until the stop */
    struct notify *notify;   /* the task's state as it was at the stop */
    struct cgroup *cgroup;   /* its clones are in it, too */
    uint32_t asked, given;   /* asked: how many clones were asked for; given: how many tasks got one; numbers start at 1 */
    uint32_t told;           /* the number of the last clone that its init was told to end */
    struct template_shown {  /* its writable directories, and when each was last changed before there were clones */
        int fd;
        struct timespec changed;
    } shown[FORKER_SHOWN_MAX];
    uint32_t shown_count;    /* 0: the init must look whether they changed */
    uint32_t kib;            /* memory of its own, known from its stop on */
    uint64_t plan_seed;
    uint32_t plan_stage;
    bool plan_watched;
    int64_t plan_epoch_s;
    pid_t init, pid;       /* numbers on the host; pid 0: it has not begun */
    int control;           /* the init's end of the socket to the forker */
    int theirs[FORKER_OWN - 1]; /* what the forker gets, kept until then: its ends of that socket and of the doors; the file
                                 * for the next process number, or -1 */
    uint32_t port_count;   /* stand-ins for ports, in the order in which descriptors are handed over */
    dev_t device[FORKER_PORTS_MAX];
    ino_t inode[FORKER_PORTS_MAX];
    /* On the way to the stop. */
    enum template_step step;
    uint32_t opening[TEMPLATE_FDS];      /* per descriptor: the opening that it stems from, as duplicates share an offset; 0: not known */
    uint32_t openings;
    uint64_t nr, arg[6];                 /* the system call that it is in */
    uint32_t calls;                      /* how many calls so far */
    uint64_t tid_address, robust_list, robust_size;
    struct forker_altstack altstack;
    dev_t place[TEMPLATE_PLACES]; /* devices of the sandbox's own file systems; [0] 0: not looked up yet */
    bool unknown; /* something about it could not be read or watched */
    int number[FORKER_OWN]; /* free descriptor numbers in it, for the forker's own */
    struct user_regs_struct regs; /* at the stop */
    struct forker_page *page;
};

/* --- template_key.c --- */
/* The digest of all that the program's state at its stop depends on.  Returns why it starts cold instead; or NULL. */
const char *template_key_of(const struct task *t, uint8_t digest[SHA256_BYTES]);
/* The key with this digest; if there is none, a new one replaces the key that was seen longest ago.  NULL: no memory. */
struct template_key *template_key_find(struct server *s, const uint8_t digest[SHA256_BYTES]);
/* The first port that is the same thing as this one. */
uint32_t template_first_same(const struct region *r, const struct box_task *plan, uint32_t i);
/* Is it a file of the caller's that is only to be read (TEMPLATE_DATA)? */
bool template_is_data(int fd);

/* --- template_choose.c --- */
/* Is there room for so much more memory, after idle templates have given way? */
bool template_fits(struct template *m, uint32_t kib);

/* --- template.c --- */
/* Begin to make one for tasks that are like t.  NULL: that failed. */
struct template *template_new(struct task *t, struct template_key *k);
void template_end(struct template *m); /* at once; frees it */
/* The template fails, and no other task with this key need try again; static text. */
void template_give_up(struct template *m, const char *why);
void template_put_off(struct template *m);

/* --- template_watch.c --- */
/* A wait status of a traced process; false: it is no template's. */
bool template_stopped(struct server *s, pid_t pid, int status);

/* --- template_files.c --- */
/* -1: it cannot be watched. */
int template_watch_fd(const struct template *m, int fd);
int template_watch_program(struct template *m); /* at its exec */
/* Watch the way of a name that it looks up, from a directory's descriptor or AT_FDCWD. */
int template_watch_way(const struct template *m, int directory, const char *name);
/* Has any watched file changed since the last look?  After that none is watched any more. */
bool templates_changed(struct server *s);

/* --- template_stop.c --- */
/* Has it used more than it may on its way to the stop?  Static text, or NULL. */
const char *template_exceeds(const struct template *m);
/* The program is about to use a channel for the first time: make it a template. */
void template_stop(struct template *m);
/* A call that we injected has returned `value`. */
void template_injected(struct template *m, int64_t value);
