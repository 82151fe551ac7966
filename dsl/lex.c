/* See lex.h.  Splits words into parts: what is quoted, what is a parameter, what only sh can read.  Inside $( ), backquotes
 * and ${ } only quotes and nesting are followed, so nothing is guessed.  Each byte is looked at a bounded number of times:
 * a search for a closing bracket either finds it or ends the parse. */
#include "dsl/lex_inside.h"
#include "dsl/dsl.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static bool name_start(char c)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool name_byte(char c)
{
    return name_start(c) || digit(c);
}

/* Does this byte end an unquoted word?  NUL occurs only behind the end of the text. */
static bool ends_word(char c)
{
    return c == '\0' || strchr(" \t\n|&;<>()", c) != NULL;
}

int lex_init(struct lexer *l, const struct text *text, struct arena *a, struct err *e)
{
    *l = (struct lexer){.text = text, .arena = a, .e = e, .run = BUF_INIT(DSL_JOB_MAX)};
    for (size_t i = 0; i < text->size; i++) {
        unsigned char c = (unsigned char)text->data[i];
        if (c == '\r')
            return text_fail(text, i, e, "save the file with line ends as Unix has them, or write $'\\r' for the byte",
                             "there is a carriage return here");
        if (c == '\0' || c == 1)
            return text_fail(text, i, e, NULL, "there is a byte %d here, which no text holds", c);
    }
    return 0;
}

void lex_clear(struct lexer *l)
{
    free(l->here);
    l->here = NULL;
    buf_clear(&l->run);
}

void lex_reset(struct lexer *l, struct lex_mark mark)
{
    l->at = mark;
    l->edge = mark.position;
}

int lex_no_memory(struct lexer *l)
{
    return text_fail(l->text, l->at.position, l->e, NULL, "there is no memory to read further");
}

/* ---- parts ------------------------------------------------------------------------------- */

int lex_add_part(struct lexer *l, struct lex_parts *p, enum part_kind kind, const char *data,
                    size_t size, size_t at)
{
    struct part *part = arena_alloc(l->arena, sizeof *part);
    char *copy = arena_bytes(l->arena, data, size);
    if (!part || !copy)
        return lex_no_memory(l);
    *part = (struct part){.kind = kind, .text = {copy, size}, .at = at};
    *p->last = part;
    p->last = &part->next;
    return 0;
}

static size_t hole_size(const char *s, size_t size)
{
    static const char *const holes[] = {"{}", "{.}", "{/}", "{//}", "{/.}", "{#}"};
    for (size_t i = 0; i < sizeof holes / sizeof *holes; i++) {
        size_t n = strlen(holes[i]);
        if (size >= n && memcmp(s, holes[i], n) == 0)
            return n;
    }
    return 0;
}

/* Make parts of the run of bytes collected so far; a hole in it becomes a part of its own. */
static int flush(struct lexer *l, struct lex_parts *p, enum part_kind kind, size_t at)
{
    if (l->run.failed)
        return lex_no_memory(l);
    const char *s = l->run.data;
    size_t size = l->run.size, from = 0;
    for (size_t i = 0; i < size; i++) {
        size_t n = s[i] == '{' ? hole_size(s + i, size - i) : 0;
        if (!n)
            continue;
        if (i > from && lex_add_part(l, p, kind, s + from, i - from, at + from) < 0)
            return -1;
        if (lex_add_part(l, p, PART_HOLE, s + i, n, at + i) < 0)
            return -1;
        from = i + n;
        i = from - 1;
    }
    if (size > from && lex_add_part(l, p, kind, s + from, size - from, at + from) < 0)
        return -1;
    l->run.size = 0;
    return 0;
}

/* ---- what only sh reads ------------------------------------------------------------------ */

