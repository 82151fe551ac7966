/* pid 1 of a task.  It makes the task's place: the mounts, and pid 2 with all that a program gets, which waits before its
 * exec (init_program.c).  It gathers the task's descriptors and inputs, lets the program begin, reaps processes, and at the
 * end hands over what the program left.  The place depends on no task, so it may be made before there is one (place.c).  It
 * serves one task, and then others, to which it gives a new /job and /tmp if the last one did not leave them as they were.
 *
 * The init is our code, but shares a pid namespace with the program.  Signals from there do not reach pid 1; and it keeps
 * capabilities that the program has not, so it cannot be traced.  While it gathers, it must read all that comes: the server
 * and the mounter rely on that. */
#include "sandbox/init.h"
#include "base/fds.h"
#include "sandbox/filter.h"
#include "sandbox/leftover.h"
#include "sandbox/mounts.h"
#include "sandbox/notify.h"
#include "sandbox/plain.h"
#include "sandbox/result.h"
#include "sandbox/spec.h"
#include "sandbox/wire.h"
#include "sandbox/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HIGH_FD OURS_FD
#define NS      1000000000ull
#define PAGE_BYTES        4096
#define NUMBER_LOOKS      30000
#define NUMBER_LOOK_NS    1000000
#define STACK_BYTES_USED  (4 * PAGE_BYTES) /* of our stack, by code that has not run yet */

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
    struct wire head = {.kind = b.failed ? WIRE_FAILED : WIRE_RESULT, .a = in->stays, .b = b.failed ? ENOMEM : in->unread, .offset = in->serial};
    static const char no_memory[] = "out of memory";
    wire_send(in->link, head, b.failed ? no_memory : b.data, b.failed ? sizeof no_memory - 1 : b.size, NULL, 0);
    buf_clear(&b);
}

/* Send the task's result, before the kernel takes down the namespaces.  After that the server lets us go, or has another
 * task for the place. */
static void answer(struct init *in, const struct outcome *o)
{
    plain_remove();
    in->stays = in->may_stay ? WIRE_STAYS : WIRE_STAYS_NOT;
    init_tell(in, o, &in->use);
}

/* Wait until all numbers are free that the last task's processes and threads had.  The kernel gives back the number of one that
 * nobody waits for, as its parent ignores SIGCHLD, and of a thread, a moment after it is no child any more: usually at once, but
 * 1.6 s were seen where ten others wanted each CPU.  The next task may have this place already, so that is waited for. */
static bool await_numbers(int last_number)
{
    char text[16];
    int looks = 0;
    ssize_t size = pread(last_number, text, sizeof text - 1, 0);
    text[size > 0 ? size : 0] = '\0';
    int last = atoi(text);
    for (int number = 3; number <= last && looks < NUMBER_LOOKS;) {
        if (number == NOTIFY_NOBODY || (fcntl(last_number, F_SETOWN, number) < 0 && errno == ESRCH)) {
            number++;
            continue;
        }
        looks++;
        nanosleep(&(struct timespec){.tv_nsec = NUMBER_LOOK_NS}, NULL);
    }
    return last > 0 && looks < NUMBER_LOOKS;
}

/* Wait for what the server does with a used place: a new link means that it is used again; otherwise, exit. */
static void await_again(struct init *in)
{
    while (wire_receive(in->link, &in->packet, 0) > 0) {
        int link = -1, last_number = -1;
        if (in->packet.head.kind == WIRE_PLACE && in->may_stay) {
            link = init_raise_fd(wire_take_fd(&in->packet, 0));
            last_number = wire_take_fd(&in->packet, 1);
        }
        wire_close_fds(&in->packet);
        if (link < 0)
            continue;
        if (!await_numbers(last_number) || pwrite(last_number, "1", 1, 0) != 1) /* the next process, the program, is to have number 2 again */
            break;
        close(last_number);
        close(in->link);
        in->link = link;
        return;
    }
    _exit(0);
}

_Noreturn void init_end(struct init *in, const struct outcome *o)
{
    in->may_stay = false;
    answer(in, o);
    await_again(in);
    _exit(0);
}

_Noreturn void init_give_up(struct init *in, const struct err *e)
{
    struct outcome o = {.end = BOX_FAILED, .sys = e->sys};
    snprintf(o.text, sizeof o.text, "%s", e->text);
    init_end(in, &o);
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
    init_end(in, &o);
}

int init_raise_fd(int fd)
{
    int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
    fd_close(&fd);
    return high;
}

