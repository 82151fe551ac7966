/* See client.h.  A sandbox has the image and the job's inputs, and nothing else of this machine.  When a stage fails
 * because something is missing there that exists here, the user is told which option adds it. */
#include "client/client.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A program was not found in the sandbox: say so if the user's own PATH has it. */
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

/* The name of the program that it runs, without directories; "": it is no command. */
static const char *command_of(const struct graph_node *n)
{
    return n->kind == GRAPH_COMMAND && n->argc ? basename(n->argv[0]) : "";
}

/* Is it a `tail -f FILE`?  Without a file it reads a pipe, to its end. */
static bool follows(const struct graph_node *n)
{
    bool follow = false, file = false, options = true;
    if (strcmp(command_of(n), "tail"))
        return false;
    for (uint32_t i = 1; i < n->argc; i++) {
        const char *word = n->argv[i], *letter = word + strcspn(word, "fFncs");
        bool option = options && word[0] == '-' && word[1];
        if (!option) {
            file |= strcmp(word, "-") != 0;
            continue;
        }
        options = strcmp(word, "--") != 0;
        follow |= word[1] == '-' ? !strncmp(word, "--follow", 8) : *letter == 'f' || *letter == 'F';
        i += word[1] != '-' && *letter && !letter[1] && strchr("ncs", *letter); /* the next word is the number */
    }
    return follow && file;
}

/* Does a text for sh set a limit, at the beginning of a command?  To print one (`ulimit -n`) is no setting. */
static bool sets_limit(const struct graph_node *n)
{
    const char *text = n->kind == GRAPH_SHELL && n->argc ? n->argv[0] : "";
    for (const char *at = text; (at = strstr(at, "ulimit")); at++) {
        const char *before = at, *word = at + 6;
        while (before > text && strchr(" \t", before[-1]))
            before--;
        while (*word == ' ' && word[strspn(word, " ")] == '-')
            word += strspn(word, " ") + strcspn(word + strspn(word, " "), " \t\n;|&)");
        word += strspn(word, " ");
        if ((before == text || strchr(";&|({\n", before[-1])) && at[6] == ' ' && *word && !strchr(";&|)\n", *word))
            return true;
    }
    return false;
}

/* What would stand still, or be without effect, without a word: what `tail -f` waits for never comes, since a job's inputs do
 * not change while it runs; and the limits of a sandbox are not sh's. */
void hints_first(const struct graph *g, struct buf *told)
{
    for (uint32_t i = 0; i < g->node_count; i++)
        if (sets_limit(&g->node[i]))
            buf_printf(told, "zpipe: hint: `ulimit` changes nothing in a sandbox: `with memory=`, `cpu=`, `output=`, `procs=` or "
                       "`descriptors=` before the command does\n");
        else if (follows(&g->node[i]))
            buf_printf(told, "zpipe: hint: `%.100s` waits for a file to grow, but a job's inputs must not change: start it outside, "
                       "%.100s | zpipe --line-reads '…'\n", g->node[i].label, g->node[i].label);
}

static bool is_input(const struct zpipe_job *j, const struct graph_node *n, const char *name)
{
    for (uint32_t i = 0; i < n->file_count; i++)
        if (!strcmp(j->graph->file[n->file[i]].name, name) && !graph_is_link(&j->graph->file[n->file[i]]))
            return true;
    return false;
}

/* Is this name, trimmed of blanks, a file that this machine has and the stage has not?  Then print the hint. */
static bool missing(struct zpipe_job *j, const struct graph_node *n, const char *first, const char *last,
                    const char *suffix)
{
    while (first < last && *first == ' ')
        first++;
    while (first < last && last[-1] == ' ')
        last--;
    char name[HINT_NAME_MAX], whole[4096];
    int length = snprintf(name, sizeof name, "%.*s%s", (int)(last - first), first, suffix);
    if (first == last || length >= (int)sizeof name || is_input(j, n, name))
        return false;
    snprintf(whole, sizeof whole, "%s/%s", name[0] == '/' ? "" : j->directory, name);
    if (name[strspn(name, "./")] == '\0')
        return false;
    bool itself = n->argc && !strcmp(name, n->argv[0]); /* a map has no argv */
    if (itself || access(whole, F_OK) < 0)
        return false;
    bool descriptor = !strncmp(name, "/dev/fd/", 8) || !strncmp(name, "/proc/self/fd/", 14);
    if (strcmp(j->missing_told, name) && descriptor)
        client_job_say(j, "zpipe: hint: `%s` is a descriptor of your shell, which a sandbox does not have: write the `<( )` inside the quotes, "
                       "name the file, or give it as stdin\n", name);
    else if (strcmp(j->missing_told, name) && (!strncmp(name, "/dev/", 5) || !strncmp(name, "/proc/", 6)))
        client_job_say(j, "zpipe: hint: no sandbox has `%s`: give it as stdin, as in zpipe '…' < %s\n", name, name);
    else if (strcmp(j->missing_told, name)) /* `xargs rm` may complain of it a thousand times */
        client_job_say(j, "zpipe: hint: `%s` is here but no input of the stage: add --with '%s'\n", name, name);
    strcpy(j->missing_told, name);
    return true;
}

