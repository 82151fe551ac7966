/* Runs every golden program bare, where it must vary, and inside, where 20 runs must be the same bytes
 * and status: dynamic, and 8 times static, in four worlds at a time (an unfriendly environment, another user, an
 * old server), on busy CPUs, with input that dribbles in.  In each world the first two runs of a program start anew; the
 * others, one after the other, are clones of a template where it can have one.
 *
 * usage: run ZPIPE-BOX GOLDEN GOLDEN-STATIC */
#include "base/fds.h"
#include "golden/golden.h"
#include "lib/boxed.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORLDS       4
#define ROUNDS       5
#define ROUNDS_COLD  2 /* and the static ones, which are the same programs, no more often */
#define RUNS         (WORLDS * ROUNDS)
#define PROGRAMS_MAX 256
#define BARE_TRIES   50
#define EXCUSED_TRIES 5 /* of one that need not vary */
#define BARE_MS      60000 /* no program is at work for as long */
#define TEXT_MAX     1000
#define FED_BYTES    20000
#define SOMEBODY     20018 /* not the user of other tests that run meanwhile: fill_pipes takes all that one user may have */
#define AGE          40 /* tasks that an old server has seen */
#define PIPES        100

static const struct golden *const tables[] = {golden_time,  golden_random,  golden_memory,  golden_process,
                                              golden_files, golden_streams, golden_parallel,
                                              golden_turns, golden_threads, golden_own};

struct outcome {
    bool done, cloned;
    uint64_t hash;
    char text[TEXT_MAX], why[256];
};

static struct shared {
    struct outcome inside[PROGRAMS_MAX][2][RUNS];
    struct outcome other_seed[PROGRAMS_MAX];
    bool refused; /* templates, by the host */
} *shared;

static const struct golden *program[PROGRAMS_MAX];
/* With input; of the seed; all of whose results are certified. */
static bool fed[PROGRAMS_MAX], drawn[PROGRAMS_MAX], certain[PROGRAMS_MAX];
static int programs, failed;
static char golden_path[2][256], image_copy[256], work[64];

void say(const char *format, ...)
{
    (void)format; /* the tables' functions run in another process */
}

void say_bytes(const void *data, size_t size)
{
    (void)data;
    (void)size;
}

__attribute__((format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("FAILED: ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    failed++;
}

static void collect(void)
{
    static const char *const seeded[] = {"getrandom", "getentropy", "arc4random", "urandom", "random"};

    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const struct golden *g = tables[t]; g->name; g++) {
            if (programs == PROGRAMS_MAX) {
                fail("there are more than %d programs", PROGRAMS_MAX);
                return;
            }
            fed[programs] = tables[t] == golden_streams || !strcmp(g->name, "standard");
            certain[programs] = tables[t] == golden_turns || tables[t] == golden_threads || tables[t] == golden_own;
            for (size_t i = 0; i < sizeof seeded / sizeof *seeded; i++)
                drawn[programs] |= !strcmp(g->name, seeded[i]);
            program[programs++] = g;
        }
}

/* A file of ours that everybody may run. */
static void copy_to_work(const char *from, const char *name, char *path)
{
    struct stat s;
    snprintf(path, 256, "%s/%s", work, name);
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    char *bytes = MAP_FAILED;
    if (in >= 0 && out >= 0 && fstat(in, &s) == 0)
        bytes = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, in, 0);
    if (bytes == MAP_FAILED || fd_write_all(out, bytes, (size_t)s.st_size) < 0) {
        perror(from);
        exit(1);
    }
    munmap(bytes, (size_t)s.st_size);
    close(in);
    close(out);
}

