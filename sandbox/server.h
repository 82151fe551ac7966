/* The server's internal structures, shared by server.c, region.c, task.c and the other files named below.  The server has
 * one thread and one epoll; it never waits for a task, a pump or the caller. */
#pragma once
#include "base/buf.h"
#include "sandbox/cgroup.h"
#include "sandbox/notify.h"
#include "sandbox/spec.h"
#include "sandbox/turns.h"
#include "sandbox/wire.h"
#include "sandbox/zygote.h"

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/types.h>

#define PLACES_MAX     16 /* kept ready, of each variant of the filter; no more than CPUs */
#define LANE_PLACES    2  /* the same in a lane: for the next task, while one runs */
#define PLACE_VARIANTS 2  /* FILTER_PLAIN, FILTER_OPENS */
#define LEAVING_MAX    64 /* inits that are done but not gone; while there are so many, no task starts */

/* A descriptor in the epoll.  Each turn takes one event only, so a watch may be removed at any time. */
struct watch {
    int fd; /* borrowed; -1: not watched */
    void (*run)(struct watch *w, uint32_t events);
    void *owner;
};

struct lane { /* how a server stays on one CPU with its tasks, see lane.c */
    struct watch timer; /* fd -1: it does not, as it has only one */
    bool is_lane;       /* for short tasks; else for one whose processes take turns */
    cpu_set_t cpus;     /* all that it may use */
    bool held;          /* it stays on one */
    unsigned events;    /* or passed turns, since it was let go */
    uint32_t hold_ns;   /* for how long next */
};

struct server_options {
    bool isolation_none, no_templates, lane;
};

struct server {
    int epoll;
    struct lane lane;
    bool ended, none; /* none: --isolation=none */
    const char *unusual; /* why programs on this host see things that vary, whatever they do; "": they do not */
    bool ready;       /* the first place stands; before that no task is started */
    struct link control;
    char telling[WIRE_DATA_MAX]; /* messages to the caller, gathered to be sent in one packet after this event */
    size_t telling_bytes;
    struct watch *asking; /* the listener of a task that asks often; NULL: none */
    uint32_t asked;       /* how often it was waited for */
    bool telling_due; /* `telling` holds more than messages that may wait for the next packet */
    struct watch control_watch;
    struct zygote zygote;
    pid_t guard;
    struct link tasks, mounts; /* links to the zygote and to the mounter */
    struct watch tasks_watch, mounts_watch, signal_watch;
    struct region *region; /* all regions, newest first */
    uint32_t region_count;
    bool failed; /* a task of some region has failed during this event */
    uint32_t starting; /* tasks that were asked for and have not begun their program */
    struct region *coming; /* the region whose descriptors have not all come */
    struct freeze *freeze; /* those under way */
    struct turns *turns;   /* the turns of all tasks */
    struct pump *pump;     /* all pumps that run */
    uint64_t kept_bytes;   /* bytes of all KEEP channels in memory */
    bool no_templates;     /* --templates=never */
    uint32_t cpus;         /* on which its tasks run at once */
    uint32_t templates_kib_max; /* memory of all templates */
    struct ready_place *places; /* places that stand ready, or are being made ready */
    uint32_t places_max, places_used[PLACE_VARIANTS]; /* how many to keep ready of each variant; how many were used and must be made anew */
    int last_number;  /* the file that sets a pid namespace's next number; -1: none */
    uint32_t again_skip, again_pause; /* a place could not be used again: so many are not, and how many were to be; 0: it went well */
    struct leaving *leaving; /* inits that are about to end */
    uint32_t leaving_count;
    uint64_t regions_begun;
    struct cgroups cgroups;
    struct template *template;         /* all templates */
    struct template_key *template_key; /* owned: TEMPLATE_KEYS_MAX keys that were seen; NULL: none */
    uint64_t template_turn;
    int changes; /* inotify, for the templates' files; -1: nothing is watched */
    int users; /* the user namespace that forkers enter; -1: not made yet */
    bool users_asked, users_refused;
    struct wire_packet packet;
};

/* Tasks that are being set up at once.  The kernel counts descriptors in flight per user, against the sender's limit of
 * open files, and that limit is small in a program that sends its listener. */
#define STARTING_MAX 32
#define HOST_FILES_MIN 2048 /* open files that a process must be allowed */