/* Returns the offset behind the bracket that closes this one, or 0 with the error; `at` is behind the opening bracket. */
static size_t skip_to(struct lexer *l, size_t at, char close, size_t open, int depth)
{
    const char *s = l->text->data;
    if (depth > DSL_DEPTH_MAX) {
        text_fail(l->text, open, l->e, NULL, "this is more than %d deep", DSL_DEPTH_MAX);
        return 0;
    }
    while (at < l->text->size) {
        char c = s[at];
        char inner = 0;
        size_t from = at + 1;
        if (c == close)
            return at + 1;
        if (c == '\\') {
            at += 2;
            continue;
        }
        if (c == '\'' && close != '"') {
            const char *end = memchr(s + from, '\'', l->text->size - from);
            if (!end)
                break;
            at = (size_t)(end - s) + 1;
            continue;
        }
        if (c == '"' || c == '`')
            inner = c;
        else if (c == '$' && (s[from] == '(' || s[from] == '{'))
            inner = s[from++] == '(' ? ')' : '}';
        else if (c == '(' && close == ')')
            inner = ')';
        if (inner && !(at = skip_to(l, from, inner, at, depth + 1)))
            return 0;
        if (!inner)
            at++;
    }
    if (s[open] == close)
        text_fail(l->text, open, l->e, NULL, "this `%c` has no second one", close);
    else
        text_fail(l->text, open, l->e, NULL, "this `%.*s` has no `%c`", s[open] == '$' ? 2 : 1,
                  s + open, close);
    return 0;
}

static int add_odd(struct lexer *l, struct lex_parts *p, struct word *w, size_t from, size_t to,
                   const char *sign)
{
    if (!w->odd) {
        w->odd = sign;
        w->odd_at = from;
    }
    l->at.position = to;
    return lex_add_part(l, p, PART_ODD, l->text->data + from, to - from, from);
}

/* ---- $ ----------------------------------------------------------------------------------- */

static int hex(char c)
{
    return digit(c) ? c - '0' : isxdigit((unsigned char)c) ? (c | 32) - 'a' + 10 : -1;
}

/* Reads one escape of $'…', from the byte after its backslash, s[at], on; returns where it ends.  As in bash with LC_ALL=C,
 * where `\u00e9` is not one byte. */
static size_t c_escape(const char *s, size_t at, size_t end, struct buf *out, bool *zero)
{
    static const char from[] = "ntr\\'\"?abeEfv", to[] = "\n\t\r\\'\"?\a\b\033\033\f\v";
    char c = s[at];
    const char *simple = c ? strchr(from, c) : NULL;
    bool wide = c == 'u' || c == 'U', braced = c == 'x' && at + 1 < end && s[at + 1] == '{';
    uint32_t value = 0;
    size_t i = at;
    if (simple) {
        buf_byte(out, to[simple - from]);
        return at + 1;
    }
    if (c >= '0' && c <= '7') {
        for (; i < at + 3 && i < end && s[i] >= '0' && s[i] <= '7'; i++)
            value = value * 8 + (uint32_t)(s[i] - '0');
    } else if (c == 'c' && at + 1 < end) {
        char key = s[at + 1];
        value = key == '?' ? 0x7F : (uint32_t)toupper((unsigned char)key) & 0x1F;
        i = at + 2 + (key == '\\' && s[at + 2] == '\\');
    } else if (braced || ((wide || c == 'x') && at + 1 < end && hex(s[at + 1]) >= 0)) {
        size_t most = braced ? end : c == 'x' ? 2 : c == 'u' ? 4 : 8;
        for (i = at + 1 + braced; i < end && i <= at + most && hex(s[i]) >= 0; i++)
            value = value * 16 + (uint32_t)hex(s[i]);
        i += braced && s[i] == '}';
    } else {
        buf_byte(out, '\\');
        return at;
    }
    if (wide && value > 0x7F) {
        buf_printf(out, value > 0xFFFF ? "\\U%08X" : "\\u%04X", value);
        return i;
    }
    *zero = *zero || (value & 0xFF) == 0;
    buf_byte(out, (char)value);
    return i;
}

/* dollar = "$'" { byte | escape } "'" */
static int lex_c_string(struct lexer *l, struct lex_parts *p, size_t open)
{
    const char *s = l->text->data;
    size_t at = open + 2, end = at;
    bool zero = false;
    while (end < l->text->size && s[end] != '\'')
        end += s[end] == '\\' ? 2 : 1;
    if (end >= l->text->size)
        return text_fail(l->text, open, l->e, NULL, "this `$'` has no `'`");
    while (at < end) {
        if (s[at] == '\\')
            at = c_escape(s, at + 1, end, &l->run, &zero);
        else
            buf_byte(&l->run, s[at++]);
    }
    if (zero)
        return text_fail(l->text, open, l->e, NULL, "a word cannot hold a zero byte");
    if (l->run.failed ||
        lex_add_part(l, p, PART_QUOTED, l->run.data ? l->run.data : "", l->run.size, open))
        return l->run.failed ? lex_no_memory(l) : -1;
    l->run.size = 0;
    l->at.position = end + 1;
    return 0;
}

