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
#define CONF_FILES_MAX 2 /* the user's own, and the one that --config names */

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

char *cli_read(int fd, const char *what, const char *name, size_t bytes_max)
{
    char *text = fd < 0 ? NULL : malloc(bytes_max + 2); /* one byte too many shows that the file is too large */
    size_t size = 0;
    ssize_t n = text ? 1 : -1;
    while (n > 0 && size <= bytes_max) {
        n = read(fd, text + size, bytes_max + 1 - size);
        size += n > 0 ? (size_t)n : 0;
    }
    bool good = n >= 0 && size <= bytes_max && !memchr(text, '\0', size);
    if (good)
        text[size] = '\0';
    else if (n < 0)
        cli_say(0, "cannot read the %s '%s': %s", what, name, strerror(errno));
    else if (size > bytes_max)
        cli_say(0, "the %s '%s' is larger than %zu bytes", what, name, bytes_max);
    else
        cli_say(0, "the %s '%s' holds a NUL byte", what, name);
    if (fd >= 0)
        close(fd);
    if (!good)
        free(text);
    return good ? text : NULL;
}

int conf_read(struct cli *c, const char *path)
{
    int number = 0;
    char *text = cli_read(open(path, O_RDONLY | O_CLOEXEC), "configuration", path, CONF_BYTES_MAX), *rest = text;
    if (!text)
        return -1;
    if (c->conf_count == CONF_FILES_MAX) {
        free(text);
        return cli_say(-1, "one --config at most");
    }
    c->conf[c->conf_count++] = text; /* option values point into it */
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (++number > CONF_LINES_MAX / CONF_FILES_MAX)
            return cli_say(-1, "%s: more than %d lines", path, CONF_LINES_MAX / CONF_FILES_MAX);
        if (take_line(c, line) < 0)
            return cli_say(-1, "%s:%d: this line is wrong; zpipe.conf(5) says what may stand there", path, number);
    }
    return 0;
}
