/* The server's inner structures, shared by server.c, region.c, task.c, channel.c, freeze.c, swallow.c, pump.c and guard.c.  One
 * thread, one epoll; nothing here waits for a task, a pump or the caller. */
#pragma once
#include "base/buf.h"
#include "sandbox/cgroup.h"
#include "sandbox/notify.h"
#include "sandbox/spec.h"
#include "sandbox/turns.h"
#include "sandbox/wire.h"
#include "sandbox/zygote.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/types.h>

#define PLACES_MAX     16 /* ready at once, of one variant of the filter; no more than CPUs */
#define PLACE_VARIANTS 2  /* FILTER_PLAIN, FILTER_OPENS */
#define LEAVING_MAX    64 /* inits that have nothing left to do and are not gone; while there are so many, no task starts */

/* A descriptor in the epoll.  One event is taken per turn, so a watch may be dropped at any time. */
struct watch {
    int fd; /* borrowed; -1: not watched */
    void (*run)(struct watch *w, uint32_t events);
    void *owner;
};

struct server {
    int epoll;
    bool ended, none; /* none: --isolation=none */
    const char *unusual; /* why what programs see varies on this host, whatever they do; "": it does not */
    bool ready;       /* the zygote has all it needs: before, no task is asked for */
    struct link control;
    char telling[WIRE_DATA_MAX]; /* what the caller is told in one packet, when this event is done */
    size_t telling_bytes;
    bool telling_due; /* it is not only what may wait for the next */
    struct watch control_watch;
    struct zygote zygote;
    pid_t guard;
    struct link tasks, mounts; /* to the zygote and to the mounter */
    struct watch tasks_watch, mounts_watch, signal_watch;
    struct region *region; /* all, newest first */
    uint32_t region_count;
    bool failed; /* a task of one of them has, in this event */
    uint32_t starting; /* tasks asked for that have not begun their program */
    struct region *coming; /* its descriptors are not all here */
    struct freeze *freeze; /* under way */
    struct turns *turns;   /* of all tasks */
    struct pump *pump;     /* all that run */
    uint64_t kept_bytes;   /* in memory, of all KEEP channels */
    bool no_templates;     /* --templates=never */
    struct ready_place *places; /* that stand ready, or will */
    uint32_t places_max, places_used[PLACE_VARIANTS]; /* to be kept of each variant; to be made anew */
    int last_number;  /* what sets a pid namespace's next number; -1: none */
    bool never_again; /* a place that was asked to stay did not */
    struct leaving *leaving; /* inits that end by themselves */
    uint32_t leaving_count;
    uint64_t regions_begun;
    struct cgroups cgroups;
    struct template *template;         /* all */
    struct template_key *template_key; /* TEMPLATE_KEYS_MAX, or NULL: none seen; owned */
    uint64_t template_turn;
    int changes; /* inotify: of the templates' files; -1: none is watched */
    int users; /* the user namespace that forkers enter; -1: none yet */
    bool users_asked, users_refused;
    struct wire_packet packet;
};

/* Tasks being set up at once.  Descriptors on their way between processes are counted per user against
 * the sender's limit of open files, and a program's limit is small when it sends its listener. */
#define STARTING_MAX 32
#define HOST_FILES_MIN 2048 /* open files that a process must be allowed */

enum task_state {
    TASK_SETUP,   /* no result yet */
    TASK_RESULT,  /* told to the caller; its init still exits */
    TASK_GONE,
};

struct task {
    struct region *region;
    uint32_t index;
    enum task_state state;
    struct link link;
    struct watch watch;
    pid_t init;     /* host's number; 0: not known */
    bool asked;    /* an init was asked for */
    bool starting; /* counted in server.starting */
    bool main_ended, finish_sent;
    bool dying; /* its init was killed, and the kernel ends its processes */
    struct notify *notify;
    struct turns *turns; /* of its processes */
    struct watch notify_watch, random_watch, timer_watch;
    struct watch meter_watch; /* a timer: has it used its CPU time? */
    struct watch look_watch; /* a timer: who still holds the caller's descriptors? */
    uint64_t look_ns;
    unsigned empty_looks; /* that found nobody, one after the other */
    uint32_t made;
    struct buf trace; /* lines not yet sent */
    uint32_t trace_lines;
    struct buf result; /* its init's, held back while a pump may still find that it wrote too much */
    bool past_output, gone;
    int hit_by;  /* a signal from outside that ended a process of its (outside.c); 0: none */
    bool broken; /* it did not end by itself: its sandbox failed, or was stopped */
    bool ended, settled;               /* it has; and all that read from it, and so on */
    bool shows;                        /* something besides its channels has bytes of its */
    bool pipe_left;                    /* so has the reader of a pipe that is the caller's */
    bool left_behind, outside_behind;  /* it, or who read from it, and so on, was left; by somebody outside */
    uint64_t asked_ns;
    const char *uncertified_why;
    bool warm;            /* it is a clone of a template */
    uint64_t before_user_ns, before_sys_ns; /* of what its result says that it used, those before it have */
    bool unasked;         /* its exec is not notified */
    bool again;           /* its place is as it was made */
    struct template *template; /* while it is its turn */
    struct template *awaits;   /* it has not begun, and does when that one stands ready, or comes to nothing */
    struct cgroup *cgroup; /* NULL: none; of a clone its template's, which has no limits */
    const char *cold_why; /* it is not; static text */
};