enum task_state {
    TASK_SETUP,   /* it has no result yet */
    TASK_RESULT,  /* the caller has its result; its init has not exited yet */
    TASK_GONE,
};

struct task {
    struct region *region;
    uint32_t index;
    enum task_state state;
    struct link link;
    struct watch watch;
    pid_t init;     /* its number on the host; 0: not known */
    bool asked;    /* an init was asked for */
    bool starting; /* counted in server.starting */
    bool main_ended, finish_sent;
    bool dying; /* its init was killed, and the kernel is ending its processes */
    struct notify *notify;
    struct turns *turns; /* the turns of its processes */
    uint32_t calls; /* how many of its calls came, up to where these are often */
    struct watch notify_watch, random_watch, timer_watch;
    struct watch meter_watch; /* a timer: looks whether it has used up its CPU time, or that of an alarm */
    bool meter_soon;          /* it looks in a moment, for an alarm that was set */
    struct watch look_watch; /* a timer: looks whether a process still holds descriptors of the caller */
    uint64_t look_ns;
    unsigned empty_looks; /* how many looks in a row found no such process */
    uint32_t made;
    struct buf trace; /* lines that were not sent yet */
    uint32_t trace_lines;
    struct buf result; /* its init's result, held back while a pump may still find that the task wrote too much */
    bool past_output, gone;
    int hit_by;  /* the signal from outside that ended one of its processes (outside.c); 0: none */
    bool killing;    /* its init was told to kill it, for whatever reason */
    bool hit_killed; /* it was killed because of that: what it would do next is a consequence */
    bool broken; /* it did not end by itself: its sandbox failed or was stopped */
    bool ended, settled;               /* ended: it has ended; settled: all that read from it have, and so on down the stream */
    bool shows;                        /* bytes of it went elsewhere than into its channels */
    bool pipe_left;                    /* the reader of a pipe of the caller's, to which it wrote, has left */
    bool left_behind;                  /* a reader left: its own, or one further down the stream */
    bool outside_behind;               /* and that reader is outside of the region */
    uint64_t asked_ns;
    const char *uncertified_why;
    bool warm;            /* it was cloned from a template */
    uint64_t before_user_ns, before_sys_ns; /* CPU time in its result that was used by the tasks before it */
    bool unasked;         /* the exec of its program is not notified */
    bool used_again;      /* its place has served a task before, and whether it can again was not known when the task got it */
    bool again;           /* its place may serve the next task */
    struct template *template; /* the template that serves it now */
    struct template *awaits;   /* it begins when this template stands ready, or cannot be made */
    struct cgroup *cgroup; /* NULL: none; a clone is in its template's, which has no limits */
    const char *cold_why; /* why it was not cloned; static text */
};

struct channel {
    struct region *region;
    uint32_t index;
    int write_end, read_end; /* owned until handed out; a program's write_end, or a feeding pump's, until the writer has ended */
    int held;                /* a second descriptor of the reading end, so that we are the last to hold it */
    bool reader_gone, writer_gone;
    bool passed; /* there were bytes in it when it was cut */
    bool left;   /* its reader left before it had all, and at which byte is chance */
    bool written; /* there were bytes in it when its writer ended */
    struct pump *pump;
    struct keep *keep;       /* for a KEEP channel into which something was written */
    struct watch keep_watch; /* its read_end */
    struct watch fed_watch;    /* the pump's socket, for a channel with `more` or `tell` */
    struct watch hangup_watch; /* watched while its writer's program has ended and other processes may still write */
    ino_t writer_inode; /* the inode of its writing end, for a channel that is swallowed */
    /* What happens to bytes that are written after its reader has left (swallow.c). */
    enum { SWALLOW_NOT, SWALLOW_ALL, SWALLOW_STOPS, SWALLOW_COUNTED } swallow;
    int swallow_fd;      /* a further descriptor of the reading end */
    struct watch swallow_watch;
    uint64_t rest_bytes; /* how much may still be written */
    uint64_t count_bytes; /* when so much is left, single calls are counted */
};

