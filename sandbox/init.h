/* The internal structure of a task's init, shared by init.c, init_program.c and init_template.c. */
#pragma once
#include "base/arena.h"
#include "sandbox/box.h"
#include "sandbox/forker.h"
#include "sandbox/mounts.h"
#include "sandbox/wire.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <time.h>

/* Why the program could not be started. */
struct exec_failure {
    int sys;   /* errno; 0: it was started */
    bool ours; /* our preparation failed, not the exec: text says what */
    char text[ERR_TEXT_MAX];
};

/* The init and the process that will be the program share their memory, so only one of them may run: this is whose turn it
 * is.  The kernel itself writes the first one, 0. */
enum init_turn { TURN_PROGRAM_BEGUN, TURN_MAKING, TURN_INIT, TURN_GO };

/* What the maker (a thread that makes the program's process) is to do, a futex; 0: there is no maker, and the init makes
 * the process itself. */
enum init_maker { MAKER_NONE, MAKER_WAITS, MAKER_MAKES };

#define INIT_SCRATCH 2 /* its writable directories: /job and /tmp */

struct init {
    int link;
    struct arena arena;
    struct wire_packet packet;
    bool none;         /* no wall: it is not pid 1, and there is no filter */
    unsigned variant;  /* of the filter */
    int null;          /* /dev/null */
    int listener;      /* -1: none */
    int fence;         /* the Landlock ruleset, for as long as /job and /tmp are the same; -1: none */
    int maker;         /* enum init_maker */
    struct timespec changed[INIT_SCRATCH]; /* when the writable directories were last changed, while empty; 0: not known */
    off_t job_size;    /* of /job, while it is empty; 0: not known */
    /* From here on the fields belong to one task, and are cleared for the next. */
    struct box_task task;
    int *port;      /* per port: its descriptor; -1: /dev/null */
    uint32_t *slot; /* the ports that wait for descriptors, in the order in which these come */
    uint32_t slot_count, missing;
    struct task_files files;
    bool is_template;
    void *map; /* the task's description, if it is mapped */
    size_t map_size;
    bool as_made; /* the task has left /job and /tmp as they were, so the next task may have them */
    bool may_stay; /* the next task may have the place */
    uint32_t unasked; /* as in WIRE_TASK: the directory of PATH with the program; or WIRE_ASK */
    bool killed, finish, main_ended, all_ended;
    enum wire_why why;
    int turn; /* enum init_turn, a futex */
    pid_t main;
    int status; /* of the main program, as from wait */
    struct rusage use; /* what the processes that have ended used */
    struct timespec began;
    struct exec_failure failure;
    /* For a template: the socket to the forker in its program, -1: not yet.  serial: which clone it is serving, from 1; 0:
     * none. */
    int forker, door[FORKER_DOORS]; /* the doors: where clones get their tasks */
    uint32_t serial;
    enum wire_stays stays; /* for a template: sent with a clone's result */
    bool unread; /* for a template: the clone had not taken its task */
};

struct outcome {
    enum box_end end;
    int status, signal, sys;
    const char *limit;
    char text[ERR_TEXT_MAX];
};

/* Take one packet of its link; exits if the server is gone. */
void init_take_next(struct init *in);
int init_raise_fd(int fd); /* move it to a number that no program can have */
/* Judge how the task ended: by itself; or killed by us. */
void init_judge(const struct init *in, struct outcome *o);
void init_judge_killed(const struct init *in, struct outcome *o);
void init_tell(struct init *in, const struct outcome *o, const struct rusage *use);
_Noreturn void init_end(struct init *in, const struct outcome *o); /* send the outcome, and exit */
_Noreturn void init_give_up(struct init *in, const struct err *e); /* report what zpipe-box could not do, and exit */

/* --- init_program.c --- */
/* Make pid 2, with all that a program gets; it waits before its exec. */
void init_make_program(struct init *in);
/* The task's ports and inputs are there: let the program begin. */
void init_start_program(struct init *in);

/* --- init_template.c --- */
_Noreturn void template_serve(struct init *in, int signals);
