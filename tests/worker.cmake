zpipe_test(worker_inlet SOURCES unit/worker_inlet.c USES worker)
zpipe_test(worker_shuffle SOURCES unit/worker_shuffle.c USES worker)
zpipe_test(worker_ranges SOURCES unit/worker_ranges.c USES worker)
zpipe_test(worker_shared SOURCES unit/worker_shared.c USES worker)
