# What the command says for itself: help, mistakes, a stdout that takes nothing, texts that are not for a terminal.
find_package(Python3 COMPONENTS Interpreter REQUIRED)
add_test(NAME cli COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/unit/cli.py ${CMAKE_BINARY_DIR}/bin)
set_tests_properties(cli PROPERTIES TIMEOUT 300)
