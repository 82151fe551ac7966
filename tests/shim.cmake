# The task filter, its answers and the loader shim.
if(NOT TARGET sandbox_filter)
    include(${CMAKE_SOURCE_DIR}/sandbox/shim.cmake)
endif()
add_library(test_guarded STATIC ${CMAKE_CURRENT_LIST_DIR}/lib/guarded.c)
target_include_directories(test_guarded PUBLIC ${CMAKE_CURRENT_LIST_DIR})
target_link_libraries(test_guarded PUBLIC sandbox_filter cmocka)

zpipe_test(filter_table SOURCES ${CMAKE_CURRENT_LIST_DIR}/unit/filter_table_test.c USES test_guarded)
zpipe_test(filter_kernel SOURCES ${CMAKE_CURRENT_LIST_DIR}/unit/filter_kernel_test.c USES test_guarded)
zpipe_test(notify_answers SOURCES ${CMAKE_CURRENT_LIST_DIR}/unit/notify_answers_test.c USES test_guarded TIMEOUT 300)
zpipe_test(notify_programs SOURCES ${CMAKE_CURRENT_LIST_DIR}/unit/notify_programs_test.c USES test_guarded TIMEOUT 300)
zpipe_test(box_manual SOURCES ${CMAKE_CURRENT_LIST_DIR}/unit/box_manual.c USES sandbox_filter)
