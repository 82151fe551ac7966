/* Watches the files of templates: a template whose files have changed is never used.  Every file that its program opened
 * before the stop, and the program itself, is watched by inode: so a write to it is seen, and its replacement (which takes
 * a name from it).  To write through a mapping is no event; that is seen when the writer gives up the file.  Every directory
 * through which a name was looked up is watched, too: so it is seen when a name would lead elsewhere now, even one that led
 * nowhere, and when a file changes that was only looked at.  A change makes us distrust all templates: it is rare, and so we
 * need not know which template had which file.
 *
 * Files in the sandbox's own directories are not watched: only its task can change them, and init_template.c looks. */
#include "base/fds.h"
#include "sandbox/template.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHANGES         (IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)
#define CHANGES_BELOW   (IN_CREATE | IN_DELETE | IN_MOVE)
#define LINKS_MAX       40      /* as many as the kernel follows */
#define VARIABLES_BYTES 65536   /* bytes of an environment that are searched for PATH */

static bool is_own(const struct template *m, dev_t device)
{
    for (size_t i = 0; i < TEMPLATE_PLACES; i++)
        if (m->place[i] == device)
            return true;
    return false;
}

static int watch_name(const struct template *m, const char *name)
{
    struct server *s = m->server;
    struct stat st;
    if (stat(name, &st) < 0)
        return errno == ENOENT ? 0 : -1;
    if (is_own(m, st.st_dev) || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
        return 0;
    if (s->changes < 0)
        s->changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    uint32_t mask = S_ISDIR(st.st_mode) ? CHANGES | CHANGES_BELOW : CHANGES;
    return s->changes < 0 || inotify_add_watch(s->changes, name, mask) < 0 ? -1 : 0;
}

int template_watch_fd(const struct template *m, int fd)
{
    char name[48];
    snprintf(name, sizeof name, "/proc/%d/fd/%d", (int)m->pid, fd);
    return watch_name(m, name);
}

/* The way of a name, looked up as the kernel does it for the program. */
struct walk {
    const struct template *m;
    int root; /* the root directory of the program */
    unsigned links;
    char at[PATH_MAX];   /* the directory reached so far, below the root, without links */
    char rest[PATH_MAX]; /* the rest of the name */
};

static void enter_word(struct walk *w, const char *word)
{
    size_t size = strlen(w->at);
    if (!strcmp(word, "."))
        return;
    if (!strcmp(word, "..")) {
        char *slash = strrchr(w->at, '/');
        *(slash ? slash : w->at) = '\0';
    } else {
        snprintf(w->at + size, sizeof w->at - size, "/%s", word);
    }
}

/* Watch the directory and go one word further.  1: there is more; 0: that was all; -1: it cannot be watched. */
static int walk_on(struct walk *w)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    char here[32], word[NAME_MAX + 1], target[2 * PATH_MAX];
    const char *from = w->rest + strspn(w->rest, "/");
    size_t size = strcspn(from, "/");
    if (!size || size >= sizeof word)
        return 0;
    snprintf(word, sizeof word, "%.*s", (int)size, from);
    int fd = (int)syscall(SYS_openat2, w->root, *w->at ? w->at : "/", &how, sizeof how);
    if (fd < 0) /* no such directory: the watch on the one above tells when it is made */
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : -1;
    snprintf(here, sizeof here, "/proc/self/fd/%d", fd);
    int r = watch_name(w->m, here);
    ssize_t n = readlinkat(fd, word, target, PATH_MAX);
    close(fd);
    if (r < 0 || (n > 0 && ++w->links > LINKS_MAX))
        return r;
    if (n > 0) {
        if (*target == '/')
            *w->at = '\0';
        snprintf(target + n, sizeof target - (size_t)n, "%s", from + size);
    } else {
        enter_word(w, word);
        snprintf(target, sizeof target, "%s", from + size);
    }
    snprintf(w->rest, sizeof w->rest, "%.*s", PATH_MAX - 1, target);
    return 1;
}

int template_watch_way(const struct template *m, int directory, const char *name)
{
    static struct walk w;
    char link[48];
    int r = 1;
    w = (struct walk){.m = m};
    if (*name != '/') {
        snprintf(link, sizeof link, directory == AT_FDCWD ? "/proc/%d/cwd" : "/proc/%d/fd/%d", (int)m->pid, directory);
        if (readlink(link, w.at, sizeof w.at - 1) <= 0 || *w.at != '/')
            return 0; /* there is no such descriptor: the call will fail */
        if (!w.at[1])
            *w.at = '\0';
    }
    snprintf(link, sizeof link, "/proc/%d/root", (int)m->pid);
    snprintf(w.rest, sizeof w.rest, "%s", name);
    if ((w.root = open(link, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        return -1;
    while (r > 0)
        r = walk_on(&w);
    close(w.root);
    return r;
}

/* Read a file of /proc up to its first zero byte. */
static bool read_first(const struct template *m, const char *file, char *text, size_t size)
{
    char name[48];
    snprintf(name, sizeof name, "/proc/%d/%s", (int)m->pid, file);
    return fd_read_text(AT_FDCWD, name, text, size) > 0;
}

/* Watch the directories of PATH in which the init looked for the program: another program may appear before it. */
static int watch_search(const struct template *m)
{
    static char text[VARIABLES_BYTES];
    char name[PATH_MAX];
    int r = 0;
    if (!read_first(m, "environ", text, sizeof text))
        return 0;
    const char *at = text;
    while (*at && strncmp(at, "PATH=", 5))
        at += strlen(at) + 1;
    for (at += *at ? 5 : 0; r == 0 && *at; at += strspn(at, ":")) {
        size_t size = strcspn(at, ":");
        snprintf(name, sizeof name, "%.*s/.", (int)size, at);
        at += size;
        r = template_watch_way(m, AT_FDCWD, name);
    }
    return r;
}

static int note_places(struct template *m)
{
    static const char *const place[TEMPLATE_PLACES] = {"", "tmp", "job", "etc", "dev"};
    for (size_t i = 0; i < TEMPLATE_PLACES; i++) {
        char name[48];
        struct stat s;
        snprintf(name, sizeof name, "/proc/%d/root/%s", (int)m->pid, place[i]);
        if (stat(name, &s) < 0)
            return -1;
        m->place[i] = s.st_dev;
    }
    return 0;
}

int template_watch_program(struct template *m)
{
    char name[PATH_MAX];
    bool first = !m->place[0];
    if (first && (note_places(m) < 0 || watch_search(m) < 0))
        return -1;
    snprintf(name, sizeof name, "/proc/%d/exe", (int)m->pid);
    if (watch_name(m, name) < 0)
        return -1;
    /* For a script this is the interpreter's name, as in its first line. */
    return read_first(m, "cmdline", name, sizeof name) && *name == '/' ? template_watch_way(m, AT_FDCWD, name) : 0;
}

bool templates_changed(struct server *s)
{
    char events[4096];
    if (s->changes < 0 || read(s->changes, events, sizeof events) <= 0)
        return false;
    fd_close(&s->changes); /* which removes all watches */
    return true;
}
