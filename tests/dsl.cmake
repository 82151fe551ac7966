zpipe_test(dsl_vectors SOURCES unit/dsl_vectors.c USES dsl)
zpipe_fuzz(dsl SOURCES fuzz/dsl.c USES dsl)
