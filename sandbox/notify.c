/* The server's side of the task filter: takes notifications and answers them.
 *
 * What must stay true.  The task is hostile: its memory is read only once, lengths are bounded here, and nothing waits for
 * it.  The process number in a notification may come to belong to another process, so the notification's id must be
 * checked: after reading memory, and before writing it.  A call may be notified twice (kernels without
 * WAIT_KILLABLE_RECV restart it after a signal); then the clock steps twice. */
#include "sandbox/notify.h"
#include "base/fds.h"
#include "sandbox/notify_task.h"
#include "sandbox/proc.h"
#include "sandbox/syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* 6.6 */
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS      SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1ul
#endif

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* 6.9 */
#endif

#define PAGE_BYTES 4096
#define TEXT_PIECE 128 /* most paths are shorter */
#define MAPS_MAX   1024 /* lines of /proc/PID/maps that are read if memory of a task's cannot be */

struct notify *notify_new(int listener, uint64_t seed, uint64_t stream, int64_t epoch_s,
                          struct err *e)
{
    struct notify *n = calloc(1, sizeof *n);
    struct timespec now;

    if (!n) {
        close(listener);
        err_nomem(e);
        return NULL;
    }
    n->listener = listener;
    n->random_epoll = n->root = n->asker = -1;
    n->seed = seed;
    n->stream = stream;
    n->epoch_s = epoch_s;
    n->uncertified_why = n->limit_hit = "";
    clock_gettime(CLOCK_REALTIME, &now);
    n->began_ns = now.tv_sec * 1000000000ll + now.tv_nsec;
    for (int i = 0; i < NOTIFY_RANDOM_MAX; i++)
        n->file[i].fd = -1;
    for (int i = 0; i < NOTIFY_TIMERS_MAX; i++)
        n->timer[i].pidfd = -1;
    n->parted = stream == (uint32_t)stream;
    random_init(&n->random, seed, (uint32_t)stream, 0);
    if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &n->sizes) < 0) {
        err_sys(e, "this kernel has no notifications of system calls");
    } else if (n->sizes.seccomp_notif > sizeof n->request ||
               n->sizes.seccomp_notif_resp > sizeof n->response) {
        err_set(e, ERR_UNSUPPORTED, "this kernel's notifications are longer than %zu bytes",
                sizeof n->request);
    } else {
        /* Let server and task run on one CPU, each waking the other.  Older kernels are slower, but otherwise the same. */
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
        return n;
    }
    notify_free(n);
    return NULL;
}

void notify_free(struct notify *n)
{
    if (!n)
        return;
    random_close(n);
    timers_close(n);
    free(n->seen.file);
    listing_close(n);
    free(n->crowd.tid);
    fd_close(&n->listener);
    fd_close(&n->root);
    fd_close(&n->asker);
    free(n->given);
    free(n->named);
    free(n);
}

int notify_fd(const struct notify *n)
{
    return n->listener;
}

int notify_random_fd(const struct notify *n)
{
    return n->random_epoll;
}

