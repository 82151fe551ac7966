/* Bugs planted on purpose, to show that the simulator finds bugs.  The core knows nothing of them:
 * the linker puts them before its own functions (--wrap), in the simulator's program alone. */
#pragma once

extern int plant; /* 0: none */
#define PLANTS 33
extern const char *const plant_names[PLANTS + 1];
