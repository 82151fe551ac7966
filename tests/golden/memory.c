/* Where things lie, and what memory holds before it is written. */
#include "golden/golden.h"

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static int data;

static void show_stack(void)
{
    int here;
    say("%p\n", (void *)&here);
}

static void show_heap(void)
{
    void *small = malloc(100), *large = malloc(1 << 20);
    say("%p %p %p\n", small, large, sbrk(0));
    free(small);
    free(large);
}

static void show_map(void)
{
    void *a = mmap(NULL, 1 << 16, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *b = mmap(NULL, 1 << 22, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("%p %p\n", a, b);
}

static void show_code(void)
{
    void (*here)(void) = show_code;
    void *(*library)(size_t) = malloc;
    uintptr_t a, b;
    memcpy(&a, &here, sizeof a);
    memcpy(&b, &library, sizeof b);
    say("%lx %lx %p\n", a, b, (void *)&data);
}

/* The kernel's words to the program, all of them, and where they lie. */
static void show_auxiliary(void)
{
    char **word = environ;
    while (*word)
        word++;
    const ElfW(auxv_t) *a = (const void *)(word + 1);
    for (; a->a_type != AT_NULL; a++)
        say("%lu %lx\n", a->a_type, a->a_un.a_val);
    say("%p\n", (const void *)a);
}

/* What is below the stack: left from the start of the program. */
static void show_garbage(void)
{
    unsigned long sum = 0;
    const volatile unsigned long *here = __builtin_frame_address(0);
    for (int i = 16; i < 1024; i++)
        sum = sum * 31 + here[-i];
    say("%lx\n", sum);
}

static void show_resident(void)
{
    unsigned char in[256] = {0};
    char *a = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    a[300000] = 1;
    int r = mincore(a, 1 << 20, in);
    say("%p %d %d ", (void *)a, r, r ? errno : 0);
    say_bytes(in, sizeof in);
}

static unsigned char frame[8192];
static size_t frame_bytes;
static sigjmp_buf behind_fault;

/* All of it, up to where the stack was before, with what nobody has written there. */
static void keep_frame(int signal, siginfo_t *info, void *context)
{
    const unsigned char *from = context;
    const ucontext_t *u = context;
    size_t size = (size_t)((const unsigned char *)u->uc_mcontext.gregs[REG_RSP] - from);
    frame_bytes = size < sizeof frame ? size : sizeof frame;
    memcpy(frame, from, frame_bytes);
    say("%d %d %zu ", signal, info->si_code, size);
    if (signal == SIGSEGV)
        siglongjmp(behind_fault, 1);
}

/* What a signal's frame holds, in its unused parts too: the floating point unit's state, of which some was never used. */
static void show_frame(void)
{
    struct sigaction a = {.sa_sigaction = keep_frame, .sa_flags = SA_SIGINFO};
    volatile double half = 0.5;
    volatile char *volatile nowhere = (volatile char *)8;
    sigaction(SIGUSR1, &a, NULL);
    sigaction(SIGSEGV, &a, NULL);
    raise(SIGUSR1);
    say_bytes(frame, frame_bytes);
    half = half * half;
    raise(SIGUSR1);
    say_bytes(frame, frame_bytes);
    if (!sigsetjmp(behind_fault, 1))
        *nowhere = 1;
    say_bytes(frame, frame_bytes);
}

const struct golden golden_memory[] = {
    {"stack", show_stack, NULL, NULL},           {"heap", show_heap, NULL, NULL},
    {"map", show_map, NULL, NULL},               {"code", show_code, NULL, NULL},
    {"auxiliary", show_auxiliary, NULL, NULL},   {"garbage", show_garbage, NULL, NULL},
    {"resident", show_resident, NULL, NULL},     {"frame", show_frame, NULL, NULL},
    {NULL, NULL, NULL, NULL}};
