/* Asks about files in two ways: by the C library, whose calls are led to the gate (sandbox/gate.c) once there are some, and by
 * a call that never is.  Both must always say the same, and the gate must change no register but those that any call changes.
 * Run inside by box_report.py. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROUNDS 20

static int failed;

static void fail(const char *what, const char *name, int round)
{
    printf("%s of %s, round %d\n", what, (uintptr_t)name < 4096 ? "a wrong pointer" : name, round);
    failed = 1;
}

static int same(int a, const struct stat *x, int errno_a, int b, const struct stat *y)
{
    return a == b && (a < 0 ? errno_a == errno : !memcmp(x, y, sizeof *x));
}

static void look(const char *name, int flags, int round)
{
    struct stat x = {0}, y = {0};
    int a = fstatat(AT_FDCWD, name, &x, flags), was = errno;
    int b = (int)syscall(SYS_newfstatat, AT_FDCWD, name, &y, flags);

    if (!same(a, &x, was, b, &y))
        fail("a look", name, round);
}

static void open_both(const char *name, int flags, int round)
{
    struct stat x = {0}, y = {0};
    int a = open(name, flags), was = errno;
    int b = (int)syscall(SYS_openat, AT_FDCWD, name, flags, 0);

    if ((a < 0) != (b < 0) || (a < 0 && was != errno)) {
        fail("an opening", name, round);
    } else if (a >= 0) {
        int c = fstat(a, &x);

        was = errno;
        if (!same(c, &x, was, (int)syscall(SYS_newfstatat, b, "", &y, AT_EMPTY_PATH), &y))
            fail("a descriptor", name, round);
    }
    close(a);
    close(b);
}

static void descriptor(int fd, int round)
{
    struct stat x = {0}, y = {0};
    int a = fstat(fd, &x), was = errno;

    if (!same(a, &x, was, (int)syscall(SYS_newfstatat, fd, "", &y, AT_EMPTY_PATH), &y))
        fail("a look at a descriptor", "its own", round);
}

/* A call with all registers known, and the 128 bytes below the stack.  Gives what it gives, or -9999. */
long probe(long directory, const char *name, struct stat *s, long flags);
__asm__(".text\n"
        "probe:\n"
        "    push %rbx\n    push %rbp\n    push %r12\n    push %r13\n    push %r14\n    push %r15\n"
        "    mov %rcx, %r10\n"
        "    mov %rdi, %r12\n    mov %rsi, %r13\n    mov %rdx, %r14\n    mov %rcx, %r15\n"
        "    mov $0x1234567, %rbx\n    mov $0x2345678, %rbp\n    mov $0x3456789, %r8\n    mov $0x456789a, %r9\n"
        "    mov $-16, %r11\n"
        "1:  mov %r11, (%rsp,%r11,8)\n"
        "    inc %r11\n"
        "    jnz 1b\n"
        "    mov $262, %eax\n" /* newfstatat */
        "    syscall\n"
        "    mov $-16, %r11\n"
        "2:  cmp %r11, (%rsp,%r11,8)\n"
        "    jne 3f\n"
        "    inc %r11\n"
        "    jnz 2b\n"
        "    cmp %rdi, %r12\n    jne 3f\n"
        "    cmp %rsi, %r13\n    jne 3f\n"
        "    cmp %rdx, %r14\n    jne 3f\n"
        "    cmp %r10, %r15\n    jne 3f\n"
        "    cmp $0x1234567, %rbx\n    jne 3f\n"
        "    cmp $0x2345678, %rbp\n    jne 3f\n"
        "    cmp $0x3456789, %r8\n    jne 3f\n"
        "    cmp $0x456789a, %r9\n    je 4f\n"
        "3:  mov $-9999, %rax\n"
        "4:  pop %r15\n    pop %r14\n    pop %r13\n    pop %r12\n    pop %rbp\n    pop %rbx\n"
        "    ret\n");

static void registers(const char *name, int round)
{
    struct stat x = {0}, y = {0};
    long a = probe(AT_FDCWD, name, &x, 0);
    int b = fstatat(AT_FDCWD, name, &y, 0);

    if (a == -9999 || a != (b < 0 ? -errno : 0) || memcmp(&x, &y, sizeof x) != 0)
        fail("the registers at a look", name, round);
}

/* What is left below the stack by a question about a descriptor of the image. */
static unsigned long left_below(int fd)
{
    const volatile unsigned long *here = __builtin_frame_address(0);
    unsigned long sum = 0;
    struct stat s;

    fstat(fd, &s);
    for (int i = 0; i < 256; i++)
        sum = sum * 31 + here[-i];
    return sum;
}

int main(int argc, char **argv)
{
    static const char *const name[] = {"/usr/bin/env",
                                       "/usr/no",
                                       "/usr",
                                       "/usr/",
                                       "/usr/bin/../bin/env",
                                       "/usr/../job",
                                       "/usr/../dev/stdin",
                                       "/usr/..",
                                       "/bin/..",
                                       "/usr/lib/ssl/certs",
                                       "/usr/lib/ssl/certs/..",
                                       "/usr/lib/systemd/system/hwclock.service",
                                       "/bin/sh",
                                       "/sbin",
                                       "/lib/none",
                                       "/etc/passwd",
                                       "/etc",
                                       "/",
                                       "/dev/null",
                                       "/dev/stdin",
                                       "/dev/fd/0",
                                       "/dev/fd/99",
                                       "/proc/self/fd/0",
                                       "/proc",
                                       "/job",
                                       "/job/own",
                                       "own",
                                       ".",
                                       "..",
                                       "link",
                                       "",
                                       "/tmp",
                                       "/lib64/ld-linux-x86-64.so.2",
                                       (const char *)8,
                                       NULL};
    static const int flags[] = {O_RDONLY, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, O_RDONLY | O_DIRECTORY, O_WRONLY, O_PATH};
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    munmap(page + 4096, 4096);
    strcpy(page + 4096 - 5, "/usr"); /* a name that ends where memory does */
    close(open("own", O_WRONLY | O_CREAT, 0644));
    if (symlink("/etc/passwd", "link") < 0)
        failed = 1;
    if (argc < 1 || open(argv[0], O_WRONLY) != -1 || errno == ETXTBSY) /* a task is not told whether another process runs the file */
        fail("an opening for writing", argv[0], 0);
    for (int i = 0; i < ROUNDS; i++) {
        for (unsigned k = 0; k < sizeof name / sizeof *name; k++) {
            look(name[k], 0, i);
            look(name[k], AT_SYMLINK_NOFOLLOW, i);
            look(name[k], AT_EMPTY_PATH, i);
            for (unsigned f = 0; f < sizeof flags / sizeof *flags; f++)
                open_both(name[k], flags[f], i);
        }
        look(page + 4096 - 5, 0, i);
        look(page + 4096 - 4, 0, i);
        for (int fd = -1; fd < 5; fd++)
            descriptor(fd, i);
        registers("/usr/bin/env", i);
        registers("/usr/no", i);
        registers("own", i);
        if (fstatat(AT_FDCWD, "/usr/bin/env", (struct stat *)8, 0) != -1 || errno != EFAULT)
            fail("a wrong pointer", "/usr/bin/env", i);
    }
    for (int i = 0; i < 1000; i++) { /* zpipe-box must see few of these questions */
        struct stat s;

        stat("/usr/bin/env", &s);
        close(open("/usr/bin/env", O_RDONLY));
    }
    if (!failed)
        printf("%lx\n", left_below(open("/usr/bin/env", O_RDONLY)));
    return failed;
}