struct channel {
    struct region *region;
    uint32_t index;
    int write_end, read_end; /* until they are handed out (a program's write_end, or a feeding pump's: until it has ended), owned */
    int held;                /* a second descriptor of the reading end, so that its last holder is we */
    bool reader_gone, writer_gone;
    bool passed; /* bytes were in it, when it was cut */
    bool left;   /* its reader has left before it had all, and at which byte is chance */
    bool written; /* bytes were in it, at its writer's end */
    struct pump *pump;
    struct keep *keep;       /* of a KEEP channel, while something was written */
    struct watch keep_watch; /* its read_end */
    struct watch fed_watch;    /* the pump's socket, of a channel with `more` or `tell` */
    struct watch hangup_watch; /* while its writer's program has ended and others may still write */
    ino_t writer_inode; /* of its writing end, where it is swallowed */
    enum { SWALLOW_NOT, SWALLOW_ALL, SWALLOW_STOPS, SWALLOW_COUNTED } swallow; /* since its reader has left */
    int swallow_fd;      /* a further descriptor of the reading end */
    struct watch swallow_watch;
    uint64_t rest_bytes; /* so much may still be written */
    uint64_t count_bytes; /* it is counted when so much is left */
};

struct region {
    struct server *server;
    uint64_t id;
    struct spec spec;
    char *bytes; /* of the spec, owned; NULL: they are in the map */
    int spec_fd;
    void *map;
    size_t map_size;
    int *fd;             /* the descriptors that came with it, owned */
    int64_t *stood;      /* where files among them stood before their task used them */
    uint32_t fd_count, fd_total;
    struct task *task;
    struct channel *channel;
    bool failed; /* a task of it; the others are to end */
    uint32_t tasks_left, pumps_left;
    uint32_t next_task; /* the first that is not asked for */
    uint64_t after;     /* a region whose tasks must have ended before that one is; 0: none */
    bool started, opened; /* its descriptors have come; its channels are there */
    bool wants;             /* its next task waits for a template, and those of the others were asked for */
    struct region *next;
};

/* --- server.c --- */
int server_main(int control, bool isolation_none, bool no_templates);
int watch_start(struct server *s, struct watch *w, int fd, uint32_t events);
void watch_stop(struct server *s, struct watch *w);
/* It can do nothing more: said to the caller, and the end. */
void server_lose(struct server *s, struct err *why);
/* In this order; all that has no descriptors in few packets, when the event is done. */
void server_tell(struct server *s, struct wire head, const void *data, size_t size, const int *fds,
                 size_t fd_count);
void server_tell_later(struct server *s, struct wire head); /* with the next that is told */
void link_watch(struct server *s, struct link *l, struct watch *w);

/* --- guard.c --- */
int guard_start(struct server *s, struct err *e); /* beside a zygote that has been started */

/* --- region.c --- */
int region_new(struct server *s, struct wire_packet *p, struct err *e);
int region_more(struct server *s, struct wire_packet *p, struct err *e);
int region_feed(struct region *r, const struct wire_packet *p);
void region_stop(struct region *r); /* it may be gone after it */
void region_end_failed(struct server *s); /* the other tasks of those of which one failed */
void region_start_more(struct server *s);
struct region *region_find(struct server *s, uint64_t id);
bool region_awaited(const struct region *r); /* by another, which begins when its tasks have ended */
void region_settle(struct region *r); /* frees it when nothing is left */
void region_free(struct region *r);

