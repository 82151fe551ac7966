# Every row of table.test, four ways.
find_package(Python3 COMPONENTS Interpreter REQUIRED)
function(zpipe_table name)
    add_test(NAME table_${name} COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/e2e/run.py --bin
             ${CMAKE_BINARY_DIR}/bin ${ARGN})
    set_tests_properties(table_${name} PROPERTIES LABELS e2e TIMEOUT 600
                         SKIP_REGULAR_EXPRESSION "^0 passed, 0 failed, 1 skipped")
endfunction()
zpipe_table(embedded)
zpipe_table(cluster --cluster)
zpipe_table(embedded_user --user nobody)
zpipe_table(cluster_user --cluster --user nobody)
add_test(NAME bad_input COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/e2e/bad.py --bin ${CMAKE_BINARY_DIR}/bin)
set_tests_properties(bad_input PROPERTIES LABELS e2e TIMEOUT 600)
add_test(NAME cluster COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/e2e/cluster.py --bin ${CMAKE_BINARY_DIR}/bin)
set_tests_properties(cluster PROPERTIES LABELS e2e TIMEOUT 600)
add_test(NAME readme COMMAND ${CMAKE_SOURCE_DIR}/tests/e2e/readme.sh ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})
set_tests_properties(readme PROPERTIES LABELS e2e TIMEOUT 120)
