/* See classify.h.  Inputs made to break a command: lines of many kinds, some of them with words from the command itself. */
#include "classify.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX (1u << 20) /* how much of a program is searched for words */

static unsigned below(struct inputs *in, unsigned n)
{
    in->random = in->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(in->random >> 33) % n;
}

unsigned inputs_random(struct inputs *in, unsigned n)
{
    return below(in, n);
}

/* ---- words that the command knows -------------------------------------------------------- */

static bool is_letter(unsigned char b)
{
    return (b >= '0' && b <= '9') || (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || b == '_' || b >= 0x80;
}

static void keep_word(struct inputs *in, const char *text, size_t size)
{
    if (size == 0 || size > 200 || in->words == INPUT_WORDS_MAX)
        return;
    char *copy = malloc(size + 1);
    if (!copy)
        return;
    memcpy(copy, text, size);
    copy[size] = '\0';
    in->word[in->words++] = copy;
    bool number = size < 8 && strspn(copy, "0123456789") == size;
    unsigned long n = number ? strtoul(copy, NULL, 10) : 0;
    if (n > in->number && n <= INPUT_LINES_MAX)
        in->number = (unsigned)n;
}

/* Keeps runs of letters, and texts between two equal signs such as slashes or quotes. */
static void keep_words(struct inputs *in, const char *text, size_t size, size_t least)
{
    for (size_t i = 0, end; i < size; i = end) {
        for (end = i; end < size && is_letter((unsigned char)text[end]);)
            end++;
        if (end - i >= least)
            keep_word(in, text + i, end - i);
        if (end > i)
            continue;
        const char *other = strchr("'\"/", text[i]) && text[i] ? memchr(text + i + 1, text[i], size - i - 1) : NULL;
        if (other && !memchr(text + i, '\n', (size_t)(other - text) - i))
            keep_word(in, text + i + 1, (size_t)(other - text) - i - 1);
        end = i + 1;
    }
}

static void keep_file(struct inputs *in, const char *name, bool texts)
{
    char *data = malloc(FILE_MAX);
    int fd = data ? open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    ssize_t got = fd < 0 ? -1 : read(fd, data, FILE_MAX);
    if (got > 0 && texts == !memchr(data, '\0', (size_t)got))
        keep_words(in, data, (size_t)got, texts ? 1 : 4);
    if (fd >= 0)
        close(fd);
    free(data);
}

/* Searches a program's file for words; a name without a slash is looked up in PATH. */
static void keep_program(struct inputs *in, const char *name, bool texts)
{
    const char *path = getenv("PATH");
    char place[4096];
    bool found = strchr(name, '/') || !path;
    if (found)
        keep_file(in, name, texts);
    for (size_t size; !found && *path; path += size + (path[size] != '\0')) {
        size = strcspn(path, ":");
        int n = snprintf(place, sizeof place, "%.*s/%s", (int)size, path, name);
        found = n > 0 && (size_t)n < sizeof place && access(place, X_OK) == 0;
        if (found)
            keep_file(in, place, texts);
    }
}

void inputs_read(struct inputs *in, char *const *word, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        keep_word(in, word[i], strlen(word[i]));
        keep_words(in, word[i], strlen(word[i]), 1);
    }
    for (int texts = 1; texts >= 0; texts--) {
        for (size_t i = 1; i < count; i++)
            keep_file(in, word[i], texts);
        keep_program(in, word[0], texts);
        if (texts)
            in->clear_words = in->words;
    }
}

void inputs_clear(struct inputs *in)
{
    for (size_t i = 0; i < in->words; i++)
        free(in->word[i]);
    in->words = 0;
}

/* ---- lines ------------------------------------------------------------------------------- */

static const char *any(struct inputs *in, const char *const *list, unsigned count)
{
    return list[below(in, count)];
}
#define ANY(in, list) any(in, list, sizeof(list) / sizeof *(list))

static const char *const words[] = {"the", "quick", "a", "b", "a b", "x1 ", "", "\t2", "Ee", "10", "-3", "a,b:c"};
/* Lines that begin, end or continue something in one form of text or another.  Each kind is tried by itself too: a command
 * that stops at one of them says nothing about the others. */