static size_t skip_joins(const struct lexer *l, size_t at)
{
    while (l->text->data[at] == '\\' && l->text->data[at + 1] == '\n')
        at += 2;
    return at;
}

/* At a `$`.  1: an expansion was read, the run before it flushed; 0: it is a plain dollar sign; -1. */
static int lex_dollar(struct lexer *l, struct lex_parts *p, struct word *w, enum part_kind kind,
                      size_t run_at)
{
    const char *s = l->text->data;
    size_t at = l->at.position, next = skip_joins(l, at + 1), end = next;
    char c = s[next];
    bool braced = c == '{';
    size_t from = next + braced;
    if (braced || name_start(c)) {
        for (end = from; name_byte(s[end]); end++)
            ;
        if (end > from && name_start(s[from]) && (!braced || s[end] == '}')) {
            if (flush(l, p, kind, run_at) < 0)
                return -1;
            l->at.position = end + braced;
            return lex_add_part(l, p, PART_NAME, s + from, end - from, at) < 0 ? -1 : 1;
        }
    }
    if (c == '\'' && kind == PART_BARE)
        return flush(l, p, kind, run_at) < 0 || lex_c_string(l, p, at) < 0 ? -1 : 1;
    if (c == '(' || braced) {
        if (flush(l, p, kind, run_at) < 0 ||
            !(end = skip_to(l, next + 1, braced ? '}' : ')', at, 1)))
            return -1;
        return add_odd(l, p, w, at, end,
                       braced               ? "${"
                       : s[next + 1] == '(' ? "$(("
                                            : "$(") < 0
                   ? -1
                   : 1;
    }
    static const char special[] = "0123456789@*#?$!-";
    static const char *const signs[] = {"$0", "$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8",
                                        "$9", "$@", "$*", "$#", "$?", "$$", "$!", "$-"};
    const char *found = c ? strchr(special, c) : NULL;
    if (found)
        return flush(l, p, kind, run_at) < 0 ||
                       add_odd(l, p, w, at, next + 1, signs[found - special]) < 0
                   ? -1
                   : 1;
    return 0;
}

static int lex_backquote(struct lexer *l, struct lex_parts *p, struct word *w)
{
    size_t at = l->at.position, end = skip_to(l, at + 1, '`', at, 1);
    return end ? add_odd(l, p, w, at, end, "`") : -1;
}

int lex_double(struct lexer *l, struct lex_parts *p, struct word *w, char close, size_t open)
{
    const char *s = l->text->data;
    struct part **before = p->last;
    size_t run_at = l->at.position;
    while (l->at.position < l->text->size && (!close || s[l->at.position] != close)) {
        size_t at = l->at.position;
        char c = s[at], next = s[at + 1];
        if (c == '\\' && next == '\n') {
            l->at.position += 2;
        } else if (c == '\\' && next && strchr("$`\\\"", next) && (close || next != '"')) {
            buf_byte(&l->run, next);
            l->at.position += 2;
        } else if (c == '$' || c == '`') {
            int got = 1;
            if (c == '`')
                got = flush(l, p, PART_QUOTED, run_at) < 0 || lex_backquote(l, p, w) < 0 ? -1 : 1;
            else
                got = lex_dollar(l, p, w, PART_QUOTED, run_at);
            if (got < 0)
                return -1;
            if (!got) {
                buf_byte(&l->run, c);
                l->at.position++;
            } else {
                run_at = l->at.position;
            }
        } else {
            buf_byte(&l->run, c);
            l->at.position++;
        }
    }
    if (close && l->at.position >= l->text->size)
        return text_fail(l->text, open, l->e, NULL, "this `%c` has no second one", close);
    if (flush(l, p, PART_QUOTED, run_at) < 0)
        return -1;
    if (p->last == before && lex_add_part(l, p, PART_QUOTED, "", 0, open) < 0)
        return -1;
    l->at.position += close != 0;
    return 0;
}

