/* See image.h.  An id is the SHA-256 of a list with a line for each package, alternative and file. */
#include "worker/image.h"

#include "base/buf.h"
#include "base/digest.h"
#include "base/fds.h"
#include "base/loop.h"
#include "sandbox/domain.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PACKAGES     "/var/lib/dpkg/status"
#define LIST_MAX     (64u << 20)
#define FILES_MAX    200000
#define PACKAGES_MAX (256u << 20)

/* ---- packages */

/* The value of a field, in the paragraph [at, end). */
static struct slice field_of(const char *at, const char *end, const char *name)
{
    size_t size = strlen(name);
    while (at < end) {
        const char *line = memchr(at, '\n', (size_t)(end - at));
        line = line ? line : end;
        if ((size_t)(line - at) > size && !memcmp(at, name, size))
            return (struct slice){at + size, (size_t)(line - at) - size};
        at = line + 1;
    }
    return (struct slice){"", 0};
}

static void add_package(struct buf *list, const char *at, const char *end)
{
    static const char *const fields[] = {"Package: ", "Version: ", "Architecture: "};
    struct slice status = field_of(at, end, "Status: ");
    static const char there[] = " installed";
    if (status.size < sizeof there - 1 || memcmp((const char *)status.data + status.size - (sizeof there - 1), there, sizeof there - 1) != 0)
        return;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        struct slice s = field_of(at, end, fields[i]);
        buf_add(list, s.data, s.size);
        buf_byte(list, i < 2 ? ' ' : '\n');
    }
}

static void add_packages(struct buf *list, const char *text, size_t size)
{
    const char *end = text + size;
    for (const char *at = text; at < end;) {
        const char *gap = memmem(at, (size_t)(end - at), "\n\n", 2);
        gap = gap ? gap : end;
        add_package(list, at, gap);
        at = gap + 2;
    }
}