/* A child that writes FED_BYTES in random pieces at random times; what to read from. */
static int dribble(pid_t *writer, bool socket)
{
    int fd[2];
    if ((socket ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) : pipe2(fd, O_CLOEXEC)) < 0)
        exit(1);
    *writer = fork();
    if (*writer)
        return close(fd[1]), fd[0];
    unsigned random = (unsigned)getpid() * 2654435761u ^ (unsigned)time(NULL);
    signal(SIGPIPE, SIG_DFL);
    for (int sent = 0; sent < FED_BYTES;) {
        char piece[512];
        random = random * 1103515245 + 12345;
        int size = (random >> 16) % 4 ? (int)(random >> 16) % 512 + 1 : 1;
        size = size < FED_BYTES - sent ? size : FED_BYTES - sent;
        for (int i = 0; i < size; i++, sent++)
            piece[i] = sent % 50 == 49 ? '\n' : (char)('a' + sent % 26);
        if (write(fd[1], piece, (size_t)size) != size)
            break;
        usleep((random >> 20) % 200);
    }
    _exit(0);
}

static void use_cpu(int number)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(number % (int)sysconf(_SC_NPROCESSORS_ONLN), &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* What a program should not notice.  For good: in a child. */
static void enter(int world)
{
    static char garbage[5000];
    static const struct {
        __rlimit_resource_t what;
        rlim_t to;
    } lowered[] = {{RLIMIT_STACK, 4 << 20}, {RLIMIT_CORE, 4 << 20},   {RLIMIT_FSIZE, 1 << 30},
                   {RLIMIT_MEMLOCK, 4096},  {RLIMIT_SIGPENDING, 100}, {RLIMIT_NOFILE, 512}};
    struct rlimit l;
    sigset_t mask;

    if (world % 2)
        use_cpu(world / 2);
    if (world == 0)
        return;
    if (flock(open(GOLDEN_IMAGE, O_RDONLY), LOCK_EX | LOCK_NB) < 0) /* held for as long as the world lasts */
        errno = 0;
    memset(garbage, 'x', sizeof garbage - 1);
    setenv("GARBAGE", garbage + 100 * world, 1);
    setenv("LD_BIND_NOW", "1", 1);
    for (int i = 0; i < 10 * world; i++)
        if (dup(1) < 0)
            exit(1);
    for (int s = 0; s < 3; s++)
        signal((int[]){SIGHUP, SIGTERM, SIGUSR2}[s], SIG_IGN);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1 + world);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    umask(077);
    personality(world == 3 ? SHORT_INODE : 0);
    errno = 0;
    if (nice(world) < 0 && errno)
        exit(1);
    for (size_t i = 0; i < sizeof lowered / sizeof *lowered; i++) {
        rlim_t less = lowered[i].to * (rlim_t)(1 + world);
        getrlimit(lowered[i].what, &l);
        l.rlim_cur = less < l.rlim_max ? less : l.rlim_max;
        setrlimit(lowered[i].what, &l);
    }
    if (world == 2 && geteuid() == 0 && setgroups(2, (gid_t[]){4, 5}) == 0 && setresgid(SOMEBODY, SOMEBODY, SOMEBODY) == 0)
        if (setresuid(SOMEBODY, SOMEBODY, SOMEBODY) < 0)
            exit(1);
}

static uint64_t hash_of(const char *bytes, size_t size, uint64_t hash)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211u;
    return hash;
}

static void keep(struct outcome *o, const char *bytes, size_t size, int status, const char *why)
{
    o->hash = hash_of(bytes, size, 14695981039346656037u ^ (unsigned)status);
    snprintf(o->text, sizeof o->text, "status %d: %.*s", status, (int)(size < 900 ? size : 900), bytes);
    snprintf(o->why, sizeof o->why, "%s", why);
    o->done = true;
}

/* --- bare --- */

static void write_to(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
    fd_close(&fd);
}

