# The sandboxes: the request as bytes, regions, the program alone.
set(here ${CMAKE_CURRENT_LIST_DIR})
add_library(test_boxed STATIC ${here}/lib/boxed.c)
target_include_directories(test_boxed PUBLIC ${here})
target_link_libraries(test_boxed PUBLIC sandbox cmocka)
add_executable(box_pipe ${here}/lib/box_pipe.c)
target_link_libraries(box_pipe PRIVATE test_boxed)
