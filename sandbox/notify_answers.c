/* The answers to notified calls.  Time is logical: it starts at the task's epoch, steps a little with each look, and jumps
 * by the time slept, so that no sleep takes real time and no busy loop sees a clock that stands still.  The machine is
 * always the same one: one CPU, 16 GiB, a fixed kernel release.
 *
 * Calls that wait with a limit of time are passed to the kernel, as only it can wait.  The logical clock moves by the limit
 * first, and the task is marked, since what the calls return may depend on real time. */
#include "sandbox/clock_page.h"
#include "sandbox/notify_task.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <linux/futex.h>

#define SECOND_NS    1000000000ll
#define BOOT_S       CLOCK_BOOT_S
#define TICK_NS      10000000ull  /* times() counts hundredths of a second */
#define POLLFDS_READ 64

/* What a clock showed when the task started, in seconds; false: there is no such clock. */
static bool clock_start(const struct notify *n, int32_t id, int64_t *start_s)
{
    switch (id) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_REALTIME_ALARM:
    case CLOCK_TAI:
        *start_s = n->epoch_s;
        return true;
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM:
        *start_s = BOOT_S;
        return true;
    default: /* CPU clocks, also those of a process given by number */
        *start_s = 0;
        return id < 0 || id == CLOCK_PROCESS_CPUTIME_ID || id == CLOCK_THREAD_CPUTIME_ID;
    }
}

bool clock_known(const struct notify *n, int32_t id)
{
    int64_t start;

    return clock_start(n, id, &start);
}

static bool is_cpu_clock(int32_t id)
{
    return id < 0 || id == CLOCK_PROCESS_CPUTIME_ID || id == CLOCK_THREAD_CPUTIME_ID;
}

static __int128 span_ns(const struct timespec *t)
{
    return (__int128)t->tv_sec * SECOND_NS + t->tv_nsec;
}

static bool span_good(const struct timespec *t)
{
    return t->tv_sec >= 0 && t->tv_nsec >= 0 && t->tv_nsec < SECOND_NS;
}

/* Write the data to the task's memory and set the result to 0, or EFAULT. */
static void reply(struct notify *n, const struct seccomp_notif *q, uint64_t address,
                  const void *data, size_t size, struct answer *a)
{
    if (task_write(n, q, address, data, size) < 0)
        a->error = EFAULT;
}

static void answer_clock_gettime(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    int32_t id = (int32_t)q->data.args[0];
    struct timespec t;
    int64_t start;
    uint64_t now;

    if (!clock_start(n, id, &start)) {
        a->error = EINVAL;
        return;
    }
    now = clock_look(n);
    if (is_cpu_clock(id))
        now -= n->slept_ns;
    t.tv_sec = start + (int64_t)(now / SECOND_NS);
    t.tv_nsec = (long)(now % SECOND_NS);
    reply(n, q, q->data.args[1], &t, sizeof t, a);
}

static void answer_gettimeofday(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    uint64_t now = clock_look(n);
    struct timeval t = {n->epoch_s + (int64_t)(now / SECOND_NS), (long)(now % SECOND_NS / 1000)};
    struct timezone zone = {0};

    if (q->data.args[0])
        reply(n, q, q->data.args[0], &t, sizeof t, a);
    if (q->data.args[1] && !a->error)
        reply(n, q, q->data.args[1], &zone, sizeof zone, a);
}

static void answer_time(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    int64_t t = n->epoch_s + (int64_t)(clock_look(n) / SECOND_NS);

    if (q->data.args[0])
        reply(n, q, q->data.args[0], &t, sizeof t, a);
    a->value = t;
}

static void answer_times(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct tms t = {0};

    if (q->data.args[0])
        reply(n, q, q->data.args[0], &t, sizeof t, a);
    a->value = (int64_t)((uint64_t)BOOT_S * 100 + clock_look(n) / TICK_NS);
}

/* `rest`: where to write what is left of a sleep that a timer cut short; or 0. */
static void sleep_for(struct notify *n, const struct seccomp_notif *q, __int128 ns, uint64_t rest,
                      struct answer *a)
{
    clock_meet(n);
    uint64_t until = ns <= 0 ? n->now_ns : ns > CLOCK_NS_MAX ? CLOCK_NS_MAX : n->now_ns + (uint64_t)ns;
    uint64_t end = until;

    if (timers_cut(n, q, &until)) {
        struct timespec left = {(time_t)((end - until) / SECOND_NS), (long)((end - until) % SECOND_NS)};

        a->error = rest && task_write(n, q, rest, &left, sizeof left) < 0 ? EFAULT : EINTR;
    }
    a->timed = true;
    a->due_ns = until;
}

