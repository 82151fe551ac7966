/* Cutting a channel under a running writer.
 *
 * A write that is blocked in the socket when it is shut returns EPIPE without SIGPIPE.  So every thread
 * of the writing sandbox is first interrupted by ptrace: a blocked write leaves the kernel to be started
 * again (or returns what it has written).  When all stand still, the channel is cut and they are let go;
 * the writes start anew, meet a shut socket, and the kernel itself sends SIGPIPE.  Nothing else of it can
 * be seen by the programs.
 *
 * Threads are found by walking down from the task's init until a walk finds nobody new.  A thread that
 * is in no state to stop (a parent in vfork, a page being read) is not in a socket's queue either: it is
 * not waited for, and let go when it stops later. */
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

#define THREADS_MAX 8192 /* of one sandbox; they are compared each with each */
#define CUTS_MAX    64    /* channels in one go; more wait for the next */

struct thread {
    pid_t tid;
    bool stopped, gone;
    int signal; /* to be delivered when it goes on */
};

struct freeze {
    struct task *task;
    struct channel *cut[CUTS_MAX];
    uint32_t cut_count;
    ino_t space; /* the task's pid namespace: numbers that are of it */
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

static char state_of(pid_t tid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 'X';
    text[n] = '\0';
    const char *end = strrchr(text, ')');
    return end && end[1] == ' ' ? end[2] : 'X';
}

static ino_t space_of(pid_t pid)
{
    char path[64];
    struct stat s;
    snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)pid);
    return stat(path, &s) < 0 ? 0 : s.st_ino;
}

/* A number may be given again, to a process of the host's.  Once it is held, it cannot. */
static void signal_thread(const struct freeze *f, pid_t tid)
{
    int fd = (int)syscall(SYS_pidfd_open, tid, PIDFD_THREAD);
    if (fd < 0)
        fd = (int)syscall(SYS_pidfd_open, tid, 0);
    if (fd >= 0 && space_of(tid) == f->space)
        syscall(SYS_pidfd_send_signal, fd, SIGPIPE, NULL, 0);
    if (fd >= 0)
        close(fd);
}

/* New threads are seized and told to stop.  True when it was new. */
static bool add_thread(struct freeze *f, pid_t tid)
{
    if (find_thread(f, tid) || f->count == THREADS_MAX || space_of(tid) != f->space)
        return false;
    if (f->count == f->room) {
        uint32_t room = f->room ? f->room * 2 : 16;
        struct thread *grown = realloc(f->thread, room * sizeof *grown);
        if (!grown)
            return false;
        f->thread = grown;
        f->room = room;
    }
    struct thread t = {.tid = tid};
    bool refused = ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0 && errno == EPERM;
    /* Refused: by the host, or it is traced already, for its exec (notify_exec.c). */
    if (!refused && space_of(tid) != f->space) { /* another's by now: it stops, and is let go as unwanted */
        ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
        return false;
    }
    if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0) {
        t.gone = true; /* it ends; or the host forbids tracing: then only the signal can be had */
        if (refused && strchr("SR", state_of(tid)))
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
        if (!t->stopped && !t->gone && !strchr("DZXIt", state_of(t->tid)))
            return false;
    }
    return true;
}

static void free_freeze(struct server *s, struct freeze *f)
{
    struct freeze **at = &s->freeze;
    while (*at && *at != f)
        at = &(*at)->next;
    if (*at)
        *at = f->next;
    for (uint32_t i = 0; i < f->cut_count; i++)
        if (f->cut[i])
            channel_cut(f->cut[i]);
    for (uint32_t i = 0; i < f->count; i++)
        if (f->thread[i].stopped)
            ptrace(PTRACE_DETACH, f->thread[i].tid, NULL, (void *)(intptr_t)f->thread[i].signal);
    free(f->thread);
    free(f);
}

static void look(struct server *s, struct freeze *f)
{
    while (all_still(f))
        if (!walk_threads(f, f->task->init, false, 0)) {
            free_freeze(s, f);
            return;
        }
}

void freeze_begin(struct server *s, struct task *writer, struct channel *c)
{
    struct freeze *f = s->freeze;
    if (!writer->init) { /* it has not begun: nothing can be blocked */
        channel_cut(c);
        return;
    }
    while (f && f->task != writer)
        f = f->next;
    if (f && f->cut_count < CUTS_MAX) {
        f->cut[f->cut_count++] = c;
        return;
    }
    f = calloc(1, sizeof *f);
    if (!f) {
        channel_cut(c);
        return;
    }
    f->task = writer;
    f->space = space_of(writer->init);
    f->cut[f->cut_count++] = c;
    f->next = s->freeze;
    s->freeze = f;
    walk_threads(f, writer->init, false, 0);
    look(s, f);
}

void freeze_stopped(struct server *s, pid_t tid, int status)
{
    int signal = WIFSTOPPED(status) && !(status >> 16) ? WSTOPSIG(status) : 0; /* else an event's */
    for (struct freeze *f = s->freeze; f; f = f->next) {
        struct thread *t = find_thread(f, tid);
        if (!t)
            continue;
        if (WIFSTOPPED(status)) {
            t->stopped = true;
            t->signal = signal;
        } else {
            t->gone = true;
            t->stopped = false;
        }
        look(s, f);
        return;
    }
    if (WIFSTOPPED(status)) /* one that was not waited for */
        ptrace(PTRACE_DETACH, tid, NULL, (void *)(intptr_t)signal);
}

void freeze_task_gone(struct server *s, struct task *t)
{
    for (struct freeze *f = s->freeze, *next; f; f = next) {
        next = f->next;
        if (f->task == t)
            free_freeze(s, f);
    }
}

void freeze_forget(struct server *s, struct channel *c)
{
    for (struct freeze *f = s->freeze; f; f = f->next)
        for (uint32_t i = 0; i < f->cut_count; i++)
            if (f->cut[i] == c)
                f->cut[i] = NULL;
}
