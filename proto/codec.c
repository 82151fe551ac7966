/* See codec.h. */
#include "proto/codec.h"

#include "proto/wire.h"

#include <inttypes.h>
#include <msgpack.h>
#include <string.h>

/* ---- encoding */

static int write_buf(void *to, const char *data, size_t size)
{
    struct buf *b = to;
    buf_add(b, data, size);
    return b->failed ? -1 : 0;
}

static int encode_struct(const struct field_table *t, const char *from, msgpack_packer *p,
                         struct err *e);

static int over(const struct field_table *t, const struct field *f, struct err *e)
{
    return err_set(e, ERR_LIMIT, "%s.%s is over its ceiling of %" PRIu64, t->name, f->name, f->max);
}

static void pack_text(msgpack_packer *p, const char *text, size_t size)
{
    msgpack_pack_str(p, size);
    msgpack_pack_str_body(p, text, size);
}

static void pack_slice(msgpack_packer *p, const struct slice *s)
{
    msgpack_pack_bin(p, s->size);
    msgpack_pack_bin_body(p, s->data, s->size);
}

#define TEXT_MAX (64u << 20) /* of one item in a list: the frame's own ceiling is lower */

static int encode_list(const struct field_table *t, const struct field *f, const char *at,
                       const char *base, msgpack_packer *p, struct err *e)
{
    uint32_t count = *(const uint32_t *)(base + f->count_offset);
    if (count > f->max)
        return over(t, f, e);
    msgpack_pack_array(p, count);
    const char *items = *(const char *const *)at;
    for (uint32_t i = 0; i < count; i++) {
        if (f->kind == FIELD_U32_LIST)
            msgpack_pack_uint32(p, ((const uint32_t *)items)[i]);
        else if (f->kind == FIELD_TEXT_LIST)
            pack_text(p, ((const char *const *)items)[i], strlen(((const char *const *)items)[i]));
        else if (f->kind == FIELD_BYTES_LIST)
            pack_slice(p, &((const struct slice *)items)[i]);
        else if (encode_struct(f->sub, items + i * f->sub->size, p, e) < 0)
            return -1;
    }
    return 0;
}

static int encode_field(const struct field_table *t, const struct field *f, const char *base,
                        msgpack_packer *p, struct err *e)
{
    const char *at = base + f->offset;
    const char *text;
    switch (f->kind) {
    case FIELD_U32:
        if (*(const uint32_t *)at > f->max)
            return over(t, f, e);
        return msgpack_pack_uint32(p, *(const uint32_t *)at);
    case FIELD_U64:
        return msgpack_pack_uint64(p, *(const uint64_t *)at);
    case FIELD_I32:
        return msgpack_pack_int32(p, *(const int32_t *)at);
    case FIELD_I64:
        return msgpack_pack_int64(p, *(const int64_t *)at);
    case FIELD_BOOL:
        return *(const bool *)at ? msgpack_pack_true(p) : msgpack_pack_false(p);
    case FIELD_TEXT:
        text = *(const char *const *)at;
        text = text ? text : "";
        if (strlen(text) > f->max)
            return over(t, f, e);
        pack_text(p, text, strlen(text));
        return 0;
    case FIELD_BYTES:
        if (((const struct slice *)at)->size > f->max)
            return over(t, f, e);
        pack_slice(p, (const struct slice *)at);
        return 0;
    case FIELD_STRUCT:
        return encode_struct(f->sub, at, p, e);
    default:
        return encode_list(t, f, at, base, p, e);
    }
}

static int encode_struct(const struct field_table *t, const char *from, msgpack_packer *p,
                         struct err *e)
{
    msgpack_pack_array(p, t->count);
    for (size_t i = 0; i < t->count; i++)
        if (encode_field(t, &t->field[i], from, p, e) < 0)
            return -1;
    return 0;
}

int codec_encode(const struct field_table *t, uint32_t number, const void *from, struct buf *out,
                 struct err *e)
{
    msgpack_packer p;
    msgpack_packer_init(&p, out, write_buf);
    msgpack_pack_array(&p, 2);
    msgpack_pack_uint32(&p, number);
    int r = encode_struct(t, from, &p, e);
    return buf_check(out, t->name, e) < 0 ? -1 : r;
}

