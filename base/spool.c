/* See spool.h.  O_TMPFILE where the file system has it; a name that is unlinked at once elsewhere. */
#include "base/spool.h"

#include "base/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define SPOOL_ROOM_MIN (64u << 10) /* with less free space a program's write may fail */

static int open_in(const char *directory)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    char name[4096];
    if (snprintf(name, sizeof name, "%s/zpipe.XXXXXX", directory) >= (int)sizeof name)
        return -1;
    fd = mkostemp(name, O_CLOEXEC);
    if (fd >= 0)
        unlink(name);
    return fd;
}

static char chosen[PATH_MAX];
static const char *used; /* the directory of the last one */

int spool_place(const char *directory, struct err *e)
{
    if (!realpath(directory, chosen)) {
        chosen[0] = '\0';
        return err_sys(e, "cannot use the store directory '%s'", directory);
    }
    int fd = spool_open(e);
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

const char *spool_chosen(void)
{
    return *chosen ? chosen : NULL;
}

bool spool_cache(char *path, size_t size)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool own = cache && *cache == '/';
    if (!own && !(home && *home == '/'))
        return false;
    int n = snprintf(path, size, "%s%s", own ? cache : home, own ? "" : "/.cache");
    if (n < 0 || (size_t)n + sizeof "/zpipe" > size)
        return false;
    mkdir(path, 0700); /* a new user may have none; if this fails, so does the next step */
    memcpy(path + n, "/zpipe", sizeof "/zpipe");
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

int spool_open(struct err *e)
{
    static char cache[PATH_MAX];
    const char *wanted = getenv("TMPDIR");
    if (*chosen) {
        int fd = open_in(used = chosen);
        return fd < 0 ? err_sys(e, "cannot make a temporary file in the store directory '%s'", chosen) : fd;
    }
    bool set = wanted && *wanted;
    if (!set && !*cache && !spool_cache(cache, sizeof cache))
        snprintf(cache, sizeof cache, "/var/tmp");
    const char *const places[] = {set ? wanted : cache, "/var/tmp", "/tmp"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        int fd = open_in(used = places[i]);
        if (fd >= 0)
            return fd;
    }
    return err_sys(e, "cannot make a temporary file in '%s', /var/tmp or /tmp; --store names another directory", places[0]);
}

static uint64_t full_ns; /* when a spool was last seen to have no room */

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void spool_note(int sys)
{
    if (sys == ENOSPC || sys == EDQUOT)
        full_ns = now_ns();
}

int spool_write_failed(struct err *e)
{
    spool_note(errno);
    return err_sys(e, "cannot write to a temporary file in '%s' (make room there, or name another directory with --store)", used ? used : "");
}

bool spool_is_full(int spool)
{
    struct statvfs s;
    bool full = fstatvfs(spool, &s) == 0 && s.f_blocks && (geteuid() ? s.f_bavail : s.f_bfree) * s.f_frsize < SPOOL_ROOM_MIN;
    spool_note(full ? ENOSPC : 0);
    return full;
}

bool spool_was_full(int spool, uint64_t since_ns)
{
    return spool_is_full(spool) || (since_ns && full_ns >= since_ns);
}

void spool_close(int *spool)
{
    if (*spool >= 0)
        spool_is_full(*spool);
    fd_close(spool);
}

int spool_of(struct slice bytes, struct err *e)
{
    int fd = memfd_create("zpipe", MFD_CLOEXEC);
    if (fd < 0)
        return err_sys(e, "cannot make a memory file");
    if (fd_write_all(fd, bytes.data, bytes.size) < 0 || lseek(fd, 0, SEEK_SET) < 0) {
        err_sys(e, "cannot fill a memory file");
        fd_close(&fd);
    }
    return fd;
}

int spool_reader(int spool, struct err *e)
{
    int fd = fd_reopen(spool, O_RDONLY);
    return fd < 0 ? err_sys(e, "cannot reopen a temporary file") : fd;
}