static void answer_nanosleep(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct timespec t;

    if (task_read(n, q, q->data.args[0], &t, sizeof t) < 0)
        a->error = EFAULT;
    else if (!span_good(&t))
        a->error = EINVAL;
    else
        sleep_for(n, q, span_ns(&t), q->data.args[1], a);
}

static void answer_clock_nanosleep(struct notify *n, const struct seccomp_notif *q,
                                   struct answer *a)
{
    int32_t id = (int32_t)q->data.args[0];
    struct timespec t;
    int64_t start;

    clock_meet(n);
    if (!clock_start(n, id, &start) || id == CLOCK_THREAD_CPUTIME_ID)
        a->error = EINVAL;
    else if (task_read(n, q, q->data.args[2], &t, sizeof t) < 0)
        a->error = EFAULT;
    else if (!span_good(&t))
        a->error = EINVAL;
    else if ((uint32_t)q->data.args[1] & TIMER_ABSTIME)
        sleep_for(n, q, span_ns(&t) - (__int128)start * SECOND_NS - n->now_ns, 0, a);
    else
        sleep_for(n, q, span_ns(&t), q->data.args[3], a);
}

static const char waits_with_limit[] = "waits for a descriptor with a limit of time";
static const char looks_if_ready[] = "looks whether a descriptor is ready";

/* A look at descriptors (limit 0), or a wait for them with a limit of time.  What the task made itself is as the task left
 * it, and turns.c answers for it; of other descriptors only the kernel knows. */
static void limited_wait(struct notify *n, __int128 limit_ns, struct answer *a)
{
    clock_meet(n);
    uint64_t limit = limit_ns < 0 ? 0 : limit_ns > (__int128)CLOCK_NS_MAX ? CLOCK_NS_MAX : (uint64_t)limit_ns;
    a->go_on = a->timed = true;
    a->due_ns = n->now_ns + limit;
    a->unsure = limit ? waits_with_limit : looks_if_ready;
}

/* Is it the poll by which many runtimes start, of descriptors 0 to 2 for no events, to see that they are open? */
static bool asks_for_nothing(const struct pollfd *p, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (p[i].events)
            return false;
    return true;
}

/* Is it only asked which descriptors are open?  xargs asks so, for all there could be, for reading and writing at once and
 * without waiting; whether they are ready does not matter to it. */
static bool asks_if_open(const struct pollfd *p, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (p[i].events != (POLLIN | POLLOUT))
            return false;
    return true;
}

static void answer_if_open(struct notify *n, const struct seccomp_notif *q, struct pollfd *p, uint64_t count,
                           struct answer *a)
{
    char path[40];
    DIR *d;

    snprintf(path, sizeof path, "/proc/%u/fd", q->pid);
    d = opendir(path);
    for (uint64_t i = 0; i < count; i++)
        p[i].revents = p[i].fd < 0 ? 0 : POLLNVAL;
    for (struct dirent *entry; d && (entry = readdir(d));)
        for (uint64_t i = 0; i < count; i++)
            if (*entry->d_name != '.' && p[i].fd == atoi(entry->d_name))
                p[i].revents = p[i].events;
    if (d)
        closedir(d);
    for (uint64_t i = 0; i < count; i++)
        a->value += p[i].revents != 0;
    reply(n, q, q->data.args[0], p, count * sizeof *p, a);
}

static void poll_for(struct notify *n, const struct seccomp_notif *q, __int128 limit_ns,
                     struct answer *a)
{
    uint32_t count = (uint32_t)q->data.args[1];
    struct pollfd p[POLLFDS_READ];
    bool known = count && limit_ns == 0 && count <= POLLFDS_READ &&
                 task_read(n, q, q->data.args[0], p, count * sizeof *p) == 0;

    if (!count)
        sleep_for(n, q, limit_ns, 0, a);
    else if (known && asks_for_nothing(p, count))
        a->go_on = true;
    else if (known && asks_if_open(p, count))
        answer_if_open(n, q, p, count, a);
    else
        limited_wait(n, limit_ns, a);
}

static void answer_poll(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    if ((int32_t)q->data.args[2] < 0)
        ready_poll(n, q, a);
    else
        poll_for(n, q, (__int128)(int32_t)q->data.args[2] * 1000000, a);
}

static void answer_ppoll(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct timespec t;

    if (!q->data.args[2])
        ready_poll(n, q, a);
    else if (task_read(n, q, q->data.args[2], &t, sizeof t) < 0)
        a->error = EFAULT;
    else if (!span_good(&t))
        a->error = EINVAL;
    else
        poll_for(n, q, span_ns(&t), a);
}

