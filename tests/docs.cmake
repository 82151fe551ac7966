# What the README and the manual show after a `$` is true, and what they say of the tree.
find_package(Python3 COMPONENTS Interpreter REQUIRED)
file(GLOB pages CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/docs/man/*.scd)
add_test(NAME docs COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/docs.py --bin ${CMAKE_BINARY_DIR}/bin
         ${CMAKE_SOURCE_DIR}/README.md ${pages})
add_test(NAME docs_cluster COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/docs.py --together --bin ${CMAKE_BINARY_DIR}/bin
         ${CMAKE_SOURCE_DIR}/docs/CLUSTER.md)
set_tests_properties(docs docs_cluster PROPERTIES LABELS e2e TIMEOUT 600)
add_test(NAME documents COMMAND ${CMAKE_SOURCE_DIR}/tests/check_documents.sh ${CMAKE_BINARY_DIR}/bin/zpipe)
