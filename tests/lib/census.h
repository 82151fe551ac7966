/* What there is of a zpipe-box server and of all below it, for tests that look whether something is left. */
#pragma once
#include <sys/types.h>

#define CENSUS_PROCESSES 256

/* Without the places that stand ready for tasks, and the server's two descriptors of each; and without its guard. */
struct census {
    int processes;
    long fds, mounts, kib;
    int places;
};

pid_t census_server(void); /* our first child, or 0 */
/* pid and all below it into `all`; the number of them. */
int census_family(pid_t pid, pid_t all[CENSUS_PROCESSES], int count);
/* Of the server and what belongs to it.  The last init may still be on its way out: waits until there are no
 * more than so many processes, half a minute at most.  Two descriptors for each CPU are added, for places that are being made. */
struct census census(int expected);
/* The inits of the places that stand ready; how many. */
int census_places(pid_t init[CENSUS_PROCESSES]);
/* Again, when there is no more than then; or after half a minute. */
struct census census_again(const struct census *than);