static bool no_sets(const struct seccomp_notif *q)
{
    return (int32_t)q->data.args[0] == 0 ||
           (!q->data.args[1] && !q->data.args[2] && !q->data.args[3]);
}

static void select_for(struct notify *n, const struct seccomp_notif *q, __int128 limit_ns,
                       struct answer *a)
{
    static const uint64_t rest[2]; /* a timeval or timespec of zero */

    if (!no_sets(q)) {
        limited_wait(n, limit_ns, a);
        return;
    }
    sleep_for(n, q, limit_ns, 0, a);
    task_write(n, q, q->data.args[4], rest,
               sizeof rest); /* the memory may be read-only: Linux makes no error of that either */
}

static void answer_select(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct timeval t;

    if (!q->data.args[4])
        ready_select(n, q, a);
    else if (task_read(n, q, q->data.args[4], &t, sizeof t) < 0)
        a->error = EFAULT;
    else if (t.tv_sec < 0 || t.tv_usec < 0)
        a->error = EINVAL;
    else
        select_for(n, q, (__int128)t.tv_sec * SECOND_NS + (__int128)t.tv_usec * 1000, a);
}

static void answer_pselect6(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct timespec t;

    if (!q->data.args[4])
        ready_select(n, q, a);
    else if (task_read(n, q, q->data.args[4], &t, sizeof t) < 0)
        a->error = EFAULT;
    else if (!span_good(&t))
        a->error = EINVAL;
    else
        select_for(n, q, span_ns(&t), a);
}

static void answer_epoll_wait(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    if ((int32_t)q->data.args[3] < 0)
        ready_epoll(n, q, a);
    else
        limited_wait(n, (__int128)(int32_t)q->data.args[3] * 1000000, a);
}

/* Whether a futex call waits is decided by turns_futex.c.  If turns were given up the kernel handles it, whose clocks are
 * ahead of ours: so an absolute deadline is over at once. */
static void answer_futex(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    uint32_t op = (uint32_t)q->data.args[1], what = op & FUTEX_CMD_MASK;
    int64_t start = op & FUTEX_CLOCK_REALTIME ? n->epoch_s : BOOT_S;
    struct timespec t;
    __int128 ns;

    a->go_on = true;
    if ((what != FUTEX_WAIT && what != FUTEX_WAIT_BITSET) || !q->data.args[3] ||
        task_read(n, q, q->data.args[3], &t, sizeof t) < 0 || !span_good(&t))
        return;
    clock_meet(n);
    ns = what == FUTEX_WAIT ? span_ns(&t) + n->now_ns : span_ns(&t) - (__int128)start * SECOND_NS;
    a->timed = true;
    a->unsure = "threads wait with a limit of time";
    a->due_ns = ns < 0 ? 0 : ns > (__int128)CLOCK_NS_MAX ? CLOCK_NS_MAX : (uint64_t)ns;
}

static void answer_rt_sigtimedwait(struct notify *n, const struct seccomp_notif *q,
                                   struct answer *a)
{
    struct timespec t;

    a->go_on = true;
    if (!q->data.args[2]) {
        signals_told(n, q, q->data.args[0]);
        return;
    }
    notify_mark(n, "waits for a signal with a limit of time");
    if (task_read(n, q, q->data.args[2], &t, sizeof t) == 0 && span_good(&t))
        clock_pass(n, span_ns(&t));
}

static void answer_getrusage(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    static const struct rusage none;
    int32_t who = (int32_t)q->data.args[0];

    if (who != RUSAGE_SELF && who != RUSAGE_CHILDREN && who != RUSAGE_THREAD)
        a->error = EINVAL;
    else
        reply(n, q, q->data.args[1], &none, sizeof none, a);
}

/* These five fields of 65 bytes and the domain are the kernel's struct new_utsname. */
static void answer_uname(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    static const struct utsname name = {
        .sysname = "Linux",
        .nodename = "zpipe",
        .release = "6.1.0-zpipe",
        .version = "#1 SMP zpipe",
        .machine = "x86_64",
        .domainname = "(none)",
    };

    reply(n, q, q->data.args[0], &name, sizeof name, a);
}

static void answer_sysinfo(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct sysinfo s;

    memset(&s, 0, sizeof s);
    s.uptime = BOOT_S + (long)(clock_look(n) / SECOND_NS);
    s.totalram = NOTIFY_TOLD;
    s.freeram = NOTIFY_TOLD / 2;
    s.procs = 2;
    s.mem_unit = 1;
    reply(n, q, q->data.args[0], &s, sizeof s, a);
}