/* ---- decoding */

struct decoder {
    struct arena *arena;
    struct err *e;
};

static int bad(const struct field_table *t, const struct field *f, struct decoder *d)
{
    return err_set(d->e, ERR_PROTO,
                   "a frame was refused: %s.%s is missing, of the wrong kind or too large", t->name,
                   f->name);
}

static int decode_struct(const struct field_table *t, const msgpack_object *o, char *to,
                         struct decoder *d);

static int decode_text(const struct field_table *t, const struct field *f, const msgpack_object *o,
                       uint64_t max, const char **to, struct decoder *d)
{
    if (o->type != MSGPACK_OBJECT_STR || o->via.str.size > max ||
        (o->via.str.size && memchr(o->via.str.ptr, '\0', o->via.str.size)))
        return bad(t, f, d);
    *to = arena_bytes(d->arena, o->via.str.ptr, o->via.str.size);
    return *to ? 0 : err_nomem(d->e);
}

static int decode_bytes(const struct field_table *t, const struct field *f, const msgpack_object *o,
                        uint64_t max, struct slice *to, struct decoder *d)
{
    if (o->type != MSGPACK_OBJECT_BIN || o->via.bin.size > max)
        return bad(t, f, d);
    to->size = o->via.bin.size;
    to->data = arena_bytes(d->arena, o->via.bin.ptr, o->via.bin.size);
    return to->data ? 0 : err_nomem(d->e);
}

static size_t item_size(const struct field *f)
{
    return f->kind == FIELD_U32_LIST     ? sizeof(uint32_t)
           : f->kind == FIELD_TEXT_LIST  ? sizeof(char *)
           : f->kind == FIELD_BYTES_LIST ? sizeof(struct slice)
                                         : f->sub->size;
}

static int decode_list(const struct field_table *t, const struct field *f, const msgpack_object *o,
                       char *base, struct decoder *d)
{
    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size > f->max)
        return bad(t, f, d);
    uint32_t count = o->via.array.size;
    char *items = arena_array(d->arena, count, item_size(f));
    if (!items)
        return err_set(d->e, ERR_LIMIT, "%s.%s does not fit the memory for one message", t->name,
                       f->name);
    for (uint32_t i = 0; i < count; i++) {
        const msgpack_object *one = &o->via.array.ptr[i];
        int r = 0;
        if (f->kind == FIELD_U32_LIST) {
            if (one->type != MSGPACK_OBJECT_POSITIVE_INTEGER || one->via.u64 > UINT32_MAX)
                return bad(t, f, d);
            ((uint32_t *)items)[i] = (uint32_t)one->via.u64;
        } else if (f->kind == FIELD_TEXT_LIST) {
            r = decode_text(t, f, one, TEXT_MAX, &((const char **)items)[i], d);
        } else if (f->kind == FIELD_BYTES_LIST) {
            r = decode_bytes(t, f, one, TEXT_MAX, &((struct slice *)items)[i], d);
        } else {
            r = decode_struct(f->sub, one, items + i * f->sub->size, d);
        }
        if (r < 0)
            return -1;
    }
    *(char **)(base + f->offset) = items;
    *(uint32_t *)(base + f->count_offset) = count;
    return 0;
}

static int decode_integer(const struct field_table *t, const struct field *f,
                          const msgpack_object *o, char *to, struct decoder *d)
{
    bool positive = o->type == MSGPACK_OBJECT_POSITIVE_INTEGER,
         negative = o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER;
    uint64_t u = o->via.u64;
    int64_t i = o->via.i64;
    if (f->kind == FIELD_U32 && positive && u <= f->max && u <= UINT32_MAX)
        *(uint32_t *)to = (uint32_t)u;
    else if (f->kind == FIELD_U64 && positive && u <= f->max)
        *(uint64_t *)to = u;
    else if (f->kind == FIELD_I32 && ((positive && u <= INT32_MAX) || (negative && i >= INT32_MIN)))
        *(int32_t *)to = (int32_t)i;
    else if (f->kind == FIELD_I64 && ((positive && u <= INT64_MAX) || negative))
        *(int64_t *)to = i;
    else
        return bad(t, f, d);
    return 0;
}

