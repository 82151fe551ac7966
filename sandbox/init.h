/* The inner structure of a task's init, shared by init.c, init_program.c and init_template.c. */
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

/* Why a child did not begin its program. */
struct exec_failure {
    int sys;   /* errno; 0: it did */
    bool ours; /* of the preparation: text says what */
    char text[ERR_TEXT_MAX];
};

/* Whose turn it is, of an init and the process that will be the program: they share their memory, so only one of them
 * runs.  The kernel itself writes the last one. */
enum init_turn { TURN_PROGRAM_BEGUN, TURN_MAKING, TURN_INIT, TURN_GO };

/* What is the maker's to do, a futex; 0: there is none, the init makes the program itself. */
enum init_maker { MAKER_NONE, MAKER_WAITS, MAKER_MAKES };

#define INIT_SCRATCH 2 /* its writable places */

struct init {
    int link;
    struct arena arena;
    struct wire_packet packet;
    bool none;         /* no wall: not pid 1 of anything, no filter */
    unsigned variant;  /* of the filter */
    int null;          /* /dev/null */
    int listener;      /* -1: none */
    int maker;         /* enum init_maker */
    struct timespec changed[INIT_SCRATCH]; /* when, while nothing is in them; 0: not known */
    off_t job_size;    /* of /job while nothing is in it; 0: not known */
    /* From here on a task's: what it finds as the first one did. */
    struct box_task task;
    int *port;      /* per port: its descriptor, -1 for /dev/null */
    uint32_t *slot; /* which ports wait for descriptors, in the order in which these come */
    uint32_t slot_count, missing;
    struct task_files files;
    bool is_template;
    bool as_made; /* the place has nothing of it: the next task may have it */
    bool is_mapped; /* the task's description is, for as long as we are */
    uint32_t unasked; /* WIRE_ASK, or as WIRE_TASK has it */
    bool killed, finish, main_ended, all_ended;
    enum wire_why why;
    int turn; /* enum init_turn, a futex */
    pid_t main;
    int status; /* of main, as wait tells it */
    struct rusage use; /* of those who have ended */
    struct timespec began;
    struct exec_failure failure;
    /* Of a template: the socket to the forker in its program; -1: not yet.  Which clone it is, the first is 1; 0: none. */
    int forker, door[FORKER_DOORS]; /* and where its clones get their tasks */
    uint32_t serial;
    enum wire_stays stays; /* likewise: told with a clone's result */
    bool unread; /* likewise: it had not taken its task */
};

struct outcome {
    enum box_end end;
    int status, signal, sys;
    const char *limit;
    char text[ERR_TEXT_MAX];
};

/* One packet of its link; the server gone is the end. */
void init_take_next(struct init *in);
int init_raise_fd(int fd); /* to a number that no program can have */
/* How it ended: by itself, or by us. */
void init_judge(const struct init *in, struct outcome *o);
void init_judge_killed(const struct init *in, struct outcome *o);
void init_tell(struct init *in, const struct outcome *o, const struct rusage *use);
_Noreturn void init_end(struct init *in, const struct outcome *o); /* that told, and the init's own end */
_Noreturn void init_give_up(struct init *in, const struct err *e); /* likewise: what zpipe-box could not do */

/* --- init_program.c --- */
/* pid 2, with all that a program gets; it waits before its exec. */
void init_make_program(struct init *in);
/* It has its ports and inputs: it begins. */
void init_start_program(struct init *in);

/* --- init_template.c --- */
_Noreturn void template_serve(struct init *in, int signals);