/* The end of what is quoted at `at`; NULL: nothing is (the ' of "can't" is no quote). */
static const char *quoted(const char *line, const char *at, const char *end)
{
    bool inside = at > line && isalnum((unsigned char)at[-1]);
    return strchr("'\"", *at) && !inside && at + 1 < end ? memchr(at + 1, *at, (size_t)(end - at - 1)) : NULL;
}

/* Look for the missing file's name in one line of a message.  It is what is quoted, a part between punctuation marks or the last
 * word of such a part: "cat: NAME: No such file or directory", "No such file or directory: 'NAME'", "cannot open NAME (No such file
 * or directory)". */
static void missing_in(struct zpipe_job *j, const struct graph_node *n, const char *line, const char *end,
                       const char *suffix)
{
    for (const char *at = line; at < end;) {
        const char *stop = at;
        while (stop < end && !strchr(":'`\"()", *stop))
            stop++;
        const char *word = stop;
        while (word > at && word[-1] == ' ')
            word--;
        while (word > at && word[-1] != ' ')
            word--;
        const char *close = stop < end ? quoted(line, stop, end) : NULL;
        if (missing(j, n, at, stop, suffix) || missing(j, n, word, stop, suffix) || (close && missing(j, n, stop + 1, close, suffix)))
            return;
        at = (close ? close : stop) + 1;
    }
}

/* How programs complain of a file that they did not find, and the suffix that the name needs to be found. */
static const struct saying {
    const char *words, *suffix;
} sayings[] = {
    {"o such file", ""}, /* sh stops after "No such file"; node writes a small "n" */
    {": not found", ""},
    {"can't cd to", ""},
    {"No module named", ".py"},
};

/* Programs that can do nothing without a network: for them the message need not be read. */
static bool needs_network(const struct graph_node *n)
{
    static const char *const name[] = {"curl", "dig", "ftp", "nslookup", "scp", "sftp", "ssh", "telnet", "wget"};
    for (size_t i = 0; i < sizeof name / sizeof *name; i++)
        if (strcmp(command_of(n), name[i]) == 0)
            return true;
    return false;
}

static bool says_no_network(const char *tail)
{
    static const char *const words[] = {"ould not resolve host", "nable to resolve host", "Name or service not known", "failure in name resolution",
                                        "Address family not supported", "Network is unreachable"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(tail, words[i]))
            return true;
    return false;
}

static void no_network(struct zpipe_job *j)
{
    if (!j->z->no_isolation && !j->network_told)
        client_job_say(j, "zpipe: hint: a sandbox has no network: fetch outside of it, as in curl URL | zpipe '...'\n");
    j->network_told = true;
}

/* Look for hints in the last lines that the stage wrote to stderr. */
void hints_said(struct zpipe_job *j, uint32_t node, const char *tail)
{
    const struct graph_node *n = &j->graph->node[node];
    for (const char *at = tail; *at;) {
        const char *end = strchrnul(at, '\n');
        for (size_t i = 0; i < sizeof sayings / sizeof *sayings; i++)
            if (memmem(at, (size_t)(end - at), sayings[i].words, strlen(sayings[i].words))) {
                missing_in(j, n, at, end, sayings[i].suffix);
                break;
            }
        at = *end ? end + 1 : end;
    }
    if (says_no_network(tail) && !needs_network(n))
        no_network(j);
}

void hints_task(struct zpipe_job *j, const struct msg_task *t)
{
    const struct graph_node *n = &j->graph->node[t->node];
    const char *tail = t->stderr_tail[0] ? t->stderr_tail : serve_said(j, t->node);
    if (t->end == MSG_END_NOT_FOUND && n->kind == GRAPH_COMMAND)
        program(j, n->argv[0]);
    else if (t->status)
        hints_said(j, t->node, tail);
    if (t->end == MSG_END_EXITED && t->status && needs_network(n))
        no_network(j);
}
