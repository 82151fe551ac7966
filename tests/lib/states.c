/* A program for box_states.c: `states NAME` brings itself into some state, uses a channel for the first time, which is
 * where a template of it stands, and then says what it finds.  What it says must not show whether it was cloned. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <grp.h>
#include <linux/capability.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>
#include <wctype.h>

/* The first use of a channel. */
static void stop_here(void)
{
    char byte;
    if (read(0, &byte, 1) < 0)
        printf("stdin: %s\n", strerror(errno));
}

static int input(void)
{
    int fd = open("data", O_RDONLY);
    if (fd < 0)
        printf("data: %s\n", strerror(errno));
    return fd;
}

static void say_bytes(const char *what, int fd, size_t size)
{
    char bytes[64] = "";
    ssize_t n = read(fd, bytes, size);
    printf("%s: %zd '%s' at %ld, %s\n", what, n, bytes, (long)lseek(fd, 0, SEEK_CUR), n < 0 ? strerror(errno) : "well");
}

static void say_flags(const char *what, int fd)
{
    printf("%s: flags %o, close on exec %d\n", what, fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
}

/* --- files --- */

static void offsets(void)
{
    int a = input(), b = input(), c = input();
    char bytes[64];
    (void)!read(a, bytes, 10);
    lseek(b, -5, SEEK_END);
    stop_here();
    say_bytes("first", a, 5);
    say_bytes("second", b, 50);
    say_bytes("third", c, 3);
    say_bytes("first", a, 5);
}

static void shared_offsets(void)
{
    int a = input(), b = dup(a), c = fcntl(a, F_DUPFD_CLOEXEC, 100), d = input();
    say_bytes("before", a, 3);
    (void)!dup2(d, 50);
    stop_here();
    say_bytes("two", b, 3);
    say_bytes("three", c, 3);
    say_bytes("one", a, 3);
    say_bytes("other", d, 3);
    say_bytes("other two", 50, 3);
    say_flags("one", a);
    say_flags("three", c);
}

static void flags_of_files(void)
{
    int a = open("data", O_RDONLY | O_NONBLOCK), b = open("data", O_RDONLY | O_CLOEXEC), c = open("data", O_PATH), d = input();
    fcntl(d, F_SETFD, FD_CLOEXEC);
    fcntl(b, F_SETFD, 0);
    stop_here();
    say_flags("a", a);
    say_flags("b", b);
    say_flags("c", c);
    say_flags("d", d);
    say_bytes("c", c, 3);
}

static void mapped(void)
{
    int fd = input();
    char *own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    char *same = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    own[0] = '!';
    stop_here();
    own[1] = '?';
    printf("%.10s %.10s\n", own, same);
}

/* Clones must not share what they may write later. */
static void shared_memory(void)
{
    unsigned *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    stop_here();
    mprotect(p, 4096, PROT_READ | PROT_WRITE);
    printf("%u\n", ++*p);
}

static void shared_zero(void)
{
    int fd = open("/dev/zero", O_RDWR);
    unsigned *p = mmap(NULL, 4096, PROT_NONE, MAP_SHARED, fd, 0);
    close(fd);
    stop_here();
    printf("%d\n", p == MAP_FAILED ? -1 : mprotect(p, 4096, PROT_READ | PROT_WRITE));
    if (p != MAP_FAILED)
        printf("%u\n", ++*p);
}

static void directory(void)
{
    DIR *d = opendir("/usr");
    struct dirent *e = readdir(d);
    stop_here();
    printf("%d %d\n", e != NULL, readdir(d) != NULL);
}

static void places(void)
{
    char name[256];
    umask(0027);
    (void)!chdir("/usr/bin");
    stop_here();
    printf("%s\n", getcwd(name, sizeof name));
    int fd = open("/tmp/f", O_WRONLY | O_CREAT, 0777);
    struct stat s;
    printf("%d %o %d %d\n", fstat(fd, &s), s.st_mode, (int)s.st_uid, (int)s.st_gid);
    unlink("/tmp/f");
}

/* To look at its directories changes nothing there. */
static void looked_around(void)
{
    struct stat job, tmp;
    stop_here();
    printf("%d %d ", stat(".", &job), stat("/tmp", &tmp));
    printf("%ld.%09ld %ld.%09ld\n", (long)job.st_mtim.tv_sec, job.st_mtim.tv_nsec, (long)tmp.st_atim.tv_sec, tmp.st_atim.tv_nsec);
}

static void locks(void)
{
    int fd = input();
    printf("%d\n", flock(fd, LOCK_SH));
    stop_here();
    printf("%d\n", flock(fd, LOCK_UN));
}

static void record_locks(void)
{
    struct flock l = {.l_type = F_RDLCK};
    int fd = input();
    int r = fcntl(fd, F_SETLK, &l);
    stop_here();
    printf("%d %d\n", r, fcntl(fd, F_GETLK, &l));
}

/* --- channels --- */

static void high_number(void)
{
    dup2(0, 1000);
    say_bytes("high", dup2(0, 2000), 5);
    say_bytes("lower", 1000, 5);
}

static void other_numbers(void)
{
    int in = dup(0), out = fcntl(1, F_DUPFD, 20);
    close(0);
    int fd = input(); /* now number 0 */
    say_flags("out", out);
    setvbuf(stdout, NULL, _IONBF, 0);
    say_bytes("data", fd, 5);
    say_bytes("in", in, 5);
    say_bytes("data", fd, 5);
    (void)!write(out, "end\n", 4);
}

static void closed(void)
{
    close(0);
    say_bytes("in", 0, 5);
}

static void looked_at(void)
{
    char *before, *after;
    size_t size;
    for (int i = 0; i < 2; i++) {
        FILE *f = open_memstream(i ? &after : &before, &size);
        for (int fd = 0; fd < 3; fd++) {
            struct stat s;
            char name[64] = "", link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
            ssize_t n = readlink(link, name, sizeof name - 1);
            fprintf(f, "%d: stat %d", fd, fstat(fd, &s));
            fprintf(f, " %o %ld %ld %ld %ld", s.st_mode, (long)s.st_size, (long)s.st_ino, (long)s.st_dev, (long)s.st_mtime);
            fprintf(f, ", seek %ld, tty %d, '%s' %zd\n", (long)lseek(fd, 0, SEEK_CUR), isatty(fd), name, n);
        }
        fclose(f);
        if (i == 0)
            stop_here();
    }
    printf("%s%s", before, after);
}

static void by_poll(void)
{
    struct pollfd p = {0, POLLIN, 0};
    printf("%d %x\n", poll(&p, 1, -1), p.revents);
    say_bytes("in", 0, 20);
}

static void by_select(void)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(0, &set);
    printf("%d\n", select(1, &set, NULL, NULL, NULL));
    say_bytes("in", 0, 20);
}

