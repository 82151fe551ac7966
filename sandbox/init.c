/* pid 1 of a task: gathers its descriptors and inputs, sets up the mounts, starts the program as pid 2,
 * reaps, and at the end hands over what the program left.
 *
 * It is ours, but it shares a pid namespace with the program: signals from there do not reach pid 1, and
 * it keeps the capabilities that the program has not, so it cannot be traced.  While it gathers it must
 * read all that comes; the server and the mounter rely on it. */
#include "sandbox/init.h"
#include "base/fds.h"
#include "sandbox/filter.h"
#include "sandbox/leftover.h"
#include "sandbox/mounts.h"
#include "sandbox/plain.h"
#include "sandbox/result.h"
#include "sandbox/spec.h"
#include "sandbox/syscalls.h"
#include "sandbox/wire.h"
#include "sandbox/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HIGH_FD FILTER_LINK_FD /* ours live here, above the program's numbers */
#define NS      1000000000ull
#define HAND_OVER_TRIES 200000 /* 0.1 s of a processor that nobody else wants */
#define CHILD_STACK_BYTES (128u << 10)

_Static_assert(SPEC_PORT_FD_MAX < HIGH_FD, "a program's descriptor would be ours");

static uint64_t since(const struct timespec *from)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)(now.tv_sec - from->tv_sec) * NS + (uint64_t)now.tv_nsec - (uint64_t)from->tv_nsec;
}

static uint64_t of_timeval(struct timeval t)
{
    return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_usec * 1000;
}

void init_tell(struct init *in, const struct outcome *o, const struct rusage *use)
{
    struct buf b = BUF_INIT(WIRE_DATA_MAX);
    result_pack(&b, &(struct box_result){.end = o->end,
                                         .status = o->status,
                                         .signal = o->signal,
                                         .sys = o->sys,
                                         .limit = o->limit,
                                         .text = o->text,
                                         .cpu_user_ns = of_timeval(use->ru_utime),
                                         .cpu_sys_ns = of_timeval(use->ru_stime),
                                         .wall_ns = in->began.tv_sec ? since(&in->began) : 0,
                                         .memory_peak_bytes = (uint64_t)use->ru_maxrss * 1024});
    struct wire head = {.kind = b.failed ? WIRE_FAILED : WIRE_RESULT, .b = b.failed ? ENOMEM : 0};
    static const char no_memory[] = "out of memory";
    wire_send(in->link, head, b.failed ? no_memory : b.data, b.failed ? sizeof no_memory - 1 : b.size, NULL, 0);
    buf_clear(&b);
}

/* The last thing an init does. */
static _Noreturn void tell(struct init *in, const struct outcome *o)
{
    struct rusage use = {0};
    getrusage(RUSAGE_CHILDREN, &use);
    plain_remove();
    init_tell(in, o, &use);
    _exit(0);
}

static _Noreturn void give_up(struct init *in, const struct err *e)
{
    struct outcome o = {.end = BOX_FAILED, .sys = e->sys};
    snprintf(o.text, sizeof o.text, "%s", e->text);
    tell(in, &o);
}

void init_judge_killed(const struct init *in, struct outcome *o)
{
    static const char *const limit[WIRE_WHYS] = {
        [WIRE_WHY_TIMEOUT] = "timeout", [WIRE_WHY_CPU] = "cpu", [WIRE_WHY_OUTPUT] = "output"};
    const char *by = in->why < WIRE_WHYS ? limit[in->why] : NULL;
    *o = (struct outcome){.end = by ? BOX_LIMIT : BOX_KILLED, .limit = by};
}

static _Noreturn void tell_killed(struct init *in)
{
    struct outcome o;
    init_judge_killed(in, &o);
    tell(in, &o);
}

int init_raise_fd(int fd)
{
    int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
    fd_close(&fd);
    return high;
}

