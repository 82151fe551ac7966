/* A template whose files change underneath is never used.  Every file that its program has opened before the
 * stop, and the program itself, is watched, by inode: whoever writes to it, or puts another in its place (which
 * takes a name from it), is seen.  Then no template is trusted any more, since that is rare, and which of them had
 * which file need not be known. */
#include "base/fds.h"
#include "sandbox/template.h"

#include <errno.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

#define CHANGES (IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)

static int watch_name(struct server *s, const char *name)
{
    if (s->changes < 0)
        s->changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    return s->changes < 0 ? -1 : inotify_add_watch(s->changes, name, CHANGES);
}

int template_watch_fd(const struct template *m, int fd)
{
    char name[48];
    snprintf(name, sizeof name, "/proc/%d/fd/%d", (int)m->pid, fd);
    return watch_name(m->server, name) < 0 && errno != ENOENT ? -1 : 0;
}

int template_watch_program(const struct template *m)
{
    char name[48];
    snprintf(name, sizeof name, "/proc/%d/exe", (int)m->pid);
    return watch_name(m->server, name) < 0 ? -1 : 0;
}

bool templates_changed(struct server *s)
{
    char events[4096];
    if (s->changes < 0 || read(s->changes, events, sizeof events) <= 0)
        return false;
    fd_close(&s->changes); /* and with it all watches */
    return true;
}