bool task_valid(const struct notify *n, const struct seccomp_notif *q)
{
    uint64_t id = q->id;

    return ioctl(n->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

/* Is there memory that may be written or run, but not read?  The processor, and so a call that the kernel is left to do, reads it
 * all the same, while we cannot. */
static bool is_hidden(pid_t pid, uint64_t address, size_t size)
{
    char path[40], line[512], kind[5];
    unsigned long begin, end;
    bool hidden = false;

    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *f = fopen(path, "re");
    for (int i = 0; f && !hidden && fgets(line, sizeof line, f); i++) {
        hidden = i == MAPS_MAX;
        if (!hidden && sscanf(line, "%lx-%lx %4s", &begin, &end, kind) == 3) /* else it is the rest of a long name */
            hidden = begin < address + size && address < end && kind[0] != 'r' && (kind[1] == 'w' || kind[2] == 'x');
    }
    if (f)
        fclose(f);
    return hidden;
}

int task_read(struct notify *n, const struct seccomp_notif *q, uint64_t address, void *data,
              size_t size)
{
    struct iovec here = {data, size};
    struct iovec there = {(void *)(uintptr_t)address, size};
    ssize_t got = process_vm_readv((pid_t)q->pid, &here, 1, &there, 1, 0);

    if (got < 0 && errno == EPERM)
        notify_mark(n, "a program's memory cannot be read");
    if (got != (ssize_t)size && !*n->uncertified_why && is_hidden((pid_t)q->pid, address, size))
        notify_mark(n, "names memory to a call that it may not read itself");
    return got == (ssize_t)size && task_valid(n, q) ? 0 : -1;
}

int task_text(struct notify *n, const struct seccomp_notif *q, uint64_t address, char *text, size_t size)
{
    size_t done = 0;

    while (done < size) {
        size_t piece = PAGE_BYTES - (address + done) % PAGE_BYTES; /* the next page may not be mapped */

        if (piece > TEXT_PIECE)
            piece = TEXT_PIECE;
        if (piece > size - done)
            piece = size - done;
        if (task_read(n, q, address + done, text + done, piece) < 0)
            return -1;
        if (memchr(text + done, '\0', piece))
            return 0;
        done += piece;
    }
    return -1;
}

int task_write(struct notify *n, const struct seccomp_notif *q, uint64_t address, const void *data,
               size_t size)
{
    struct iovec here = {(void *)(uintptr_t)data, size};
    struct iovec there = {(void *)(uintptr_t)address, size};
    ssize_t put;

    if (!size)
        return 0;
    if (!task_valid(n, q))
        return -1;
    put = process_vm_writev((pid_t)q->pid, &here, 1, &there, 1, 0);
    if (put < 0 && errno == EPERM)
        notify_mark(n, "a program's memory cannot be written");
    return put == (ssize_t)size ? 0 : -1;
}

pid_t task_process(const struct seccomp_notif *q)
{
    char number[PROC_LINE_MAX];
    return proc_status((pid_t)q->pid, "Tgid:", number) ? (pid_t)strtol(number, NULL, 10) : (pid_t)q->pid;
}

/* Take the thread that asks for the asker.  Kernels without pidfds of threads give its process, which may outlive it, so that
 * this must be asked anew each time. */
static int meet_asker(struct notify *n, const struct seccomp_notif *q)
{
    fd_close(&n->asker);
    n->asker = (int)syscall(SYS_pidfd_open, (pid_t)q->pid, PIDFD_THREAD);
    n->asker_tid = n->asker < 0 ? 0 : q->pid;
    if (n->asker < 0)
        n->asker = (int)syscall(SYS_pidfd_open, task_process(q), 0);
    return n->asker;
}

int task_fd(struct notify *n, const struct seccomp_notif *q, int number)
{
    bool known = n->asker >= 0 && n->asker_tid == q->pid;
    int fd = -1;

    if (!known && meet_asker(n, q) < 0) {
        notify_lacks(n);
        return -1;
    }
    if (!task_valid(n, q)) {
        errno = ESRCH;
        return -1;
    }
    fd = (int)syscall(SYS_pidfd_getfd, n->asker, number, 0);
    if (fd < 0 && errno == ESRCH && known && meet_asker(n, q) >= 0 && task_valid(n, q)) /* its number went to another one */
        fd = (int)syscall(SYS_pidfd_getfd, n->asker, number, 0);
    if (fd < 0)
        notify_lacks(n);
    if (fd < 0 && errno == EBADF)
        errno = ENOENT;
    return fd;
}

void notify_mark(struct notify *n, const char *why)
{
    if (!*n->uncertified_why)
        n->uncertified_why = why;
}

void notify_lacks(struct notify *n)
{
    if (errno == EMFILE || errno == ENFILE)
        notify_mark(n, "zpipe-box has too many files open to see what a call is about");
}

int task_add_fd(struct notify *n, const struct seccomp_notif *q, int fd, bool cloexec)
{
    struct seccomp_notif_addfd give = {.id = q->id, .srcfd = (uint32_t)fd, .newfd_flags = cloexec ? O_CLOEXEC : 0};

    return ioctl(n->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &give);
}

void task_give_fd(struct notify *n, const struct seccomp_notif *q, int fd, bool cloexec,
                  struct answer *a)
{
    struct seccomp_notif_addfd give = {
        .id = q->id,
        .flags = SECCOMP_ADDFD_FLAG_SEND, /* 5.14: answers in the same step */
        .srcfd = (uint32_t)fd,
        .newfd_flags = cloexec ? O_CLOEXEC : 0,
    };
    int got;

    a->go_on = false;
    got = ioctl(n->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &give);
    if (got >= 0) {
        a->value = got;
        a->sent = true;
        return;
    }
    if (errno == EINVAL) {
        got = task_add_fd(n, q, fd, cloexec);
        if (got >= 0) {
            a->value = got;
            return;
        }
    }
    a->error = errno == EMFILE ? EMFILE : EACCES;
}

void notify_trace(struct notify *n, notify_tracer *trace, void *owner)
{
    n->trace = trace;
    n->trace_owner = owner;
}

static void tell_tracer(struct notify *n, const struct seccomp_notif *q, const struct answer *a)
{
    const struct syscall_row *row = q->data.nr < 0 ? NULL : syscalls_find(q->data.nr);

    n->trace(n->trace_owner, &(struct notify_call){.name = row ? row->name : NULL,
                                                   .nr = q->data.nr,
                                                   .ran = a->go_on,
                                                   .error = a->error,
                                                   .value = a->value,
                                                   .clock_ns = n->now_ns});
}

/* Note an unknown call, each number once, for the report. */
static void note_unknown(struct notify *n, int nr)
{
    uint32_t i = 0;

    while (i < n->unknown_count && n->unknown[i] != nr)
        i++;
    if (nr < 0 || nr >= SYSCALLS_X32 || i < n->unknown_count || i == NOTIFY_UNKNOWN_MAX)
        return;
    n->unknown[n->unknown_count++] = nr;
    n->unknown_size += (size_t)snprintf(n->unknown_text + n->unknown_size, sizeof n->unknown_text - n->unknown_size, "%s%d",
                                        i ? ", " : "", nr);
}

/* Answer a call.  The filter of a traced task also notifies calls that are refused elsewhere. */
static void answer_for(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    uint32_t action = n->trace ? syscalls_decide(&q->data, FILTER_OPENS) : NOTIFIED;
    notify_handler *handler = notify_handler_of(q->data.nr);

    if (!handler && (q->data.nr < 0 || !syscalls_find(q->data.nr))) {
        a->error = ENOSYS;
        note_unknown(n, q->data.nr);
    } else if (ACTION_KIND(action) == REFUSED(0))
        a->error = (int)ACTION_ERRNO(action);
    else if (handler)
        handler(n, q, a);
    else
        a->error = ENOSYS;
}

void notify_turns(struct notify *n, notify_turner *turn, void *owner)
{
    n->turn = turn;
    n->turn_owner = owner;
}

void notify_began(struct notify *n)
{
    n->answered++;
    n->calls[SYS_execve]++;
}

void notify_uncertified(struct notify *n, const char *why)
{
    notify_mark(n, why);
}

void notify_send(struct notify *n, const struct notify_reply *reply)
{
    struct seccomp_notif_resp *r = &n->response.r;

    memset(&n->response, 0, n->sizes.seccomp_notif_resp);
    r->id = reply->id;
    if (reply->go_on) {
        r->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    } else {
        r->error = -reply->error;
        r->val = reply->error ? 0 : reply->value;
    }
    ioctl(n->listener, SECCOMP_IOCTL_NOTIF_SEND, r);
}

void notify_pass_to(struct notify *n, const struct seccomp_notif *q, uint64_t due_ns)
{
    const struct seccomp_notif *asked = n->asked; /* this may be called in the midst of an answer to another call */
    bool met = n->met, has_page = n->has_page;

    n->asked = q;
    n->met = false;
    clock_pass_to(n, due_ns);
    clock_part(n);
    n->asked = asked;
    n->met = met;
    n->has_page = has_page;
}

uint64_t notify_now(const struct notify *n)
{
    return n->now_ns;
}

/* What the call means for turns (enum notify_turn); -1: nothing. */
static int turn_of(const struct notify *n, const struct seccomp_notif *q, const struct answer *a)
{
    switch (q->data.nr) {
    case SYS_fork:
    case SYS_vfork:
    case SYS_clone:
        return a->go_on ? NOTIFY_FORKS : -1;
    case SYS_wait4:
    case SYS_waitid:
        return NOTIFY_WAITS;
    case SYS_kill:
    case SYS_tkill:
    case SYS_tgkill:
    case SYS_rt_sigqueueinfo:
    case SYS_rt_tgsigqueueinfo:
        return NOTIFY_SIGNALS;
    case SYS_getpgid:
    case SYS_getsid:
    case SYS_setpgid:
    case SYS_capget:
        return NOTIFY_NUMBERS;
    case SYS_prctl:
        return (uint32_t)q->data.args[0] == PR_SET_PDEATHSIG ? NOTIFY_PARENT : -1;
    case SYS_futex:
        return a->go_on ? NOTIFY_FUTEX : -1;
    case SYS_sched_yield:
        return NOTIFY_YIELDS;
    case SYS_execve:
    case SYS_execveat:
        return NOTIFY_EXECS;
    default:
        if (a->timed && a->go_on)
            return n->timers ? -1 : NOTIFY_POLLS; /* a timer may ring in between */
        return a->timed ? NOTIFY_SLEEPS : -1;
    }
}

/* Tell turns.c of the call.  True: the answer is kept for later. */
static bool tell_turn(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct notify_reply reply = {q->id, a->error, a->value, a->go_on, a->timed, a->due_ns};
    int what = turn_of(n, q, a);

    if (what < 0 || n->turn(n->turn_owner, (enum notify_turn)what, q, &reply))
        return what >= 0;
    a->error = reply.error;
    a->value = reply.value;
    a->go_on = reply.go_on;
    a->timed = reply.timed;
    a->due_ns = reply.due_ns;
    return false;
}

/* Let the logical time pass until which the call waits. */
static void pass_time(struct notify *n, const struct answer *a)
{
    if (a->go_on)
        notify_mark(n, a->unsure);
    clock_pass_to(n, a->due_ns);
    clock_part(n);
}

static int answer_one(struct notify *n, struct err *e)
{
    struct seccomp_notif *q = &n->request.n;
    struct seccomp_notif_resp *r = &n->response.r;
    struct answer a = {0};
    bool kept;

    memset(&n->request, 0, n->sizes.seccomp_notif); /* the kernel requires this */
    if (ioctl(n->listener, SECCOMP_IOCTL_NOTIF_RECV, q) < 0) {
        if (errno == EINTR || errno == ENOENT)
            return 0; /* ENOENT: the process was killed while it waited */
        return err_sys(e, "cannot take a notification");
    }
    if (q->data.nr >= 0 && q->data.nr < NOTIFY_NR_MAX)
        n->calls[q->data.nr]++;
    n->answered++;
    n->asked = q;
    n->met = false;
    answer_for(n, q, &a);
    clock_part(n); /* before another thread may read the clock page */
    kept = !a.sent && n->turn && tell_turn(n, q, &a);
    if (a.timed && !kept)
        pass_time(n, &a);
    if (n->trace)
        tell_tracer(n, q, &a);
    if (a.sent || kept)
        return 0;
    memset(&n->response, 0, n->sizes.seccomp_notif_resp);
    r->id = q->id;
    if (a.go_on) {
        r->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    } else {
        r->error = -a.error;
        r->val = a.error ? 0 : a.value;
    }
    if (ioctl(n->listener, SECCOMP_IOCTL_NOTIF_SEND, r) < 0 && errno != ENOENT &&
        errno != EINPROGRESS)
        return err_sys(e, "cannot answer a notification");
    return 0;
}

int notify_answer(struct notify *n, short ready, struct err *e)
{
    if (ready & POLLIN)
        return answer_one(n, e);
    return ready & POLLHUP ? err_set(e, ERR_GONE, "the task has ended") : err_set(e, ERR_IO, "the listener failed");
}

int notify_serve(struct notify *n, struct err *e)
{
    struct pollfd p = {.fd = n->listener, .events = POLLIN};

    random_refill(n);
    for (int i = 0; i < NOTIFY_SERVE_MAX; i++) {
        int ready = poll(&p, 1, 0);

        if (ready < 0 && errno != EINTR)
            return err_sys(e, "cannot look at the listener");
        if (ready <= 0)
            return 0;
        if (notify_answer(n, p.revents, e) < 0)
            return -1;
    }
    return 0;
}

void notify_report(const struct notify *n, struct notify_report *r)
{
    *r = (struct notify_report){
        .calls = n->answered,
        .slept_ns = n->slept_ns,
        .clock_ns = n->now_ns,
        .limit_hit = n->limit_hit,
        .uncertified_why = n->uncertified_why,
        .unknown = n->unknown_text,
    };
}

uint64_t notify_calls(const struct notify *n, int nr)
{
    return nr >= 0 && nr < NOTIFY_NR_MAX ? n->calls[nr] : 0;
}