static void take_file(struct init *in, uint32_t i, bool tree)
{
    if (i >= in->task.file_count || in->files.fd[i] >= 0 || spec_is_made(&in->task.file[i]))
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
        if (h->b < in->serial)
            break; /* about a clone that has ended meanwhile */
        in->serial = h->b;
        in->killed = true;
        in->why = (enum wire_why)h->a;
        break;
    case WIRE_FINISH:
        in->finish |= h->b == in->serial;
        break;
    case WIRE_FORKER:
        fd_close(&in->forker);
        in->forker = init_raise_fd(wire_take_fd(&in->packet, 0));
        for (size_t i = 0; i < FORKER_DOORS; i++)
            in->door[i] = init_raise_fd(wire_take_fd(&in->packet, 1 + i));
        break;
    default:
        break;
    }
    wire_close_fds(&in->packet);
}

/* Take one packet.  If the server is gone, exit: the kernel takes down our whole namespace. */
void init_take_next(struct init *in)
{
    if (wire_receive(in->link, &in->packet, 0) <= 0)
        _exit(1);
    take_packet(in);
}

/* Take packets until all missing descriptors have come, or the task is to end. */
static void await_descriptors(struct init *in)
{
    while (in->missing && !in->killed)
        init_take_next(in);
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
        init_give_up(in, &e);
    }
    for (uint32_t i = 0; i < t->port_count; i++) {
        in->port[i] = -1;
        if (!t->port[i].name && (t->port[i].channel >= 0 || t->port[i].file >= 0))
            in->slot[in->slot_count++] = i;
    }
    in->missing = in->slot_count;
    for (uint32_t i = 0; i < t->file_count; i++) {
        in->files.fd[i] = -1;
        in->missing += !spec_is_made(&t->file[i]);
    }
    await_descriptors(in);
    if (in->killed)
        tell_killed(in);
    bool lacks = false; /* a descriptor was lost on its way */
    for (uint32_t i = 0; i < in->slot_count; i++)
        lacks |= in->port[in->slot[i]] < 0;
    for (uint32_t i = 0; i < t->file_count; i++)
        lacks |= !spec_is_made(&t->file[i]) && in->files.fd[i] < 0;
    if (lacks) {
        err_set(&e, ERR_LIMIT, "a descriptor was lost on its way to the task; too many are open");
        init_give_up(in, &e);
    }
}

static void add_use(struct rusage *sum, const struct rusage *one)
{
    timeradd(&sum->ru_utime, &one->ru_utime, &sum->ru_utime);
    timeradd(&sum->ru_stime, &one->ru_stime, &sum->ru_stime);
    if (sum->ru_maxrss < one->ru_maxrss)
        sum->ru_maxrss = one->ru_maxrss;
}

static bool reap_one(struct init *in, int options)
{
    int status;
    struct rusage use;
    pid_t pid = wait4(-1, &status, __WALL | options, &use);
    if (pid < 0 && errno != EINTR)
        in->all_ended = true;
    if (pid > 0)
        add_use(&in->use, &use);
    if (pid == in->main) {
        in->main_ended = true;
        in->status = status;
    }
    return pid > 0;
}

/* Reap all that have ended; returns how many. */
static int reap_ended(struct init *in)
{
    int ended = 0;
    while (reap_one(in, WNOHANG))
        ended++;
    return ended;
}

/* Serve until the program has ended and nobody is left who could write more, or we are told to end. */
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
        /* Without a pid namespace, grandchildren become our children only as their parents end, one at a time. */
        if (in->none || getpid() != 1)
            plain_kill_children();
        else
            kill(-1, SIGKILL);
        reap_one(in, 0);
    }
}

/* The signal that ended the program, or ended a child of a shell, which then exits with 128 and its number. */
static int ended_by(int status)
{
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status) > 128 ? WEXITSTATUS(status) - 128 : 0;
}