/* ---- words ------------------------------------------------------------------------------- */

/* A plain `$` can be printed unquoted only if it cannot join what follows it. */
static bool dollar_stays(char next)
{
    return ends_word(next) || strchr("/,:.%+=]}", next) != NULL;
}

static int lex_quote(struct lexer *l, struct lex_parts *p)
{
    const char *s = l->text->data;
    size_t at = l->at.position;
    const char *end = memchr(s + at + 1, '\'', l->text->size - at - 1);
    if (!end)
        return text_fail(l->text, at, l->e, NULL, "this `'` has no second one");
    l->at.position = (size_t)(end - s) + 1;
    return lex_add_part(l, p, PART_QUOTED, s + at + 1, (size_t)(end - s) - at - 1, at);
}

/* Handle a byte of an unquoted word that is not plain.  0, or -1. */
static int lex_special(struct lexer *l, struct lex_parts *p, struct word *w, size_t *run_at)
{
    const char *s = l->text->data;
    size_t at = l->at.position;
    int got = 0;
    switch (s[at]) {
    case '$':
        got = lex_dollar(l, p, w, PART_BARE, *run_at);
        if (got == 0 && dollar_stays(s[skip_joins(l, at + 1)])) {
            buf_byte(&l->run, '$');
            l->at.position++;
            return 0;
        }
        if (got == 0) {
            l->at.position++;
            got =
                flush(l, p, PART_BARE, *run_at) < 0 ? -1 : lex_add_part(l, p, PART_QUOTED, "$", 1, at);
        }
        break;
    case '\\':
        if (at + 1 >= l->text->size)
            return text_fail(l->text, at, l->e, "write \\\\ for the byte itself",
                             "there is nothing after this `\\`");
        got = flush(l, p, PART_BARE, *run_at);
        l->at.position += 2;
        if (got == 0)
            got = lex_add_part(l, p, PART_QUOTED, s + at + 1, 1, at);
        break;
    default:
        got = flush(l, p, PART_BARE, *run_at);
        if (got == 0 && s[at] == '"') {
            l->at.position++;
            got = lex_double(l, p, w, '"', at);
        } else if (got == 0) {
            got = s[at] == '`' ? lex_backquote(l, p, w) : lex_quote(l, p);
        }
    }
    *run_at = l->at.position;
    return got < 0 ? -1 : 0;
}

static void find_assignment(struct word *w)
{
    const struct part *p = w->part;
    if (!p || p->kind != PART_BARE)
        return;
    const char *s = p->text.data;
    size_t n = 0;
    while (n < p->text.size && name_byte(s[n]))
        n++;
    if (n > 0 && n < p->text.size && s[n] == '=' && name_start(s[0]))
        w->assign = n;
}

/* Is there a `~name` at s, or a `~` behind a colon?  Such words are left to sh; we replace only `~` and `~/...`. */
static bool odd_tilde(const char *s, size_t size, bool begins, bool assigned)
{
    for (size_t i = 0; i < size; i++)
        if (s[i] == '~' && (i > 0 ? assigned && s[i - 1] == ':' : begins && size > 1 && s[1] != '/'))
            return true;
    return false;
}

static void find_tilde(struct word *w)
{
    size_t skip = w->assign ? w->assign + 1 : 0;
    for (const struct part *p = w->part; p && !w->odd; p = p->next, skip = 0)
        if (p->kind == PART_BARE &&
            odd_tilde((const char *)p->text.data + skip, p->text.size - skip, p == w->part, w->assign)) {
            w->odd = "~";
            w->odd_at = w->start;
        }
}