struct region {
    struct server *server;
    uint64_t id;
    struct spec spec;
    char *bytes; /* owned: the spec's bytes; NULL: they are in the map */
    int spec_fd;
    void *map;
    size_t map_size;
    int *fd;             /* the descriptors that came with it, owned */
    int64_t *stood;      /* the offsets of files among them before their task used them */
    uint32_t fd_count, fd_total;
    struct task *task;
    struct channel *channel;
    bool failed; /* one of its tasks failed; the others are to end */
    uint32_t tasks_left, pumps_left;
    uint32_t next_task; /* the first task that was not asked for yet */
    uint64_t after;     /* the region whose tasks must end before this one's begin; 0: none */
    bool started, opened; /* started: its descriptors have come; opened: its channels are open */
    bool wants;             /* its next task waits for a template, and templates for the tasks after it were asked for */
    struct region *next;
};

/* --- server.c --- */
int server_main(int control, const struct server_options *o);
int watch_start(struct server *s, struct watch *w, int fd, uint32_t events);
void watch_stop(struct server *s, struct watch *w);
/* The server cannot go on: tell the caller, and end. */
void server_lose(struct server *s, struct err *why);
/* Tell the caller, in this order.  Messages without descriptors are gathered, and sent when the event is done. */
void server_tell(struct server *s, struct wire head, const void *data, size_t size, const int *fds,
                 size_t fd_count);
void server_tell_later(struct server *s, struct wire head); /* send it together with the next message */
void link_watch(struct server *s, struct link *l, struct watch *w);

/* --- lane.c --- */
int lane_start(struct server *s, bool is_lane, struct err *e);
void lane_tend(struct server *s);
void lane_passed(struct server *s); /* a turn was passed */

/* --- guard.c --- */
int guard_start(struct server *s, struct err *e); /* call when the zygote has been started */

/* --- region.c --- */
int region_new(struct server *s, struct wire_packet *p, struct err *e);
int region_more(struct server *s, struct wire_packet *p, struct err *e);
int region_feed(struct region *r, const struct wire_packet *p);
void region_stop(struct region *r); /* the region may have been freed afterwards */
void region_end_failed(struct server *s); /* end the other tasks of regions in which one failed */
void region_start_more(struct server *s);
struct region *region_find(struct server *s, uint64_t id);
bool region_awaited(const struct region *r); /* does another region wait for this one's tasks to end? */
void region_settle(struct region *r); /* frees the region when nothing of it is left */
void region_free(struct region *r);

/* --- task.c --- */
void task_init(struct task *t, struct region *r, uint32_t index);
void task_clear(struct task *t);
void task_take(struct task *t, struct wire_packet *p); /* a message of its init */
void task_has_init(struct task *t, pid_t init);
pid_t task_first(const struct task *t); /* its init, or the clone's first process; 0: none has taken the task's ports yet */
void task_calls(struct task *t, struct watch *w, uint32_t events); /* a call was notified, or random bytes were taken */
/* outside.c: the end that its init reports is the program's own only if nobody outside has ended a process of the task. */
void outside_judge(struct task *t, struct box_result *r);
void outside_look_at_all(struct task *t); /* note it if somebody has ended one */
bool outside_ends(struct task *t); /* has somebody?  Then it is killed now */
void task_gone(struct task *t); /* its init is gone, or waits for us to let it go */
/* Find out whether anybody who could still write is left; if not, tell the init to finish. */
void task_heard(struct task *t);
void task_hangup_event(struct watch *w, uint32_t events); /* the event of a channel's hangup_watch */
/* Kill the task; its result will say why. */
void task_kill(struct task *t, enum wire_why why);
/* The sandbox failed: give the task this result, end what there is of it, release its channels. */
void task_failed_as(struct task *t, enum box_end end, const char *text, int sys);
void task_failed(struct task *t, const char *text, int sys);
/* The task has a result, and no init whose end could be awaited. */
void task_unasked(struct task *t);
void task_conclude(struct task *t); /* tell its result to the caller, if it has come and waits for nothing */
/* A pump has copied all that the task wrote to one channel; past: the task wrote more than it may. */
void task_drained(struct task *t, bool past);
/* The listener of its filter, taken; -1 with errno: there is none. */
void task_take_listener(struct task *t, int fd);
int task_give_files(struct task *t, const struct box_task *plan, struct err *e);
bool task_uses(void *owner); /* owner is the task: has it used a channel? */
int task_start_timer(struct task *t, uint64_t ns);

