/* Cgroups for tasks.  See cgroup.h. */
#include "sandbox/cgroup.h"
#include "base/fds.h"
#include "sandbox/mounts.h"
#include "sandbox/notify.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LEAF        "zpipe"
#define OURS        "zpipe-box."
#define CONTROLLERS "+memory +pids"
#define TEXT_MAX    4096          /* of one file of a cgroup */
#define NAME_TRIES  8             /* names tried for our directory, while other servers make and remove theirs */
#define STALE_MAX   64            /* directories of earlier servers that one start looks at */
#define IDLE_TRIES  4             /* idle cgroups that are tried: a process may still be in some */
#define ROOM_BYTES  (64ull << 20) /* for what the kernel needs for a task, and for its init */
#define ROOM_PROCS  64            /* for its inits, and for dead processes that are still counted */

struct cgroup {
    struct cgroup *next;
    int dir;
    uint32_t number, uses, holds; /* holds: BOX_HOLDS_* */
    bool limited, cpu_known;
    uint64_t cpu_before_ns, ooms, oom_kills;
};

/* --- files of a cgroup --- */

static bool get(int dir, const char *name, char text[TEXT_MAX])
{
    return fd_read_text(dir, name, text, TEXT_MAX) >= 0;
}

static bool put(int dir, const char *name, const char *text)
{
    int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && fd_write_all(fd, text, strlen(text)) == 0;
    int saved = errno;
    fd_close(&fd);
    errno = saved;
    return good;
}

static bool put_number(int dir, const char *name, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, number);
    return put(dir, name, text);
}

/* The number behind a word at a line's start. */
static bool number_of(const char *text, const char *word, uint64_t *number)
{
    size_t n = strlen(word);
    for (const char *at = text; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, word, n) != 0 || at[n] != ' ')
            continue;
        *number = strtoull(at + n, NULL, 10);
        return true;
    }
    return false;
}

