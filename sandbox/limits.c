/* What a program gets besides its files: limits, a personality, and no rights.  Set in the child before its exec; a task's
 * own limits are set from outside, when the task is known. */
#include "sandbox/box.h"
#include "sandbox/fence.h"
#include "sandbox/raw_call.h"
#include "sandbox/syscalls.h"
#include "sandbox/zygote.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STACK_BYTES   (8ull << 20) /* fixed, because the layout of memory depends on it */
#define PROCESSES_MAX 16384 /* of all tasks of a box together; the kernel does not count root's processes */
#define FILES_MAX     OURS_FD /* greater numbers are those of our descriptors */
#define LOCKED_BYTES  (64ull << 10) /* every host allows as much */
#define SIGNALS_MAX   1024
#define QUEUES_BYTES  4096 /* programs have no message queues */
#define NS            1000000000ull

static int set_limit(pid_t pid, int what, uint64_t soft, uint64_t hard)
{
    struct rlimit now;
    if (prlimit(pid, (__rlimit_resource_t)what, NULL, &now) < 0)
        return -1;
    if (now.rlim_max != RLIM_INFINITY && hard > now.rlim_max)
        hard = now.rlim_max; /* the host allows no more */
    now.rlim_max = hard;
    now.rlim_cur = soft < hard ? soft : hard;
    return prlimit(pid, (__rlimit_resource_t)what, &now, NULL);
}

/* The limits of every program, all that the kernel has: one that is not set here would be inherited from the caller, or
 * depend on the host's memory.  A task's processes are counted where they are started (notify_measure.c); RLIMIT_NPROC
 * counts the processes of all tasks, and keeps a task without a limit from taking all process numbers of the host.  A limit
 * of one byte prevents core files, even on a host that pipes them to a program, which a limit of zero would not prevent;
 * programs are told that the limit is zero (syscalls.def). */
static const struct {
    int what;
    uint64_t most; /* soft and hard */
} common[] = {
    {RLIMIT_CPU, RLIM_INFINITY},      {RLIMIT_FSIZE, RLIM_INFINITY},   {RLIMIT_DATA, RLIM_INFINITY}, {RLIMIT_STACK, STACK_BYTES},
    {RLIMIT_CORE, 1},                 {RLIMIT_RSS, RLIM_INFINITY},     {RLIMIT_NPROC, PROCESSES_MAX}, {RLIMIT_NOFILE, FILES_MAX},
    {RLIMIT_MEMLOCK, LOCKED_BYTES},   {RLIMIT_AS, RLIM_INFINITY},      {RLIMIT_LOCKS, RLIM_INFINITY}, {RLIMIT_SIGPENDING, SIGNALS_MAX},
    {RLIMIT_MSGQUEUE, QUEUES_BYTES},  {RLIMIT_NICE, 0},                {RLIMIT_RTPRIO, 0},           {RLIMIT_RTTIME, RLIM_INFINITY},
};

void program_raise(void)
{
    static const int of_space[] = {RLIMIT_SIGPENDING, RLIMIT_MEMLOCK, RLIMIT_NPROC, RLIMIT_MSGQUEUE};
    struct rlimit now;
    for (size_t i = 0; i < sizeof of_space / sizeof *of_space; i++)
        if (getrlimit((__rlimit_resource_t)of_space[i], &now) == 0) {
            now.rlim_cur = now.rlim_max;
            setrlimit((__rlimit_resource_t)of_space[i], &now);
        }
}

const char *limits_unusual(void)
{
    struct rlimit now;
    for (size_t i = 0; i < sizeof common / sizeof *common; i++)
        if (common[i].what != RLIMIT_NPROC && common[i].what != RLIMIT_CORE && /* programs are told fixed values (notify_answers.c) */
            getrlimit((__rlimit_resource_t)common[i].what, &now) == 0 && now.rlim_max < common[i].most)
            return "zpipe-box was started with lower limits (ulimit -H) than programs are told";
    return "";
}

int program_limit_common(pid_t pid, struct err *e)
{
    for (size_t i = 0; i < sizeof common / sizeof *common; i++)
        if (set_limit(pid, common[i].what, common[i].most, common[i].most) < 0)
            return err_sys(e, "cannot set the program's limits");
    return 0;
}

int program_limit(pid_t pid, const struct box_limits *l, struct err *e)
{
    uint64_t cpu = (l->cpu_ns + NS - 1) / NS;
    const struct {
        int what;
        uint64_t soft, hard; /* hard 0: the task has no such limit */
    } row[] = {
        {RLIMIT_NOFILE, l->files, l->files},
        {RLIMIT_DATA, l->memory_bytes, l->memory_bytes},
        {RLIMIT_FSIZE, l->output_bytes, l->output_bytes},
        {RLIMIT_CPU, cpu, cpu ? cpu + 1 : 0},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        if (row[i].hard && set_limit(pid, row[i].what, row[i].soft, row[i].hard) < 0)
            return err_sys(e, "cannot set the program's limits");
    return 0;
}

/* The zygote ignores these signals and has reset all others; the init has reset SIGCHLD. */
static void reset_signals(void)
{
    static const int ignored[] = {SIGPIPE, SIGXFSZ, SIGTERM, SIGINT, SIGQUIT};
    struct sigaction d;
    sigset_t none;
    memset(&d, 0, sizeof d);
    d.sa_handler = SIG_DFL;
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        sigaction(ignored[i], &d, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Drops all capabilities but one.  That one is of no use in a user namespace and is lost at the exec.  But while this
 * process has it, no process without it may trace this one or reach its memory, and no program has it. */
static int drop_rights(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct rights[2];
    memset(rights, 0, sizeof rights);
    rights[CAP_TO_INDEX(CAP_WAKE_ALARM)].permitted = CAP_TO_MASK(CAP_WAKE_ALARM);
    if (syscall(SYS_capset, &head, rights) < 0)
        return -1;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* Landlock: a task writes only in its own places, and reads only what is below its root. */
int program_fence(int *ruleset, struct err *e)
{
    static const struct fence_rule rules[] = {
        {"/", false, false}, {"/tmp", true, true}, {"/job", true, true}, {"/dev", true, false}};
    int version = fence_version(e);
    *ruleset = version > 0 ? fence_make(version, rules, sizeof rules / sizeof *rules, e) : -1;
    return version < 0 || (version && *ruleset < 0) ? -1 : 0;
}

int program_enter(int ruleset, struct err *e)
{
    errno = ruleset < 0 ? 0 : (int)-raw_call(SYS_landlock_restrict_self, ruleset, 0, 0, 0, syscalls_own(0), syscalls_own(1));
    return errno ? err_sys(e, "cannot enter the Landlock ruleset") : 0;
}

int program_wall(bool none, struct err *e)
{
    /* select writes the time that is left back into its argument, and that time would be the real one: with STICKY_TIMEOUTS
     * the argument stays as it was.  Without a wall nothing is certified anyway. */
    if (personality(ADDR_NO_RANDOMIZE | STICKY_TIMEOUTS) < 0 && !none)
        return err_sys(e, "cannot fix the program's memory layout");
    if (none)
        return 0;
    return drop_rights() < 0 ? err_sys(e, "cannot drop the program's rights") : 0;
}

void program_alone(void)
{
    umask(022);
    setsid();
    reset_signals();
}
