# What examples/README.md shows.
find_package(Python3 COMPONENTS Interpreter REQUIRED)
add_test(NAME examples COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/docs.py --bin ${CMAKE_BINARY_DIR}/bin
         ${CMAKE_SOURCE_DIR}/examples/README.md)
set_tests_properties(examples PROPERTIES LABELS e2e TIMEOUT 300)
