/* What must hold inside the core after every event. */
#pragma once
#include "scheduler/state.h"

/* NULL, or what does not hold. */
const char *core_check(const struct core *c);
/* NULL, or what is left although nobody is there any more. */
const char *core_check_empty(const struct core *c);
