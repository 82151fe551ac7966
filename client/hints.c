/* See client.h.  A sandbox has the image and the job's inputs, and nothing else of this machine.  When a
 * stage fails for want of something that is here, the user reads what to add. */
#include "client/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_MAX_BYTES 1024

/* A program that the user's own PATH has. */
static void program(struct zpipe_job *j, const char *name)
{
    const char *path = getenv("PATH");
    if (!path || strchr(name, '/'))
        return;
    char *copy = strdup(path), *rest = copy;
    for (char *part; copy && (part = strsep(&rest, ":"));) {
        char whole[4096];
        if (snprintf(whole, sizeof whole, "%s/%s", part, name) >= (int)sizeof whole || access(whole, X_OK))
            continue;
        client_job_say(j,
                "zpipe: hint: `%s` is %s here, which is outside the image: add --with %s and call it by that "
                "path\n",
                name, whole, whole);
        break;
    }
    free(copy);
}

static bool is_input(const struct zpipe_job *j, const struct graph_node *n, const char *name)
{
    for (uint32_t i = 0; i < n->file_count; i++)
        if (!strcmp(j->graph->file[n->file[i]].name, name))
            return true;
    return false;
}

/* A name in a program's "... NAME: No such file or directory" that this machine does have. */
static void missing(struct zpipe_job *j, const struct graph_node *n, const char *line, size_t size)
{
    const char *at = line, *end = line + size;
    while (at < end) {
        const char *colon = memchr(at, ':', (size_t)(end - at));
        const char *stop = colon ? colon : end;
        const char *first = at, *last = stop;
        while (first < last && strchr(" '`\"", *first))
            first++;
        while (first < last && strchr(" '`\"", last[-1]))
            last--;
        char name[NAME_MAX_BYTES];
        int length = snprintf(name, sizeof name, "%.*s", (int)(last - first), first);
        if (length > 0 && length < (int)sizeof name && !is_input(j, n, name)) {
            char whole[4096];
            snprintf(whole, sizeof whole, "%s/%s", name[0] == '/' ? "" : j->directory, name);
            bool itself = n->argc && !strcmp(name, n->argv[0]); /* a map has no words of its own */
            if (!itself && access(whole, F_OK) == 0) {
                client_job_say(j, "zpipe: hint: `%s` is here but no input of the stage: add --with '%s'\n", name,
                        name);
                return;
            }
        }
        at = stop + 1;
    }
}

void hints_task(struct zpipe_job *j, const struct msg_task *t)
{
    static const char words[] = "No such file or directory";
    const struct graph_node *n = &j->graph->node[t->node];
    if (t->end == MSG_END_NOT_FOUND && n->kind == GRAPH_COMMAND) {
        program(j, n->argv[0]);
        return;
    }
    if (t->status == 0)
        return;
    const char *at = t->stderr_tail;
    while (*at) {
        const char *end = strchrnul(at, '\n');
        const char *found = memmem(at, (size_t)(end - at), words, sizeof words - 1);
        if (found)
            missing(j, n, at, (size_t)(found - at));
        at = *end ? end + 1 : end;
    }
}
