/* See instance.h. */
#include "base/instance.h"

#include <stdlib.h>
#include <sys/random.h>

struct slice process_instance(void)
{
    static uint8_t bytes[INSTANCE_BYTES];
    static bool drawn;
    if (!drawn) {
        if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
            abort(); /* a kernel without randomness: nothing of ours would be safe */
        drawn = true;
    }
    return (struct slice){bytes, sizeof bytes};
}
