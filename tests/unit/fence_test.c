/* Landlock by itself, without the mounts and the filter that stand before it: what it lets through, what it
 * stops, and that both are so because of it. */
#include "lib/test.h"
#include "sandbox/fence.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define SKIPPED 77

static char root[] = "/tmp/zpipe-fence-XXXXXX";
static int version;
static int outside = -1; /* an open directory above the fence: one that was forgotten */
static struct sockaddr_un name = {.sun_family = AF_UNIX};

static int closed(int fd)
{
    return fd < 0 ? -1 : close(fd);
}

static int read_inside(void)
{
    return closed(open("r/file", O_RDONLY));
}

static int list_inside(void)
{
    return closed(open("w", O_RDONLY | O_DIRECTORY));
}

static int write_inside(void)
{
    return closed(open("w/new", O_WRONLY | O_CREAT, 0600));
}

static int move_inside(void)
{
    return mkdir("w/d", 0700) < 0 || rename("w/new", "w/d/new") < 0 ? -1 : 0;
}

static int write_null(void)
{
    return closed(open("/dev/null", O_WRONLY | O_TRUNC));
}

static int write_beside(void)
{
    return closed(open("r/file", O_WRONLY));
}

static int make_beside(void)
{
    return closed(open("r/new", O_WRONLY | O_CREAT, 0600));
}

static int read_outside(void)
{
    return closed(open("/etc/passwd", O_RDONLY));
}

static int read_forgotten(void)
{
    return closed(openat(outside, "etc/passwd", O_RDONLY));
}

static int list_outside(void)
{
    return closed(open("/", O_RDONLY | O_DIRECTORY));
}

static int make_socket(void)
{
    return mknod("w/socket", S_IFSOCK | 0600, 0);
}

static int make_device(void)
{
    int r = mknod("w/device", S_IFCHR | 0600, makedev(1, 3));
    if (r == 0)
        unlink("w/device");
    return r;
}

static int reach_abstract(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int r = connect(fd, (struct sockaddr *)&name, sizeof name);
    int saved = errno;
    close(fd);
    errno = saved;
    return r;
}

static const struct row {
    const char *name;
    int (*try)(void);
    int needs;  /* this version of Landlock, to be stopped; 0: it is let through */
    bool as_root; /* or it would fail anyway */
} rows[] = {
    {"read inside", read_inside, 0, false},
    {"list inside", list_inside, 0, false},
    {"write inside", write_inside, 0, false},
    {"move inside", move_inside, 0, false},
    {"write to null", write_null, 0, false},
    {"write where one may read", write_beside, 2, false},
    {"make where one may read", make_beside, 2, false},
    {"read outside", read_outside, 2, false},
    {"read by a forgotten directory", read_forgotten, 2, false},
    {"list outside", list_outside, 2, false},
    {"make a socket", make_socket, 2, false},
    {"make a device", make_device, 2, true},
    {"reach an abstract socket", reach_abstract, 6, false},
};

/* 0: let through; else its errno.  In a child of its own. */
static int outcome(const struct row *r, bool fenced)
{
    const struct fence_rule rules[] = {{"r", false, false}, {"w", true, true}, {"/dev", true, false}};
    struct err e;
    int status = -1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (fenced && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || fence_enter(version, rules, 3, &e) < 0))
            _exit(200);
        _exit(r->try() < 0 ? errno : 0);
    }
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void clean(void)
{
    static const char *const made[] = {"w/d/new", "w/new", "w/socket", "r/new"};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        unlink(made[i]);
    rmdir("w/d");
}

static void each(void **state)
{
    (void)state;
    for (int fenced = 0; fenced < 2; fenced++) {
        clean();
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            const struct row *r = &rows[i];
            bool stopped = fenced && r->needs && version >= r->needs;
            if (r->as_root && geteuid() != 0)
                continue;
            int got = outcome(r, fenced);
            if (stopped ? got != EACCES && got != EPERM && got != EXDEV : got != 0)
                fail_msg("%s, %s a fence: %s", r->name, fenced ? "with" : "without", got ? strerror(got) : "let through");
        }
    }
}

static void for_ever(void **state)
{
    const struct fence_rule all[] = {{"/", true, true}}, some[] = {{"w", true, true}};
    struct err e;
    int status = -1;
    (void)state;
    pid_t pid = fork();
    if (pid == 0) /* a wider one afterwards does not help */
        _exit(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || fence_enter(version, some, 1, &e) < 0 ||
              fence_enter(version, all, 1, &e) < 0 || read_outside() == 0);
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    assert_int_equal(status, 0);
}

static int start(void **state)
{
    (void)state;
    strcpy(&name.sun_path[1], root);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!mkdtemp(root) || chdir(root) < 0 || mkdir("r", 0700) < 0 || mkdir("w", 0700) < 0 ||
        closed(open("r/file", O_WRONLY | O_CREAT, 0600)) < 0 ||
        bind(listener, (struct sockaddr *)&name, sizeof name) < 0 || listen(listener, 64) < 0)
        return -1;
    outside = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return outside < 0 ? -1 : 0;
}

static int end(void **state)
{
    (void)state;
    clean();
    return unlink("r/file") < 0 || rmdir("r") < 0 || rmdir("w") < 0 || rmdir(root) < 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each), cmocka_unit_test(for_ever)};
    struct err e;
    version = fence_version(&e);
    if (version <= 0) {
        print_message("%s\n", version < 0 ? e.text : "this kernel has no Landlock, or it is switched off");
        return SKIPPED;
    }
    print_message("Landlock, version %d\n", version);
    return cmocka_run_group_tests(tests, start, end) != 0;
}
