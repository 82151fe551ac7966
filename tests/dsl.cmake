zpipe_test(dsl_vectors SOURCES unit/dsl_vectors.c USES dsl)
zpipe_test(dsl_graph SOURCES unit/dsl_graph.c USES dsl TIMEOUT 120)
zpipe_fuzz(dsl SOURCES fuzz/dsl.c USES dsl)
