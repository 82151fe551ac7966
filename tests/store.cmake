zpipe_test(store_journal SOURCES unit/store_journal.c USES store)
zpipe_test(keeper_list SOURCES unit/keeper_list.c USES keeper zpipe_static TIMEOUT 120)
