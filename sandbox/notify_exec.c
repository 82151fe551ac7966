/* The start of programs without the loader shim: static ones, and those with other loaders.  Each exec is notified, and the
 * head of its file is looked at.  If the shim is its loader the exec just goes on.  Any other program is traced up to its
 * first instruction; there its auxiliary vector is corrected, as the shim would do, and tracing ends.
 *
 * What must stay true: a program that we cannot look at is traced.  A name may come to mean another file between our look
 * and the kernel's; only a program with threads can do that to itself, and then nothing is certified.  If a start cannot be
 * corrected the process is killed: a wrong certificate would be worse. */
#include "sandbox/auxv.h"
#include "sandbox/filter.h"
#include "sandbox/notify_task.h"
#include "sandbox/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define HEAD_BYTES      4096 /* of a program's file; if its headers are not in there it is traced */
#define SCRIPTS_MAX     5    /* interpreters that are scripts themselves: the kernel's limit */
#define KNOWN_MAX       256  /* names */
#define KNOWN_PATH      96
#define STACK_WORDS     512  /* read at once */
#define STACK_WORDS_MAX (1u << 20)
#define SHIM_WORDS_MAX  (16384 / 8)
#define CODE_32         0x23   /* the code segment of 32-bit programs, whose first instruction is replaced by: */
#define INT_80          0x80cd /* the bytes of int $0x80: the filter kills the program for that call */

enum start { START_BY_SHIM, START_NOT_AT_ALL, START_OTHER };

/* Do these first bytes of a file name SHIM_PLACE as its loader? */
static enum start start_of_elf(const uint8_t *head, size_t size)
{
    Elf64_Ehdr h;
    size_t at;

    if (size < sizeof h)
        return START_OTHER;
    memcpy(&h, head, sizeof h);
    if (h.e_phentsize != sizeof(Elf64_Phdr) || h.e_phoff > size)
        return START_OTHER;
    at = h.e_phoff;
    for (unsigned i = 0; i < h.e_phnum; i++, at += sizeof(Elf64_Phdr)) {
        Elf64_Phdr p;

        if (at + sizeof p > size)
            return START_OTHER;
        memcpy(&p, head + at, sizeof p);
        if (p.p_type == PT_INTERP)
            return p.p_filesz == sizeof SHIM_PLACE && p.p_offset <= size - sizeof SHIM_PLACE &&
                           !memcmp(head + p.p_offset, SHIM_PLACE, sizeof SHIM_PLACE)
                       ? START_BY_SHIM
                       : START_OTHER;
    }
    return START_OTHER;
}

/* The interpreter in a script's first line, cut out of `head`; NULL: none. */
static char *interpreter(char *head, size_t size)
{
    char *name = head + 2, *end;

    if (size < 3 || head[0] != '#' || head[1] != '!')
        return NULL;
    head[size - 1] = '\0';
    name += strspn(name, " \t");
    end = name + strcspn(name, " \t\n");
    *end = '\0';
    return *name ? name : NULL;
}

static enum start start_of(struct notify *n, const struct seccomp_notif *q, const char *path)
{
    char head[HEAD_BYTES], name[HEAD_BYTES];
    struct stat s;

    for (int i = 0; i <= SCRIPTS_MAX; i++) {
        int fd = task_open(n, q, AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
        ssize_t size;
        char *next;

        if (fd < 0)
            return errno == ENOENT || errno == ENOTDIR ? START_NOT_AT_ALL : START_OTHER;
        size = fstat(fd, &s) == 0 && S_ISREG(s.st_mode) ? pread(fd, head, sizeof head, 0) : -1;
        close(fd);
        if (size < 4)
            return START_OTHER;
        if (!memcmp(head, ELFMAG, SELFMAG))
            return start_of_elf((const uint8_t *)head, (size_t)size);
        next = interpreter(head, (size_t)size);
        if (!next)
            return START_OTHER; /* the kernel fails with ENOEXEC, unless the host has an interpreter for the file (binfmt_misc) */
        snprintf(name, sizeof name, "%s", next);
        path = name;
    }
    return START_NOT_AT_ALL;
}

/* Programs of the image do not change, so each is looked at once. */
static char *known_place(const char *path)
{
    static char known[KNOWN_MAX][KNOWN_PATH];
    uint32_t hash = 2166136261u; /* FNV-1a */

    if (!path_of_image(path) || strlen(path) >= KNOWN_PATH)
        return NULL;
    for (const char *c = path; *c; c++)
        hash = (hash ^ (uint8_t)*c) * 16777619u;
    return known[hash % KNOWN_MAX];
}

bool notify_knows_program(const char *path)
{
    const char *known = known_place(path);

    return known && !strcmp(known, path);
}

void notify_unwatched(struct notify *n)
{
    n->unwatched = true;
}

static enum start look(struct notify *n, const struct seccomp_notif *q)
{
    char path[TASK_PATH_MAX], *known;
    bool named = q->data.nr == SYS_execve && task_text(n, q, q->data.args[0], path, sizeof path) == 0;
    enum start start;

