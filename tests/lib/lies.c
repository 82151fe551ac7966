/* A program that lies.  tests/lies.cmake links this into second copies of the programs with --wrap: what they send is right
 * but for one thing.  So each field of each message, and of a graph, is lied about where it is really sent.
 *
 *     ZPIPE_LIE="TABLE NUMBER TIME"  table as in zpipe-proto(7): `data`, or `graph`.  Each field has several lies, and then come
 *                                    those about the message as a whole; NUMBER counts them all, from 0.  TIME: the
 *                                    how manieth message of that kind, from 1; 0: each of them
 *     ZPIPE_LIE_NOTE=FILE            where it is then said what the lie was; "none" if there is no lie of that number
 */
#include "proto/codec.h"
#include "proto/graph.h"
#include "proto/msg.h"
#include "proto/peer.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The names that --wrap gives. */
int __real_codec_encode(const struct field_table *t, uint32_t number, const void *from, struct buf *out, struct err *e);
int __real_peer_send(struct peer *p, uint64_t link, const struct msg *m, struct slice bulk, struct err *e);
int __real_peer_give(struct peer *p, uint64_t link, const struct msg *m, void *bulk, size_t size, struct err *e);
int __wrap_codec_encode(const struct field_table *t, uint32_t number, const void *from, struct buf *out, struct err *e);
int __wrap_peer_send(struct peer *p, uint64_t link, const struct msg *m, struct slice bulk, struct err *e);
int __wrap_peer_give(struct peer *p, uint64_t link, const struct msg *m, void *bulk, size_t size, struct err *e);

#define TEXTS_MAX 300

static char table[32];
static long wanted = -1, at_time = 1, seen;
static bool told;

__attribute__((constructor)) static void read_wish(void)
{
    const char *wish = getenv("ZPIPE_LIE");
    if (wish && sscanf(wish, "%31s %ld %ld", table, &wanted, &at_time) != 3)
        wanted = -1;
}

/* Whoever was forked from us notes, too; the first word stands. */
static void note(const char *what, const char *name)
{
    const char *path = getenv("ZPIPE_LIE_NOTE");
    int fd = path && !told ? open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666) : -1;
    if (fd >= 0) {
        dprintf(fd, "%s %s\n", name, what);
        close(fd);
    }
    told = true;
}

/* ---- fields */

static void *copy_of(const void *from, size_t size)
{
    void *to = malloc(size + 1);
    if (!to)
        abort();
    if (size)
        memcpy(to, from, size);
    return to;
}

static const char *long_text(uint64_t max)
{
    static char text[TEXTS_MAX + 1];
    size_t size = max < TEXTS_MAX ? (size_t)max : TEXTS_MAX;
    memset(text, 'x', size);
    text[size] = '\0';
    return text;
}

static uint64_t number_lie(uint64_t was, uint64_t max, long which)
{
    const uint64_t lie[] = {0, 1, was + 1, was - 1, max, max / 2 + 1, was + 1000};
    uint64_t value = lie[which];
    return value > max ? max : value;
}

#define NUMBERS 7
static const char *const text_lie[] = {"", "../up", "/etc/passwd", "a/../../b", "\033[31m\n", "tcp://127.0.0.1:1", NULL /* long */};
#define TEXTS (sizeof text_lie / sizeof *text_lie)
#define BYTESS 4

static const char *lie_text(long which, uint64_t max)
{
    const char *t = text_lie[which] ? text_lie[which] : long_text(max);
    return strlen(t) <= max ? t : "";
}

static struct slice lie_bytes(struct slice was, long which)
{
    char *to = copy_of(was.data, was.size);
    if (which == 0)
        return (struct slice){"", 0};
    if (which == 1 && was.size)
        to[was.size / 2] ^= 1;
    if (which == 3)
        memset(to, 0, was.size);
    return (struct slice){to, which == 2 && was.size ? was.size - 1 : was.size};
}

