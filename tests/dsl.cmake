zpipe_test(dsl_vectors SOURCES unit/dsl_vectors.c USES dsl)
zpipe_test(dsl_graph SOURCES unit/dsl_graph.c USES dsl TIMEOUT 120)
zpipe_test(dsl_stages SOURCES unit/dsl_stages.c USES dsl)
zpipe_fuzz(dsl SOURCES fuzz/dsl.c USES dsl)
# Every form of the table of commands, tried in blocks; `make classes` tries more of them.
add_executable(split_tool lib/split_tool.c)
target_link_libraries(split_tool PRIVATE dsl)
find_package(Python3 COMPONENTS Interpreter REQUIRED)
add_test(NAME classes COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/classes.py $<TARGET_FILE:split_tool>)
add_test(NAME classes_planted COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/classes.py $<TARGET_FILE:split_tool>
         --planted)
add_test(NAME classes_pipelines COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/classes.py
         $<TARGET_FILE:split_tool> --pipelines)
set_tests_properties(classes classes_planted classes_pipelines PROPERTIES LABELS e2e TIMEOUT 600)
zpipe_test(dsl_commands SOURCES unit/dsl_commands.c USES dsl)
zpipe_fuzz(split SOURCES fuzz/split.c USES dsl)
