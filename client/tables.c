/* See client.h.  Puts together a submission's text with what the parser needs: the working directory, and the tables of
 * commands that the user brings.  The tables are read here because the parser reads no files itself. */
#include "client/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int read_table(const char *path, struct buf *b, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : 1;
    while (got > 0) {
        void *at = buf_reserve(b, 65536);
        if (!at)
            break;
        do
            got = read(fd, at, 65536);
        while (got < 0 && errno == EINTR);
        if (got > 0)
            buf_grew(b, (size_t)got);
    }
    int r = got < 0     ? err_sys(e, "the table of commands '%.200s' cannot be read", path)
            : b->failed ? err_set(e, ERR_LIMIT,
                                  "the table of commands '%.200s' is larger than %u bytes "
                                  "(COMMANDS_FILE_MAX)",
                                  path, COMMANDS_FILE_MAX)
                        : 0;
    if (fd >= 0)
        close(fd);
    return r;
}

int client_text_open(struct client_text *t, const struct zpipe_submission *s, struct err *e)
{
    *t = (struct client_text){.directory = client_directory(s->directory, e)};
    if (!t->directory)
        return -1;
    t->in = client_dsl_input(s, t->directory);
    if (s->commands_count >= COMMANDS_TEXTS_MAX)
        return err_set(e, ERR_LIMIT, "more than %d tables of commands (COMMANDS_TEXTS_MAX)",
                       COMMANDS_TEXTS_MAX - 1);
    for (size_t i = 0; i < s->commands_count; i++) {
        struct buf b = BUF_INIT(COMMANDS_FILE_MAX + 65536);
        int r = read_table(s->commands[i], &b, e);
        size_t size = b.size;
        char *text = r < 0 ? NULL : buf_take(&b);
        buf_clear(&b);
        if (!text)
            return r < 0 ? -1 : err_nomem(e);
        t->table[t->tables++] =
            (struct commands_text){.file = s->commands[i], .text = text, .size = size};
    }
    t->in.commands = t->table;
    t->in.commands_count = t->tables;
    return 0;
}

void client_text_close(struct client_text *t)
{
    for (size_t i = 0; i < t->tables; i++)
        free((void *)(uintptr_t)t->table[i].text);
    free(t->directory);
}
