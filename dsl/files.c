/* See files.h.  A command that is not here is unknown: its words are inputs when they name files,
 * and it may read stdin. */
#include "dsl/files.h"

#include <stdlib.h>
#include <string.h>

static const struct command commands[] = {
    /* by name, in byte order */
    {"awk", "Fvf", "f", 1, false, false, "", false},
    {"b2sum", "l", "", 0, false, false, "", false},
    {"base64", "w", "", 0, false, false, "", false},
    {"basename", "s", "", NO_FILES, true, false, "", false},
    {"bunzip2", "", "", 0, false, false, "", false},
    {"bzcat", "", "", 0, false, false, "", false},
    {"bzip2", "", "", 0, false, false, "", false},
    {"cat", "", "", 0, false, false, "", false},
    {"cksum", "a", "", 0, false, false, "", false},
    {"cmp", "in", "", 0, false, false, "", false},
    {"column", "cstNoJERTHW", "", 0, false, false, "", false},
    {"comm", "", "", 0, false, false, "", false},
    {"cut", "dfbc", "", 0, false, false, "", false},
    {"date", "dfr", "f", NO_FILES, true, false, "", false},
    {"diff", "UCxXIF", "", 0, false, true, "", false},
    {"dirname", "", "", NO_FILES, true, false, "", false},
    {"du", "dBtX", "X", 0, true, true, "", false},
    {"egrep", "efmABCdD", "f", 1, false, true, "", false},
    {"expand", "t", "", 0, false, false, "", false},
    {"expr", "", "", NO_FILES, true, false, "", false},
    {"false", "", "", NO_FILES, true, false, "", false},
    {"fgrep", "efmABCdD", "f", 1, false, true, "", false},
    {"file", "fmFP", "f", 0, true, false, "", false},
    {"find", "", "", 0, true, true, "", false},
    {"fmt", "wgp", "", 0, false, false, "", false},
    {"fold", "w", "", 0, false, false, "", false},
    {"gawk", "Fvf", "f", 1, false, false, "", false},
    {"grep", "efmABCdD", "f", 1, false, true, "", false},
    {"gunzip", "S", "", 0, false, false, "", false},
    {"gzip", "S", "", 0, false, false, "", false},
    {"head", "nc", "", 0, false, false, "", false},
    {"hexdump", "efnCs", "f", 0, false, false, "", false},
    {"hostname", "", "", NO_FILES, true, false, "", false},
    {"id", "", "", NO_FILES, true, false, "", false},
    {"join", "12aejotv", "", 0, false, false, "", false},
    {"jq", "fL", "f", 1, false, false, "", false},
    {"ls", "ITw", "", 0, true, true, "", false},
    {"lz4", "", "", 0, false, false, "", false},
    {"mawk", "Fvf", "f", 1, false, false, "", false},
    {"md5sum", "", "", 0, false, false, "", false},
    {"nl", "bdfhilnpsvw", "", 0, false, false, "", false},
    {"nproc", "", "", NO_FILES, true, false, "", false},
    {"od", "AjNStw", "", 0, false, false, "", false},
    {"paste", "d", "", 0, false, false, "", false},
    {"pr", "DhlNoSwW", "", 0, false, false, "", false},
    {"rev", "", "", 0, false, false, "", false},
    {"sed", "efl", "f", 1, false, false, "", false},
    {"seq", "fs", "", NO_FILES, true, false, "", false},
    {"sha1sum", "", "", 0, false, false, "", false},
    {"sha256sum", "", "", 0, false, false, "", false},
    {"sha512sum", "", "", 0, false, false, "", false},
    {"shuf", "ino", "", 0, false, false, "o", false},
    {"sleep", "", "", NO_FILES, true, false, "", false},
    {"sort", "kStTo", "", 0, false, false, "o", false},
    {"split", "abCln", "", 0, false, false, "", false},
    {"stat", "cf", "", 0, true, true, "", false},
    {"strings", "nte", "", 0, false, false, "", false},
    {"sum", "", "", 0, false, false, "", false},
    {"tac", "s", "", 0, false, false, "", false},
    {"tail", "nc", "", 0, false, false, "", false},
    {"tar", "fCTX", "", 0, false, true, "", false},
    {"tee", "", "", NO_FILES, false, false, "", true},
    {"tr", "", "", NO_FILES, false, false, "", false},
    {"tree", "LPIo", "", 0, true, true, "o", false},
    {"true", "", "", NO_FILES, true, false, "", false},
    {"tsort", "", "", 0, false, false, "", false},
    {"uname", "", "", NO_FILES, true, false, "", false},
    {"unexpand", "t", "", 0, false, false, "", false},
    {"uniq", "fsw", "", 0, false, false, "", false},
    {"unxz", "", "", 0, false, false, "", false},
    {"wc", "", "", 0, false, false, "", false},
    {"whoami", "", "", NO_FILES, true, false, "", false},
    {"xargs", "aEIdLnPs", "a", NO_FILES, false, false, "", false},
    {"xxd", "closg", "", 0, false, false, "", false},
    {"xz", "", "", 0, false, false, "", false},
    {"xzcat", "", "", 0, false, false, "", false},
    {"yes", "", "", NO_FILES, true, false, "", false},
    {"zcat", "", "", 0, false, false, "", false},
    {"zgrep", "efmABC", "f", 1, false, false, "", false},
    {"zstd", "oTD", "", 0, false, false, "o", false},
    {"zstdcat", "", "", 0, false, false, "", false},
};

static int by_name(const void *name, const void *command)
{
    return strcmp(name, ((const struct command *)command)->name);
}

const struct command *command_find(const char *name)
{
    return bsearch(name, commands, sizeof commands / sizeof *commands, sizeof *commands, by_name);
}

bool command_builtin(const char *name)
{
    /* `true` and `false` are left out: their twins are the same. */
    static const char *const builtins[] = {
        ".",        ":",        "[",       "alias", "bg",    "break",  "cd",     "chdir",
        "command",  "continue", "echo",    "eval",  "exec",  "exit",   "export", "fg",
        "getopts",  "hash",     "jobs",    "kill",  "local", "printf", "pwd",    "read",
        "readonly", "return",   "set",     "shift", "test",  "times",  "trap",   "type",
        "ulimit",   "umask",    "unalias", "unset", "wait",
    };
    for (size_t i = 0; i < sizeof builtins / sizeof *builtins; i++)
        if (strcmp(builtins[i], name) == 0)
            return true;
    return false;
}

bool path_of_image(const char *path)
{
    static const char *const own[] = {"/bin",    "/dev",  "/etc",  "/lib", "/lib32", "/lib64",
                                      "/libx32", "/proc", "/sbin", "/sys", "/usr"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        size_t n = strlen(own[i]);
        if (strncmp(path, own[i], n) == 0 && (path[n] == '/' || path[n] == '\0'))
            return true;
    }
    return false;
}

bool path_normal(const char *path, char *out)
{
    char *to = out;
    bool clean = true;
    if (*path == '/')
        *to++ = '/';
    while (*path) {
        while (*path == '/')
            path++;
        size_t n = strcspn(path, "/");
        if (n && !(n == 1 && path[0] == '.')) {
            clean = clean && !(n == 2 && path[0] == '.' && path[1] == '.');
            if (to > out && to[-1] != '/')
                *to++ = '/';
            memcpy(to, path, n);
            to += n;
        }
        path += n;
    }
    if (to == out)
        *to++ = '.';
    *to = '\0';
    return clean;
}
