/* zpipe box, zpipe serve, zpipe keeper: programs of their own, found and become.  Serving and keeping need libraries that would
 * cost every other command its start. */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
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

static int become(const char *program, char **argv)
{
    char path[4096];
    const char *box = zpipe_box_path(), *slash = box ? strrchr(box, '/') : NULL;
    if (!slash)
        return cli_say(ZPIPE_STATUS_FAILED, "%s is neither beside this program nor installed", program);
    snprintf(path, sizeof path, "%.*s/%s", (int)(slash - box), box, program);
    execv(path, argv);
    return cli_say(ZPIPE_STATUS_FAILED, "cannot run %s: %s", path, strerror(errno));
}

int cmd_serve(int argc, char **argv)
{
    (void)argc;
    return become("zpipe-serve", argv);
}

int cmd_keeper(int argc, char **argv)
{
    (void)argc;
    return become("zpipe-keeper", argv);
}