/* Namespaces of its own, in which it is root. */
static int leave_namespaces(void)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    char map[2][32];

    if (unshare(CLONE_NEWNS | CLONE_NEWUTS) == 0)
        return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS) < 0)
        return -1;
    snprintf(map[0], sizeof map[0], "0 %u 1", uid);
    snprintf(map[1], sizeof map[1], "0 %u 1", gid);
    write_to("/proc/self/setgroups", "deny");
    write_to("/proc/self/uid_map", map[0]);
    write_to("/proc/self/gid_map", map[1]);
    return 0;
}

/* Another root, at `path`: what the host's has, on other mounts; another copy of a program; and a place to work on a file system
 * that knows no holes. */
static int leave_root(const char *path, const char *copy)
{
    DIR *root = opendir("/");
    char from[300], to[600], link[300];

    if (!root || mount("golden", path, "ramfs", 0, NULL) < 0)
        return -1;
    for (struct dirent *e; (e = readdir(root));) {
        snprintf(from, sizeof from, "/%.255s", e->d_name);
        snprintf(to, sizeof to, "%s%s", path, from);
        ssize_t n = e->d_type == DT_LNK ? readlink(from, link, sizeof link - 1) : 0;
        link[n > 0 ? n : 0] = '\0';
        if (n > 0 && symlink(link, to) < 0)
            return -1;
        if (e->d_type == DT_DIR && e->d_name[0] != '.' && (mkdir(to, 0755) < 0 || mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0))
            return -1;
    }
    closedir(root);
    snprintf(to, sizeof to, "%s" GOLDEN_IMAGE, path);
    if (mount(copy, to, NULL, MS_BIND, NULL) < 0 || chroot(path) < 0 || mkdir("/golden-work", 0777) < 0 || chmod("/golden-work", 0777) < 0)
        return -1;
    return chdir("/golden-work");
}

/* So many large pipes that the kernel makes only small ones for this user from now on.  An ordinary user gets no large one for the
 * last part of that limit, so it is filled by pipes as they come. */
static void fill_pipes(void)
{
    int fd[2];
    for (int i = 0; i < PIPES && pipe(fd) == 0; i++)
        fcntl(fd[0], F_SETPIPE_SZ, 1 << 20);
}

/* A shell's background ignores some signals, and a program that is to vary by one of them would not. */
static void reset_signals(void)
{
    sigset_t none;
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void be_bare(int world, int number, int in, int out)
{
    char path[300];
    reset_signals();
    snprintf(path, sizeof path, "%s/bare-%d-%d", work, world, getpid());
    mkdir(path, 0777);
    chmod(path, 0777);
    if (chdir(path) < 0)
        _exit(1);
    dup2(in, 0);
    dup2(out, 1);
    if (world && leave_namespaces() == 0) {
        sethostname("elsewhere", (size_t)(3 + world));
        if (world % 2 && leave_root(path, image_copy) < 0)
            fprintf(stderr, "golden: no other root: %s\n", strerror(errno));
    }
    enter(world);
    if (world == 2)
        fill_pipes();
    execl(golden_path[0], "golden", program[number]->name, NULL);
    _exit(127);
}

/* What is written until nobody can write any more; an end is waited for no longer than BARE_MS. */
static size_t take_all(int fd, char *bytes, size_t size, const char *name)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    size_t got = 0;
    ssize_t n = 1;
    while (got < size && n > 0) {
        if (poll(&p, 1, BARE_MS) == 0) {
            fail("%s, bare, has no end", name);
            break;
        }
        n = read(fd, bytes + got, size - got);
        got += n > 0 ? (size_t)n : 0;
    }
    return got;
}

static void run_bare(int world, int number, struct outcome *o)
{
    static char bytes[BOXED_OUTPUT_MAX];
    int out[2], in, status = 0;
    pid_t writer = 0;
    if (pipe2(out, O_CLOEXEC) < 0)
        exit(1);
    const char *name = program[number]->name;
    bool socket = !strcmp(name, "recv") || !strcmp(name, "peek") || !strcmp(name, "shut") || !strcmp(name, "sent");
    in = fed[number] ? dribble(&writer, socket) : open("/dev/null", O_RDONLY | O_CLOEXEC);
    pid_t pid = fork();
    if (pid == 0)
        be_bare(world, number, in, out[1]);
    close(in);
    close(out[1]);
    size_t size = take_all(out[0], bytes, sizeof bytes, name);
    close(out[0]);
    waitpid(pid, &status, 0);
    if (writer)
        waitpid(writer, NULL, 0);
    keep(o, bytes, size, status, "");
}

