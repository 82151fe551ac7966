/* Shared by the functions that answer calls: the task's logical state, and access to its memory.  Only for notify*.c and
 * their tests. */
#pragma once
#include "sandbox/gate.h"
#include "sandbox/notify.h"

#include <linux/seccomp.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#define NOTIFY_NR_MAX      512 /* call numbers that are counted; the table's highest is lower */
#define CLOCK_NS_MAX       (1ull << 61) /* 73 years: so that no sum of ours overflows */
#define TASK_PATH_MAX      4096
#define NOTIFY_LOOKERS     8
#define NOTIFY_TELLERS     8
#define NOTIFY_CONTROL_MAX 256 /* bytes for the kernel's notification structs, of any kernel */

/* ChaCha20 as a stream of bytes. */
struct random {
    uint32_t input[16];
    uint8_t block[64];
    unsigned used; /* of block; 64: make the next */
};

/* `sub` numbers independent streams of one task. */
void random_init(struct random *r, uint64_t seed, uint64_t stream, uint64_t sub);
void random_bytes(struct random *r, void *data, size_t size);

/* One open /dev/urandom: our end of a socket pair, kept full. */
struct random_file {
    int fd; /* -1: free */
    struct random random;
};

struct given_file {
    dev_t device;
    ino_t inode;
};

/* A process's ITIMER_REAL, or one of timer_create. */
struct timer {
    int pidfd; /* -1: it is not set */
    pid_t process;
    int id; /* of timer_create; TIMER_REAL: the other one */
    bool made; /* by timer_create, and not deleted */
    int signal; /* 0: none */
    uint64_t value; /* told with it */
    int64_t start_s; /* what its clock showed when the task began */
    uint64_t due_ns, interval_ns; /* logical */
    bool met;
    uint64_t met_used_ns; /* the task's CPU time when it was met (notify_alarm) */
};

/* A process that opens files or asks about them: how often since its exec, and its calls that lead to the gate now. */
struct looker {
    uint32_t pid, looks, led_count;
    uint64_t led[GATE_SITES_MAX];
};

/* The threads of a task that may start no more.  While none of them is gone there is no room. */
struct crowd {
    pid_t *tid; /* owned; NULL: they must be counted */
    uint32_t count;
    int64_t until_ns; /* then they are counted again, as a number may have come to belong to another process */
};

/* What is known of the memory of the process that asked for some last; see notify_measure.c. */
struct measured {
    uint32_t pid, heap_pid;
    uint64_t room, heap;
};

/* Files that are not the task's own, each with the inode number that the task is told. */
struct seen {
    struct seen_file {
        dev_t device;
        ino_t inode;
        uint32_t number; /* from 1; 0: free */
    } *file; /* owned, open addressing */
    uint32_t room, count;
};

/* The names of the directory that the task has begun to read last; see notify_list.c. */
struct listing {
    dev_t device;
    ino_t inode;
    struct listed *entry; /* owned; NULL: there is none */
    uint32_t count, room;
};

/* What a task opens by a name below /dev. */
struct named {
    const char *name; /* "in/NAME", "out/NAME" */
    int fd;
    bool write;
    uint64_t quota, used; /* bytes; a quota of 0 is none */
    dev_t device;
    ino_t inode;
};