/* --- task_start.c --- */
int task_start(struct task *t, struct err *e); /* 1: not started yet, the task waits for a template */
/* The mounter could not open a file. */
void task_file_failed(struct server *s, const struct wire *h);
/* Send the inputs of a task to its init. */
#define TEMPLATE_FILES UINT64_MAX /* as a region's number: `task` is the number of a template */
struct file_sender {
    struct server *server;
    struct link *link;
    const int *fd; /* the region's */
    uint64_t region;
    uint32_t task; /* passed on to task_file_failed */
};
/* Returns 0, or an errno and a sentence in `why`. */
int file_send(const struct file_sender *to, uint32_t i, const struct box_file *f, char *why, size_t size);

/* --- place.c --- */
struct place { /* what a place gives to its task */
    struct link link;
    pid_t init;   /* its number on the host; 0: not known yet */
    int listener; /* of its filter; -1: it has not come yet */
    struct cgroup *cgroup; /* NULL: none */
    bool unasked;          /* the exec of its program is not notified */
    bool used_again;       /* it has served a task before, and does not stand ready yet */
};
/* Could a place be used again?  If not, that is not tried for a while. */
void place_again_went(struct server *s, bool well);
/* Take a place for task `task` of r, ready or newly asked for, and tell it what it is to run. */
int place_take(struct server *s, const struct region *r, uint32_t task, bool is_template, struct place *p, struct err *e);
bool place_watches(const struct box_task *t); /* does the task's filter notify questions about files? */
/* Take the filter's listener that a WIRE_LISTENER names; given; or -1 with errno. */
int place_listener(const struct link *l, const struct wire_packet *p);
/* Kill an init that does not read what it is told, and with it all of its namespace. */
void place_kill(const struct link *l, pid_t init);
/* The zygote is ready: make the first place.  When that stands the server is ready. */
int places_begin(struct server *s, struct err *e);
/* That task has used its place: another one must be made. */
void place_answered(struct server *s, const struct box_task *t);
void places_tend(struct server *s); /* at the end of a turn: the work that no answer waits for */
/* The init may end, which it does by itself; until then it is counted.  Takes all, and releases them after the answer was
 * sent. */
void place_leave(struct server *s, struct link *l, struct notify *n, struct cgroup *g, const struct box_task *again);
/* Its init has come; it may not be in the cgroup that it should be in. */
void place_said(struct server *s, struct cgroup **g, const struct wire *hello);
void places_clear(struct server *s);

/* --- template_choose.c --- */
struct template;
/* A template that stands ready for the task and now serves it.  NULL and *why: the task starts cold, for that reason.  NULL
 * and *why NULL: the task waits for a template that is being made; ask again at the next event. */
struct template *template_for(struct task *t, const char **why);
void template_take_users(struct server *s, struct wire_packet *p);

/* --- template.c --- */
/* Give the task the template's clone, with these ports (borrowed).  False: the clone has died meanwhile. */
bool template_begin(struct template *m, struct task *t, const int *fd, uint32_t count);
void template_tell(const struct task *t, struct wire head); /* tell the clone's init, while the template serves the task */
void template_served(struct task *t, enum wire_stays stays); /* a clone has ended */
void template_await_not(struct task *t);
void template_leave(struct task *t); /* the template no longer serves the task, if it did; NULL is allowed */
bool template_stopped(struct server *s, pid_t pid, int status);
void template_file_failed(struct server *s, uint32_t id);
void templates_tend(struct server *s); /* at the end of a turn: the work that no answer waits for */
void templates_drop(struct server *s); /* give up all templates; those that serve a task end with it */
void template_clear(struct server *s);

/* --- meter.c --- */
int meter_start(struct task *t); /* compare its CPU time with its limit, if it has one, from time to time */
int meter_alarm(struct task *t); /* it has set an alarm: compare it with that, too, soon; a program may set thousands */
void look_region(struct server *s, struct region *r);

/* --- trace.c --- */
void trace_begin(struct task *t);
uint64_t trace_age_ns(const struct task *t); /* since the task was asked for */
void trace_phase(struct task *t, const char *what);
void trace_call(void *owner, const struct notify_call *c); /* owner is the task */
void trace_flush(struct task *t);

/* --- holders.c --- */
bool task_passes_outputs(const struct task *t); /* has it descriptors of the caller itself? */
bool task_holds_outputs(const struct task *t);  /* does one of its processes hold such a descriptor right now? */

