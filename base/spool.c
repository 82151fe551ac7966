/* See spool.h.  O_TMPFILE where the file system has it; a name that is unlinked at once elsewhere. */
#include "base/spool.h"

#include "base/fds.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

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

int spool_open(struct err *e)
{
    const char *wanted = getenv("TMPDIR");
    const char *const places[] = {wanted && *wanted ? wanted : "/var/tmp", "/var/tmp", "/tmp"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        int fd = open_in(places[i]);
        if (fd >= 0)
            return fd;
    }
    return err_sys(e, "cannot make a temporary file in $TMPDIR, /var/tmp or /tmp");
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
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", spool);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_sys(e, "cannot reopen a temporary file") : fd;
}
