/* Cuts a channel while its writer runs.
 *
 * A write that is blocked in the socket when the socket is shut returns EPIPE without SIGPIPE.  So every thread of the
 * writing sandbox is first interrupted by ptrace: a blocked write leaves the kernel to be started again (or returns how
 * much it has written).  When all threads have stopped, the channel is cut and they continue.  The writes start again, meet
 * a shut socket, and the kernel itself sends SIGPIPE.  The programs can see nothing else of this.
 *
 * If a writer shows elsewhere how far it came, it does not simply continue: it goes on from call to call, so that each of
 * its writes can be counted, until swallow.c has cut all such channels; each thread is released at its next call.  A read
 * or write of a channel that was interrupted is then completed (lead.c) as if nothing had happened: no program sees that it
 * was shorter.
 *
 * Threads are found by walking down from the task's init until a walk finds no new one.  A thread that cannot stop now (a
 * parent in vfork, a page being read) is not in a socket's queue either: it is not waited for, and is released when it
 * stops later. */
#include "sandbox/lead.h"
#include "base/grow.h"
#include "sandbox/proc.h"
#include "sandbox/server.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* 6.9 */
#endif

#define THREADS_MAX 8192 /* of one sandbox; each is compared with each */
#define CUTS_MAX    64    /* channels that are cut together; more wait for the next time */

struct thread {
    pid_t tid;
    bool stopped, gone;
    bool entering; /* it is entering a call that is not counted yet */
    bool optioned;
    bool interrupted; /* it may be in the middle of a call */
    struct lead lead;
    int signal; /* delivered when it continues */
    struct channel *writes; /* the channel it writes to, and how many bytes were counted when the call began; NULL: none */
    uint64_t size;
};

struct freeze {
    struct task *task;
    struct channel *cut[CUTS_MAX];
    uint32_t cut_count;
    bool counting; /* the threads go on from call to call */
    ino_t space; /* the task's pid namespace, to which the numbers belong */
    struct thread *thread;
    uint32_t count, room;
    struct freeze *next;
};

static struct thread *find_thread(struct freeze *f, pid_t tid)
{
    for (uint32_t i = 0; i < f->count; i++)
        if (f->thread[i].tid == tid)
            return &f->thread[i];
    return NULL;
}

static ino_t space_of(pid_t pid)
{
    char path[64];
    struct stat s;
    snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)pid);
    return stat(path, &s) < 0 ? 0 : s.st_ino;
}

int freeze_pidfd(pid_t tid)
{
    int fd = (int)syscall(SYS_pidfd_open, tid, PIDFD_THREAD);
    return fd < 0 ? (int)syscall(SYS_pidfd_open, tid, 0) : fd;
}

/* A number may be used again by a process of the host.  While we hold the process it cannot. */
static void signal_thread(const struct freeze *f, pid_t tid)
{
    int fd = freeze_pidfd(tid);
    if (fd >= 0 && space_of(tid) == f->space)
        syscall(SYS_pidfd_send_signal, fd, SIGPIPE, NULL, 0);
    if (fd >= 0)
        close(fd);
}

/* Seizes a new thread and tells it to stop.  True: it was new. */
static bool add_thread(struct freeze *f, pid_t tid)
{
    if (find_thread(f, tid) || f->count == THREADS_MAX || space_of(tid) != f->space ||
        !grow(&f->thread, &f->room, f->count, THREADS_MAX, sizeof *f->thread))
        return false;
    struct thread t = {.tid = tid};
    bool refused = ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0 && errno == EPERM;
    /* Refused: by the host, or it is traced already, for its exec (notify_exec.c). */
    if (!refused && space_of(tid) != f->space) { /* the number belongs to another process by now: it stops, and is released as unwanted */
        ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
        return false;
    }
    if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0) {
        t.gone = true; /* it is ending, or the host forbids tracing: then it can only get the signal */
        if (refused && strchr("SR", proc_state(tid, NULL)))
            signal_thread(f, tid);
    }
    f->thread[f->count++] = t;
    return true;
}

static bool walk_threads(struct freeze *f, pid_t pid, bool itself, int depth);

static bool walk_children(struct freeze *f, pid_t pid, pid_t tid, int depth)
{
    char path[64];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)tid);
    FILE *in = fopen(path, "re");
    if (!in)
        return false;
    int child;
    while (fscanf(in, "%d", &child) == 1)
        found |= walk_threads(f, (pid_t)child, true, depth + 1);
    fclose(in);
    return found;
}

