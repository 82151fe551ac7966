/* See holes.h. */
#include "proto/holes.h"

#include "proto/graph.h"

#include <string.h>

#define NESTED_MAX 64 /* how deep quotes and substitutions may be nested in a text for sh */

bool holes_has(const char *text)
{
    return strchr(text, GRAPH_HOLE) != NULL;
}

/* Writes what the hole with this letter stands for: a part of the name, or the number. */
static void value(char letter, const char *name, uint64_t number, struct buf *out)
{
    const char *slash = strrchr(name, '/'), *last = slash ? slash + 1 : name;
    const char *dot = strrchr(last, '.');
    const char *end = dot && dot != last ? dot : name + strlen(name);
    switch (letter) {
    case '{':
        buf_text(out, name);
        break;
    case '.':
        buf_add(out, name, (size_t)(end - name));
        break;
    case '/':
        buf_text(out, last);
        break;
    case 'b':
        buf_add(out, last, (size_t)(end - last));
        break;
    case 'd':
        if (!slash)
            buf_text(out, ".");
        else
            buf_add(out, name, slash == name ? 1 : (size_t)(slash - name));
        break;
    case '#':
        buf_printf(out, "%llu", (unsigned long long)number);
        break;
    default:
        break;
    }
}

void holes_fill(const char *text, const struct holes *h, uint32_t i, struct buf *out)
{
    const char *hole;
    for (; (hole = strchr(text, GRAPH_HOLE)) && hole[1]; text = hole + 2) {
        buf_add(out, text, (size_t)(hole - text));
        value(hole[1], i < h->count ? h->name[i] : "", h->number, out);
    }
    buf_text(out, text);
}

/* ---- texts for sh */

static bool is_plain(const char *text)
{
    return *text && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-+,:@%=") ==
                        strlen(text);
}

void holes_quote(const char *word, struct buf *out)
{
    const char *mark = is_plain(word) ? "" : "'";
    buf_text(out, mark);
    for (; *word; word++) {
        if (*word == '\'')
            buf_text(out, "'\\'");
        buf_byte(out, *word);
    }
    buf_text(out, mark);
}

static void put_inside(const char *text, struct buf *out)
{
    for (; *text; text++) {
        if (strchr("$`\"\\", *text))
            buf_byte(out, '\\');
        buf_byte(out, *text);
    }
}

static void value_quoted(char letter, const struct holes *h, bool inside, struct buf *out)
{
    for (uint32_t i = 0; i == 0 || i < h->count; i++) {
        struct buf one = BUF_INIT(out->max);
        value(letter, i < h->count ? h->name[i] : "", h->number, &one);
        const char *text = one.data ? one.data : "";
        if (i)
            buf_byte(out, ' ');
        if (inside)
            put_inside(text, out);
        else
            holes_quote(text, out);
        out->failed |= one.failed;
        buf_clear(&one);
    }
}

/* Follows the quoting of a text for sh.  `open` says what is open, the innermost last: `"` a quotation, `)` a $( ), `(` a
 * subshell in one, '`' a substitution. */
struct shell {
    char open[NESTED_MAX];
    uint32_t depth;
};

static char innermost(const struct shell *s)
{
    return s->depth ? s->open[s->depth - 1] : '\0';
}

static void nest(struct shell *s, char what)
{
    if (s->depth < NESTED_MAX)
        s->open[s->depth++] = what;
}

/* Steps over one piece of the text; returns its length. */
static size_t step(struct shell *s, const char *text)
{
    bool inside = innermost(s) == '"';
    if (*text == '\\' && text[1] && text[1] != GRAPH_HOLE)
        return 2;
    if (*text == '\'' && !inside) {
        const char *end = strchr(text + 1, '\'');
        return end ? (size_t)(end - text) + 1 : strlen(text);
    }
    if (*text == '"' || *text == '`') {
        if (innermost(s) == *text)
            s->depth--;
        else
            nest(s, *text);
    } else if (*text == '$' && text[1] == '(') {
        nest(s, ')');
        return 2;
    } else if (*text == '(' && !inside && s->depth) {
        nest(s, '(');
    } else if (*text == ')' && (innermost(s) == ')' || innermost(s) == '(')) {
        s->depth--;
    }
    return 1;
}

void holes_fill_shell(const char *text, const struct holes *h, struct buf *out)
{
    struct shell s = {.depth = 0};
    while (*text) {
        if (*text == GRAPH_HOLE && text[1]) {
            value_quoted(text[1], h, innermost(&s) == '"', out);
            text += 2;
            continue;
        }
        size_t size = step(&s, text);
        buf_add(out, text, size);
        text += size;
    }
}
