/* Prints what jobs said on a terminal so that none of it can move the cursor or change the direction of the text.  The
 * library writes to a descriptor, so a child process stands between that descriptor and the terminal.  Output that goes
 * anywhere else is left as the job wrote it. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHARACTER_MAX 3 /* the longest control character that is replaced, in bytes */

static void copy(int from, int to)
{
    static char bytes[65536 + 1];
    size_t held = 0;
    ssize_t n;
    do {
        n = read(from, bytes + held, sizeof bytes - 1 - held);
        size_t size = held + (n > 0 ? (size_t)n : 0), cut = size;
        /* Keep back a character whose last bytes have not come yet. */
        while (n > 0 && cut > 0 && size - cut < CHARACTER_MAX && (bytes[cut - 1] & 0x80))
            cut--;
        for (size_t i = 0; i < cut; i++)
            bytes[i] = bytes[i] ? bytes[i] : '?';
        char next = bytes[cut];
        bytes[cut] = '\0';
        zpipe_plain(bytes, true);
        bytes[cut] = next;
        for (size_t at = 0; at < cut;) {
            ssize_t wrote = write(to, bytes + at, cut - at);
            if (wrote < 0)
                _exit(1);
            at += (size_t)wrote;
        }
        memmove(bytes, bytes + cut, held = size - cut);
    } while (n > 0);
    _exit(0);
}

int plain_begin(int fd, pid_t *child)
{
    int ends[2];
    *child = 0;
    if (!isatty(fd))
        return fd;
    if (pipe(ends) < 0)
        return cli_say(-1, "cannot make a pipe to the terminal");
    *child = fork();
    if (*child == 0) {
        close(ends[1]);
        copy(ends[0], fd);
    }
    close(ends[0]);
    if (*child > 0)
        return ends[1];
    close(ends[1]);
    return cli_say(-1, "cannot start a process for what goes to the terminal");
}

void plain_end(int fd, pid_t child)
{
    if (!child)
        return;
    close(fd);
    waitpid(child, NULL, 0);
}