static void answer_getcpu(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    static const uint32_t zero;

    for (int i = 0; i < 2; i++)
        if (q->data.args[i] && !a->error)
            reply(n, q, q->data.args[i], &zero, sizeof zero, a);
}

static void answer_sched_getaffinity(struct notify *n, const struct seccomp_notif *q,
                                     struct answer *a)
{
    static const uint64_t first = 1;
    uint32_t size = (uint32_t)q->data.args[1];

    if (size < sizeof first || size % sizeof first) {
        a->error = EINVAL;
        return;
    }
    reply(n, q, q->data.args[2], &first, sizeof first, a);
    a->value = sizeof first;
}

static void answer_sched_getparam(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    static const int32_t priority;

    reply(n, q, q->data.args[1], &priority, sizeof priority, a);
}

static void answer_getpriority(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    (void)n;
    if ((uint32_t)q->data.args[0] > PRIO_USER)
        a->error = EINVAL;
    a->value = 20; /* how the kernel says nice 0 */
}

/* prlimit can ask and set at once; setting has no effect, as in the filter's answer to a set alone. */
static void answer_prlimit(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    bool old = q->data.nr == SYS_getrlimit;
    uint32_t what = (uint32_t)q->data.args[old ? 0 : 1];
    uint64_t to = q->data.args[old ? 1 : 3];
    struct rlimit limit = {0};

    if (what == RLIMIT_NPROC) /* the kernel's limit may be lower on a small host */
        limit.rlim_cur = limit.rlim_max = NOTIFY_PROCS_MAX;
    if (what >= RLIM_NLIMITS)
        a->error = EINVAL;
    else if (what != RLIMIT_CORE && what != RLIMIT_NPROC && (!task_valid(n, q) || prlimit((pid_t)q->pid, (int)what, NULL, &limit) < 0))
        a->error = EPERM;
    else if (to || old)
        reply(n, q, to, &limit, sizeof limit, a);
}

static void answer_wait(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    if (q->data.args[q->data.nr == SYS_waitid ? 4 : 3])
        notify_mark(n, "asks for a child's use of the machine");
    a->go_on = true;
}

/* Calls that only matter for turns. */
static void answer_turn(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    (void)n, (void)q;
    a->go_on = true;
}

static void answer_arrived(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    int off = -1, fd = task_fd(n, q, (int)q->data.args[0]);
    a->go_on = true;
    if (fd < 0 || !notify_is_its_own(n, fd))
        notify_mark(n, "asks what has arrived");
    /* A peek counts as a use of a channel, and must start at the channel's next byte (channel_read_from). */
    if (fd >= 0 && q->data.nr != SYS_ioctl)
        setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof off);
    if (fd >= 0)
        close(fd);
}

static void answer_fcntl(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    switch ((uint32_t)q->data.args[1]) {
    case F_SETFL:
        answer_nonblock(n, q, a);
        break;
    case F_GETPIPE_SZ:
        answer_pipe_room(n, q, a);
        break;
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        answer_holding(n, q, a);
        break;
    default:
        answer_lock(n, q, a);
        break;
    }
}

static void answer_ioctl(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    if ((uint32_t)q->data.args[1] == FIONBIO)
        answer_nonblock(n, q, a);
    else
        answer_arrived(n, q, a);
}