/* The number of programs that need not vary, each of which says why.  Some vary on an idle machine only, some beside others: so both. */
static int try_bare(pid_t busy)
{
    static struct outcome first, next;
    int excused = 0;

    for (int i = 0; i < programs; i++) {
        bool varies = false;
        run_bare(0, i, &first);
        int tries = program[i]->bare ? EXCUSED_TRIES : BARE_TRIES;
        for (int k = 1; k <= 2 * tries && !varies; k++) {
            kill(busy, k <= tries ? SIGSTOP : SIGCONT);
            run_bare(k % WORLDS, i, &next);
            varies = next.hash != first.hash;
        }
        if (!varies && program[i]->bare)
            printf("skipped: %s does not vary bare: %s\n", program[i]->name, program[i]->bare);
        else if (!varies)
            fail("%s does not vary bare: %s", program[i]->name, first.text);
        excused += program[i]->bare != NULL;
    }
    return excused;
}

/* --- inside --- */

/* `expected`: as in struct box_task; where many are to come the task waits for its template. */
static void run_inside(struct boxed *b, int number, int kind, uint64_t seed, uint32_t expected, struct outcome *o)
{
    struct box_file file = {.name = "golden", .path = golden_path[kind], .fd = -1};
    char line[64];
    pid_t writer = 0;
    struct boxed_plan p = {.line = line, .in = -1, .out = -1, .task = {.file = &file, .file_count = 1, .seed = seed, .expected = expected}};

    snprintf(line, sizeof line, "./golden %s", program[number]->name);
    p.task.epoch_s = 1577836800;
    if (fed[number])
        p.in = dribble(&writer, false);
    if (boxed_run(b, &p) == 0)
        keep(o, b->output, b->output_size, b->stage[0].status, b->stage[0].why);
    if (o->done && b->stage[0].end == BOX_FAILED)
        snprintf(o->why, sizeof o->why, "the sandbox failed: %.200s", b->stage[0].text);
    o->cloned = o->done && !*b->stage[0].cold;
    if (strstr(b->stage[0].cold, "the host refuses"))
        shared->refused = true;
    if (p.in >= 0)
        close(p.in);
    if (writer > 0) {
        kill(writer, SIGKILL);
        waitpid(writer, NULL, 0);
    }
}

/* Somebody else has read the C library: a host without noatime keeps when. */
static void read_library(void)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
    (void)!utimensat(AT_FDCWD, "/lib/x86_64-linux-gnu/libc.so.6", times, 0); /* not everybody may say so */
}

static _Noreturn void live_in(int world)
{
    static struct boxed b;
    struct boxed_plan nothing = {.line = "true", .in = -1, .out = -1};

    enter(world);
    boxed_open(&b, BOX_ISOLATION_FULL);
    for (int i = 0; world == 3 && i < AGE; i++)
        boxed_run(&b, &nothing);
    for (int round = 0; round < ROUNDS_COLD; round++)
        for (int i = 0; i < programs; read_library(), i++)
            for (int kind = 0; kind < 2; kind++)
                run_inside(&b, i, kind, 0, 1, &shared->inside[i][kind][world * ROUNDS + round]);
    for (int i = 0; i < programs; read_library(), i++)
        for (int round = ROUNDS_COLD; round < ROUNDS; round++)
            run_inside(&b, i, 0, 0, BOX_MANY, &shared->inside[i][0][world * ROUNDS + round]);
    for (int i = 0; world == 0 && i < programs; i++)
        if (drawn[i])
            run_inside(&b, i, 0, 7, 1, &shared->other_seed[i]);
    boxed_close(&b);
    _exit(0);
}