static void take_file(struct init *in, uint32_t i, bool tree)
{
    if (i >= in->task.file_count || in->files.fd[i] >= 0)
        return;
    in->files.fd[i] = init_raise_fd(wire_take_fd(&in->packet, 0));
    in->files.tree[i] = tree;
    in->files.late[i] = tree && in->packet.head.b;
    in->missing--;
}

static void take_packet(struct init *in)
{
    const struct wire *h = &in->packet.head;
    switch (h->kind) {
    case WIRE_PORTS:
        for (uint32_t i = 0; i < in->packet.fd_count && h->a + i < in->slot_count; i++) {
            in->port[in->slot[h->a + i]] = init_raise_fd(wire_take_fd(&in->packet, i));
            in->missing--;
        }
        break;
    case WIRE_COPY:
    case WIRE_TREE:
        take_file(in, h->a, h->kind == WIRE_TREE);
        break;
    case WIRE_KILL:
        in->killed = true;
        in->why = (enum wire_why)h->a;
        break;
    case WIRE_FINISH:
        in->finish = true;
        break;
    case WIRE_FORKER:
        fd_close(&in->forker);
        in->forker = init_raise_fd(wire_take_fd(&in->packet, 0));
        break;
    case WIRE_CLONE:
        fd_close(&in->next);
        in->next = init_raise_fd(wire_take_fd(&in->packet, 0));
        break;
    default:
        break;
    }
    wire_close_fds(&in->packet);
}

/* The server gone is the end: the kernel takes down our whole namespace. */
void init_take_next(struct init *in)
{
    if (wire_receive(in->link, &in->packet, 0) <= 0)
        _exit(1);
    take_packet(in);
}

void init_await(struct init *in)
{
    while (in->missing && !in->killed)
        init_take_next(in);
}

/* Was anything lost on its way? */
bool init_lacks(const struct init *in)
{
    for (uint32_t i = 0; i < in->slot_count; i++)
        if (in->port[in->slot[i]] < 0)
            return true;
    return false;
}

static void gather(struct init *in)
{
    struct box_task *t = &in->task;
    struct err e;
    uint32_t n = t->port_count + 1, m = t->file_count + 1;
    in->port = arena_array(&in->arena, n, sizeof *in->port);
    in->slot = arena_array(&in->arena, n, sizeof *in->slot);
    in->files.fd = arena_array(&in->arena, m, sizeof *in->files.fd);
    in->files.tree = arena_array(&in->arena, m, sizeof *in->files.tree);
    in->files.late = arena_array(&in->arena, m, sizeof *in->files.late);
    if (!in->port || !in->slot || !in->files.fd || !in->files.tree || !in->files.late) {
        err_nomem(&e);
        give_up(in, &e);
    }
    for (uint32_t i = 0; i < t->port_count; i++) {
        in->port[i] = -1;
        if (!t->port[i].name && (t->port[i].channel >= 0 || t->port[i].file >= 0))
            in->slot[in->slot_count++] = i;
    }
    for (uint32_t i = 0; i < t->file_count; i++)
        in->files.fd[i] = -1;
    in->missing = in->slot_count + t->file_count;
    init_await(in);
    if (in->killed)
        tell_killed(in);
    bool lacks = init_lacks(in);
    for (uint32_t i = 0; i < t->file_count; i++)
        lacks |= in->files.fd[i] < 0;
    if (lacks) {
        err_set(&e, ERR_LIMIT, "a descriptor was lost on its way to the task; too many are open");
        give_up(in, &e);
    }
}

/* In the child: exactly the ports, at their numbers. */
static int place_ports(struct init *in, struct err *e)
{
    int null = -1;
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    for (uint32_t i = 0; i < in->task.port_count; i++) {
        const struct box_port *p = &in->task.port[i];
        int from = in->port[i];
        if (p->name)
            continue; /* the server has it, and gives it to who opens it */
        if (from < 0) {
            if (null < 0)
                null = init_raise_fd(open("/dev/null", O_RDWR | O_CLOEXEC));
            from = null;
        }
        if (dup2(from, p->fd) < 0)
            return err_sys(e, "cannot give the program its descriptor %d", p->fd);
    }
    return 0;
}

