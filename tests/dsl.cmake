zpipe_test(dsl_vectors SOURCES unit/dsl_vectors.c USES dsl)