struct notify {
    int listener;
    int random_epoll; /* -1 until the first random file */
    uint64_t seed, stream;
    int64_t epoch_s;
    uint64_t now_ns;   /* logical, since epoch_s */
    uint64_t slept_ns; /* how much of now_ns was slept */
    const struct seccomp_notif *asked; /* the call that is being answered */
    bool met, has_page;                /* met: the caller's clock page was looked for; has_page: there is one */
    uint64_t answered;
    struct random random;   /* getrandom's */
    bool parted;            /* it depends on all of `stream`; before, only on its lower half */
    bool (*uses)(void *owner); /* NULL: it counts as having used a channel */
    void *uses_owner;
    uint64_t random_opened; /* how many random files were opened: numbers their streams */
    struct random_file file[NOTIFY_RANDOM_MAX];
    struct given_file *given; /* owned */
    uint32_t given_count;
    struct seen seen;
    struct listing listing;
    int64_t began_ns; /* real time when the task began */
    dev_t scratch_dev; /* the device of its own files */
    bool scratch_known;
    bool asked_time;   /* a file of its own was given a time later than the task's beginning */
    uint64_t asked_ns; /* the first of those times */
    int root; /* the task's root directory; -1: not looked for yet */
    int asker; /* the thread whose descriptor was looked at last; -1: none */
    uint32_t asker_tid;
    uint64_t job_mount;               /* a mount of the task's in which there is nothing of the image; 0: none is known */
    uint64_t root_mount, image_mount; /* the mount numbers of / and /usr in it; 0: not known */
    dev_t image_dev;                  /* the device of /usr; 0: not known */
    struct timer timer[NOTIFY_TIMERS_MAX];
    int timers;    /* how many are set */
    bool alarm_new; /* one of them is to be met */
    pid_t asking;  /* the process whose sleep lets time pass; 0: any */
    const char *uncertified_why;
    const char *limit_hit;   /* "", or the first one */
    pid_t init;              /* the task's first process */
    uint64_t memory_bytes;   /* limits; 0: none */
    uint32_t procs, files;
    struct crowd crowd;
    uint32_t procs_room;     /* how many processes may be started before they must be counted */
    struct measured measured;
    struct named *named; /* owned */
    uint32_t named_count;
    int unknown[NOTIFY_UNKNOWN_MAX]; /* numbers of unknown calls, in order of their first use */
    uint32_t unknown_count;
    size_t unknown_size;
    char unknown_text[NOTIFY_UNKNOWN_MAX * 12];
    struct looker looker[NOTIFY_LOOKERS]; /* the latest ones */
    uint32_t looker_next;
    uint64_t signals;   /* signals that the task may have sent: bit N - 1 for signal N */
    pid_t teller[NOTIFY_TELLERS]; /* processes that handle SIGCHLD with its details; 0: no more */
    bool more_tellers;  /* or any other one does */
    bool breaks;        /* one of its handlers lets the end of a child break calls */
    bool threads;       /* there have been threads */
    bool live;          /* its input is passed on as it arrives */
    bool unwatched;     /* the filter notifies no question about files */
    bool trace_start;   /* for a template: trace its program */
    pid_t traced;       /* the process that is traced */
    pid_t forker;       /* 0: there is none */
    bool entering;      /* it is about to enter a user namespace, and then gets: */
    int forker_fd[FORKER_OWN], forker_number[FORKER_OWN];
    notify_tracer *trace; /* NULL: nobody listens */
    void *trace_owner;
    notify_turner *turn; /* NULL: nobody listens */
    void *turn_owner;
    uint32_t calls[NOTIFY_NR_MAX];
    struct seccomp_notif_sizes sizes;
    union {
        struct seccomp_notif n;
        uint8_t room[NOTIFY_CONTROL_MAX];
    } request;
    union {
        struct seccomp_notif_resp r;
        uint8_t room[NOTIFY_CONTROL_MAX];
    } response;
};

struct answer {
    int64_t value;
    int error;  /* an errno, 0: value is the result */
    bool go_on; /* the kernel is to run the call itself */
    bool sent;  /* the handler has sent the answer already */
    bool timed; /* it is given when the logical clock is there: */
    uint64_t due_ns;
    const char *unsure; /* with timed and go_on: why the result is then not certified; static text */
};

typedef void notify_handler(struct notify *n, const struct seccomp_notif *q, struct answer *a);

/* The function that answers this call, or NULL. */
notify_handler *notify_handler_of(int nr);

/* Copy from or to the task's memory; -1: it is not all there, or the task has ended meanwhile. */
int task_read(struct notify *n, const struct seccomp_notif *q, uint64_t address, void *data,
              size_t size);
int task_write(struct notify *n, const struct seccomp_notif *q, uint64_t address, const void *data,
               size_t size);
/* Read a text of at most size - 1 bytes; -1: it is longer, or not there. */
int task_text(struct notify *n, const struct seccomp_notif *q, uint64_t address, char *text, size_t size);
bool task_valid(const struct notify *n, const struct seccomp_notif *q);
/* Open the file that the task means by `path`, relative to `directory` (one of its descriptors, or AT_FDCWD); -1 with
 * errno. */
int task_open(struct notify *n, const struct seccomp_notif *q, int directory, const char *path, uint64_t flags);
int task_open_cwd(struct notify *n, const struct seccomp_notif *q);
/* Lower our rights for opening files, and restore them.  A server that runs as root could open anything, while a task
 * cannot open what it has closed to itself; what the task is told must not depend on who started zpipe-box.  For this
 * thread only; errno is kept. */
struct rights {
    bool lowered;
};
void rights_lower(struct rights *r);
void rights_back(const struct rights *r);
uint64_t task_image_mount(struct notify *n, const struct seccomp_notif *q);
dev_t task_image_dev(struct notify *n, const struct seccomp_notif *q);
/* Is this descriptor of ours open on a file of the image?  `own`: it was opened by a name within the task's root. */
bool fd_of_image(struct notify *n, const struct seccomp_notif *q, int fd, bool own);
/* Is this path below a directory of the image? */
bool path_of_image(const char *path);
/* Is it /dev/stdin or another name of a descriptor? */
bool path_of_fd_name(const char *path, int *fd);
pid_t task_process(const struct seccomp_notif *q); /* the process that the calling thread belongs to */

void notify_mark(struct notify *n, const char *why); /* makes the result uncertified; the first reason stays; static text */
void notify_lacks(struct notify *n); /* marks it, if errno says that we have no descriptor left: then we could not look */

