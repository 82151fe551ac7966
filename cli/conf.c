/* Configuration files: options by their long names, one `name = value` a line.  See zpipe.conf(5). */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONF_BYTES_MAX 65536
#define CONF_FILES_MAX 2 /* the user's own, and one that is named */

static char *trimmed(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    for (size_t n = strlen(text); n && isspace((unsigned char)text[n - 1]); n--)
        text[n - 1] = '\0';
    return text;
}

static int take_line(struct cli *c, char *line)
{
    line = trimmed(line);
    if (!*line || *line == '#')
        return 0;
    char *equals = strchr(line, '=');
    if (!equals)
        return cli_say(-1, "`%.100s` is not NAME = VALUE", line);
    *equals = '\0';
    return cli_set(c, trimmed(line), trimmed(equals + 1));
}

/* Gives the text, of *size bytes; NULL: it cannot be read, and errno says why. */
static char *read_text(const char *path, size_t *size)
{
    char *text = malloc(CONF_BYTES_MAX + 1);
    int fd = text ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd < 0 ? -1 : 1;
    *size = 0;
    while (n > 0 && *size <= CONF_BYTES_MAX) {
        n = read(fd, text + *size, CONF_BYTES_MAX + 1 - *size);
        *size += n > 0 ? (size_t)n : 0;
    }
    if (n > 0) {
        errno = EFBIG;
        n = -1;
    }
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (n == 0) {
        text[*size] = '\0';
        return text;
    }
    free(text);
    errno = error;
    return NULL;
}

int conf_read(struct cli *c, const char *path)
{
    int number = 0;
    size_t size;
    char *text = read_text(path, &size), *rest = text;
    if (!text)
        return cli_say(-1, "cannot read the configuration '%s': %s", path, strerror(errno));
    if (c->conf_count == CONF_FILES_MAX) {
        free(text);
        return cli_say(-1, "one --config at most");
    }
    c->conf[c->conf_count++] = text; /* values stay in it */
    if (strlen(text) < size)
        return cli_say(-1, "the configuration '%s' holds a NUL byte", path);
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (++number > CONF_LINES_MAX / CONF_FILES_MAX)
            return cli_say(-1, "%s: more than %d lines", path, CONF_LINES_MAX / CONF_FILES_MAX);
        if (take_line(c, line) < 0)
            return cli_say(-1, "%s:%d: this line is wrong; zpipe.conf(5) says what may stand there", path, number);
    }
    return 0;
}
