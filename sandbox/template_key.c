/* A template's key: all that the state of its program at its stop depends on.  It also remembers which keys have been seen;
 * the one whose last task was longest ago is forgotten first. */
#include "base/pack.h"
#include "sandbox/template.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void key_file(struct buf *b, const struct box_file *f, const struct stat *s)
{
    pack_string(b, f->name);
    pack_u64(b, f->offset);
    pack_u64(b, f->size);
    pack_u64(b, s->st_dev);
    pack_u64(b, s->st_ino);
    pack_u64(b, (uint64_t)s->st_size);
    pack_u64(b, (uint64_t)s->st_mtim.tv_sec);
    pack_u64(b, (uint64_t)s->st_mtim.tv_nsec);
    pack_u64(b, (uint64_t)s->st_ctim.tv_sec);
    pack_u64(b, (uint64_t)s->st_ctim.tv_nsec);
}

static const char *key_files(struct buf *b, const struct region *r, const struct box_task *plan)
{
    pack_u32(b, plan->file_count);
    for (uint32_t i = 0; i < plan->file_count; i++) {
        const struct box_file *f = &plan->file[i];
        struct stat s;
        if (f->copy)
            return "it has files of its own to change";
        if (f->link)
            return "it has symbolic links";
        if (f->directory)
            return "it has a directory, whose files may change";
        if ((f->path ? stat(f->path, &s) : fstat(r->fd[f->fd], &s)) < 0)
            return "an input cannot be looked at";
        if (S_ISDIR(s.st_mode))
            return "it has a directory, whose files may change";
        if (!S_ISREG(s.st_mode))
            return "it has an input that is no file"; /* a template could read nothing there that holds for a task */
        key_file(b, f, &s);
    }
    return NULL;
}

bool template_is_data(int fd)
{
    struct stat s;
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) == O_RDONLY && fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
}

/* What a program can see of a descriptor of the caller's before it uses it.  That descriptor is a pipe, a new file, or a
 * file to be read; of the last even a look counts as a use. */
static const char *key_given(struct buf *b, int fd)
{
    struct stat s;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &s) < 0)
        return "a descriptor cannot be looked at";
    if (!S_ISFIFO(s.st_mode) && !template_is_data(fd) && (!S_ISREG(s.st_mode) || s.st_size || lseek(fd, 0, SEEK_CUR)))
        return "it has a file of the caller's that is not empty";
    pack_u32(b, s.st_mode & S_IFMT);
    pack_u32(b, (uint32_t)flags);
    return NULL;
}

uint32_t template_first_same(const struct region *r, const struct box_task *plan, uint32_t i)
{
    const struct box_port *p = &plan->port[i];
    struct stat s, t;
    uint32_t k = 0;
    for (; k < i; k++) {
        const struct box_port *q = &plan->port[k];
        if (p->channel >= 0 ? p->channel == q->channel
                            : p->file >= 0 && q->file >= 0 && fstat(r->fd[p->file], &s) == 0 &&
                                  fstat(r->fd[q->file], &t) == 0 && s.st_dev == t.st_dev && s.st_ino == t.st_ino)
            break;
    }
    return k;
}

static const char *key_ports(struct buf *b, const struct region *r, const struct box_task *plan)
{
    uint32_t count = 0;
    pack_u32(b, plan->port_count);
    for (uint32_t i = 0; i < plan->port_count; i++) {
        const struct box_port *p = &plan->port[i];
        const char *why = NULL;
        if (p->name)
            return "it has named channels";
        if (p->null)
            return "what it writes to /dev/null is counted";
        pack_u32(b, (uint32_t)p->fd);
        pack_u32(b, p->write);
        pack_u32(b, p->channel >= 0 ? 2 : p->file >= 0);
        pack_u32(b, template_first_same(r, plan, i));
        if (p->channel >= 0)
            pack_u32(b, r->spec.region.channel[p->channel].lines);
        else if (p->file >= 0)
            why = key_given(b, r->fd[p->file]);
        if (why)
            return why;
        count += p->channel >= 0 || p->file >= 0;
    }
    return count > FORKER_PORTS_MAX ? "it has too many descriptors" : NULL;
}

static void key_words(struct buf *b, const char *const *word)
{
    for (; word && *word; word++)
        pack_string(b, *word);
    pack_u32(b, 0); /* an unambiguous end: every word has its length before it */
    pack_u32(b, UINT32_MAX);
}

const char *template_key_of(const struct task *t, uint8_t digest[SHA256_BYTES])
{
    const struct region *r = t->region;
    const struct box_task *plan = &r->spec.region.task[t->index];
    const struct box_limits *l = &plan->limit;
    struct buf b = BUF_INIT(TEMPLATE_KEY_BYTES);
    struct sha256 sum;
    if (l->memory_bytes || l->procs || l->files)
        return "it has a limit of memory, processes or files";
    if (plan->trace)
        return "its calls are traced";
    key_words(&b, plan->argv);
    key_words(&b, plan->env);
    key_words(&b, plan->output);
    key_words(&b, plan->out_glob);
    const char *why = key_ports(&b, r, plan);
    if (!why)
        why = key_files(&b, r, plan);
    const uint64_t number[] = {l->cpu_ns, l->scratch_bytes, l->output_bytes, plan->seed, (uint32_t)plan->stream,
                               (uint64_t)plan->epoch_s};
    for (size_t i = 0; i < sizeof number / sizeof *number; i++)
        pack_u64(&b, number[i]);
    if (!why && b.failed)
        why = "its words are too many";
    sha256_begin(&sum);
    if (!why)
        sha256_add(&sum, b.data, b.size);
    sha256_end(&sum, digest);
    buf_clear(&b);
    return why;
}

static bool in_use(const struct server *s, const struct template_key *k)
{
    for (const struct template *m = s->template; m; m = m->next)
        if (m->key == k)
            return true;
    return false;
}

struct template_key *template_key_find(struct server *s, const uint8_t digest[SHA256_BYTES])
{
    struct template_key *oldest = NULL;
    if (!s->template_key && !(s->template_key = calloc(TEMPLATE_KEYS_MAX, sizeof *s->template_key)))
        return NULL;
    for (uint32_t i = 0; i < TEMPLATE_KEYS_MAX; i++) {
        struct template_key *k = &s->template_key[i];
        if (k->seen && !memcmp(k->digest, digest, SHA256_BYTES))
            return k;
        if ((!oldest || k->used < oldest->used) && !in_use(s, k))
            oldest = k;
    }
    *oldest = (struct template_key){0}; /* it has no templates, as there are fewer templates than keys */
    memcpy(oldest->digest, digest, SHA256_BYTES);
    return oldest;
}