/* Does the lie of this number begin here?  Then *left is its number within these. */
static bool ours(long *left, long count)
{
    if (*left < count)
        return true;
    *left -= count;
    return false;
}

static bool lie_struct(const struct field_table *t, char *base, long *left, char *path, size_t room);

static bool lie_list(const struct field *f, char *base, long *left, char *path, size_t room)
{
    uint32_t *count = (uint32_t *)(void *)(base + f->count_offset);
    void **items = (void **)(void *)(base + f->offset);
    size_t size = f->kind == FIELD_U32_LIST ? sizeof(uint32_t) : f->kind == FIELD_TEXT_LIST ? sizeof(char *)
                : f->kind == FIELD_BYTES_LIST ? sizeof(struct slice) : f->sub->size;
    long kinds = f->kind == FIELD_U32_LIST ? NUMBERS : f->kind == FIELD_TEXT_LIST ? (long)TEXTS : f->kind == FIELD_BYTES_LIST ? BYTESS : 0;
    if (!*count) { /* an item of zeros */
        if (!ours(left, 1))
            return false;
        *items = calloc(1, size);
        *count = 1;
        if (!*items)
            abort();
        if (f->kind != FIELD_U32_LIST && f->kind != FIELD_LIST) /* texts must be there */
            *count = 0;
        return true;
    }
    char *copy = malloc((*count + 1) * size);
    if (!copy)
        abort();
    memcpy(copy, *items, *count * size);
    memcpy(copy + *count * size, copy + (*count - 1) * size, size);
    *items = copy;
    if (ours(left, 3)) {
        if (*left == 1 && *count < f->max)
            ++*count; /* the last one twice */
        else if (*left == 0)
            *count = 0;
        else
            --*count;
        return true;
    }
    for (int last = 0; last < 2; last++) {
        char *item = copy + (last ? (*count - 1) * size : 0);
        if (f->kind == FIELD_LIST) {
            if (lie_struct(f->sub, item, left, path, room))
                return true;
        } else if (ours(left, kinds)) {
            if (f->kind == FIELD_U32_LIST)
                *(uint32_t *)(void *)item = (uint32_t)number_lie(*(uint32_t *)(void *)item, UINT32_MAX, *left);
            else if (f->kind == FIELD_TEXT_LIST)
                *(const char **)(void *)item = lie_text(*left, 4096);
            else
                *(struct slice *)(void *)item = lie_bytes(*(struct slice *)(void *)item, *left);
            return true;
        }
    }
    return false;
}

static bool lie_field(const struct field *f, char *base, long *left, char *path, size_t room)
{
    void *at = base + f->offset;
    switch (f->kind) {
    case FIELD_U32:
        if (!ours(left, NUMBERS))
            return false;
        *(uint32_t *)at = (uint32_t)number_lie(*(uint32_t *)at, f->max < UINT32_MAX ? f->max : UINT32_MAX, *left);
        return true;
    case FIELD_U64:
        if (!ours(left, NUMBERS))
            return false;
        *(uint64_t *)at = number_lie(*(uint64_t *)at, UINT64_MAX, *left);
        return true;
    case FIELD_I32:
        if (!ours(left, NUMBERS))
            return false;
        *(int32_t *)at = (int32_t)number_lie((uint64_t)*(int32_t *)at, INT32_MAX, *left);
        return true;
    case FIELD_I64:
        if (!ours(left, NUMBERS))
            return false;
        *(int64_t *)at = (int64_t)number_lie((uint64_t)*(int64_t *)at, INT64_MAX, *left);
        return true;
    case FIELD_BOOL:
        if (!ours(left, 1))
            return false;
        *(bool *)at = !*(bool *)at;
        return true;
    case FIELD_TEXT:
        if (!ours(left, (long)TEXTS))
            return false;
        *(const char **)at = lie_text(*left, f->max);
        return true;
    case FIELD_BYTES:
        if (!ours(left, BYTESS))
            return false;
        *(struct slice *)at = lie_bytes(*(struct slice *)at, *left);
        return true;
    case FIELD_STRUCT:
        return lie_struct(f->sub, at, left, path, room);
    default:
        return lie_list(f, base, left, path, room);
    }
}