static const char *const quotes[] = {"'", "\"", "\"a", "b\"", "a", "a b", "", "\"x, y\",2", "a,", "goes on \\", "\\"};
static const char *const brackets[] = {"(", ")", "{", "}", "[", "]", "/*", "*/", "<!--", "-->", "<a>", "</a>", "{\"a\": [", "1]}", "x", "1,", "<<E", "E"};
static const char *const marks[] = {
    ">s1",    ">s2 x",       "ACGTNN",     "@r1",        "+",      "#",     "# x",     "//",      "--", "---",        "...",
    "[part]", "key = value", "  indented", "\tindented", "From x", "To: y", " folded", "id,name", "==", "diff --git", "@@ -1 +1 @@",
    "-x",     "+y",          "!!",         ";",          "&",      "|",     "$x",      "`",       "*",  "?",          "~",
    "%",      "%%",          "=",          "-",          "--help", ".",     "..",      ""};
static const char *const pairs[] = {"BEGIN", "END", "begin", "end", "START", "STOP", "start", "stop",       "if",       "fi",
                                    "EOF",   "on",  "off",   "x",   "0",     "1",    "null",  "goes on \\", "goes on &"};
static const char *const controls[] = {"a\r", "\r", "a\rb", "\f", "a\f", "\v", "\x1a", "\x1b[1m", "\b", "x", "a\tb", ""};
static const char *const high[] = {"\xe9",         "caf\xc3\xa9", "\xc3", "\xa9", "\xff\xfe", "\xf0\x9f\x98\x80",
                                   "\xef\xbb\xbf", "a",           "\x01", "\x7f", "\b",       "x \xe2\x80\xa8 y"};
static const char *const values[] = {"0.1", "2.5e3", "-7", "1000000", "3", "0.30", "99", "1e-3", "17", "123456789", "x", "", "007", "12.0"};

/* Stands behind a word of the command: `/^Chapter [0-9]/`, `/^name: /`. */
static const char *const tails[] = {"", "", "", "", " 7", "12", ": x", "=1", " a b", ".", " -3 the end", "\t2"};

/* Entries of several forms, and lines that belong to the entry before. */
static int log_line(struct inputs *in, unsigned number, char *out)
{
    static const char *const levels[] = {"INFO ", "DEBUG", "WARN", "ERROR", "FATAL"};
    const unsigned minute = number / 60 % 60, second = number % 60, day = 1 + below(in, 28);
    switch (below(in, 6)) {
    case 0:
        return snprintf(out, INPUT_LINE_MAX, "2026-11-%02u 10:%02u:%02u,%03u %s [main] done in %u ms\n", day, minute, second, below(in, 1000),
                        ANY(in, levels), below(in, 900));
    case 1:
        return snprintf(out, INPUT_LINE_MAX, "2026-11-%02uT10:%02u:%02uZ %s a.b: x=%u\n", day, minute, second, ANY(in, levels), below(in, 9));
    case 2:
        return snprintf(out, INPUT_LINE_MAX, "Nov %2u 10:%02u:%02u host prog[%u]: %s\n", day, minute, second, below(in, 9000), ANY(in, words));
    case 3:
        return snprintf(out, INPUT_LINE_MAX, "\tat a.b.C(C.java:%u)\n", below(in, 900));
    default:
        return snprintf(out, INPUT_LINE_MAX, "10.0.%u.%u - - [%02u/Nov/2026:10:%02u:%02u +0000] \"GET /%s HTTP/1.1\" %u %u\n", below(in, 3), below(in, 9),
                        day, minute, second, below(in, 3) ? "index.html" : "a", below(in, 4) ? 200 : 404, below(in, 9000));
    }
}