static const char *path_of(const char *const *env)
{
    for (; env && *env; env++)
        if (!strncmp(*env, "PATH=", 5))
            return *env + 5;
    return "/usr/local/bin:/usr/bin:/bin";
}

static void exec_one(const struct box_task *t, const char *path)
{
    execve(path, (char *const *)(uintptr_t)t->argv, (char *const *)(uintptr_t)t->env);
    if (errno != ENOEXEC)
        return;
    /* A script without #!: as a shell does, give it to sh. */
    size_t n = 0;
    while (t->argv[n])
        n++;
    const char **argv = calloc(n + 2, sizeof *argv);
    if (!argv)
        return;
    argv[0] = "sh";
    argv[1] = path;
    memcpy(argv + 2, t->argv + 1, n * sizeof *argv);
    execve("/bin/sh", (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)t->env);
    free(argv);
}

static int exec_search(const struct box_task *t)
{
    const char *name = t->argv[0], *at = path_of(t->env);
    int sys = ENOENT;
    char path[4096];
    if (strchr(name, '/') || !*name) {
        exec_one(t, name);
        return errno;
    }
    for (;;) {
        size_t n = strcspn(at, ":");
        if (n + strlen(name) + 3 < sizeof path) {
            snprintf(path, sizeof path, "%.*s/%s", n ? (int)n : 1, n ? at : ".", name);
            if (access(path, F_OK) == 0) /* an exec costs more */
                exec_one(t, path);
            if (errno != ENOENT && errno != ENOTDIR)
                sys = errno;
            if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
                return sys;
        }
        if (!at[n])
            return sys;
        at += n + 1;
    }
}

static unsigned variant_of(const struct box_task *t)
{
    const struct box_limits *l = &t->limit;
    bool named = false, quota = false;
    for (uint32_t i = 0; i < t->port_count; i++) {
        named |= t->port[i].name != NULL;
        quota |= t->port[i].quota != 0;
    }
    return (named || filter_watches(t->argv, t->env) ? FILTER_OPENS : 0) | (quota ? FILTER_QUOTA : 0) |
           (l->memory_bytes ? FILTER_MEMORY : 0) |
           (l->files ? FILTER_FILES : 0) | (t->trace ? FILTER_TRACE : 0);
}

/* The kernel counts descriptors under way, per user, and refuses more than a process of ours may have open; those of
 * others arrive as soon as who takes them has the processor.  So it is given up and asked again: under the filter by now,
 * no call waits for a time without an answer that nobody could give yet. */
static int hand_over(int link, int listener)
{
    int r = -1;
    for (int i = 0; i < HAND_OVER_TRIES; i++) {
        r = wire_send(link, (struct wire){.kind = WIRE_LISTENER}, NULL, 0, &listener, 1);
        if (r == 0 || errno != ETOOMANYREFS)
            break;
        sched_yield();
        errno = ETOOMANYREFS;
    }
    return r;
}

/* The child.  It shares our memory, and we wait until it has begun its program or ended: no page table is
 * copied, and what goes wrong it says in a struct of ours. */
static int be_program(void *owner)
{
    struct init *in = owner;
    struct exec_failure *f = &in->failure;
    struct err e;
    int listener;
    unsigned variant = variant_of(&in->task);
    if (in->none)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    f->ours = place_ports(in, &e) < 0 || program_setup(&in->task, in->none, &e) < 0 ||
             (!in->none && (filter_prepare(variant, &e) < 0 || filter_install(variant, &listener, &e) < 0));
    if (!f->ours && !in->none) {
        if (hand_over(in->link, listener) < 0) {
            f->ours = true;
            err_sys(&e, "cannot hand over the filter's listener");
        }
        close(listener);
    }
    if (f->ours) {
        f->sys = e.sys;
        memcpy(f->text, e.text, sizeof f->text);
    } else {
        f->sys = exec_search(&in->task);
    }
    _exit(126);
}