static bool lie_struct(const struct field_table *t, char *base, long *left, char *path, size_t room)
{
    for (size_t i = 0; i < t->count; i++)
        if (lie_field(&t->field[i], base, left, path, room)) {
            char before[256];
            snprintf(before, sizeof before, "%s", path);
            snprintf(path, room, "%s.%s%s", t->name, t->field[i].name, *before ? before : (snprintf(before, sizeof before, " %ld", *left), before));
            return true;
        }
    return false;
}


static bool is_wanted(const char *name)
{
    return wanted >= 0 && !strcmp(name + (strncmp(name, "msg_", 4) ? 0 : 4), table);
}

static bool now(void)
{
    return ++seen == at_time || !at_time;
}

/* A graph is lied about when it is encoded; a message when it is sent, so that one that is sent again is the same. */
int __wrap_codec_encode(const struct field_table *t, uint32_t number, const void *from, struct buf *out, struct err *e)
{
    if (t != graph_table() || !is_wanted("graph") || !now())
        return __real_codec_encode(t, number, from, out, e);
    char path[300] = "", *copy = copy_of(from, t->size);
    long left = wanted;
    note(lie_struct(t, copy, &left, path, sizeof path) ? path : "none", "graph");
    int r = __real_codec_encode(t, number, copy, out, e);
    free(copy);
    return r;
}

/* ---- messages as a whole */

enum { TWICE, NEVER, SHORTER, LONGER, OTHER_BYTES, NO_BYTES, WHOLES };
static const char *const whole_name[] = {"twice", "never", "shorter", "longer", "other bytes", "no bytes"};

static int lie_whole(struct peer *p, uint64_t link, const struct msg *m, struct slice bulk, long which, struct err *e)
{
    static char room[MSG_DATA_BYTES + 1];
    size_t size = bulk.size < sizeof room - 1 ? bulk.size : sizeof room - 1;
    int r = 0;
    memcpy(room, bulk.size ? bulk.data : "", size);
    switch (which) {
    case TWICE:
        r = __real_peer_send(p, link, m, bulk, e);
        return r < 0 ? r : __real_peer_send(p, link, m, bulk, e);
    case NEVER:
        return 0;
    case SHORTER:
        size -= size > 0;
        break;
    case LONGER:
        room[size++] = 'x';
        break;
    case OTHER_BYTES:
        room[size / 2] ^= 1;
        break;
    default:
        size = 0;
        break;
    }
    return __real_peer_send(p, link, m, (struct slice){room, size}, e);
}

int __wrap_peer_send(struct peer *p, uint64_t link, const struct msg *m, struct slice bulk, struct err *e)
{
    const struct field_table *t = msg_table(m->type);
    if (!t || !is_wanted(t->name) || !now())
        return __real_peer_send(p, link, m, bulk, e);
    struct msg copy = *m;
    char path[300] = "";
    long left = wanted;
    if (lie_struct(t, (char *)&copy.hello, &left, path, sizeof path)) {
        note(path, msg_name(m->type));
        return __real_peer_send(p, link, &copy, bulk, e);
    }
    bool whole = left < (msg_has_bulk(m->type) ? WHOLES : NEVER + 1);
    note(whole ? whole_name[left] : "none", msg_name(m->type));
    return whole ? lie_whole(p, link, m, bulk, left, e) : __real_peer_send(p, link, m, bulk, e);
}

int __wrap_peer_give(struct peer *p, uint64_t link, const struct msg *m, void *bulk, size_t size, struct err *e)
{
    int r = __wrap_peer_send(p, link, m, (struct slice){bulk, size}, e);
    free(bulk);
    return r;
}
