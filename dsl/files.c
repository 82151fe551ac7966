/* See files.h. */
#include "dsl/files.h"

#include <string.h>

static bool is_one_of(const char *name, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(*list, name) == 0)
            return true;
    return false;
}

bool command_takes_directories(const char *name)
{
    static const char *const all[] = {"install", "ln", "mv", "rsync", NULL};
    return is_one_of(name, all);
}

bool command_interprets(const char *name)
{
    static const char *const all[] = {"Rscript", "bash", "dash",    "guile", "java", "julia", "lua", "node",
                                      "perl",    "php",  "python3", "ruby",  "sh",   "tclsh", NULL};
    return is_one_of(name, all);
}

bool command_is_shell(const char *name)
{
    static const char *const all[] = {"bash", "dash", "sh", NULL};
    return is_one_of(name, all);
}

bool command_builtin(const char *name)
{
    /* `true` and `false` are missing: the programs do the same as the builtins. */
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

bool command_builtin_reads(const char *name)
{
    static const char *const all[] = {".", "command", "eval", "exec", "read", NULL};
    return is_one_of(name, all);
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