static int decode_field(const struct field_table *t, const struct field *f, const msgpack_object *o,
                        char *base, struct decoder *d)
{
    char *to = base + f->offset;
    switch (f->kind) {
    case FIELD_U32:
    case FIELD_U64:
    case FIELD_I32:
    case FIELD_I64:
        return decode_integer(t, f, o, to, d);
    case FIELD_BOOL:
        if (o->type != MSGPACK_OBJECT_BOOLEAN)
            return bad(t, f, d);
        *(bool *)to = o->via.boolean;
        return 0;
    case FIELD_TEXT:
        return decode_text(t, f, o, f->max, (const char **)to, d);
    case FIELD_BYTES:
        return decode_bytes(t, f, o, f->max, (struct slice *)to, d);
    case FIELD_STRUCT:
        return decode_struct(f->sub, o, to, d);
    default:
        return decode_list(t, f, o, base, d);
    }
}

static int decode_struct(const struct field_table *t, const msgpack_object *o, char *to,
                         struct decoder *d)
{
    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < t->count)
        return err_set(d->e, ERR_PROTO, "a frame was refused: %s has too few fields", t->name);
    for (size_t i = 0; i < t->count; i++)
        if (decode_field(t, &t->field[i], &o->via.array.ptr[i], to, d) < 0)
            return -1;
    return 0;
}

int codec_decode(const void *data, size_t size, struct arena *a, uint32_t *number,
                 const struct field_table *(*table)(uint32_t number), void *to, struct err *e)
{
    if (wire_check(data, size, e) < 0)
        return -1;
    msgpack_unpacked u;
    msgpack_unpacked_init(&u);
    size_t offset = 0;
    int r = -1;
    struct decoder d = {a, e};
    const msgpack_object *o = &u.data;
    const struct field_table *t = NULL;
    if (msgpack_unpack_next(&u, data, size, &offset) != MSGPACK_UNPACK_SUCCESS || offset != size)
        err_set(e, ERR_PROTO, "a frame was refused: msgpack cannot read it");
    else if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 2 ||
             o->via.array.ptr[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
             o->via.array.ptr[0].via.u64 > UINT32_MAX)
        err_set(e, ERR_PROTO, "a frame was refused: it does not begin with a number");
    else if (!(t = table(*number = (uint32_t)o->via.array.ptr[0].via.u64)))
        err_set(e, ERR_PROTO, "a frame was refused: nothing has the number %u", *number);
    else
        r = decode_struct(t, &o->via.array.ptr[1], to, &d);
    msgpack_unpacked_destroy(&u);
    return r;
}

/* ---- printing */

static void print_text(struct buf *out, const char *text)
{
    buf_byte(out, '"');
    for (size_t i = 0; text[i] && i < 120; i++)
        buf_byte(out, (unsigned char)text[i] < 0x20 || text[i] == '"' ? '?' : text[i]);
    buf_byte(out, '"');
}

static void print_field(const struct field *f, const char *base, struct buf *out)
{
    const char *at = base + f->offset;
    switch (f->kind) {
    case FIELD_U32:
        buf_printf(out, "%u", *(const uint32_t *)at);
        break;
    case FIELD_U64:
        buf_printf(out, "%" PRIu64, *(const uint64_t *)at);
        break;
    case FIELD_I32:
        buf_printf(out, "%d", *(const int32_t *)at);
        break;
    case FIELD_I64:
        buf_printf(out, "%" PRId64, *(const int64_t *)at);
        break;
    case FIELD_BOOL:
        buf_text(out, *(const bool *)at ? "yes" : "no");
        break;
    case FIELD_TEXT:
        print_text(out, *(const char *const *)at ? *(const char *const *)at : "");
        break;
    case FIELD_BYTES:
        buf_printf(out, "(%zu bytes)", ((const struct slice *)at)->size);
        break;
    case FIELD_STRUCT:
        codec_print(f->sub, at, out);
        break;
    default:
        buf_printf(out, "(%u)", *(const uint32_t *)(base + f->count_offset));
    }
}

void codec_print(const struct field_table *t, const void *from, struct buf *out)
{
    for (size_t i = 0; i < t->count; i++) {
        buf_printf(out, "%s%s=", i ? " " : "", t->field[i].name);
        print_field(&t->field[i], from, out);
    }
}