static bool walk_threads(struct freeze *f, pid_t pid, bool itself, int depth)
{
    char path[64];
    bool found = false;
    if (depth > 1024)
        return false;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    if (!d)
        return false;
    for (struct dirent *entry; (entry = readdir(d));) {
        pid_t tid = (pid_t)atoi(entry->d_name);
        if (tid <= 0)
            continue;
        if (itself)
            found |= add_thread(f, tid);
        found |= walk_children(f, pid, tid, depth);
    }
    closedir(d);
    return found;
}

static bool all_still(struct freeze *f)
{
    for (uint32_t i = 0; i < f->count; i++) {
        const struct thread *t = &f->thread[i];
        if (!t->stopped && !t->gone && !strchr("DZXIt", proc_state(t->tid, NULL)))
            return false;
    }
    return true;
}

/* Cuts the channels that are not counted; true: there are others. */
static bool cut_all(struct freeze *f)
{
    bool counted = false;
    for (uint32_t i = 0; i < f->cut_count; i++) {
        struct channel *c = f->cut[i];
        if (!c)
            continue;
        if (c->swallow != SWALLOW_NOT) {
            counted |= swallow_still(c);
        } else {
            channel_cut(c);
            f->cut[i] = NULL;
        }
    }
    return counted;
}

static void free_freeze(struct server *s, struct freeze *f)
{
    struct freeze **at = &s->freeze;
    while (*at && *at != f)
        at = &(*at)->next;
    if (*at)
        *at = f->next;
    for (uint32_t i = 0; i < f->count; i++)
        if (f->thread[i].stopped)
            ptrace(PTRACE_DETACH, f->thread[i].tid, NULL, (void *)(intptr_t)f->thread[i].signal);
    free(f->thread);
    free(f);
}

static bool is_counting(const struct freeze *f)
{
    for (uint32_t i = 0; i < f->cut_count; i++)
        if (f->cut[i] && f->cut[i]->swallow == SWALLOW_COUNTED)
            return true;
    return false;
}

/* It stands before a call: does that write to one of the channels? */
static void count_call(struct freeze *f, struct thread *t)
{
    for (uint32_t i = 0; i < f->cut_count && !t->writes; i++)
        if (f->cut[i] && f->cut[i]->swallow == SWALLOW_COUNTED && swallow_call(f->cut[i], t->tid, &t->size))
            t->writes = f->cut[i];
}

static void remove_thread(struct freeze *f, struct thread *t)
{
    *t = f->thread[--f->count];
}

/* From one call to the next, or for good. */
static void go_on(struct freeze *f, struct thread *t)
{
    int options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK;
    if (!t->optioned)
        ptrace(PTRACE_SETOPTIONS, t->tid, NULL, options);
    t->optioned = true;
    if (t->interrupted)
        lead_begin(&t->lead, f->task, t->tid);
    t->interrupted = false;
    if (t->entering)
        count_call(f, t);
    t->entering = false;
    bool counts = is_counting(f) || t->lead.on;
    ptrace(counts ? PTRACE_SYSCALL : PTRACE_DETACH, t->tid, NULL, (void *)(intptr_t)t->signal);
    t->stopped = false;
    if (!counts)
        remove_thread(f, t);
}

static void stop_all(struct freeze *f)
{
    f->counting = false;
    for (uint32_t i = 0; i < f->count; i++)
        if (!f->thread[i].stopped && !f->thread[i].gone)
            ptrace(PTRACE_INTERRUPT, f->thread[i].tid, NULL, NULL);
}

/* All stand still. */
static void stands(struct server *s, struct freeze *f)
{
    if (!cut_all(f)) {
        free_freeze(s, f);
        return;
    }
    f->counting = true;
    for (uint32_t i = f->count; i-- > 0;)
        if (f->thread[i].stopped)
            go_on(f, &f->thread[i]);
        else if (f->thread[i].gone)
            remove_thread(f, &f->thread[i]);
    if (!f->count)
        free_freeze(s, f);
}

static void look(struct server *s, struct freeze *f)
{
    if (!f->task->init) /* its clone may be about to begin: once it has said who it is, it is found */
        return;
    if (!f->space) {
        f->space = space_of(f->task->init);
        walk_threads(f, f->task->init, false, 0);
    }
    while (all_still(f))
        if (!walk_threads(f, f->task->init, false, 0)) {
            stands(s, f);
            return;
        }
}

