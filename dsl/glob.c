/* See glob.h.  glob(3) is not used: its order depends on the locale, and `[^` must be tried both ways.  Matching goes back
 * only to the last `*`, so a hostile pattern costs at most the product of the two lengths. */
#include "dsl/glob.h"
#include "base/buf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <stdio.h>
#include <unistd.h>

/* The end of the bracket expression at p, or NULL. */
static const char *bracket_end(const char *p)
{
    if (*p == '!' || *p == '^')
        p++;
    if (*p == ']')
        p++;
    for (; *p && *p != ']'; p++)
        if (*p == '\\' && p[1])
            p++;
        else if (*p == '[' && p[1] == ':' && strstr(p + 2, ":]"))
            p = strstr(p + 2, ":]") + 1;
    return *p ? p : NULL;
}

static bool in_class(const char *name, size_t size, unsigned char c)
{
    static const struct {
        const char *name, *sets;
    } classes[] = {
        {"alpha", "azAZ"},   {"digit", "09"},     {"alnum", "azAZ09"},
        {"lower", "az"},     {"upper", "AZ"},     {"xdigit", "09afAF"},
        {"space", "\t\r  "}, {"blank", "\t\t  "}, {"punct", "!/:@[`{~"},
        {"print", " ~"},     {"graph", "!~"},     {"cntrl", "\001\037\177\177"},
    };
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        if (strlen(classes[i].name) != size || memcmp(classes[i].name, name, size) != 0)
            continue;
        for (const char *s = classes[i].sets; *s; s += 2)
            if (c >= (unsigned char)s[0] && c <= (unsigned char)s[1])
                return true;
    }
    return false;
}

static bool in_bracket(const char *p, const char *end, unsigned char c, bool caret)
{
    bool not = *p == '!' || (caret && *p == '^'), found = false;
    p += not ;
    for (bool first = true; p < end; first = false) {
        if (*p == '[' && p[1] == ':' && !first) {
            const char *stop = strstr(p + 2, ":]");
            if (stop && stop < end) {
                found = found || in_class(p + 2, (size_t)(stop - p - 2), c);
                p = stop + 2;
                continue;
            }
        } else if (*p == '[' && p[1] == ':') {
            const char *stop = strstr(p + 2, ":]");
            if (stop && stop < end) {
                found = found || in_class(p + 2, (size_t)(stop - p - 2), c);
                p = stop + 2;
                continue;
            }
        }
        if (*p == '\\' && p + 1 < end)
            p++;
        unsigned char low = (unsigned char)*p++, high = low;
        if (*p == '-' && p + 1 < end) {
            p++;
            if (*p == '\\' && p + 1 < end)
                p++;
            high = (unsigned char)*p++;
        }
        found = found || (c >= low && c <= high);
    }
    return found != not ;
}

/* Matches one item of the pattern at *p against the byte c; moves *p past the item. */
static bool match_one(const char **p, unsigned char c, bool caret)
{
    const char *end;
    if (**p == '[' && (end = bracket_end(*p + 1))) {
        const char *from = *p + 1;
        *p = end + 1;
        return in_bracket(from, end, c, caret);
    }
    if (**p == '?') {
        (*p)++;
        return true;
    }
    if (**p == '\\' && (*p)[1])
        (*p)++;
    return (unsigned char)*(*p)++ == c;
}

/* Matches one name without `/` against one pattern without `/`; `\` makes the next byte plain.  caret: `[^...]` excludes as
 * `[!...]` does (bash); else `^` is plain (dash). */
static bool match(const char *pattern, const char *name, bool caret)
{
    if (*name == '.' && !(*pattern == '.' || (*pattern == '\\' && pattern[1] == '.')))
        return false;
    const char *p = pattern, *n = name, *star = NULL, *star_name = NULL;
    while (*n) {
        const char *next = p;
        if (*p == '*') {
            star = ++p;
            star_name = n;
        } else if (*p && match_one(&next, (unsigned char)*n, caret)) {
            p = next;
            n++;
        } else if (star) {
            p = star;
            n = ++star_name;
        } else {
            return false;
        }
    }
    while (*p == '*')
        p++;
    return *p == '\0';
}

