/* Programs of other kinds: the wall is around all.  See wall_probe.h. */
#include "wall_probe.h"

/* unshare(CLONE_NEWUSER), then its errno as the exit status; with no C library and no loader. */
static const uint8_t code64[] = {0xbf, 0, 0, 0, 0x10,       /* mov $0x10000000, %edi */
                                 0xb8, 0x10, 0x01, 0, 0,    /* mov $272, %eax */
                                 0x0f, 0x05,                /* syscall */
                                 0xf7, 0xd8, 0x89, 0xc7,    /* neg %eax; mov %eax, %edi */
                                 0xb8, 60, 0, 0, 0,         /* mov $60, %eax: exit */
                                 0x0f, 0x05};
static const uint8_t code32[] = {0x31, 0xdb, 0xb8, 1, 0, 0, 0, 0xcd, 0x80}; /* exit(0) by int 0x80 */

static size_t make_elf64(uint8_t *out)
{
    struct __attribute__((packed)) {
        uint8_t ident[16];
        uint16_t type, machine;
        uint32_t version;
        uint64_t entry, phoff, shoff;
        uint32_t flags;
        uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
        uint32_t p_type, p_flags;
        uint64_t p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align;
    } h = {.ident = {0x7f, 'E', 'L', 'F', 2, 1, 1}, .type = 2, .machine = 62, .version = 1,
           .entry = 0x400000 + 120, .phoff = 64, .ehsize = 64, .phentsize = 56, .phnum = 1, .p_type = 1,
           .p_flags = 5, .p_vaddr = 0x400000, .p_paddr = 0x400000, .p_filesz = 120 + sizeof code64,
           .p_memsz = 120 + sizeof code64, .p_align = 4096};
    memcpy(out, &h, sizeof h);
    memcpy(out + sizeof h, code64, sizeof code64);
    return sizeof h + sizeof code64;
}

static size_t make_elf32(uint8_t *out)
{
    struct __attribute__((packed)) {
        uint8_t ident[16];
        uint16_t type, machine;
        uint32_t version, entry, phoff, shoff, flags;
        uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
        uint32_t p_type, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_flags, p_align;
    } h = {.ident = {0x7f, 'E', 'L', 'F', 1, 1, 1}, .type = 2, .machine = 3, .version = 1,
           .entry = 0x08048000 + 84, .phoff = 52, .ehsize = 52, .phentsize = 32, .phnum = 1, .p_type = 1,
           .p_vaddr = 0x08048000, .p_paddr = 0x08048000, .p_filesz = 84 + sizeof code32,
           .p_memsz = 84 + sizeof code32, .p_flags = 5, .p_align = 4096};
    memcpy(out, &h, sizeof h);
    memcpy(out + sizeof h, code32, sizeof code32);
    return sizeof h + sizeof code32;
}

/* Status 0 of what `fd` holds: 1.  By execveat, from memory. */
static int run_fd(int fd)
{
    int status;
    char *argv[] = {"probe", NULL};
    pid_t pid = fork();
    if (pid == 0) {
        syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
        _exit(99);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int run_bytes(const void *data, size_t size)
{
    int fd = (int)syscall(SYS_memfd_create, "probe", 1u /* close on exec */);
    int through = fd >= 0 && write(fd, data, size) == (ssize_t)size && run_fd(fd);
    if (fd >= 0)
        close(fd);
    return through;
}

int static_program(void)
{
    uint8_t elf[256];
    return run_bytes(elf, make_elf64(elf));
}

int program_32(void)
{
    uint8_t elf[256];
    return run_bytes(elf, make_elf32(elf));
}

/* A chain of #! lines, each a program of the one before, to the static one; the last one's name is gone
 * before it runs. */
int script_chain(void)
{
    char name[2][64], text[128];
    uint8_t elf[256];
    size_t size = make_elf64(elf);
    int through = 0;
    for (int i = 0; i < 2; i++)
        snprintf(name[i], sizeof name[i], "/tmp/probe-%d-%d", (int)getpid(), i);
    for (int i = 0; i < 2; i++) {
        int fd = open(name[i], O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0700);
        int n = i ? snprintf(text, sizeof text, "#!%s\n", name[0]) : (int)size;
        if (write(fd, i ? (void *)text : (void *)elf, (size_t)n) != n)
            return 0;
        close(fd);
    }
    int fd = open(name[1], O_RDONLY);
    pid_t pid = fork();
    int status = 1;
    if (pid == 0) {
        execl(name[1], "probe", (char *)NULL);
        _exit(99);
    }
    if (pid > 0 && waitpid(pid, &status, 0) == pid)
        through = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    close(fd);
    unlink(name[1]);
    fd = open(name[0], O_RDONLY | O_CLOEXEC);
    unlink(name[0]);
    through |= run_fd(fd); /* deleted */
    close(fd);
    return through;
}
