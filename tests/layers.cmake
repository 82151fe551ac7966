# The layers, and that a violation would be seen.
add_test(NAME layers COMMAND ${CMAKE_SOURCE_DIR}/tests/check_layers.sh ${CMAKE_SOURCE_DIR})
add_test(NAME layers_planted COMMAND ${CMAKE_SOURCE_DIR}/tests/check_layers_test.sh)