/* On a machine that is busy enough, a turn may take too long for anybody. */
static const char too_long[] = "one of its threads is at work for long while others wait for their turn";

static void judge(int number, int kind)
{
    const struct outcome *o = shared->inside[number][kind];
    const char *name = program[number]->name, *how = kind ? "static" : "dynamic";
    int first = -1, other = 0, late = 0, runs = 0;
    bool told = true;

    for (int i = 0; i < RUNS; i++) {
        if (kind && i % ROUNDS >= ROUNDS_COLD)
            continue;
        if (!o[i].done) {
            fail("%s, %s, run %d: no result", name, how, i);
            return;
        }
        runs++;
        if (certain[number] && !strcmp(o[i].why, too_long)) {
            late++;
            continue;
        }
        told &= *o[i].why != '\0';
        if (certain[number] && *o[i].why)
            fail("%s, %s, run %d is not certified: %s", name, how, i, o[i].why);
        if (first < 0)
            first = i;
        if (!other && o[i].hash != o[first].hash)
            other = i;
    }
    if (late * 4 > runs)
        fail("%s, %s: in %d of %d runs %s", name, how, late, runs, too_long);
    if (!other)
        return;
    if (program[number]->limit)
        printf("limit: %s, %s: %s\n", name, how, program[number]->limit);
    else if (told)
        printf("uncertified: %s, %s: %s\n", name, how, o[0].why);
    else
        fail("%s, %s varies inside:\n%s\nand in run %d\n%s", name, how, o[first].text, other, o[other].text);
}

int main(int argc, char **argv)
{
    pid_t world[WORLDS], busy;
    char box[256], command[128];

    if (argc != 4)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    strcpy(work, "/tmp/zpipe-golden-XXXXXX");
    if (!mkdtemp(work) || chmod(work, 0777) < 0)
        return 1;
    copy_to_work(argv[1], "zpipe-box", box);
    copy_to_work(argv[2], "golden", golden_path[0]);
    copy_to_work(argv[3], "golden-static", golden_path[1]);
    copy_to_work(GOLDEN_IMAGE, "image", image_copy);
    setenv("ZPIPE_BOX", box, 1);
    collect();
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    busy = fork();
    if (busy == 0)
        for (alarm(300);;)
            ;
    int excused = try_bare(busy);
    if (excused * 10 > programs)
        fail("%d of %d programs need not vary bare", excused, programs);
    setpriority(PRIO_PROCESS, (id_t)busy, 10); /* it fills what the worlds leave, and takes little from them and other tests */
    kill(busy, SIGCONT);
    for (int i = 0; i < WORLDS; i++) {
        world[i] = fork();
        if (world[i] == 0)
            live_in(i);
    }
    for (int i = 0; i < WORLDS; i++)
        waitpid(world[i], NULL, 0);
    kill(busy, SIGKILL);
    waitpid(busy, NULL, 0);
    for (int i = 0; i < programs; i++) {
        judge(i, 0);
        judge(i, 1);
        if (drawn[i] && shared->other_seed[i].hash == shared->inside[i][0][0].hash)
            fail("%s: another seed, the same bytes", program[i]->name);
    }
    int cloned = 0;
    for (int i = 0; i < programs; i++) {
        bool once = false;
        for (int k = 0; k < RUNS; k++)
            once |= shared->inside[i][0][k].cloned;
        cloned += once;
    }
    if (cloned * 4 < programs && !shared->refused)
        fail("only %d of %d programs were ever clones", cloned, programs);
    snprintf(command, sizeof command, "rm -rf %s", work);
    if (system(command))
        failed++;
    printf("%d programs, %d of them in some runs clones, %d failures\n", programs, cloned, failed);
    return failed != 0;
}