/* Writes one line of the kind, with its newline, to `out`, which has room for INPUT_LINE_MAX. */
static int line_of(struct inputs *in, enum input_kind kind, unsigned number, char *out)
{
    static const char *const few[] = {"a", "a", "b", "b", "b", "c x", "", "the end"};
    const size_t room = INPUT_LINE_MAX;
    switch (kind) {
    case INPUT_WORDS:
        return snprintf(out, room, "%s %s %s\n", ANY(in, words), ANY(in, words), ANY(in, words));
    case INPUT_RUNS:
        return snprintf(out, room, "%s\n", few[number / 8 % 8]);
    case INPUT_EMPTY:
        return snprintf(out, room, "\n");
    case INPUT_NUMBERS:
        return snprintf(out, room, "%u\n", below(in, 100));
    case INPUT_PARAGRAPHS:
        return snprintf(out, room, "%s", below(in, 3) ? "\n" : "word\n\n");
    case INPUT_OPEN:
        return snprintf(out, room, "%u %s\n", below(in, 1000), ANY(in, words));
    case INPUT_KEYS:
        return snprintf(out, room, "k%u\t%u\t%s\n", below(in, 5), below(in, 1000), ANY(in, words));
    case INPUT_SORTED:
        return snprintf(out, room, "k%07u %u\n", number / 3, below(in, 4));
    case INPUT_SAME:
        return snprintf(out, room, "the same line\n");
    case INPUT_LONG:
        return snprintf(out, room, "%*s\n", below(in, 30) ? 3 : 4000, ANY(in, words));
    case INPUT_QUOTES:
        return snprintf(out, room, "%s%s\n", ANY(in, quotes), below(in, 4) ? "" : ANY(in, quotes));
    case INPUT_BRACKETS:
        return snprintf(out, room, "%s%s\n", ANY(in, brackets), below(in, 4) ? "" : ANY(in, brackets));
    case INPUT_MARKS:
        return snprintf(out, room, "%s%s\n", ANY(in, marks), below(in, 4) ? "" : ANY(in, words));
    case INPUT_PAIRS:
        return snprintf(out, room, "%s%s\n", ANY(in, pairs), below(in, 4) ? "" : ANY(in, words));
    case INPUT_CONTROLS:
        return snprintf(out, room, "%s%s\n", ANY(in, controls), below(in, 4) ? "" : ANY(in, words));
    case INPUT_HIGH:
        return snprintf(out, room, "%s %s\n", ANY(in, high), ANY(in, words));
    case INPUT_VALUES:
        return snprintf(out, room, "%s,%s,%s\n", ANY(in, values), ANY(in, values), ANY(in, words));
    case INPUT_JSON:
        return snprintf(out, room, "{\"id\": %u, \"name\": \"%s\", \"list\": [%u, %u.5]}\n", number, below(in, 2) ? "a b" : "x", below(in, 9), below(in, 90));
    case INPUT_LOG:
        return log_line(in, number, out);
    case INPUT_OWN:
        if (in->words) {
            size_t from = below(in, 2) && in->clear_words ? in->clear_words : in->words;
            const char *word = in->word[below(in, (unsigned)from)];
            return snprintf(out, room, "%s%s%s\n", below(in, 3) ? "" : ANY(in, words), word, ANY(in, tails));
        }
        return snprintf(out, room, "%s\n", ANY(in, words));
    case INPUT_ZEROS:
        return snprintf(out, room, "%s@%u\n", ANY(in, words), below(in, 1000));
    case INPUT_MANY:
        return snprintf(out, room, "%u\n", below(in, 10));
    case INPUT_LETTERS:
        return snprintf(out, room, "%c%c %u\n", 'a' + below(in, 26), 'A' + below(in, 26), below(in, 10));
    case INPUT_MIXED:
    case INPUT_KINDS:
        break;
    }
    return line_of(in, (enum input_kind)below(in, INPUT_ZEROS), number, out);
}

int inputs_make(struct inputs *in, enum input_kind kind, unsigned lines, struct bytes *out)
{
    char line[INPUT_LINE_MAX];
    *out = (struct bytes){0};
    for (unsigned i = 0; i < lines && !out->failed; i++) {
        size_t size = (size_t)line_of(in, kind, i, line);
        for (size_t k = 0; k < size && kind == INPUT_ZEROS; k++)
            line[k] = line[k] == '@' ? '\0' : line[k];
        bool open = i + 1 == lines && (kind == INPUT_OPEN || kind == INPUT_MIXED);
        bytes_add(out, line, size - open);
    }
    return out->failed ? -1 : 0;
}

void bytes_add(struct bytes *b, const void *data, size_t size)
{
    if (b->failed || size > BYTES_MAX - b->size) {
        b->failed = true;
        return;
    }
    if (b->size + size >= b->room) {
        size_t room = 2 * (b->size + size) + 64;
        char *more = realloc(b->data, room);
        if (!more) {
            b->failed = true;
            return;
        }
        b->data = more;
        b->room = room;
    }
    if (size)
        memcpy(b->data + b->size, data, size);
    b->size += size;
    b->data[b->size] = '\0';
}
