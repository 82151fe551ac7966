zpipe_fuzz(msg SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/msg.c USES proto)
zpipe_fuzz(graph SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/graph.c USES proto)
zpipe_test(proto_msg SOURCES unit/proto_msg.c USES proto)
zpipe_test(proto_peer SOURCES unit/proto_peer.c USES proto)