/* Adds nothing if the host has no packages of this kind. */
static int list_packages(struct buf *list, struct image *i, struct err *e)
{
    struct stat s;
    int fd = open(PACKAGES, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_sys(e, "cannot read " PACKAGES);
    char *text = NULL;
    int r = fstat(fd, &s) < 0 || s.st_size > PACKAGES_MAX ? err_set(e, ERR_IO, "cannot read " PACKAGES) : 0;
    if (r == 0 && !(text = malloc((size_t)s.st_size + 1)))
        r = err_nomem(e);
    ssize_t n = r == 0 ? fd_read_all(fd, text, (size_t)s.st_size) : 0;
    if (n < 0)
        r = err_sys(e, "cannot read " PACKAGES);
    if (r == 0) {
        add_packages(list, text, (size_t)n);
        i->listed = s.st_mtim;
        i->list = s.st_ino;
    }
    free(text);
    close(fd);
    return r;
}

/* ---- files */

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static void add_link(struct buf *list, const char *path)
{
    char to[4096];
    ssize_t n = readlink(path, to, sizeof to);
    buf_printf(list, "%s -> ", path);
    buf_add(list, to, n < 0 ? 0 : (size_t)n);
    buf_byte(list, '\n');
}

static bool add_bytes(struct buf *list, const char *path)
{
    struct digest d;
    struct err e;
    char text[65];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool good = fd >= 0 && digest_of_file(fd, &d, &e) == 0;
    if (fd >= 0)
        close(fd);
    if (!good)
        return false;
    digest_print(&d, text);
    buf_printf(list, " %s\n", text);
    return true;
}

static void add_file(struct buf *list, const FTSENT *f, bool bytes)
{
    const struct stat *s = f->fts_statp;
    buf_printf(list, "%s %o %lld", f->fts_path, (unsigned)s->st_mode & 07777, (long long)s->st_size);
    if (!bytes)
        buf_byte(list, '\n');
    else if (s->st_size > IMAGE_LOOK_MAX || !add_bytes(list, f->fts_path))
        buf_printf(list, " %lld.%09ld\n", (long long)s->st_mtim.tv_sec, s->st_mtim.tv_nsec);
}

static int list_files(struct buf *list, const char *const *trees, bool bytes, const atomic_int *left, struct err *e)
{
    uint32_t count = 0;
    FTS *t = fts_open((char *const *)trees, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
    if (!t)
        return err_sys(e, "cannot look at what programs see here");
    for (FTSENT *f; !(left && *left) && (f = fts_read(t)) && count <= FILES_MAX; count++) {
        if (f->fts_info == FTS_SL || f->fts_info == FTS_SLNONE)
            add_link(list, f->fts_path);
        else if (f->fts_info == FTS_F)
            add_file(list, f, bytes);
    }
    fts_close(t);
    return count <= FILES_MAX
               ? 0
               : err_set(e, ERR_LIMIT, "there are more than %d files in /usr/local or among the programs: give what is here a name, with --image", FILES_MAX);
}

/* ---- all of it */

/* left: becomes not 0 when nobody waits for the result; or NULL. */
static int look(struct image *i, const atomic_int *left, struct err *e)
{
    static const char *const chosen[] = {"/etc/alternatives", NULL}, *const local[] = {"/usr/local", NULL},
                            *const programs[] = {"/usr/bin", "/usr/sbin", NULL};
    struct buf list = BUF_INIT(LIST_MAX);
    struct digest d;
    int r = list_packages(&list, i, e);
    if (r == 0)
        r = list_files(&list, chosen, false, left, e);
    if (r == 0)
        r = list_files(&list, local, true, left, e);
    if (r == 0)
        r = list_files(&list, programs, false, left, e);
    if (r == 0)
        r = buf_check(&list, "what programs see here", e);
    if (r == 0) {
        digest_of(list.data ? list.data : "", list.size, &d);
        digest_print(&d, i->id);
    }
    buf_clear(&list);
    return r;
}

int image_find(struct image *i, const char *name, bool bare, struct err *e)
{
    static const char may[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._+:";
    char domain[DOMAIN_ROOM];
    *i = (struct image){.given = name};
    if (name && (!*name || strlen(name) >= sizeof i->id || strspn(name, may) != strlen(name)))
        return err_set(e, ERR_INPUT, "an image's name has 1 to %d letters, digits and -._+:", IMAGE_ROOM - 1);
    domain_text(domain, sizeof domain);
    snprintf(i->domain, sizeof i->domain, "%.120s%s", domain, bare ? " bare" : "");
    snprintf(i->id, sizeof i->id, "%s", name ? name : "");
    return name ? 0 : look(i, NULL, e);
}

bool image_is_old(const struct image *i)
{
    struct stat s;
    return !i->given && stat(PACKAGES, &s) == 0 &&
           (s.st_ino != i->list || s.st_mtim.tv_sec != i->listed.tv_sec || s.st_mtim.tv_nsec != i->listed.tv_nsec);
}

/* ---- a look beside the loop */

/* Shared by the thread and the worker's loop.  Either may leave first, as the thread may hang in a file system. */
struct image_look {
    atomic_int users, left; /* users: of the two, how many are left; left: the loop does not wait any more */
    struct image now;
    struct err why;
    bool good;
    int end[2]; /* a pipe that the thread closes its side of */
    /* used only by the loop: */
    struct loop *loop;
    struct loop_fd over;
    struct loop_timer late;
    void (*done)(void *owner, const struct image *now, const struct err *why);
    void *owner;
};

static void drop_look(struct image_look *k)
{
    if (atomic_fetch_sub(&k->users, 1) > 1)
        return;
    fd_close(&k->end[0]);
    fd_close(&k->end[1]);
    free(k);
}

static void *run_look(void *owner)
{
    struct image_look *k = owner;
    k->good = look(&k->now, &k->left, &k->why) == 0;
    fd_close(&k->end[1]);
    drop_look(k);
    return NULL;
}

static void look_over(struct loop_fd *w, int events)
{
    struct image_look *k = w->owner;
    (void)events;
    loop_fd_stop(k->loop, &k->over);
    loop_timer_stop(k->loop, &k->late);
    k->done(k->owner, k->good ? &k->now : NULL, &k->why);
}

static void look_late(struct loop_timer *w)
{
    struct image_look *k = w->owner;
    struct err e;
    loop_fd_stop(k->loop, &k->over);
    err_set(&e, ERR_LIMIT, "to look at /usr/local and the programs takes more than %u s: give what is here a name, with --image",
            (unsigned)(IMAGE_LOOK_NS / 1000000000));
    k->done(k->owner, NULL, &e);
}

struct image_look *image_look(const struct image *i, struct loop *l, void (*done)(void *owner, const struct image *now, const struct err *why),
                              void *owner, struct err *e)
{
    struct image_look *k = calloc(1, sizeof *k);
    pthread_t thread;
    sigset_t all, before;
    if (!k) {
        err_nomem(e);
        return NULL;
    }
    if (pipe2(k->end, O_CLOEXEC) < 0) {
        err_sys(e, "cannot make a pipe");
        free(k);
        return NULL;
    }
    k->users = 2;
    k->now = *i;
    k->loop = l;
    k->done = done;
    k->owner = owner;
    k->over = (struct loop_fd){.run = look_over, .owner = k};
    k->late = (struct loop_timer){.run = look_late, .owner = k};
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals go to the loop */
    int r = pthread_create(&thread, NULL, run_look, k);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r) {
        errno = r;
        err_sys(e, "cannot start a thread");
        k->users = 1;
        drop_look(k);
        return NULL;
    }
    pthread_detach(thread);
    loop_fd_start(l, &k->over, k->end[0], LOOP_READ);
    loop_timer_start(l, &k->late, IMAGE_LOOK_NS, 0);
    return k;
}

void image_look_free(struct image_look *k)
{
    if (!k)
        return;
    loop_fd_stop(k->loop, &k->over);
    loop_timer_stop(k->loop, &k->late);
    k->left = 1;
    drop_look(k);
}