/* The first line of a script whose interpreter is not there. */
static bool interpreter_of(const char *path, char *line, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, line, size - 1);
    fd_close(&fd);
    if (n < 3 || line[0] != '#' || line[1] != '!')
        return false;
    line[n] = '\0';
    memmove(line, line + 2, (size_t)n - 1);
    size_t skip = strspn(line, " \t");
    memmove(line, line + skip, strlen(line + skip) + 1);
    line[strcspn(line, " \t\r\n")] = '\0';
    return true;
}

static void explain(const struct box_task *t, const struct exec_failure *f, struct outcome *o)
{
    const char *name = t->argv[0];
    char line[256];
    o->sys = f->sys;
    if (f->ours) {
        o->end = BOX_FAILED;
        memcpy(o->text, f->text, sizeof o->text);
        return;
    }
    bool missing = f->sys == ENOENT || f->sys == ENOTDIR;
    o->end = missing ? BOX_NOT_FOUND : BOX_NOT_RUN;
    if (!missing)
        snprintf(o->text, sizeof o->text, "'%s' cannot be run: %s", name, strerror(f->sys));
    else if (strchr(name, '/') && access(name, F_OK) == 0 && interpreter_of(name, line, sizeof line))
        snprintf(o->text, sizeof o->text, "'%s' needs the interpreter '%s', which is not in the sandbox",
                 name, line);
    else if (strchr(name, '/') && access(name, F_OK) == 0)
        snprintf(o->text, sizeof o->text, "'%s' needs a program loader that is not in the sandbox", name);
    else
        snprintf(o->text, sizeof o->text, "there is no program '%s' in the sandbox", name);
}

/* As vfork, on a stack of its own. */
static pid_t clone_waiting(int (*run)(void *owner), void *owner)
{
    static char stack[CHILD_STACK_BYTES] __attribute__((aligned(16)));
    return clone(run, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, owner);
}

static void start_program(struct init *in)
{
    struct err e;
    clock_gettime(CLOCK_MONOTONIC, &in->began);
    in->main = clone_waiting(be_program, in);
    if (in->main < 0) {
        err_sys(&e, "cannot fork the program");
        give_up(in, &e);
    }
    for (uint32_t i = 0; i < in->task.port_count; i++)
        fd_close(&in->port[i]);
    for (uint32_t i = 0; i < in->task.file_count; i++)
        if (in->files.tree[i] || !leftover_compares(&in->task, i))
            fd_close(&in->files.fd[i]);
    if (in->failure.sys || in->failure.ours) {
        struct outcome o = {0};
        waitpid(in->main, NULL, 0);
        explain(&in->task, &in->failure, &o);
        tell(in, &o);
    }
}

static bool reap_one(struct init *in, int options)
{
    int status;
    pid_t pid = waitpid(-1, &status, __WALL | options);
    if (pid < 0 && errno != EINTR)
        in->all_ended = true;
    if (pid == in->main) {
        in->main_ended = true;
        in->status = status;
    }
    return pid > 0;
}

/* How many ended. */
static int reap_ended(struct init *in)
{
    int ended = 0;
    while (reap_one(in, WNOHANG))
        ended++;
    return ended;
}

/* Until the program has ended and nobody is left who could say more, or we are told to end it. */
static void serve(struct init *in, int signals)
{
    while (!in->all_ended && !in->killed && !in->finish) {
        struct pollfd p[2] = {{signals, POLLIN, 0}, {in->link, POLLIN, 0}};
        struct signalfd_siginfo info;
        int ended = 0;
        if (poll(p, 2, -1) < 0)
            continue;
        if (p[0].revents && read(signals, &info, sizeof info) > 0)
            ended = reap_ended(in);
        if (p[1].revents)
            init_take_next(in);
        if (in->main_ended && !in->all_ended && ended) {
            wire_send(in->link, (struct wire){.kind = WIRE_MAIN}, NULL, 0, NULL, 0);
        }
    }
    while (!in->all_ended) {
        /* Without a namespace, grandchildren become ours only as their parents end: one at a time. */
        if (in->none || getpid() != 1)
            plain_kill_children();
        else
            kill(-1, SIGKILL);
        reap_one(in, 0);
    }
}

