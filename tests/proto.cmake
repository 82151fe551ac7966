zpipe_fuzz(msg SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/msg.c USES proto)
zpipe_fuzz(graph SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/graph.c USES proto)
