zpipe_test(store_journal SOURCES unit/store_journal.c USES store)