/* The signal that ended the program, or a child of a shell that then ended with its number. */
static int ended_by(int status)
{
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status) > 128 ? WEXITSTATUS(status) - 128 : 0;
}

/* A program that failed while there was no room left has met that limit. */
static bool scratch_full(const struct init *in)
{
    struct statvfs s;
    return !in->none && statvfs("/tmp", &s) == 0 && s.f_blocks && !s.f_bfree;
}

void init_judge(const struct init *in, struct outcome *o)
{
    int s = in->status, by = ended_by(s);
    const struct box_limits *l = &in->task.limit;
    o->end = WIFEXITED(s) ? BOX_EXITED : BOX_SIGNALLED;
    o->status = WIFEXITED(s) ? WEXITSTATUS(s) : 0;
    o->signal = WIFSIGNALED(s) ? WTERMSIG(s) : 0;
    if (l->cpu_ns && by == SIGXCPU)
        o->limit = "cpu";
    else if (l->output_bytes && by == SIGXFSZ)
        o->limit = "output";
    else if (s && scratch_full(in))
        o->limit = "scratch";
    if (o->limit)
        o->end = BOX_LIMIT;
}

static void read_task(struct init *in, int spec, uint64_t offset, uint64_t size)
{
    struct stat s;
    struct err e;
    const char *bytes = MAP_FAILED;
    if (fstat(spec, &s) == 0 && offset <= (uint64_t)s.st_size && size <= (uint64_t)s.st_size - offset)
        bytes = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, spec, 0);
    if (bytes == MAP_FAILED) {
        err_sys(&e, "cannot read the task's description");
        give_up(in, &e);
    }
    if (spec_decode_task((struct slice){bytes + offset, size}, &in->arena, &in->task, &e) < 0)
        give_up(in, &e);
}

_Noreturn void init_main(int link, int spec, const struct wire *h, bool none)
{
    static struct init in;
    struct err e;
    sigset_t child;
    prctl(PR_SET_NAME, "zpipe-init");
    in.none = none;
    in.forker = in.next = -1;
    if (none)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    in.arena = ARENA_INIT(SPEC_ARENA_MAX);
    in.link = fcntl(link, F_DUPFD_CLOEXEC, HIGH_FD);
    signal(SIGCHLD, SIG_DFL);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    if (in.link < 0 || wire_send(in.link, (struct wire){.kind = WIRE_HELLO}, NULL, 0, NULL, 0) < 0)
        _exit(1);
    read_task(&in, spec, h->offset, h->size);
    if (close_range(3, HIGH_FD - 1, 0) < 0) { /* the zygote's */
        err_sys(&e, "cannot close what the program must not have");
        give_up(&in, &e);
    }
    gather(&in);
    if ((none ? plain_place : task_mounts)(&in.task, &in.files, &e) < 0)
        give_up(&in, &e);
    int signals = init_raise_fd(signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
    if (signals < 0) {
        err_sys(&e, "cannot wait for the program");
        give_up(&in, &e);
    }
    start_program(&in);
    if (h->a)
        template_serve(&in, signals);
    serve(&in, signals);
    if (in.killed)
        tell_killed(&in);
    struct outcome o = {0};
    init_judge(&in, &o);
    const char *ceiling = leftover_send(&in.task, &in.files, in.link);
    if (ceiling && !o.limit) {
        o.end = BOX_LIMIT;
        o.limit = ceiling;
    }
    tell(&in, &o);
}