notify_handler *notify_handler_of(int nr)
{
    static notify_handler *const handlers[NOTIFY_NR_MAX] = {
        [SYS_clock_gettime] = answer_clock_gettime,
        [SYS_gettimeofday] = answer_gettimeofday,
        [SYS_time] = answer_time,
        [SYS_times] = answer_times,
        [SYS_nanosleep] = answer_nanosleep,
        [SYS_clock_nanosleep] = answer_clock_nanosleep,
        [SYS_poll] = answer_poll,
        [SYS_ppoll] = answer_ppoll,
        [SYS_select] = answer_select,
        [SYS_pselect6] = answer_pselect6,
        [SYS_epoll_wait] = answer_epoll_wait,
        [SYS_epoll_pwait] = answer_epoll_wait,
        [SYS_futex] = answer_futex,
        [SYS_rt_sigtimedwait] = answer_rt_sigtimedwait,
        [SYS_alarm] = answer_alarm,
        [SYS_pause] = answer_pause,
        [SYS_rt_sigsuspend] = answer_pause,
        [SYS_getitimer] = answer_itimer,
        [SYS_setitimer] = answer_itimer,
        [SYS_timer_create] = answer_timer,
        [SYS_timer_settime] = answer_timer,
        [SYS_timer_gettime] = answer_timer,
        [SYS_timer_getoverrun] = answer_timer,
        [SYS_timer_delete] = answer_timer,
        [SYS_getrandom] = answer_getrandom,
        [SYS_getrusage] = answer_getrusage,
        [SYS_uname] = answer_uname,
        [SYS_sysinfo] = answer_sysinfo,
        [SYS_getcpu] = answer_getcpu,
        [SYS_sched_getaffinity] = answer_sched_getaffinity,
        [SYS_sched_getparam] = answer_sched_getparam,
        [SYS_getpriority] = answer_getpriority,
        [SYS_prlimit64] = answer_prlimit,
        [SYS_getrlimit] = answer_prlimit,
        [SYS_statfs] = answer_statfs,
        [SYS_fstatfs] = answer_statfs,
        [SYS_write] = answer_writing,
        [SYS_writev] = answer_writing,
        [SYS_pwrite64] = answer_writing,
        [SYS_pwritev] = answer_writing,
        [SYS_pwritev2] = answer_writing,
        [SYS_sendfile] = answer_sendfile,
        [SYS_ftruncate] = answer_writing,
        [SYS_fallocate] = answer_fallocate,
        [SYS_clone] = answer_forking,
        [SYS_fork] = answer_forking,
        [SYS_vfork] = answer_forking,
        [SYS_mmap] = answer_growing,
        [SYS_mremap] = answer_growing,
        [SYS_mprotect] = answer_growing,
        [SYS_brk] = answer_growing,
        [SYS_dup] = answer_holding,
        [SYS_pipe] = answer_holding,
        [SYS_pipe2] = answer_pipe,
        [SYS_fcntl] = answer_fcntl,
        [SYS_socketpair] = answer_pair,
        [SYS_memfd_create] = answer_holding,
        [SYS_epoll_create] = answer_holding,
        [SYS_epoll_create1] = answer_holding,
        [SYS_eventfd] = answer_holding,
        [SYS_eventfd2] = answer_holding,
        [SYS_signalfd] = answer_signalfd,
        [SYS_signalfd4] = answer_signalfd,
        [SYS_rt_sigaction] = answer_sigaction,
        [SYS_wait4] = answer_wait,
        [SYS_waitid] = answer_wait,
        [SYS_kill] = answer_signal,
        [SYS_tkill] = answer_signal,
        [SYS_tgkill] = answer_signal,
        [SYS_rt_sigqueueinfo] = answer_signal,
        [SYS_rt_tgsigqueueinfo] = answer_signal,
        [SYS_sched_yield] = answer_turn,
        [SYS_getpgid] = answer_number,
        [SYS_getsid] = answer_number,
        [SYS_setpgid] = answer_number,
        [SYS_capget] = answer_number,
        [SYS_ioctl] = answer_ioctl,
        [SYS_recvfrom] = answer_arrived,
        [SYS_recvmsg] = answer_arrived,
        [SYS_sendto] = answer_send,
        [SYS_shutdown] = answer_shutdown,
        [SYS_flock] = answer_lock,
        [SYS_lseek] = answer_seek,
        [SYS_access] = answer_access,
        [SYS_faccessat] = answer_access,
        [SYS_faccessat2] = answer_access,
        [SYS_clock_getres] = answer_clock_getres,
        [SYS_fchmod] = answer_fchmod,
        [SYS_utimensat] = answer_utime,
        [SYS_utime] = answer_utime,
        [SYS_utimes] = answer_utime,
        [SYS_futimesat] = answer_utime,
        [SYS_stat] = answer_stat,
        [SYS_fstat] = answer_stat,
        [SYS_lstat] = answer_stat,
        [SYS_getdents] = answer_list,
        [SYS_getdents64] = answer_list,
        [SYS_newfstatat] = answer_stat,
        [SYS_statx] = answer_stat,
        [SYS_setns] = answer_setns,
        [SYS_prctl] = answer_prctl,
        [SYS_execve] = answer_exec,
        [SYS_execveat] = answer_exec,
        [SYS_open] = answer_open,
        [SYS_openat] = answer_openat,
        [SYS_creat] = answer_creat,
        [SYS_truncate] = answer_truncate,
        [SYS_readlink] = answer_readlink,
        [SYS_readlinkat] = answer_readlink,
    };

    return nr >= 0 && nr < NOTIFY_NR_MAX ? handlers[nr] : NULL;
}
