/* zpipe box: zpipe-box itself, found and become. */
#include "cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int cmd_box(int argc, char **argv)
{
    (void)argc;
    const char *path = zpipe_box_path();
    if (!path)
        return cli_say(ZPIPE_STATUS_FAILED, "zpipe-box is neither beside this program nor installed");
    execv(path, argv);
    return cli_say(ZPIPE_STATUS_FAILED, "cannot run %s: %s", path, strerror(errno));
}