notify_handler answer_setns, answer_prctl;  /* notify_fork.c */
/* Give a copy its own table of files. */
int seen_copy(struct seen *s);
void seen_exchange(struct seen *s, dev_t device, ino_t inode, dev_t by_device, ino_t by_inode);
notify_handler answer_fchmod, answer_utime, answer_nonblock; /* notify_given.c */
/* Is the descriptor the task's own: will only the task use it, and does chance play no part in what it finds there? */
bool notify_is_its_own(const struct notify *n, int fd);
/* Is the file in the task's own directories, /tmp and /job? */
bool notify_is_scratch(struct notify *n, const struct seccomp_notif *q, const struct stat *s);
/* The task sets this time on a file of its own.  If it lies after the task's beginning it cannot be told from times that
 * the kernel sets, so a later look at it is not certified. */
void notify_time_asked(struct notify *n, const struct seccomp_notif *q, const struct timespec *t);
notify_handler answer_pipe, answer_pipe_room, answer_fallocate; /* notify_given.c */
notify_handler answer_stat, answer_statfs;  /* notify_stat.c */
ino_t notify_number(struct notify *n, dev_t device, ino_t inode); /* what the task is told of a file that is not its own */
notify_handler answer_list; /* notify_list.c */
void listing_close(struct notify *n);
notify_handler ready_poll, ready_select, ready_epoll; /* notify_ready.c: without a limit of time */
notify_handler answer_lock, answer_seek, answer_shutdown, answer_send, answer_access, answer_clock_getres; /* notify_shared.c */
/* notify_gate.c.  gate_lead: a process opens a file or asks about one; gate_forget: it has a new program. */
void gate_lead(struct notify *n, const struct seccomp_notif *q);
void gate_forget(struct notify *n, const struct seccomp_notif *q);
notify_handler answer_open, answer_openat, answer_creat, answer_truncate, answer_readlink, answer_exec, answer_alarm, answer_itimer,
    answer_pause, answer_getrandom; /* notify_open.c, _exec.c, _timers.c, _random.c */

/* clock_meet: read the calling process's clock page; clock_part: write the clock back to it, at the end.  All functions
 * below do that. */
void clock_meet(struct notify *n);
void clock_part(struct notify *n);
/* Look at the logical clock, which also moves it: in nanoseconds since the epoch; as a time of day. */
uint64_t clock_look(struct notify *n);
struct timespec clock_now(struct notify *n);
bool clock_known(const struct notify *n, int32_t id); /* is there a clock with this number? */
/* Move the logical clock on; timers that it passes ring. */
void clock_pass(struct notify *n, __int128 ns);
void clock_pass_to(struct notify *n, uint64_t ns);
/* Send the signals of timers that are due. */
void timers_ring(struct notify *n);
/* A process is about to sleep until *until_ns.  If a timer of its own comes before, *until_ns is brought forward and the
 * sleep will be cut short. */
bool timers_cut(struct notify *n, const struct seccomp_notif *q, uint64_t *until_ns);
void timers_close(struct notify *n);
void timers_forget(struct notify *n, const struct seccomp_notif *q); /* the process gets a new program, which keeps none of timer_create */
notify_handler answer_timer; /* timer_create and its kin */

/* Duplicate the task's descriptor `number`; -1 with errno, ENOENT: there is none. */
int task_fd(struct notify *n, const struct seccomp_notif *q, int number);
notify_handler answer_writing, answer_sendfile; /* notify_named.c */
const struct named *named_find(const struct notify *n, const char *path);

notify_handler answer_sigaction, answer_signalfd, answer_signal, answer_number; /* notify_signals.c */
void signals_sent(struct notify *n, uint64_t signal); /* a call asks that this signal be sent, now or later */
/* The process will be told the details of signals of this set. */
void signals_told(struct notify *n, const struct seccomp_notif *q, uint64_t set);
/* q starts a process or a thread. */
void signals_of_child(struct notify *n, const struct seccomp_notif *q);

notify_handler answer_growing, answer_forking, answer_holding, answer_pair; /* notify_measure.c */
/* The process is about to take `more` descriptors. */
void notify_hold(struct notify *n, const struct seccomp_notif *q, uint32_t more);
/* May the calling process open that many more descriptors? */
bool notify_has_room(const struct seccomp_notif *q, uint32_t more);

/* Give the task a new descriptor for `fd` (borrowed): its number, or -1 with errno. */
int task_add_fd(struct notify *n, const struct seccomp_notif *q, int fd, bool cloexec);
/* The same, as the result of its call. */
void task_give_fd(struct notify *n, const struct seccomp_notif *q, int fd, bool cloexec,
                  struct answer *a);
/* Make a new /dev/urandom; returns the task's end, given; -1 with errno. */
int random_open(struct notify *n);
void random_refill(struct notify *n); /* fill those that have room */
bool random_idle(struct notify *n);   /* is none open? */
void random_close(struct notify *n);