/* If a program failed while there was no room left in its scratch space, it has met that limit. */
static bool scratch_full(const struct init *in)
{
    struct statvfs s;
    return !in->none && statvfs("/job", &s) == 0 && s.f_blocks && !s.f_bfree; /* only /job is looked at: /tmp may be an input */
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

static void read_task(struct init *in)
{
    const struct wire *h = &in->packet.head;
    struct slice bytes = {in->packet.data, in->packet.size};
    struct stat s;
    struct err e;
    int spec = wire_take_fd(&in->packet, 0);
    if (spec >= 0) {
        void *all = MAP_FAILED;
        if (fstat(spec, &s) == 0 && h->offset <= (uint64_t)s.st_size && h->size <= (uint64_t)s.st_size - h->offset)
            all = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, spec, 0);
        if (all == MAP_FAILED) {
            err_sys(&e, "cannot read the task's description");
            init_give_up(in, &e);
        }
        bytes = (struct slice){(const char *)all + h->offset, h->size};
        in->map = all;
        in->map_size = (size_t)s.st_size;
        close(spec);
    } else {
        char *copy = arena_alloc(&in->arena, bytes.size + 1);
        if (!copy) {
            err_nomem(&e);
            init_give_up(in, &e);
        }
        memcpy(copy, bytes.data, bytes.size);
        bytes.data = copy;
    }
    if (spec_decode_task(bytes, &in->arena, &in->task, &e) < 0)
        init_give_up(in, &e);
}

/* Wait for the task's description.  Exit if the server is gone, or the place is not wanted. */
static void await_task(struct init *in)
{
    if (wire_receive(in->link, &in->packet, 0) <= 0 || in->packet.head.kind != WIRE_TASK)
        _exit(0);
    in->is_template = in->packet.head.a;
    in->unasked = in->packet.head.b;
    read_task(in);
    wire_close_fds(&in->packet);
    gather(in);
}

/* Touch now what a task will use: pages that still belong to the zygote or are not mapped, and code that this process has
 * not run.  Each would be a page fault while somebody waits. */
static void rehearse(struct init *in)
{
    volatile char deep[STACK_BYTES_USED];
    struct box_task none;
    struct err e;
    for (size_t i = 0; i < sizeof deep; i += PAGE_BYTES)
        deep[i] = 0;
    in->packet.data[0] = 0;
    in->failure.sys = 0;
    arena_alloc(&in->arena, 1);
    spec_decode_task((struct slice){"", 0}, &in->arena, &none, &e);
    since(&in->began);
    struct buf b = BUF_INIT(WIRE_DATA_MAX);
    result_pack(&b, &(struct box_result){.text = "", .limit = NULL});
    buf_clear(&b);
}

static const char *const scratch_place[INIT_SCRATCH] = {"/job", "/tmp"};

/* The time that the kernel has set would be replaced when somebody looks (notify_stat.c), which is a change; and after a change the
 * place serves no other task. */
static void mark_unchanged(void)
{
    static const struct timespec both[2] = {{0, NOTIFY_UNCHANGED_NS}, {0, NOTIFY_UNCHANGED_NS}};
    for (int i = 0; i < INIT_SCRATCH; i++)
        utimensat(AT_FDCWD, scratch_place[i], both, 0); /* if that fails the kernel's time is replaced */
}

/* /job and /tmp were made: note what they look like as long as nothing is in them, and fence them in. */
static int meet_scratch(struct init *in, struct err *e)
{
    struct stat s;
    if (stat(".", &s) == 0)
        in->job_size = s.st_size;
    mark_unchanged();
    for (int i = 0; i < INIT_SCRATCH; i++)
        if (stat(scratch_place[i], &s) == 0)
            in->changed[i] = s.st_ctim;
    if (program_fence(&in->fence, e) < 0)
        return -1;
    in->fence = init_raise_fd(in->fence);
    return 0;
}

static void make_place(struct init *in, const struct box_task *own)
{
    struct err e;
    in->fence = -1;
    if ((in->none ? plain_place(&in->task, &in->files, &e) : mounts_begin(own, &e)) < 0 || (!in->none && meet_scratch(in, &e) < 0))
        init_give_up(in, &e);
    in->null = init_raise_fd(open("/dev/null", O_RDWR | O_CLOEXEC));
    if (in->null < 0) {
        err_sys(&e, "cannot open '/dev/null' for the program");
        init_give_up(in, &e);
    }
    in->listener = -1;
    if (!in->none && filter_prepare(in->variant, &e) < 0)
        init_give_up(in, &e);
    rehearse(in);
    init_make_program(in);
}

/* Can /job and /tmp be used again after this task?  Not if something was put there for it.  Nor if a file that the task makes
 * could get the same time as the place itself, as times are only as fine as the kernel's ticks: then a change could not be
 * seen. */
static bool scratch_can_stay(const struct init *in)
{
    struct timespec tick;
    clock_gettime(CLOCK_REALTIME_COARSE, &tick);
    bool later = !in->task.file_count && !in->task.limit.scratch_bytes;
    for (int i = 0; later && i < INIT_SCRATCH; i++)
        later = in->changed[i].tv_sec < tick.tv_sec || (in->changed[i].tv_sec == tick.tv_sec && in->changed[i].tv_nsec < tick.tv_nsec);
    return later;
}