/* --- task.c --- */
void task_init(struct task *t, struct region *r, uint32_t index);
void task_clear(struct task *t);
void task_take(struct task *t, struct wire_packet *p); /* what its init says */
void task_has_init(struct task *t, pid_t init);
pid_t task_first(const struct task *t); /* its init, or its clone; 0: none has taken its ports yet */
void task_calls(struct task *t, struct watch *w, uint32_t events); /* a call is notified, or random bytes have come */
/* outside.c: what its init says of its end is the program's own only if nobody outside has ended a process of the task. */
void outside_judge(struct task *t, struct box_result *r);
void task_gone(struct task *t); /* its init is gone, or has nothing more to say and waits for us to let it go */
/* Tell it to look whether it has been waiting for nobody. */
void task_heard(struct task *t);
void task_hangup_event(struct watch *w, uint32_t events); /* of a channel's hangup_watch */
/* End it; its result will say why. */
void task_kill(struct task *t, enum wire_why why);
/* The sandbox could not do it: tell so, end what there is of the task, let go its channels. */
void task_failed_as(struct task *t, enum box_end end, const char *text, int sys);
void task_failed(struct task *t, const char *text, int sys);
/* It has a result, and no init whose end could be waited for. */
void task_unasked(struct task *t);
void task_conclude(struct task *t); /* its result is told, if it is there and waits for nothing */
/* A pump has taken all that the task wrote to one channel; past: more than it may. */
void task_drained(struct task *t, bool past);
/* Of its filter; fd: taken; -1 with errno: it could not be had. */
void task_take_listener(struct task *t, int fd);
int task_give_files(struct task *t, const struct box_task *plan, struct err *e);
bool task_uses(void *owner); /* the task: has it used a channel? */
int task_start_timer(struct task *t, uint64_t ns);

/* --- task_start.c --- */
int task_start(struct task *t, struct err *e); /* 1: not yet, it waits for a template */
/* The mounter could not open a file. */
void task_file_failed(struct server *s, const struct wire *h);
/* The inputs of a task go to its init. */
#define TEMPLATE_FILES UINT64_MAX /* instead of a region's number: `task` is a template's */
struct file_sender {
    struct server *server;
    struct link *link;
    const int *fd; /* the region's */
    uint64_t region;
    uint32_t task; /* for task_file_failed */
};
/* 0, or an errno and a sentence. */
int file_send(const struct file_sender *to, uint32_t i, const struct box_file *f, char *why, size_t size);

/* --- place.c --- */
struct place { /* for one task; no longer a place's when it is the task's */
    struct link link;
    pid_t init;   /* host's number; 0: not known yet */
    int listener; /* of its filter; -1: not there yet */
    struct cgroup *cgroup; /* NULL: none */
    bool unasked;          /* its program's exec is not notified */
};
/* One for task `task` of r, ready or asked for, which has been told what it is to run. */
int place_take(struct server *s, const struct region *r, uint32_t task, bool is_template, struct place *p, struct err *e);
/* From a WIRE_LISTENER: the filter's listener, given; or -1 with errno. */
int place_listener(const struct link *l, const struct wire_packet *p);
/* The end of an init, and with it of all of its namespace, that does not read what it is told. */
void place_kill(const struct link *l, pid_t init);
/* Does this host allow us to take a descriptor of the zygote's, and so of an init's? */
int places_possible(const struct server *s, struct err *e);
/* That task's place is used up. */
void place_answered(struct server *s, const struct box_task *t);
void places_tend(struct server *s); /* at the end of a turn: what is not needed for an answer */
/* Its init may end, and does by itself; until then it is counted.  All are taken, and let go after the answer. */
void place_leave(struct server *s, struct link *l, struct notify *n, struct cgroup *g, const struct box_task *again);
/* Its init has come, and may not be where it should be. */
void place_said(struct server *s, struct cgroup **g, const struct wire *hello);
void places_clear(struct server *s);

/* --- template.c --- */
struct template;
/* A template that stands ready for the task and is its now; or NULL and why it starts cold: NULL too: it does not, but waits
 * for one that is being made, and is to be asked for again at the next event. */
struct template *template_for(struct task *t, const char **why);
/* Its clone is the task's; borrowed: the ports.  False: it has gone meanwhile. */
bool template_begin(struct template *m, struct task *t, const int *fd, uint32_t count);
void template_tell(const struct task *t, struct wire head); /* the clone's init, while it is the task's turn */
void template_served(struct task *t, enum wire_stays stays); /* a clone has ended */
void template_await_not(struct task *t);
void template_leave(struct task *t); /* the task's turn is over, if it had one; NULL is allowed */
bool template_stopped(struct server *s, pid_t pid, int status);
void template_file_failed(struct server *s, uint32_t id);
void template_take_users(struct server *s, struct wire_packet *p);
void templates_tend(struct server *s); /* likewise at the end of a turn */
void templates_drop(struct server *s); /* they are used no more; those that serve a task end with it */
void template_clear(struct server *s);

/* --- meter.c --- */
int meter_start(struct task *t);
void meter_event(struct watch *w, uint32_t events);
void look_region(struct server *s, struct region *r);

