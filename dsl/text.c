/* Places and messages.  A message holds one line of the text, cut to a window round the caret when
 * it is long, so that it always fits into struct err; bytes that could upset a terminal are shown
 * as `?`. */
#include "dsl/text.h"
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define WINDOW 120 /* bytes of the source line that are shown */

int text_init(struct text *t, struct arena *a, const char *data, size_t size, const char *file,
              struct err *e)
{
    *t = (struct text){.data = data, .size = size, .file = file, .line_count = 1};
    for (size_t i = 0; i < size; i++)
        t->line_count += data[i] == '\n';
    size_t *line = arena_array(a, t->line_count, sizeof *line);
    if (!line)
        return err_nomem(e);
    size_t count = 1;
    for (size_t i = 0; i < size; i++)
        if (data[i] == '\n')
            line[count++] = i + 1;
    t->line = line;
    return 0;
}

void text_place(const struct text *t, size_t at, uint32_t *line, uint32_t *column)
{
    size_t low = 0, high = t->line_count; /* line[low] <= at < line[high] */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (t->line[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    *line = (uint32_t)low + 1;
    *column = (uint32_t)(at - t->line[low]) + 1;
}

static bool continues(char c)
{
    return ((unsigned char)c & 0xC0) == 0x80;
}

/* The source line and the caret under it. */
static void show(const struct text *t, uint32_t line, uint32_t column, struct buf *out)
{
    size_t start = t->line[line - 1], at = start + column - 1;
    size_t end = line < t->line_count ? t->line[line] - 1 : t->size;
    size_t from = start, to = end;
    if (end - start > WINDOW) {
        from = at - start > WINDOW / 2 ? at - WINDOW / 2 : start;
        to = end - from > WINDOW ? from + WINDOW : end;
        while (from < at && continues(t->data[from]))
            from++;
        while (to > at && to < end && continues(t->data[to]))
            to--;
    }
    buf_text(out, "\n    ");
    for (size_t i = from; i < to; i++) {
        unsigned char c = (unsigned char)t->data[i];
        buf_byte(out, c == '\t' ? ' ' : c < 0x20 || c == 0x7f ? '?' : (char)c);
    }
    buf_text(out, "\n    ");
    for (size_t i = from; i < at; i++)
        if (i >= to || !continues(t->data[i]))
            buf_byte(out, ' ');
    buf_byte(out, '^');
}

int text_fail(const struct text *t, size_t at, struct err *e, const char *hint, const char *format,
              ...)
{
    char sentence[480];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    for (char *c = sentence; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    uint32_t line, column;
    text_place(t, at > t->size ? t->size : at, &line, &column);
    struct buf out = BUF_INIT(2 * ERR_TEXT_MAX);
    buf_printf(&out, "%.100s:%u:%u: error: %s", t->file, line, column, sentence);
    show(t, line, column, &out);
    if (hint)
        buf_printf(&out, "\n    hint: %s", hint);
    err_set(e, ERR_INPUT, "%s", out.failed ? sentence : out.data);
    buf_clear(&out);
    return -1;
}
