/* Random bytes, by every way to them. */
#include "golden/golden.h"

#include <cpuid.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static void show_getrandom(void)
{
    unsigned char bytes[100] = {0};
    say("%zd\n", getrandom(bytes, sizeof bytes, 0));
    say_bytes(bytes, sizeof bytes);
}

static void show_getentropy(void)
{
    unsigned char bytes[16] = {0};
    say("%d\n", getentropy(bytes, sizeof bytes));
    say_bytes(bytes, sizeof bytes);
}

static void show_arc4random(void)
{
#if __GLIBC_PREREQ(2, 36)
    say("%u %u\n", arc4random(), arc4random_uniform(1000));
#else
    show_getentropy();
#endif
}

static void show_device(const char *path)
{
    unsigned char bytes[5000];
    for (int i = 0; i < 2; i++) {
        struct stat s = {0};
        int fd = open(path, O_RDONLY);
        ssize_t n = read(fd, bytes, sizeof bytes);
        fstat(fd, &s);
        say("%s %zd %d ", path, n, S_ISCHR(s.st_mode));
        say_bytes(bytes, 16);
        close(fd);
    }
}

static void show_urandom(void)
{
    show_device("/dev/urandom");
}

static void show_random(void)
{
    show_device("/dev/random");
}

static void show_at_random(void)
{
    say_bytes((const void *)getauxval(AT_RANDOM), 16);
}

/* The C library's guards for the stack and for pointers. */
static void show_guards(void)
{
    unsigned long stack, pointer;
    __asm__("mov %%fs:0x28, %0" : "=r"(stack));
    __asm__("mov %%fs:0x30, %0" : "=r"(pointer));
    say("%lx %lx\n", stack, pointer);
}

static void show_mkstemp(void)
{
    char name[] = "zXXXXXX";
    int fd = mkstemp(name);
    say("%s\n", name);
    close(fd);
    unlink(name);
}

static void show_uuid(void)
{
    char text[64] = "";
    int fd = open("/proc/sys/kernel/random/uuid", O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    say("%zd %s\n", n, text);
}

static void show_rdrand(void)
{
    unsigned long word = 0;
    unsigned char good = 0;
    unsigned a, b, c = 0, d;
    if (__get_cpuid(1, &a, &b, &c, &d) && (c & bit_RDRND))
        __asm__ volatile("rdrand %0; setc %1" : "=r"(word), "=q"(good));
    say("%d %lx\n", good, word);
}

const struct golden golden_random[] = {
    {"getrandom", show_getrandom, NULL, NULL},
    {"getentropy", show_getentropy, NULL, NULL},
    {"arc4random", show_arc4random, NULL, NULL},
    {"urandom", show_urandom, NULL, NULL},
    {"random", show_random, NULL, NULL},
    {"at-random", show_at_random, NULL, NULL},
    {"guards", show_guards, NULL, NULL},
    {"mkstemp", show_mkstemp, NULL, NULL},
    {"uuid", show_uuid, NULL, NULL},
    {"rdrand", show_rdrand, "the processor may not have it", "the processor's own random bytes are not trapped"},
    {NULL, NULL, NULL, NULL}};