/* --- trace.c --- */
void trace_begin(struct task *t);
uint64_t trace_age_ns(const struct task *t); /* since it was asked for */
void trace_phase(struct task *t, const char *what);
void trace_call(void *owner, const struct notify_call *c); /* owner: the task */
void trace_flush(struct task *t);

/* --- holders.c --- */
bool task_passes_outputs(const struct task *t); /* descriptors of the caller's own, as they are */
bool task_holds_outputs(const struct task *t);  /* does a process of its, at this look, hold one? */

bool task_writes_files(const struct task *t); /* has it one open, besides its three? */
int task_socket(const struct task *t, ino_t socket); /* a descriptor of our own for one that it holds; -1; owned */

/* --- channel.c --- */
#define CHANNEL_EXACT_BYTES 212992 /* asked for where a channel may be swallowed, whatever the host allows: swallow.c counts on it */
int channel_open(struct channel *c, struct err *e); /* sockets, pumps */
int channel_pair(int pair[2], bool full_reads); /* the reading end, the writing end; both owned */
void channel_handed_out(struct channel *c, bool write); /* that end is its holder's now, a program's writing end ours too: */
void channel_writer_ended(struct channel *c);           /* until then */
void channel_reader_left(struct channel *c);
void channel_break(struct channel *c); /* the caller wants no more of it */
void channel_writer_left(struct channel *c);
bool channel_writer_hung_up(const struct channel *c);
bool channel_read_from(const struct channel *c);  /* have bytes been taken out of it? */
bool channel_written_to(const struct channel *c); /* or at least been put into it? */
void channel_cut(struct channel *c); /* shut and close; the writer's sandbox stands still, or has none */
void channel_clear(struct channel *c);

/* --- freeze.c: stop every thread of a task, cut a channel, let them go on --- */
void freeze_begin(struct server *s, struct task *writer, struct channel *c);
void freeze_stopped(struct server *s, pid_t tid, int status); /* a wait status of a traced thread */
void freeze_look(struct server *s); /* one that turns.c has told to stop stands still */
void freeze_let_go(struct server *s, pid_t tid); /* turns.c traces it no longer */
void freeze_task_gone(struct server *s, struct task *t);
void freeze_forget(struct server *s, struct channel *c);
int freeze_pidfd(pid_t tid); /* the caller's; before 6.9, of a process's first thread only; -1: errno */

/* --- keep.c --- */
int keep_start(struct channel *c, struct err *e);
void keep_end(struct channel *c, int sys); /* nobody writes any more, nor copies: told to the caller */
void keep_clear(struct channel *c);
uint64_t keep_limit(const struct channel *c, uint64_t limit); /* what a pump may still take; 0: any number */
int keep_file(const struct channel *c);                       /* where to; borrowed */

/* --- left.c: what shows how far a program came whose reader has left --- */
void left_note(struct channel *c, bool writes); /* its reader leaves; does somebody still write? */
void left_look(struct task *t);                 /* none of its processes is left, and its channels are still there */
void left_settle(struct task *t);               /* it has ended: those whose results waited for that are told */
bool left_waits(const struct task *t, const struct box_result *r); /* that result, until others have ended */
const char *left_why(const struct task *t, const struct box_result *r); /* why it is not certified; "" */

/* --- swallow.c: what comes after the reader of an `exact` channel has left --- */
bool swallow_wanted(const struct channel *c);
int swallow_begin(struct channel *c);
bool swallow_still(struct channel *c); /* its writer stands still; true: from now on its calls are counted */
/* A thread stands before a call: does it write `*size` bytes to this channel?  It is cut where that is too much. */
bool swallow_call(struct channel *c, pid_t tid, uint64_t *size);
void swallow_wrote(struct channel *c, pid_t tid, uint64_t size); /* and behind it, of `size` */
/* Is that descriptor a channel of the task's, whose reads are full, or whose writes are counted? */
bool swallow_concerns(const struct task *t, pid_t tid, int fd, bool write);
void swallow_clear(struct channel *c);

/* --- pump.c --- */
/* From the sources, or (DRAIN) from the channel; to the channel, or (DRAIN, COPY) the sink. */
int pump_start(struct channel *c, struct err *e);
int pump_feed(struct channel *c, const struct wire_packet *p); /* FEED, FEED_END; -1: not as it must be */
bool pump_ended(struct server *s, pid_t pid, int status); /* false: not a pump */
void pump_hold(struct channel *c, bool hold);
void pump_kill(struct channel *c);
void pump_kill_all(struct server *s);
void pump_forget_all(struct server *s); /* they have been waited for */