void freeze_look(struct server *s)
{
    for (struct freeze *f = s->freeze, *next; f; f = next) {
        next = f->next;
        if (!f->counting)
            look(s, f);
    }
}

void freeze_let_go(struct server *s, pid_t tid)
{
    for (struct freeze *f = s->freeze; f; f = f->next) {
        struct thread *t = find_thread(f, tid);
        if (t && !t->stopped && !t->gone && ptrace(PTRACE_SEIZE, tid, NULL, NULL) == 0)
            ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
    }
}

void freeze_begin(struct server *s, struct task *writer, struct channel *c)
{
    struct freeze *f = s->freeze;
    if (!writer->init && !writer->template) { /* it has not begun: nothing can be blocked */
        channel_cut(c);
        return;
    }
    while (f && f->task != writer)
        f = f->next;
    if (f && f->cut_count < CUTS_MAX) {
        f->cut[f->cut_count++] = c;
        if (f->counting) {
            stop_all(f);
            walk_threads(f, writer->init, false, 0);
            look(s, f);
        }
        return;
    }
    f = calloc(1, sizeof *f);
    if (!f) {
        channel_cut(c);
        return;
    }
    f->task = writer;
    f->cut[f->cut_count++] = c;
    f->next = s->freeze;
    s->freeze = f;
    look(s, f);
}

/* A child or thread of one that is counted is traced from its beginning. */
static struct thread *find_or_add(struct freeze *f, pid_t tid, bool stopped)
{
    struct thread *t = find_thread(f, tid);
    if (!t && f->counting && stopped && add_thread(f, tid))
        t = find_thread(f, tid);
    return t;
}

/* Why it stands: before or behind a call, for a signal, or because it was told to. */
static void stopped_for(struct thread *t, int status)
{
    bool call = !(status >> 16) && WSTOPSIG(status) == (SIGTRAP | 0x80);
    struct __ptrace_syscall_info info;
    t->stopped = true;
    t->signal = call || status >> 16 ? 0 : WSTOPSIG(status); /* else an event's */
    t->interrupted = status >> 16 == PTRACE_EVENT_STOP;
    if (t->interrupted)
        lead_again(t->tid);
    if (t->signal == SIGCHLD)
        beside_begin_again(t->tid);
    t->entering = call && ptrace(PTRACE_GET_SYSCALL_INFO, t->tid, (void *)sizeof info, &info) > 0 &&
                  info.op == PTRACE_SYSCALL_INFO_ENTRY;
    if (!call && !(status >> 16))
        lead_break(&t->lead, t->tid);
    if (!call || t->entering)
        return;
    if (t->writes)
        swallow_wrote(t->writes, t->tid, t->size);
    t->writes = NULL;
    lead_end(&t->lead, t->tid);
}

void freeze_stopped(struct server *s, pid_t tid, int status)
{
    for (struct freeze *f = s->freeze; f; f = f->next) {
        struct thread *t = find_or_add(f, tid, WIFSTOPPED(status));
        if (!t)
            continue;
        if (WIFSTOPPED(status)) {
            stopped_for(t, status);
        } else {
            t->gone = true;
            t->stopped = false;
        }
        if (!f->counting) {
            look(s, f);
            return;
        }
        if (t->gone)
            remove_thread(f, t);
        else
            go_on(f, t);
        if (!f->count)
            free_freeze(s, f);
        return;
    }
    if (!beside_stopped(s, tid, status) && WIFSTOPPED(status)) /* one that was not waited for */
        ptrace(PTRACE_DETACH, tid, NULL, (void *)(intptr_t)(status >> 16 ? 0 : WSTOPSIG(status)));
}

void freeze_task_gone(struct server *s, struct task *t)
{
    for (struct freeze *f = s->freeze, *next; f; f = next) {
        next = f->next;
        if (f->task != t)
            continue;
        for (uint32_t i = 0; i < f->cut_count; i++)
            if (f->cut[i])
                channel_cut(f->cut[i]);
        free_freeze(s, f);
    }
}

void freeze_forget(struct server *s, struct channel *c)
{
    for (struct freeze *f = s->freeze; f; f = f->next) {
        for (uint32_t i = 0; i < f->cut_count; i++)
            if (f->cut[i] == c)
                f->cut[i] = NULL;
        for (uint32_t i = 0; i < f->count; i++)
            if (f->thread[i].writes == c)
                f->thread[i].writes = NULL;
    }
}
