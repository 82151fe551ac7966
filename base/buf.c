/* See buf.h. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void *buf_reserve(struct buf *b, size_t size)
{
    if (b->failed || size > b->max || b->size > b->max - size) {
        b->failed = true;
        return NULL;
    }
    size_t need = b->size + size + 1;
    if (need > b->room) {
        size_t room = b->room ? b->room : 64;
        while (room < need)
            room *= 2;
        char *data = realloc(b->data, room);
        if (!data) {
            b->failed = b->no_memory = true;
            return NULL;
        }
        b->data = data;
        b->room = room;
    }
    return b->data + b->size;
}

int buf_check(const struct buf *b, const char *what, struct err *e)
{
    if (!b->failed)
        return 0;
    return b->no_memory ? err_nomem(e) : err_set(e, ERR_LIMIT, "%s is larger than %zu bytes", what, b->max);
}

void buf_grew(struct buf *b, size_t size)
{
    b->size += size;
    b->data[b->size] = '\0';
}

void buf_add(struct buf *b, const void *data, size_t size)
{
    void *at = buf_reserve(b, size);
    if (!at)
        return;
    if (size)
        memcpy(at, data, size);
    buf_grew(b, size);
}

void buf_text(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

void buf_byte(struct buf *b, char byte)
{
    buf_add(b, &byte, 1);
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *at = size < 0 ? NULL : buf_reserve(b, (size_t)size);
    if (!at)
        return;
    va_start(args, format);
    vsnprintf(at, (size_t)size + 1, format, args);
    va_end(args);
    buf_grew(b, (size_t)size);
}

void buf_drop(struct buf *b, size_t size)
{
    if (size >= b->size) {
        b->size = 0;
    } else {
        memmove(b->data, b->data + size, b->size - size);
        b->size -= size;
    }
    if (b->data)
        b->data[b->size] = '\0';
}

void buf_clear(struct buf *b)
{
    free(b->data);
    *b = BUF_INIT(b->max);
}

char *buf_take(struct buf *b)
{
    if (!buf_reserve(b, 0)) {
        buf_clear(b);
        return NULL;
    }
    b->data[b->size] = '\0';
    char *data = b->data;
    *b = BUF_INIT(b->max);
    return data;
}
