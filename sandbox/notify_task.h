/* What the answers share: the task's logical state and the way into its memory.  Private to
 * notify*.c and their tests. */
#pragma once
#include "sandbox/gate.h"
#include "sandbox/notify.h"

#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#define NOTIFY_NR_MAX      512 /* call numbers counted; the table's highest is below */
#define CLOCK_NS_MAX       (1ull << 61) /* 73 years: so that no sum of ours overflows */
#define TASK_PATH_MAX      4096
#define NOTIFY_LOOKERS     8
#define NOTIFY_CONTROL_MAX 256 /* bytes of the kernel's notification structs, whichever kernel */

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

/* A process's ITIMER_REAL. */
struct timer {
    int pidfd; /* -1: free */
    pid_t process;
    uint64_t due_ns, interval_ns; /* logical */
};

/* A process that opens files, or looks at some: how often since its exec, and its calls that have been led to the gate. */
struct looker {
    uint32_t pid, looks, led_count;
    uint64_t led[GATE_SITES_MAX];
};

/* What is known of the memory of the last process that took some; see notify_measure.c. */
struct measured {
    uint32_t pid, heap_pid;
    uint64_t room, heap;
};

/* Files that are not the task's, and the number that each has for it. */
struct seen {
    struct seen_file {
        dev_t device;
        ino_t inode;
        uint32_t number; /* from 1; 0: free */
    } *file; /* owned, open addressing */
    uint32_t room, count;
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
    uint64_t slept_ns; /* of now_ns */
    const struct seccomp_notif *asked; /* what is being answered */
    bool met, has_page;                /* the asker's clock page has been looked for; is there */
    uint64_t answered;
    struct random random;   /* getrandom's */
    bool parted;            /* it is of `stream`; before, of its lower half */
    bool (*uses)(void *owner); /* NULL: it does */
    void *uses_owner;
    uint64_t random_opened; /* numbers the random files' streams */
    struct random_file file[NOTIFY_RANDOM_MAX];
    struct given_file *given; /* owned */
    uint32_t given_count;
    struct seen seen;
    int64_t began_ns; /* real time when the task began */
    dev_t scratch_dev; /* the device of its own files */
    bool scratch_known;
    bool asked_time;   /* a file of its own was given a time since it began */
    uint64_t asked_ns; /* the first of those times */
    int root; /* the task's; -1: not yet looked for */
    uint64_t root_mount, image_mount; /* the mounts of / and /usr there; 0: not known */
    struct timer timer[NOTIFY_TIMERS_MAX];
    int timers;    /* that are set */
    pid_t asking;  /* the process whose sleep lets time pass; 0: whoever */
    const char *uncertified_why;
    const char *limit_hit;   /* "", or the first one */
    pid_t init;              /* the task's first process */
    uint64_t memory_bytes;   /* limits; 0: none */
    uint32_t procs, files;
    uint32_t procs_room;     /* so many may be started before they must be counted */
    struct measured measured;
    struct named *named; /* owned */
    uint32_t named_count;
    int unknown[NOTIFY_UNKNOWN_MAX]; /* calls that there are not, in the order of their first times */
    uint32_t unknown_count;
    size_t unknown_size;
    char unknown_text[NOTIFY_UNKNOWN_MAX * 12];
    struct looker looker[NOTIFY_LOOKERS]; /* the last ones */
    uint32_t looker_next;
    uint64_t signals;   /* that the task may have sent: bit N - 1 */
    bool breaks;        /* one of its handlers has the end of a child break calls */
    bool threads;       /* there have been some */
    bool live;          /* its input is passed on as it arrives */
    bool trace_start;   /* a template: its program is to be traced */
    pid_t traced;       /* since when it is: this process */
    pid_t forker;       /* 0: none */
    bool entering;      /* it may enter a user namespace now, and gets: */
    int forker_fd[FORKER_OWN], forker_number[FORKER_OWN];
    notify_tracer *trace; /* NULL: nobody listens */
    void *trace_owner;
    notify_turner *turn; /* likewise */
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
    bool go_on; /* the kernel shall run the call itself */
    bool sent;  /* the handler has answered already */
    bool timed; /* it is given when the logical clock is there: */
    uint64_t due_ns;
    const char *unsure; /* timed and go_on: what will then be uncertified; static text */
};

typedef void notify_handler(struct notify *n, const struct seccomp_notif *q, struct answer *a);

/* The answer to a call, or NULL. */
notify_handler *notify_handler_of(int nr);

/* Whole copies; -1 when the task's memory is not all there, or the task has ended meanwhile. */
int task_read(struct notify *n, const struct seccomp_notif *q, uint64_t address, void *data,
              size_t size);
int task_write(struct notify *n, const struct seccomp_notif *q, uint64_t address, const void *data,
               size_t size);
/* The text at that address, at most size - 1 bytes; -1 when it is longer or not there. */
int task_text(struct notify *n, const struct seccomp_notif *q, uint64_t address, char *text, size_t size);
bool task_valid(const struct notify *n, const struct seccomp_notif *q);
/* Open what the task means by `path` from `directory` (a descriptor of its, or AT_FDCWD); -1 with errno. */
int task_open(struct notify *n, const struct seccomp_notif *q, int directory, const char *path, uint64_t flags);
int task_open_cwd(struct notify *n, const struct seccomp_notif *q);
/* Root's server may open what it likes, and a task nothing that it has closed to itself: what it is told must not depend on who started
 * zpipe-box.  For this thread; errno stays. */
