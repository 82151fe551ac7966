/* See gather.h. */
#include "base/gather.h"

#include "base/fds.h"
#include "base/spool.h"

#include <errno.h>
#include <unistd.h>

struct gather gather_begin(uint32_t files)
{
    return (struct gather){.many = files >= GATHER_FROM_FILES, .spool = -1};
}

static int add(struct gather *g, int fd, uint64_t size, const char *name, struct err *e)
{
    static char bytes[GATHER_FILE_MAX];
    ssize_t got = fd_read_all(fd, bytes, (size_t)size), done = 0, n = 0;
    if (got < 0)
        return err_sys(e, "cannot read the input '%s'", name);
    if ((uint64_t)got != size)
        return err_set(e, ERR_INPUT, "the input '%s' changed while it was read", name);
    for (; done < got; done += n) {
        n = pwrite(g->spool, bytes + done, (size_t)(got - done), (off_t)(g->bytes + (uint64_t)done));
        if (n < 0 && errno == EINTR)
            n = 0;
        else if (n < 0)
            return spool_write_failed(e);
    }
    g->bytes += size;
    return 0;
}

enum gathered gather_file(struct gather *g, int *fd, uint64_t size, const char *name, struct err *e)
{
    bool here = g->spool < 0;
    if (!g->many || !size || size > GATHER_FILE_MAX) {
        g->spool = -1;
        return GATHERED_NOT;
    }
    if (here) {
        g->spool = spool_open(e);
        g->bytes = 0;
    }
    int r = g->spool < 0 ? -1 : add(g, *fd, size, name, e);
    fd_close(fd);
    if (r < 0) {
        if (here)
            fd_close(&g->spool);
        return GATHERED_FAILED;
    }
    if (here)
        *fd = g->spool;
    return here ? GATHERED_HERE : GATHERED_ON;
}