    if (n->unwatched && !(named && path_of_image(path) && filter_plain(path)))
        notify_mark(n, "a program that tells nothing of files starts one that may"); /* for example by sed's command e */
    if (!named)
        return START_OTHER; /* an exec by descriptor, which is rare */
    if (!*path)
        return START_NOT_AT_ALL;
    known = known_place(path);
    if (known && !strcmp(known, path))
        return START_BY_SHIM;
    start = start_of(n, q, path);
    if (known && start == START_BY_SHIM)
        strcpy(known, path);
    return start;
}

void answer_exec(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    a->go_on = true;
    gate_forget(n, q);
    timers_forget(n, q);
    if (n->answered > 1) /* at the first exec, in a task's place, there is no page */
        clock_meet(n); /* the page goes away with the old memory */
    if (n->trace_start && !n->traced && task_valid(n, q) &&
        ptrace(PTRACE_SEIZE, q->pid, NULL,
               PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) == 0)
        n->traced = (pid_t)q->pid;
    if (look(n, q) != START_OTHER || n->trace_start || !task_valid(n, q))
        return;
    /* A thread whose last exec failed is traced already. */
    if (ptrace(PTRACE_SEIZE, q->pid, NULL, PTRACE_O_TRACEEXEC) < 0 &&
        ptrace(PTRACE_SETOPTIONS, q->pid, NULL, PTRACE_O_TRACEEXEC) < 0 && errno == EPERM)
        notify_mark(n, "the host forbids tracing the start of a static program");
    if (!task_valid(n, q)) /* that number may belong to another process now: it stops, and is resumed */
        ptrace(PTRACE_INTERRUPT, q->pid, NULL, NULL);
}

/* Read words of its stack from `address` on, as many as there are; 0: its end. */
static size_t read_words(pid_t pid, uint64_t address, uint64_t *word, size_t count)
{
    struct iovec here = {word, count * sizeof *word};
    struct iovec there[2];
    size_t to_page = 4096 - address % 4096;
    ssize_t got;

    there[0] = (struct iovec){(void *)(uintptr_t)address, to_page < here.iov_len ? to_page : here.iov_len};
    there[1] = (struct iovec){(void *)(uintptr_t)(address + to_page), here.iov_len - there[0].iov_len};
    got = process_vm_readv(pid, &here, 1, there, there[1].iov_len ? 2 : 1, 0);
    return got < 0 ? 0 : (size_t)got / sizeof *word;
}

static int write_there(pid_t pid, uint64_t address, const void *data, size_t size)
{
    struct iovec here = {(void *)(uintptr_t)data, size};
    struct iovec there = {(void *)(uintptr_t)address, size};

    return process_vm_writev(pid, &here, 1, &there, 1, 0) == (ssize_t)size ? 0 : -1;
}

/* What a program's auxiliary vector tells. */
struct start_words {
    uint64_t vdso, base, phdr; /* 0: there is none */
};

static int note_entry(pid_t pid, uint64_t at, const Elf64_auxv_t *a, struct start_words *s)
{
    (void)pid, (void)at;
    if (a->a_type == AT_SYSINFO_EHDR)
        s->vdso = a->a_un.a_val;
    else if (a->a_type == AT_BASE)
        s->base = a->a_un.a_val;
    else if (a->a_type == AT_PHDR)
        s->phdr = a->a_un.a_val;
    return 0;
}

static int correct_entry(pid_t pid, uint64_t at, const Elf64_auxv_t *was, struct start_words *s)
{
    static const uint8_t random[AUXV_RANDOM_BYTES] = AUXV_RANDOM;
    Elf64_auxv_t is = *was;

    (void)s;
    auxv_correct(&is);
    if (memcmp(&is, was, sizeof is) != 0 && write_there(pid, at, &is, sizeof is) < 0)
        return -1;
    return was->a_type == AT_RANDOM ? write_there(pid, was->a_un.a_val, random, sizeof random) : 0;
}

/* Walk over the stack: argc, the arguments, 0, the environment, 0, then pairs up to AT_NULL. */
static int for_entries(pid_t pid, uint64_t stack, struct start_words *s,
                       int (*entry)(pid_t pid, uint64_t at, const Elf64_auxv_t *a, struct start_words *s))
{
    uint64_t word[STACK_WORDS], at = stack + 8, end = stack + 8ull * STACK_WORDS_MAX;
    int zeros = 0; /* zeros seen; after the second one come the pairs */
    uint64_t argc;

    if (read_words(pid, stack, &argc, 1) != 1 || argc >= STACK_WORDS_MAX)
        return -1;
    at += argc * 8;
    while (at < end) {
        size_t count = read_words(pid, at, word, STACK_WORDS), i = 0;

        for (; i < count && zeros < 2; i++)
            zeros += word[i] == 0;
        for (; i + 1 < count; i += 2) {
            const Elf64_auxv_t a = {.a_type = word[i], .a_un.a_val = word[i + 1]};

            if (a.a_type == AT_NULL)
                return 0;
            if (entry(pid, at + 8 * i, &a, s) < 0)
                return -1;
        }
        if (!i)
            return -1;
        at += 8 * i;
    }
    return -1;
}

/* Does it begin in the shim, as its interpreter or as the program itself?  Then the shim corrects the stack and all else.
 * A program that only has the same head, or begins elsewhere, is not the shim. */
static bool has_shim(pid_t pid, const struct start_words *s, uint64_t entry)
{
    uint64_t word[SHIM_WORDS_MAX], at = s->base ? s->base : s->phdr - sizeof(Elf64_Ehdr);
    Elf64_Ehdr h;
    Elf64_Phdr text; /* its only segment, which begins with its first byte */

    memcpy(&h, shim_image, sizeof h);
    memcpy(&text, shim_image + h.e_phoff, sizeof text);
    return text.p_filesz <= sizeof word && entry == at + h.e_entry &&
           read_words(pid, at, word, text.p_filesz / 8) == text.p_filesz / 8 && !memcmp(word, shim_image, text.p_filesz);
}

/* Let the program's own start unmap the pages of the kernel's clocks: these instructions replace the vDSO, whose code is of
 * no use without the clocks.  They then jump to where the program begins, with the registers as the kernel set them. */
static int take_away_clocks(pid_t pid, const struct start_words *s, uint64_t entry)
{
    struct __attribute__((packed)) {
        uint8_t rdi[2]; /* mov $FROM, %rdi */
        uint64_t from;
        uint8_t esi[1]; /* mov $SIZE, %esi */
        uint32_t size;
        uint8_t eax[1]; /* mov $NR, %eax */
        uint32_t nr;
        uint8_t call[13]; /* syscall; xor of eax, edi, esi, ecx and r11d with themselves */
        uint8_t jump[6];  /* jmp *0(%rip) */
        uint64_t entry;
        uint8_t rest[1];
    } code = {{0x48, 0xbf}, s->vdso - AUXV_CLOCKS_ROOM, {0xbe}, AUXV_CLOCKS_ROOM, {0xb8}, SYS_munmap,
              {0x0f, 0x05, 0x31, 0xc0, 0x31, 0xff, 0x31, 0xf6, 0x31, 0xc9, 0x45, 0x31, 0xdb},
              {0xff, 0x25, 0, 0, 0, 0}, entry, {0xcc}};
    uint64_t word;

    _Static_assert(sizeof code % sizeof word == 0, "it is written by words");
    for (size_t i = 0; i < sizeof code; i += sizeof word) {
        memcpy(&word, (uint8_t *)&code + i, sizeof word);
        if (ptrace(PTRACE_POKEDATA, pid, s->vdso + i, word) < 0)
            return -1;
    }
    return ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rip), s->vdso) < 0 ? -1 : 0;
}

bool notify_stopped(pid_t pid, int status)
{
    struct start_words s = {0};
    struct user_regs_struct regs;

    if (!WIFSTOPPED(status) || status >> 16 != PTRACE_EVENT_EXEC)
        return false;
    bool known = ptrace(PTRACE_GETREGS, pid, NULL, &regs) == 0;
    if (known && regs.cs == CODE_32 && ptrace(PTRACE_POKEDATA, pid, regs.rip, INT_80) == 0)
        return true;
    if (!known || for_entries(pid, regs.rsp, &s, note_entry) < 0)
        kill(pid, SIGKILL);
    else if (!has_shim(pid, &s, regs.rip) &&
             (for_entries(pid, regs.rsp, &s, correct_entry) < 0 || (s.vdso && take_away_clocks(pid, &s, regs.rip) < 0)))
        kill(pid, SIGKILL);
    return true;
}