static void by_count(void)
{
    int n = -1;
    ioctl(0, FIONREAD, &n);
    say_bytes("in", 0, 20);
}

static void by_vector(void)
{
    char a[3] = "", b[5] = "";
    struct iovec v[2] = {{a, 2}, {b, 4}};
    printf("%zd %s %s\n", readv(0, v, 2), a, b);
}

static void by_nothing(void)
{
    printf("%zd\n", read(0, NULL, 0));
    say_bytes("in", 0, 20);
}

static void by_copy(void)
{
    int fd = input();
    off_t at = 3;
    printf("%d\n", (int)sendfile(1, fd, &at, 10));
    printf("%ld\n", (long)copy_file_range(0, NULL, 1, NULL, 100, 0));
}

static void by_wait(void)
{
    sigset_t none;
    struct pollfd p = {0, POLLIN, 0};
    sigemptyset(&none);
    printf("%d\n", ppoll(&p, 1, NULL, &none));
    say_bytes("in", 0, 20);
}

static void waits_for(void)
{
    int e = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN};
    epoll_ctl(e, EPOLL_CTL_ADD, 0, &ev);
    printf("%d\n", epoll_wait(e, &ev, 1, -1));
    say_bytes("in", 0, 20);
}

static void pipes(void)
{
    int pair[2];
    (void)!pipe(pair);
    (void)!write(pair[1], "x", 1);
    stop_here();
    say_bytes("pipe", pair[0], 1);
}