struct rights {
    struct __user_cap_data_struct all[_LINUX_CAPABILITY_U32S_3];
    bool lowered;
};
void rights_lower(struct rights *r);
void rights_back(const struct rights *r);
uint64_t task_image_mount(struct notify *n, const struct seccomp_notif *q);
/* Is our descriptor one of the image's files, which do not change? */
bool fd_of_image(struct notify *n, const struct seccomp_notif *q, int fd);
/* Below a directory of the image. */
bool path_of_image(const char *path);
/* Is it /dev/stdin or another name of a descriptor? */
bool path_of_fd_name(const char *path, int *fd);
pid_t task_process(const struct seccomp_notif *q); /* that the asking thread belongs to */

void notify_mark(struct notify *n, const char *why); /* the first one stays; static text */

notify_handler answer_setns, answer_prctl;  /* notify_fork.c */
/* A copy's own table of files. */
int seen_copy(struct seen *s);
void seen_exchange(struct seen *s, dev_t device, ino_t inode, dev_t by_device, ino_t by_inode);
notify_handler answer_fchmod, answer_utime, answer_nonblock; /* notify_given.c */
/* Will nobody but the task ever use what it has as that descriptor, nor chance decide what is there? */
bool notify_is_its_own(const struct notify *n, int fd);
/* Does the file lie in its own places, /tmp and /job? */
bool notify_is_scratch(struct notify *n, const struct seccomp_notif *q, const struct stat *s);
/* A file of the task's own gets this time.  What is the host's now cannot be told from what the kernel sets: a look at it is uncertified. */
void notify_time_asked(struct notify *n, const struct seccomp_notif *q, const struct timespec *t);
notify_handler answer_pipe, answer_pipe_room, answer_fallocate; /* notify_given.c */
notify_handler answer_stat, answer_statfs;  /* notify_stat.c */
notify_handler ready_poll, ready_select, ready_epoll; /* notify_ready.c: without a limit of time */
notify_handler answer_lock, answer_seek, answer_shutdown, answer_send, answer_access, answer_clock_getres; /* notify_shared.c */
/* notify_gate.c: a process opens a file, or looks at one; begins anew. */
void gate_lead(struct notify *n, const struct seccomp_notif *q);
void gate_forget(struct notify *n, const struct seccomp_notif *q);
notify_handler answer_open, answer_openat, answer_creat, answer_truncate, answer_exec, answer_alarm, answer_itimer,
    answer_pause, answer_getrandom; /* notify_open.c, _exec.c, _timers.c, _random.c */

/* The asker's own clock is known from here on, and told of ours at the end.  All below do that. */
void clock_meet(struct notify *n);
void clock_part(struct notify *n);
/* A look at the logical clock, which moves it: nanoseconds since the epoch; as a time of day. */
uint64_t clock_look(struct notify *n);
struct timespec clock_now(struct notify *n);
bool clock_known(const struct notify *n, int32_t id); /* is there such a clock? */
/* The logical clock goes on to that time; the timers that it passes ring. */
void clock_pass(struct notify *n, __int128 ns);
void clock_pass_to(struct notify *n, uint64_t ns);
/* Send the signals of timers that are due. */
void timers_ring(struct notify *n);
/* A process will sleep until *until_ns: when a timer of its own comes before, *until_ns is brought
 * forward and the sleep is cut short. */
bool timers_cut(struct notify *n, const struct seccomp_notif *q, uint64_t *until_ns);
void timers_close(struct notify *n);

/* The task's descriptor `number` as one of ours; -1 with errno, ENOENT when there is none. */
int task_fd(struct notify *n, const struct seccomp_notif *q, int number);
notify_handler answer_writing; /* notify_named.c */
const struct named *named_find(const struct notify *n, const char *path);

notify_handler answer_sigaction, answer_signalfd, answer_signal; /* notify_signals.c */
void signals_sent(struct notify *n, uint64_t signal); /* by what q asks, now or later */
/* It will be told of the signals of that set, whole. */
void signals_told(struct notify *n, const struct seccomp_notif *q, uint64_t set);
/* q starts a process or a thread. */
void signals_of_child(struct notify *n, const struct seccomp_notif *q);

notify_handler answer_growing, answer_forking, answer_holding, answer_pair; /* notify_measure.c */
/* It is about to take `more` descriptors. */
void notify_hold(struct notify *n, const struct seccomp_notif *q, uint32_t more);

/* Give the task a new descriptor for `fd` (borrowed): its number, or -1 with errno. */
int task_add_fd(struct notify *n, const struct seccomp_notif *q, int fd, bool cloexec);
/* Likewise, as the result of its call. */
void task_give_fd(struct notify *n, const struct seccomp_notif *q, int fd, bool cloexec,
                  struct answer *a);
/* A new /dev/urandom: the task's end, given; -1 with errno. */
int random_open(struct notify *n);
void random_refill(struct notify *n); /* what has room */
bool random_idle(struct notify *n);   /* none is open */
void random_close(struct notify *n);
