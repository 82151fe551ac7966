/* What a process is found at: by /proc, and in its memory.  It is looked at while it is held, or while it waits:
 * so what is found there stays so, unless it was killed; then the words are of nobody, and taken for nothing. */
#include "base/fds.h"
#include "sandbox/server.h"
#include "sandbox/turns_member.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define POLLED_MAX 16 /* descriptors that one call waits for */

bool turns_read_proc(pid_t pid, const char *what, char *text, size_t room)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, room - 1);
    fd_close(&fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

char turns_state(pid_t pid, pid_t *parent)
{
    char text[512];
    if (!turns_read_proc(pid, "stat", text, sizeof text))
        return 'X';
    const char *end = strrchr(text, ')'); /* the name before it may hold anything */
    if (!end || end[1] != ' ')
        return 'X';
    if (parent)
        *parent = (pid_t)strtol(end + 3, NULL, 10);
    return end[2];
}

pid_t turns_inner_number(pid_t pid)
{
    char text[4096];
    char *at = turns_read_proc(pid, "status", text, sizeof text) ? strstr(text, "\nNSpid:") : NULL;
    long number = 0;
    if (!at)
        return 0;
    at += strlen("\nNSpid:");
    at[strcspn(at, "\n")] = '\0';
    for (char *word; (word = strsep(&at, "\t "));)
        if (*word)
            number = strtol(word, NULL, 10); /* the last one is the innermost's */
    return (pid_t)number;
}

pid_t turns_inner(struct member *m)
{
    if (!m->inner)
        m->inner = turns_inner_number(m->pid);
    return m->inner;
}

bool turns_takes_child_signal(pid_t pid)
{
    char text[4096];
    const char *at = turns_read_proc(pid, "status", text, sizeof text) ? strstr(text, "\nSigCgt:") : NULL;
    return !at || strtoull(at + strlen("\nSigCgt:"), NULL, 16) >> (SIGCHLD - 1) & 1;
}

bool turns_has_ended_child(pid_t pid, pid_t child)
{
    char what[64], text[4096], *rest = text;
    snprintf(what, sizeof what, "task/%d/children", (int)pid);
    if (!turns_read_proc(pid, what, text, sizeof text))
        return false;
    for (char *word; (word = strsep(&rest, " "));)
        if (*word && turns_state((pid_t)atoi(word), NULL) == 'Z' &&
            (child < 0 || turns_inner_number((pid_t)atoi(word)) == child))
            return true;
    return false;
}

bool turns_own_pipe(const struct turns *ts, pid_t pid, int number)
{
    const struct region *r = ts->task->region;
    const struct box_task *plan = &r->spec.region.task[ts->task->index];
    struct stat s, given;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, number);
    if (stat(path, &s) < 0 || !S_ISFIFO(s.st_mode))
        return false;
    for (uint32_t i = 0; i < plan->port_count; i++)
        if (plan->port[i].channel < 0 && plan->port[i].file >= 0 &&
            fstat(r->fd[plan->port[i].file], &given) == 0 && given.st_dev == s.st_dev && given.st_ino == s.st_ino)
            return false;
    return true;
}

static bool read_memory(pid_t pid, unsigned long address, void *data, size_t size)
{
    struct iovec here = {data, size}, there = {(void *)address, size};
    return process_vm_readv(pid, &here, 1, &there, 1, 0) == (ssize_t)size;
}

bool turns_polls_own(const struct member *m, const unsigned long *arg)
{
    struct pollfd p[POLLED_MAX];
    bool own = arg[1] <= POLLED_MAX && read_memory(m->pid, arg[0], p, arg[1] * sizeof *p);
    for (unsigned long i = 0; own && i < arg[1]; i++)
        own = p[i].fd < 0 || turns_own_pipe(m->turns, m->pid, p[i].fd);
    return own;
}

bool turns_selects_own(const struct member *m, const unsigned long *arg)
{
    fd_set set;
    bool own = arg[0] <= FD_SETSIZE;
    for (int i = 1; i <= 3; i++) {
        if (arg[i] && own)
            own = read_memory(m->pid, arg[i], &set, (arg[0] + 63) / 64 * 8);
        for (int fd = 0; arg[i] && own && fd < (int)arg[0]; fd++)
            own = !FD_ISSET(fd, &set) || turns_own_pipe(m->turns, m->pid, fd);
    }
    return own;
}