/* Is the place unchanged?  Whatever is made, removed, renamed or changed there changes the time of one of these two
 * directories. */
static bool is_as_made(const struct init *in)
{
    bool same = in->as_made;
    for (int i = 0; same && i < INIT_SCRATCH; i++) {
        struct stat s;
        same = stat(scratch_place[i], &s) == 0 && s.st_ctim.tv_sec == in->changed[i].tv_sec && s.st_ctim.tv_nsec == in->changed[i].tv_nsec;
    }
    return same;
}

/* Is /job empty?  The size of a tmpfs directory tells how many entries it has; and without inputs there is none that the
 * task could have removed. */
static bool left_nothing(const struct init *in)
{
    struct stat s;
    return in->job_size && !in->task.file_count && !in->task.output_count && stat(".", &s) == 0 && s.st_size == in->job_size;
}

static void add_task(struct init *in)
{
    struct err e;
    if ((!in->none && mounts_add(&in->task, &in->files, &e) < 0) || program_limit(in->main, &in->task.limit, &e) < 0)
        init_give_up(in, &e);
    if (!in->none && in->task.file_count)
        mark_unchanged();
}

static void serve_task(struct init *in, int signals)
{
    struct outcome o = {0};
    add_task(in);
    in->may_stay = in->maker != MAKER_NONE && !in->is_template;
    in->as_made = in->may_stay && scratch_can_stay(in);
    init_start_program(in);
    if (in->is_template)
        template_serve(in, signals);
    serve(in, signals);
    if (in->killed)
        tell_killed(in);
    init_judge(in, &o);
    in->as_made = is_as_made(in);
    const char *ceiling = left_nothing(in) ? NULL : leftover_send(&in->task, &in->files, in->link);
    if (ceiling && !o.limit) {
        o.end = BOX_LIMIT;
        o.limit = ceiling;
    }
    answer(in, &o);
}

static void say_hello(struct init *in, bool outside)
{
    if (wire_send(in->link, (struct wire){.kind = WIRE_HELLO, .a = outside}, NULL, 0, NULL, 0) < 0)
        _exit(1);
}

/* The place is used again: other tasks' /job and /tmp are not. */
static void renew(struct init *in)
{
    struct err e;
    if (in->as_made)
        return;
    fd_close(&in->fence);
    if (mounts_renew(&e) < 0 || meet_scratch(in, &e) < 0)
        _exit(1); /* the server then makes a place anew */
}

static void forget_task(struct init *in)
{
    for (uint32_t i = 0; i < in->task.file_count; i++)
        fd_close(&in->files.fd[i]); /* with which its copies were compared */
    if (in->map)
        munmap(in->map, in->map_size);
    arena_clear(&in->arena);
    memset(&in->task, 0, sizeof *in - offsetof(struct init, task));
    in->forker = -1;
}

/* Make the place, then wait for the task, which may be long in coming; or, if the task must be known first, the other way
 * round.  Then serve further tasks. */
_Noreturn void init_main(int link, const struct wire *h, bool none, bool outside)
{
    static struct init in;
    struct err e;
    sigset_t child;
    prctl(PR_SET_NAME, "zpipe-init");
    in.none = none;
    in.variant = h->a;
    in.forker = -1;
    if (none)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    in.arena = ARENA_INIT(SPEC_ARENA_MAX);
    in.link = fcntl(link, F_DUPFD_CLOEXEC, HIGH_FD);
    if (in.link < 0)
        _exit(1);
    signal(SIGCHLD, SIG_DFL);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    say_hello(&in, outside);
    if (close_range(3, HIGH_FD - 1, 0) < 0) { /* descriptors of the zygote */
        err_sys(&e, "cannot close what the program must not have");
        init_give_up(&in, &e);
    }
    int signals = init_raise_fd(signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
    if (signals < 0) {
        err_sys(&e, "cannot wait for the program");
        init_give_up(&in, &e);
    }
    if (h->b)
        await_task(&in);
    make_place(&in, h->b ? &in.task : NULL);
    for (bool known = h->b;; known = false) {
        if (!known)
            await_task(&in);
        serve_task(&in, signals);
        await_again(&in);
        renew(&in);
        say_hello(&in, false);
        forget_task(&in);
        init_make_program(&in);
    }
}