static int lex_word(struct lexer *l, struct token *t)
{
    const char *s = l->text->data;
    struct word *w = arena_alloc(l->arena, sizeof *w);
    if (!w)
        return lex_no_memory(l);
    if (++l->words > DSL_WORDS_MAX)
        return text_fail(l->text, l->at.position, l->e, NULL, "there are more than %d words",
                         DSL_WORDS_MAX);
    struct lex_parts parts = {.last = &parts.first};
    size_t run_at = l->at.position;
    w->start = w->end = run_at;
    l->run.size = 0;
    for (;;) {
        w->end = l->at.position; /* a `\` and newline after the word is no part of it */
        l->at.position = skip_joins(l, l->at.position);
        char c = s[l->at.position];
        if (ends_word(c))
            break;
        if (strchr("$\\'\"`", c)) {
            if (lex_special(l, &parts, w, &run_at) < 0)
                return -1;
        } else {
            buf_byte(&l->run, c);
            l->at.position++;
        }
    }
    if (flush(l, &parts, PART_BARE, run_at) < 0)
        return -1;
    w->part = parts.first;
    find_assignment(w);
    find_tilde(w);
    t->kind = TOKEN_WORD;
    t->word = w;
    return 0;
}

bool word_is(const struct word *w, const char *text)
{
    const struct part *p = w ? w->part : NULL;
    return p && !p->next && p->kind == PART_BARE && slice_equal(p->text, slice_of(text));
}

char *word_literal(const struct word *w, struct arena *a)
{
    size_t size = 0;
    for (const struct part *p = w->part; p; p = p->next) {
        if (p->kind != PART_BARE && p->kind != PART_QUOTED)
            return NULL;
        size += p->text.size;
    }
    char *text = arena_alloc(a, size + 1), *at = text;
    for (const struct part *p = w->part; p && text; p = p->next) {
        memcpy(at, p->text.data, p->text.size);
        at += p->text.size;
    }
    return text;
}

/* ---- tokens ------------------------------------------------------------------------------ */

static const char *const operators[] = {
    /* longest first */
    "&>>", "<<<", "<<-", "&>", "<(", ">(", "&&", "||", "|&", ";;", "<<", ">>",
    ">|",  ">&",  "<&",  "<>", "|",  "&",  ";",  "<",  ">",  "(",  ")",
};

/* The length of the operator `op` at `at`, joined lines included; 0 if it is not there. */
static size_t match(const struct lexer *l, size_t at, const char *op)
{
    for (; *op; op++) {
        at = skip_joins(l, at);
        if (l->text->data[at] != *op)
            return 0;
        at++;
    }
    return at;
}

static void skip_blanks(struct lexer *l)
{
    const char *s = l->text->data;
    size_t at = l->at.position;
    for (;;) {
        at = skip_joins(l, at);
        if (s[at] == ' ' || s[at] == '\t')
            at++;
        else
            break;
    }
    if (s[at] == '#')
        while (at < l->text->size && s[at] != '\n')
            at++;
    l->at.position = at;
}

static bool lex_number(struct lexer *l, struct token *t)
{
    const char *s = l->text->data;
    size_t at = l->at.position;
    while (digit(s[at]))
        at++;
    if (at == l->at.position || (s[at] != '<' && s[at] != '>') || s[at + 1] == '(')
        return false;
    t->kind = TOKEN_NUMBER;
    l->at.position = at;
    return true;
}

int lex_next(struct lexer *l, struct token *t)
{
    size_t edge = l->edge;
    *t = (struct token){.mark = l->at};
    skip_blanks(l);
    const char *s = l->text->data;
    size_t at = l->at.position;
    t->start = at;
    t->tight = edge == at && at > 0;
    if (at >= l->text->size) {
        t->kind = TOKEN_END;
        t->end = at;
        return lex_read_heredocs(l); /* reports that their text is missing */
    }
    if (s[at] == '\n') {
        t->kind = TOKEN_NEWLINE;
        l->at.position = t->end = at + 1;
        return lex_read_heredocs(l);
    }
    for (size_t i = 0; strchr("|&;<>()", s[at]) && i < sizeof operators / sizeof *operators; i++) {
        size_t end = match(l, at, operators[i]);
        if (!end)
            continue;
        t->kind = TOKEN_OPERATOR;
        t->op = operators[i];
        l->at.position = l->edge = t->end = end;
        return 0;
    }
    bool number = lex_number(l, t);
    if (!number && lex_word(l, t) < 0)
        return -1;
    l->edge = l->at.position;
    t->end = number ? l->edge : t->word->end;
    return 0;
}
