zpipe_test(worker_inlet SOURCES unit/worker_inlet.c USES worker)
