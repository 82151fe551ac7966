/* zpipe box, zpipe serve, zpipe keeper: separate programs, which this process execs.  `serve` and `keeper` need libraries
 * whose loading would slow down the start of every other command. */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int cli_become(const char *program, char **argv)
{
    char path[4096];
    const char *box = zpipe_box_path(), *slash = box ? strrchr(box, '/') : NULL;
    if (!slash)
        return cli_say(ZPIPE_STATUS_FAILED, "%s is neither beside this program nor installed", program);
    snprintf(path, sizeof path, "%.*s/%s", (int)(slash - box), box, program);
    execv(path, argv);
    return cli_say(ZPIPE_STATUS_FAILED, "cannot run %s: %s", path, strerror(errno));
}
