zpipe_test(base_core SOURCES unit/base_core.c USES base)