bool task_writes_files(const struct task *t); /* has it a file open for writing, besides descriptors 0 to 2? */
int task_socket(const struct task *t, ino_t socket); /* duplicate the socket that it holds, by inode; -1; owned */

/* --- channel.c --- */
#define CHANNEL_EXACT_BYTES 212992 /* the buffer size of a channel that may be swallowed, whatever the host allows: swallow.c counts on it */
int channel_open(struct channel *c, struct err *e); /* make its sockets and pumps */
int channel_pair(int pair[2], bool full_reads); /* pair[0]: the reading end, pair[1]: the writing end; both owned */
void channel_handed_out(struct channel *c, bool write); /* its holder has that end now; of a program's writing end we keep ours, */
void channel_writer_ended(struct channel *c);           /* until this is called */
void channel_reader_left(struct channel *c);
void channel_break(struct channel *c); /* the caller wants no more of its bytes */
void channel_writer_left(struct channel *c);
bool channel_writer_hung_up(const struct channel *c);
bool channel_read_from(const struct channel *c);  /* have bytes been read from it? */
bool channel_written_to(const struct channel *c); /* or at least been written into it? */
void channel_cut(struct channel *c); /* shut it down and close it; its writer's sandbox must be frozen, or gone */
void channel_clear(struct channel *c);

/* --- freeze.c: stop every thread of a task, cut a channel, let them go on --- */
void freeze_begin(struct server *s, struct task *writer, struct channel *c);
void freeze_stopped(struct server *s, pid_t tid, int status); /* a wait status of a traced thread */
void freeze_look(struct server *s); /* a thread that turns.c has told to stop has stopped */
void freeze_let_go(struct server *s, pid_t tid); /* turns.c no longer traces it */
void freeze_task_gone(struct server *s, struct task *t);
void freeze_forget(struct server *s, struct channel *c);
int freeze_pidfd(pid_t tid); /* gives; before Linux 6.9 only for the first thread of a process; -1: errno */

/* --- keep.c --- */
int keep_start(struct channel *c, struct err *e);
void keep_end(struct channel *c, int sys); /* nothing more will be written or copied: tell the caller */
void keep_clear(struct channel *c);
uint64_t keep_limit(const struct channel *c, uint64_t limit); /* how many bytes a pump may still take; 0: no limit */
int keep_file(const struct channel *c);                       /* the file that the pump writes to; borrowed */

/* --- left.c: could it show how far a program came whose reader has left? --- */
void left_note(struct channel *c, bool writes); /* its reader leaves; writes: something still writes */
void left_look(struct task *t);                 /* call when none of its processes is left, while its channels still exist */
void left_settle(struct task *t);               /* it has ended: tell the results that waited for that */
bool left_waits(const struct task *t, const struct box_result *r); /* must the result wait until other tasks have ended? */
const char *left_why(const struct task *t, const struct box_result *r); /* why the result is not certified; "" */

/* --- swallow.c: what is written after the reader of an `exact` channel has left --- */
bool swallow_wanted(const struct channel *c);
int swallow_begin(struct channel *c);
bool swallow_still(struct channel *c); /* its writer is frozen; true: from now on its calls are counted */
/* A thread is stopped before a call.  True: the call may write `*size` bytes to this channel.  If that is more than may
 * still be written, the channel is cut (false). */
bool swallow_call(struct channel *c, pid_t tid, uint64_t *size);
void swallow_wrote(struct channel *c, pid_t tid, uint64_t size); /* the call has written `size` bytes */
/* Is that descriptor a channel of the task whose reads are full, or whose writes are counted? */
bool swallow_concerns(const struct task *t, pid_t tid, int fd, bool write);
void swallow_clear(struct channel *c);

/* --- pump.c --- */
/* Start a pump: from the sources, or (DRAIN) from the channel; to the channel, or (DRAIN, COPY) to the sink. */
int pump_start(struct channel *c, struct err *e);
int pump_feed(struct channel *c, const struct wire_packet *p); /* a FEED or FEED_END packet; -1: it makes no sense */
bool pump_ended(struct server *s, pid_t pid, int status); /* false: not a pump */
void pump_hold(struct channel *c, bool hold);
void pump_kill(struct channel *c);
void pump_kill_all(struct server *s);
void pump_forget_all(struct server *s); /* call when all have been waited for */