static void counters(void)
{
    int fd = eventfd(3, 0);
    uint64_t n = 0;
    stop_here();
    (void)!read(fd, &n, sizeof n);
    printf("%d\n", (int)n);
}

static void sockets(void)
{
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    (void)!write(pair[1], "x", 1);
    stop_here();
    say_bytes("socket", pair[0], 1);
}

static void memory_files(void)
{
    int fd = memfd_create("m", 0);
    (void)!write(fd, "abc", 3);
    lseek(fd, 0, SEEK_SET);
    stop_here();
    say_bytes("memory", fd, 3);
}

/* --- memory and registers --- */

/* Where its forker lies, no call shows a clone anything. */
static void lowest(void)
{
    stop_here();
    for (uintptr_t at = 0x1000; at < 0x30000; at += 0x1000) {
        void *here = (void *)at, *p = mmap(here, 0x1000, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        printf("%lx %d ", (unsigned long)at, p == MAP_FAILED ? errno : p == here);
        if (p == here) /* above */
            munmap(p, 0x1000);
        printf("%d ", mmap(here, 0x1000, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED ? errno : 0);
        printf("%d ", msync(here, 0x1000, MS_ASYNC) < 0 ? errno : 0);
        printf("%d ", madvise(here, 0x1000, MADV_DONTNEED) < 0 ? errno : 0);
        printf("%d ", mprotect(here, 0x1000, PROT_READ) < 0 ? errno : 0);
        printf("%d\n", mremap(here, 0x1000, 0x2000, MREMAP_MAYMOVE) == MAP_FAILED ? errno : 0);
    }
}

static void heap(void)
{
    char *a = sbrk(8192), *b = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *small = malloc(100), *large = malloc(1 << 20);
    memset(a, 1, 8192);
    madvise(b, 4096, MADV_DONTNEED);
    stop_here();
    char *c = sbrk(1 << 20), *d = mmap(NULL, 1 << 24, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(c, 2, 1 << 20);
    memset(d, 3, 1 << 24);
    printf("%p %p %p %p %p %p %d %d %d\n", (void *)a, (void *)b, (void *)c, (void *)d, small, large, a[8191], b[0], d[99999]);
    large = realloc(large, 1 << 25);
    small = realloc(small, 200);
    printf("%p %p %p\n", large, small, mremap(b, 1 << 20, 1 << 22, MREMAP_MAYMOVE));
}

static int deep(int n)
{
    volatile char room[4000];
    memset((char *)room, n, sizeof room);
    return n ? deep(n - 1) + room[n % 4000] : 0;
}

static void stack(void)
{
    stop_here();
    printf("%d\n", deep(1500));
}

/* Enough of them that none is chance; the call between is the stop. */
static void registers(void)
{
    uint64_t got[12], flags, vector[4];
    static const uint64_t put[4] = {0x1111111111111111, 0x2222222222222222, 0x3333333333333333, 0x4444444444444444};
    char byte;
    long r;
    __asm__ volatile("movdqu %[put], %%xmm7\n movdqu 16+%[put], %%xmm15\n"
                     "mov $0x101, %%rbx\n mov $0x108, %%r8\n mov $0x109, %%r9\n mov $0x10a, %%r10\n mov $0x10c, %%r12\n"
                     "mov $0x10d, %%r13\n mov $0x10e, %%r14\n mov $0x10f, %%r15\n"
                     "xor %%eax, %%eax\n xor %%edi, %%edi\n mov $1, %%edx\n stc\n std\n syscall\n"
                     "pushfq\n pop 88+%[got]\n cld\n"
                     "mov %%rbx, %[got]\n mov %%r8, 8+%[got]\n mov %%r9, 16+%[got]\n mov %%r10, 24+%[got]\n mov %%r12, 32+%[got]\n"
                     "mov %%r13, 40+%[got]\n mov %%r14, 48+%[got]\n mov %%r15, 56+%[got]\n mov %%rdi, 64+%[got]\n"
                     "mov %%rdx, 72+%[got]\n movdqu %%xmm7, %[vector]\n movdqu %%xmm15, 16+%[vector]\n"
                     : "=a"(r), [got] "=o"(got), [vector] "=o"(vector)
                     : [put] "o"(put), "S"(&byte)
                     : "rbx", "rdi", "rdx", "r8", "r9", "r10", "r11", "rcx", "r12", "r13", "r14", "r15", "xmm7", "xmm15", "memory", "cc");
    flags = got[11];
    printf("%ld, flags %lx", r, (unsigned long)(flags & 0xcd5));
    for (int i = 0; i < 10; i++)
        printf(" %lx", (unsigned long)got[i]);
    for (int i = 0; i < 4; i++)
        printf(" %lx", (unsigned long)vector[i]);
    printf("\n");
}

static void floats(void)
{
    volatile double one = 1, three = 3;
    volatile long double q = 1;
    fesetround(FE_UPWARD);
    feraiseexcept(FE_OVERFLOW);
    stop_here();
    printf("%d %d %a %La\n", fegetround(), fetestexcept(FE_ALL_EXCEPT), one / three, q / 3);
}

static void bases(void)
{
    unsigned long gs = 0;
    syscall(SYS_arch_prctl, 0x1001 /* ARCH_SET_GS */, 0x12345000);
    stop_here();
    syscall(SYS_arch_prctl, 0x1004 /* ARCH_GET_GS */, &gs);
    printf("%lx\n", gs);
}

static void buffers(void)
{
    char line[64];
    printf("not written yet, ");
    FILE *f = fopen("data", "r");
    (void)!fgets(line, sizeof line, f);
    ungetc('X', f);
    putenv("LATER=yes");
    stop_here();
    (void)!fgets(line + 1, sizeof line - 1, f);
    printf("%s %s %ld\n", line, getenv("LATER"), ftell(f));
}

static void words_of_libc(void)
{
    struct passwd *p = getpwuid(getuid());
    printf("%s %s\n", setlocale(LC_ALL, "C.UTF-8"), p ? p->pw_name : "nobody");
    struct tm t;
    time_t now = 1000000000;
    localtime_r(&now, &t);
    stop_here();
    struct group *g = getgrgid(getgid());
    p = getpwnam("root");
    printf("%d %d %s %s %d\n", iswalpha(0xe4), (int)wcslen(L"\u00e4"), p ? p->pw_dir : "-", g ? g->gr_name : "-", t.tm_hour);
}

/* --- signals, timers --- */

static volatile sig_atomic_t count, on_altstack;
static char room[65536];

static void on_signal(int n)
{
    char here;
    count += n;
    on_altstack = &here > room && &here < room + sizeof room;
}

static void signals(void)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_RESTART};
    stack_t s = {.ss_sp = room, .ss_size = sizeof room}, had;
    sigset_t mask;
    sigaltstack(&s, NULL);
    sigaction(SIGUSR1, &sa, NULL);
    sa.sa_flags = 0;
    sigaction(SIGUSR2, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    sigaddset(&mask, SIGRTMIN + 3);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    stop_here();
    raise(SIGUSR1);
    printf("%d %d\n", (int)count, (int)on_altstack);
    raise(SIGUSR2);
    sigpending(&mask);
    printf("%d %d\n", (int)count, sigismember(&mask, SIGUSR2));
    sigprocmask(SIG_SETMASK, NULL, &mask);
    printf("%d %d %d\n", sigismember(&mask, SIGUSR2), sigismember(&mask, SIGRTMIN + 3), sigismember(&mask, SIGUSR1));
    sigemptyset(&mask);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    sigaltstack(NULL, &had);
    printf("%d %d %d %d %d\n", (int)count, (int)on_altstack, had.ss_sp == room, (int)had.ss_size, had.ss_flags);
    for (int n = 1; n < 65; n++)
        printf("%d", sigaction(n, NULL, &sa) < 0 ? 9 : sa.sa_handler == SIG_DFL ? 0 : sa.sa_handler == SIG_IGN ? 1 : 2);
    printf("\n");
}

static void no_altstack(void)
{
    stack_t s = {.ss_sp = room, .ss_size = sizeof room}, had;
    sigaltstack(&s, NULL);
    s.ss_flags = SS_DISABLE;
    sigaltstack(&s, NULL);
    stop_here();
    sigaltstack(NULL, &had);
    printf("%d %d\n", (int)had.ss_size, had.ss_flags);
}

static void pending(void)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    raise(SIGUSR1);
    stop_here();
    sigpending(&mask);
    printf("%d\n", sigismember(&mask, SIGUSR1));
}

static void alarms(void)
{
    signal(SIGALRM, on_signal);
    alarm(100);
    stop_here();
    printf("%u\n", alarm(0));
}

static void intervals(void)
{
    struct itimerval v = {{0, 0}, {50, 0}};
    setitimer(ITIMER_REAL, &v, NULL);
    stop_here();
    getitimer(ITIMER_REAL, &v);
    printf("%ld\n", (long)v.it_value.tv_sec);
}

static void clocks(void)
{
    struct timespec t[6];
    struct tms times_;
    struct rusage use;
    clock_gettime(CLOCK_REALTIME, &t[0]);
    clock_gettime(CLOCK_MONOTONIC, &t[1]);
    nanosleep(&(struct timespec){3, 5}, NULL);
    stop_here();
    for (int i = 2; i < 6; i++)
        clock_gettime((clockid_t)(i - 2), &t[i]);
    for (int i = 0; i < 6; i++)
        printf("%ld.%09ld\n", (long)t[i].tv_sec, t[i].tv_nsec);
    printf("%ld %ld\n", (long)times(&times_), (long)times_.tms_utime);
    printf("%d %ld\n", getrusage(RUSAGE_SELF, &use), (long)use.ru_utime.tv_usec);
}

static void draws(void)
{
    unsigned char b[8], a[8];
    (void)!getrandom(b, sizeof b, 0);
    stop_here();
    (void)!getrandom(a, sizeof a, 0);
    for (int i = 0; i < 8; i++)
        printf("%02x %02x ", b[i], a[i]);
    printf("%lx\n", random());
}

static void random_file(void)
{
    unsigned char b[8], a[8];
    int fd = open("/dev/urandom", O_RDONLY);
    (void)!read(fd, b, sizeof b);
    stop_here();
    (void)!read(fd, a, sizeof a);
    for (int i = 0; i < 8; i++)
        printf("%02x %02x ", b[i], a[i]);
    printf("\n");
}

/* --- who it is --- */

static void who(void)
{
    gid_t group[8];
    printf("%d %d %d %ld\n", getpid(), getppid(), (int)getpgrp(), syscall(SYS_gettid));
    pthread_mutexattr_t attr;
    pthread_mutex_t m;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&m, &attr);
    pthread_mutex_lock(&m); /* its owner is a number that libc keeps */
    stop_here();
    printf("%d %d %d %ld %d\n", getpid(), getppid(), (int)getpgrp(), syscall(SYS_gettid), pthread_mutex_unlock(&m));
    printf("%d %d %d %d %d\n", (int)getuid(), (int)geteuid(), (int)getgid(), (int)getegid(), getgroups(8, group));
    for (int pid = 0; pid < 4; pid++)
        printf("%d: session %d, group %d, there %d, nice %d\n", pid, (int)getsid(pid), (int)getpgid(pid), kill(pid, 0), getpriority(PRIO_PROCESS, (id_t)pid));
    pid_t child = fork();
    if (child == 0) {
        if (fork() == 0) {
            printf("orphan %d\n", getpid());
            fflush(stdout);
            _exit(0);
        }
        _exit(getpid());
    }
    int status;
    waitpid(child, &status, 0);
    printf("%d %d\n", child, WEXITSTATUS(status));
}

