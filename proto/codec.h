/* Plain structs as msgpack arrays.  Each struct has one table of fields, with which it is encoded, decoded and printed.
 * Fields are only ever added at the end; a decoder ignores unknown further ones and refuses missing ones. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#include <stddef.h>

enum field_kind {
    FIELD_U32,
    FIELD_U64,
    FIELD_I32,
    FIELD_I64,
    FIELD_BOOL,
    FIELD_TEXT,       /* const char *, NUL-terminated: no NUL inside */
    FIELD_BYTES,      /* struct slice */
    FIELD_STRUCT,     /* a struct inside this one, see `sub` */
    FIELD_U32_LIST,   /* const uint32_t *, with its uint32_t count */
    FIELD_TEXT_LIST,  /* const char *const * */
    FIELD_BYTES_LIST, /* const struct slice * */
    FIELD_LIST,       /* a list of structs, see `sub` */
};

struct field_table;
struct field {
    const char *name;
    enum field_kind kind;
    size_t offset, count_offset;
    uint64_t max; /* integers: largest value; texts and bytes: size; lists: count */
    const struct field_table *sub;
};
struct field_table {
    const char *name;
    size_t size; /* of the struct */
    const struct field *field;
    size_t count;
};

#define FIELD(type, member, kind_, max_)                                                           \
    {                                                                                              \
        .name = #member, .kind = kind_, .offset = offsetof(struct type, member), .max = max_       \
    }
#define FIELD_OF(type, member, sub_)                                                               \
    {                                                                                              \
        .name = #member, .kind = FIELD_STRUCT, .offset = offsetof(struct type, member),            \
        .sub = sub_                                                                                \
    }
#define FIELD_MANY(type, member, count_, kind_, max_, sub_)                                        \
    {                                                                                              \
        .name = #member, .kind = kind_, .offset = offsetof(struct type, member),                   \
        .count_offset = offsetof(struct type, count_), .max = max_, .sub = sub_                    \
    }
#define FIELD_TABLE(type, fields)                                                                  \
    {                                                                                              \
        .name = #type, .size = sizeof(struct type), .field = fields,                               \
        .count = sizeof(fields) / sizeof *(fields)                                                 \
    }

/* [number, field...]: number comes first, for messages their type, for a graph its version. */
int codec_encode(const struct field_table *t, uint32_t number, const void *from, struct buf *out,
                 struct err *e);
/* The frame is checked first (wire.h), so nothing is allocated for an impossible one.  `table` returns the table for a
 * number; NULL refuses the frame.  Texts, bytes and lists are copied into the arena. */
int codec_decode(const void *data, size_t size, struct arena *a, uint32_t *number,
                 const struct field_table *(*table)(uint32_t number), void *to, struct err *e);
void codec_print(const struct field_table *t, const void *from, struct buf *out);

/* The tables, for zpipe-proto(7) and the tests: of the message with this number (NULL: there is none), and of a graph. */
const struct field_table *msg_table(uint32_t type);
const struct field_table *graph_table(void);