bool glob_fits(const char *pattern, const char *path)
{
    char part[PATH_MAX], name[NAME_MAX + 1];
    for (;;) {
        size_t n = strcspn(pattern, "/"), m = strcspn(path, "/");
        if (n >= sizeof part || m >= sizeof name || !pattern[n] != !path[m])
            return false;
        snprintf(part, sizeof part, "%.*s", (int)n, pattern);
        snprintf(name, sizeof name, "%.*s", (int)m, path);
        if (!match(part, name, false))
            return false;
        if (!pattern[n])
            return true;
        pattern += n + 1;
        path += m + 1;
    }
}

static int add(struct arena *a, struct glob_names *out, const char *name, struct err *e)
{
    if (out->count == GLOB_NAMES_MAX)
        return err_set(e, ERR_LIMIT, "a pattern fits more than %d names", GLOB_NAMES_MAX);
    if (out->count == out->room) {
        size_t room = out->room ? 2 * out->room : 16;
        const char **wide = arena_array(a, room, sizeof *wide);
        if (!wide)
            return err_nomem(e);
        if (out->count)
            memcpy(wide, out->name, out->count * sizeof *wide);
        out->name = wide;
        out->room = room;
    }
    char *copy = arena_string(a, name);
    if (!copy)
        return err_nomem(e);
    out->name[out->count++] = copy;
    return 0;
}

static bool magic(const char *part)
{
    for (; *part; part++)
        if (*part == '\\' && part[1])
            part++;
        else if (strchr("*?[", *part))
            return true;
    return false;
}

static void unescape(char *to, const char *from)
{
    for (; *from; from++) {
        if (*from == '\\' && from[1])
            from++;
        *to++ = *from;
    }
    *to = '\0';
}

/* The real path of a path that has matched so far. */
static void real_path(const char *directory, const char *path, char out[PATH_MAX])
{
    out[0] = '\0';
    size_t need = strlen(directory) + 1 + strlen(path) + 3;
    if (need >= PATH_MAX)
        return;
    if (path[0] != '/') {
        strcpy(out, directory);
        strcat(out, "/");
    }
    strcat(out, path[0] ? path : ".");
}

struct walk {
    struct arena *a;
    const char *directory;
    bool caret;
    struct glob_names *out;
    struct err *e;
    char path[PATH_MAX]; /* the part that has matched so far */
};

static int walk(struct walk *w, size_t used, const char *rest, int depth);

static int walk_part(struct walk *w, size_t used, const char *name, const char *rest, int depth)
{
    size_t n = strlen(name);
    if (used + n + 2 >= PATH_MAX)
        return 0;
    memcpy(w->path + used, name, n + 1);
    return walk(w, used + n, rest, depth + 1);
}

static int walk_directory(struct walk *w, size_t used, const char *part, const char *rest,
                          int depth)
{
    char real[PATH_MAX];
    int result = 0;
    w->path[used] = '\0';
    real_path(w->directory, w->path, real);
    DIR *d = opendir(real);
    if (!d)
        return 0;
    struct dirent *entry;
    while (result == 0 && (entry = readdir(d)))
        if (match(part, entry->d_name, w->caret))
            result = walk_part(w, used, entry->d_name, rest, depth);
    closedir(d);
    return result;
}

static int walk(struct walk *w, size_t used, const char *rest, int depth)
{
    char real[PATH_MAX], part[NAME_MAX * 2 + 1];
    struct stat st;
    if (depth > 64)
        return 0;
    if (*rest == '/') {
        real_path(w->directory, w->path, real);
        if (used && (stat(real, &st) < 0 || !S_ISDIR(st.st_mode)))
            return 0;
        while (*rest == '/' && used + 2 < PATH_MAX) {
            w->path[used++] = '/';
            rest++;
        }
        w->path[used] = '\0';
    }
    if (!*rest) {
        real_path(w->directory, w->path, real);
        return lstat(real, &st) < 0 ? 0 : add(w->a, w->out, w->path, w->e);
    }
    size_t n = strcspn(rest, "/");
    if (n >= sizeof part)
        return 0;
    memcpy(part, rest, n);
    part[n] = '\0';
    if (magic(part))
        return walk_directory(w, used, part, rest + n, depth);
    unescape(part, part);
    return walk_part(w, used, part, rest + n, depth);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int glob_expand(struct arena *a, const char *directory, const char *pattern, bool caret,
                struct glob_names *out, struct err *e)
{
    struct walk w = {.a = a, .directory = directory, .caret = caret, .out = out, .e = e};
    *out = (struct glob_names){0};
    if (walk(&w, 0, pattern, 0) < 0)
        return -1;
    if (out->count)
        qsort(out->name, out->count, sizeof *out->name, by_bytes);
    return 0;
}