static void rights(void)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0}};
    struct rlimit l;
    stop_here();
    syscall(SYS_capget, &head, data);
    printf("%x %x %x\n", data[0].effective, data[0].permitted, data[0].inheritable);
    for (int c = 0; c < 41; c++)
        printf("%d", prctl(PR_CAPBSET_READ, c));
    printf("\n%d %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_DUMPABLE));
    for (int i = 0; i < RLIM_NLIMITS; i++)
        printf("%d %ld %ld\n", getrlimit((__rlimit_resource_t)i, &l), (long)l.rlim_cur, (long)l.rlim_max);
}

static void named(void)
{
    char name[17] = "";
    prctl(PR_SET_NAME, "my-name");
    stop_here();
    prctl(PR_GET_NAME, name);
    printf("%s\n", name);
}

static void limits(void)
{
    struct rlimit l = {64, 64};
    setrlimit(RLIMIT_NOFILE, &l);
    stop_here();
    getrlimit(RLIMIT_NOFILE, &l);
    printf("%d\n", (int)l.rlim_cur);
}

static void reaper(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    stop_here();
    int on = 0;
    prctl(PR_GET_CHILD_SUBREAPER, &on);
    printf("%d\n", on);
}

static void *nothing(void *p)
{
    return p;
}

static void threads(void)
{
    pthread_t t;
    pthread_create(&t, NULL, nothing, NULL);
    pthread_join(t, NULL);
    stop_here();
    printf("joined\n");
}

