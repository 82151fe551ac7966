/* Sixteen random bytes that name this process: two roles in one process show the same. */
#pragma once
#include "base/buf.h"

#define INSTANCE_BYTES 16

struct slice process_instance(void); /* static storage; drawn at the first call */