static bool has_word(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = text; (at = strstr(at, word)); at += n)
        if ((at == text || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\n' || !at[n]))
            return true;
    return false;
}

/* --- the base --- */

static const char *own_mount(void)
{
    static const char *const place[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    struct statfs s;
    for (size_t i = 0; i < sizeof place / sizeof *place; i++)
        if (statfs(place[i], &s) == 0 && s.f_type == CGROUP2_SUPER_MAGIC)
            return place[i];
    return NULL;
}

/* The path of our own cgroup below the mount. */
static bool own_path(char path[CGROUP_PATH_MAX])
{
    char text[TEXT_MAX];
    const char *at = get(AT_FDCWD, "/proc/self/cgroup", text) ? text : NULL;
    while (at && strncmp(at, "0::/", 4) != 0) {
        at = strchr(at, '\n');
        at = at ? at + 1 : NULL;
    }
    size_t n = at ? strcspn(at + 3, "\n") : 0;
    if (!n || n >= CGROUP_PATH_MAX)
        return false;
    memcpy(path, at + 3, n);
    path[n] = '\0';
    return true;
}

/* If we are in a leaf named LEAF, the base is the cgroup above it. */
static bool leave_leaf(char *path)
{
    char *last = strrchr(path, '/');
    if (strcmp(last + 1, LEAF) != 0)
        return false;
    last[last == path] = '\0';
    return true;
}

static bool marked(int base, const char *name)
{
    char path[40], value;
    snprintf(path, sizeof path, "/proc/self/fd/%d", base);
    return getxattr(path, name, &value, 1) == 1 && value == '1';
}

/* Has somebody given this cgroup to us, so that we may make others below it?  Without systemd it is enough that we may
 * write there.  With systemd it is not: root may write everywhere, and a user in everything that the user's own systemd
 * manages.  So the cgroup must be marked as delegated, or be the topmost one that the user may write. */
static bool is_given(int base)
{
    if (faccessat(base, ".", W_OK, AT_EACCESS) < 0 || faccessat(base, "cgroup.procs", W_OK, AT_EACCESS) < 0 ||
        faccessat(base, "cgroup.subtree_control", W_OK, AT_EACCESS) < 0)
        return false;
    return access("/run/systemd/system", F_OK) < 0 || marked(base, "user.delegate") || marked(base, "trusted.delegate") ||
           (geteuid() != 0 && faccessat(base, "..", W_OK, AT_EACCESS) < 0);
}

/* Is nobody in it but this process and its parent? */
static bool only_we(int base)
{
    char text[TEXT_MAX], *end;
    if (!get(base, "cgroup.procs", text) || strlen(text) == TEXT_MAX - 1)
        return false;
    for (char *at = text; *at; at = end + (*end == '\n')) {
        long pid = strtol(at, &end, 10);
        if (end == at || pid <= 0 || (pid != getpid() && pid != getppid()))
            return false;
    }
    return true;
}

static bool enter_leaf(int base)
{
    bool good = mkdirat(base, LEAF, 0755) == 0 || errno == EEXIST;
    return good && put_number(base, LEAF "/cgroup.procs", (uint64_t)getppid()) &&
           put_number(base, LEAF "/cgroup.procs", (uint64_t)getpid());
}

/* Gives the cgroups below the base their controllers.  NULL, or why that cannot be. */
static const char *divide(int base, bool in_leaf)
{
    char text[TEXT_MAX];
    if (!get(base, "cgroup.controllers", text) || !has_word(text, "memory") || !has_word(text, "pids"))
        return "the cgroup of zpipe-box has no controllers of memory and processes";
    if (!is_given(base))
        return "the cgroup of zpipe-box was not given to it (systemd: Delegate=yes)";
    if (get(base, "cgroup.subtree_control", text) && has_word(text, "memory") && has_word(text, "pids"))
        return NULL;
    bool is_root = faccessat(base, "cgroup.type", F_OK, 0) < 0; /* the root cgroup may have processes and give controllers */
    if (!in_leaf && !is_root) {
        if (!only_we(base))
            return "others are in the cgroup of zpipe-box";
        if (!enter_leaf(base))
            return "the host moves no process to another cgroup";
    }
    return put(base, "cgroup.subtree_control", CONTROLLERS) ? NULL : "the host gives cgroups below that of zpipe-box no controllers";
}

/* --- our directory in the base --- */

static int open_dir(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/* Removes a directory and the cgroups in it.  Processes that still run there are killed; the directory then stays, and is
 * removed by a later start. */
static void remove_dir(int base, const char *name, int dir)
{
    int own = open_dir(dir, "."); /* closed by closedir */
    DIR *d = own < 0 ? NULL : fdopendir(own);
    put(dir, "cgroup.kill", "1"); /* Linux 5.14 */
    for (struct dirent *entry; d && (entry = readdir(d));)
        if (entry->d_type == DT_DIR && *entry->d_name != '.')
            unlinkat(dir, entry->d_name, AT_REMOVEDIR);
    if (d)
        closedir(d);
    else
        fd_close(&own);
    unlinkat(base, name, AT_REMOVEDIR);
}

/* Removes the directories of earlier servers: nobody holds a lock on them. */
static void remove_stale(int base)
{
    int own = open_dir(base, ".");
    DIR *d = own < 0 ? NULL : fdopendir(own);
    uint32_t looked = 0;
    for (struct dirent *entry; d && looked < STALE_MAX && (entry = readdir(d));) {
        if (strncmp(entry->d_name, OURS, strlen(OURS)) != 0)
            continue;
        int dir = open_dir(base, entry->d_name);
        looked++;
        if (dir >= 0 && flock(dir, LOCK_EX | LOCK_NB) == 0)
            remove_dir(base, entry->d_name, dir);
        fd_close(&dir);
    }
    if (d)
        closedir(d);
    else
        fd_close(&own);
}

/* Another server that starts now may take our new directory for a stale one, before we have locked it.  It is then locked
 * or gone, and the next name is tried. */
static int make_dir(struct cgroups *c)
{
    for (unsigned i = 0; i < NAME_TRIES; i++) {
        snprintf(c->name, sizeof c->name, OURS "%d.%u", (int)getpid(), i);
        int dir = mkdirat(c->base, c->name, 0755) < 0 ? -1 : open_dir(c->base, c->name);
        if (dir >= 0 && flock(dir, LOCK_EX | LOCK_NB) == 0 && put(dir, "cgroup.subtree_control", CONTROLLERS))
            return dir;
        fd_close(&dir);
    }
    return -1;
}

void cgroups_open(struct cgroups *c)
{
    const char *mount = own_mount();
    char place[CGROUP_PATH_MAX + 32];
    *c = CGROUPS_INIT;
    c->last = &c->idle;
    c->why = "this host has no cgroups of version 2";
    if (!mount || !own_path(c->path))
        return;
    bool in_leaf = leave_leaf(c->path);
    snprintf(place, sizeof place, "%s%s", mount, c->path);
    c->base = open_dir(AT_FDCWD, place);
    c->why = c->base < 0 ? "the cgroup of zpipe-box cannot be seen" : divide(c->base, in_leaf);
    if (!c->why) {
        remove_stale(c->base);
        c->dir = make_dir(c);
        c->why = c->dir < 0 ? "the host makes no cgroup below that of zpipe-box" : "";
    }
    if (c->dir < 0)
        fd_close(&c->base);
}

void cgroups_refused(struct cgroups *c)
{
    c->why = "the host starts no process in another cgroup";
}

void cgroups_close(struct cgroups *c)
{
    for (struct cgroup *g = c->idle, *next; g; g = next) {
        next = g->next;
        fd_close(&g->dir);
        free(g);
    }
    c->idle = NULL;
    if (c->dir >= 0)
        remove_dir(c->base, c->name, c->dir);
    fd_close(&c->dir);
    fd_close(&c->base);
}

/* --- the cgroup of one task --- */

static void no_limits(struct cgroup *g)
{
    put(g->dir, "memory.max", "max");
    put(g->dir, "memory.swap.max", "max");
    put_number(g->dir, "pids.max", NOTIFY_PROCS_MAX + ROOM_PROCS);
    g->limited = false;
}

static struct cgroup *cgroup_new(struct cgroups *c)
{
    char name[16];
    struct cgroup *g = c->count < CGROUPS_MAX ? calloc(1, sizeof *g) : NULL;
    if (!g)
        return NULL;
    g->number = c->count++;
    snprintf(name, sizeof name, "%u", g->number);
    g->dir = mkdirat(c->dir, name, 0755) < 0 ? -1 : open_dir(c->dir, name);
    /* If one process is killed for want of memory, all in the cgroup are: half a task has no result. */
    if (g->dir < 0 || !put(g->dir, "memory.oom.group", "1")) {
        fd_close(&g->dir);
        free(g);
        return NULL;
    }
    no_limits(g);
    return g;
}

static bool is_empty(const struct cgroup *g)
{
    char text[TEXT_MAX];
    uint64_t populated;
    return get(g->dir, "cgroup.events", text) && number_of(text, "populated", &populated) && !populated;
}

static void put_last(struct cgroups *c, struct cgroup *g)
{
    g->next = NULL;
    *c->last = g;
    c->last = &g->next;
}

/* Takes the first idle cgroup that is empty: an init that has ended may still be in its own for a moment. */
static struct cgroup *idle_one(struct cgroups *c)
{
    for (unsigned i = 0; c->idle && i < IDLE_TRIES; i++) {
        struct cgroup *g = c->idle;
        c->idle = g->next;
        if (!c->idle)
            c->last = &c->idle;
        if (is_empty(g))
            return g;
        put_last(c, g);
    }
    return NULL;
}

struct cgroup *cgroup_take(struct cgroups *c)
{
    struct cgroup *g = c->dir < 0 || *c->why ? NULL : idle_one(c);
    if (!g && c->dir >= 0 && !*c->why)
        g = cgroup_new(c);
    if (!g)
        return NULL;
    g->uses++;
    g->holds = BOX_HOLDS_PROCS;
    g->cpu_known = false;
    return g;
}

void cgroup_give_back(struct cgroups *c, struct cgroup *g)
{
    if (!g)
        return;
    if (g->limited)
        no_limits(g);
    put_last(c, g);
}

int cgroup_fd(const struct cgroup *g)
{
    return g ? g->dir : -1;
}

static bool cpu_used(const struct cgroup *g, uint64_t *us)
{
    char text[TEXT_MAX];
    return get(g->dir, "cpu.stat", text) && number_of(text, "usage_usec", us);
}

void cgroup_limit(struct cgroup *g, const struct box_limits *l)
{
    uint64_t us, memory = l->memory_bytes + ROOM_BYTES + (l->scratch_bytes ? l->scratch_bytes : SCRATCH_DEFAULT);
    if (!g)
        return;
    if (l->procs) {
        g->limited = true;
        if (!put_number(g->dir, "pids.max", (uint64_t)l->procs + ROOM_PROCS))
            g->holds &= ~(uint32_t)BOX_HOLDS_PROCS;
    }
    /* The limit has room for scratch, because the task's files lie in memory too. */
    if (l->memory_bytes && memory > l->memory_bytes) {
        g->limited = true;
        put(g->dir, "memory.swap.max", "0"); /* fails where the host has no swap, and is not needed there */
        if (put_number(g->dir, "memory.max", memory))
            g->holds |= BOX_HOLDS_MEMORY;
    }
    if (l->cpu_ns && cpu_used(g, &us)) {
        g->cpu_known = true;
        g->cpu_before_ns = us * 1000;
        g->holds |= BOX_HOLDS_CPU;
    }
}

bool cgroup_cpu_ns(const struct cgroup *g, uint64_t *ns)
{
    uint64_t us;
    if (!g || !g->cpu_known || !cpu_used(g, &us))
        return false;
    *ns = us * 1000 - g->cpu_before_ns;
    return true;
}

bool cgroup_ran_out(struct cgroup *g)
{
    char text[TEXT_MAX];
    uint64_t kills, met, kills_before = g ? g->oom_kills : 0, met_before = g ? g->ooms : 0;
    if (!g || !get(g->dir, "memory.events", text) || !number_of(text, "oom_kill", &kills) || !number_of(text, "oom", &met))
        return false;
    g->oom_kills = kills;
    g->ooms = met;
    return kills > kills_before && met > met_before; /* killed because of its own limit, not for want of memory elsewhere */
}

/* The kernel notes the most that any task in this cgroup has used, so only the first task can be told its own. */
static uint64_t peak_of(const struct cgroup *g)
{
    char text[TEXT_MAX];
    return g->uses == 1 && get(g->dir, "memory.peak", text) ? strtoull(text, NULL, 10) : 0; /* Linux 5.19 */
}

void cgroup_report(const struct cgroups *c, const struct cgroup *g, char text[CGROUP_TEXT_MAX], struct box_result *r)
{
    *text = '\0';
    r->cgroup = text;
    r->cgroup_why = g ? "" : *c->why ? c->why : "there are too many tasks";
    r->cgroup_holds = g ? g->holds : 0;
    r->tree_peak_bytes = 0;
    if (!g)
        return;
    snprintf(text, CGROUP_TEXT_MAX, "%s/%s/%u", c->path[1] ? c->path : "", c->name, g->number);
    r->tree_peak_bytes = peak_of(g);
}