static void later_threads(void)
{
    pthread_t t[4];
    stop_here();
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, nothing, &t[i]);
    for (int i = 0; i < 4; i++) {
        void *p;
        pthread_join(t[i], &p);
        printf("%d\n", p == &t[i]);
    }
}

static void children(void)
{
    pid_t pid = vfork();
    if (pid == 0) {
        execl("/usr/bin/true", "true", NULL);
        _exit(1);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    stop_here();
    printf("%d %d\n", pid, status);
}

/* A child that nobody waits for is gone a moment before its number is free. */
static void unwaited(void)
{
    signal(SIGCHLD, SIG_IGN);
    stop_here();
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    while (waitpid(pid, NULL, 0) == pid)
        ;
    printf("%d\n", pid);
}

static void own_filter(void)
{
    int r = prctl(PR_SET_SECCOMP, 1);
    printf("%d %ld\n", r, syscall(SYS_seccomp, 2, 0, NULL));
    stop_here();
    printf("%s\n", strerror(errno));
}

static void goes_on(void)
{
    int fd = input(), kept = fcntl(fd, F_DUPFD_CLOEXEC, 40);
    signal(SIGUSR1, SIG_IGN);
    umask(0077);
    say_bytes("before", fd, 4);
    fflush(stdout);
    stop_here();
    char number[16];
    snprintf(number, sizeof number, "%d", fd);
    (void)kept;
    execl("/job/states", "states", "gone_on", number, NULL);
}

static void gone_on(void)
{
    struct sigaction sa;
    sigaction(SIGUSR1, NULL, &sa);
    printf("%d %o %d\n", sa.sa_handler == SIG_IGN, umask(0), fcntl(40, F_GETFD));
    say_bytes("after", 3, 4);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } row[] = {
#define ROW(name) {#name, name}
        ROW(offsets), ROW(shared_offsets), ROW(flags_of_files), ROW(mapped), ROW(shared_memory), ROW(shared_zero),
        ROW(directory), ROW(places), ROW(locks), ROW(record_locks), ROW(high_number), ROW(other_numbers), ROW(closed),
        ROW(looked_at), ROW(by_poll), ROW(by_select), ROW(by_count), ROW(by_vector), ROW(by_nothing), ROW(by_copy), ROW(by_wait),
        ROW(waits_for), ROW(pipes), ROW(counters), ROW(sockets), ROW(memory_files), ROW(heap), ROW(lowest), ROW(stack), ROW(registers),
        ROW(floats), ROW(bases), ROW(buffers), ROW(words_of_libc), ROW(signals), ROW(no_altstack), ROW(pending), ROW(alarms),
        ROW(intervals), ROW(clocks), ROW(draws), ROW(random_file), ROW(who), ROW(rights), ROW(named), ROW(limits), ROW(reaper),
        ROW(threads), ROW(later_threads), ROW(children), ROW(own_filter), ROW(goes_on), ROW(gone_on), ROW(unwaited), ROW(looked_around)};
    for (size_t i = 0; argc > 1 && i < sizeof row / sizeof *row; i++)
        if (!strcmp(argv[1], row[i].name)) {
            row[i].run();
            return 0;
        }
    return 2;
}
