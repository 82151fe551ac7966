# What `make install` puts in place is enough for a program of somebody else's.
add_test(NAME install COMMAND ${CMAKE_SOURCE_DIR}/tests/install.sh ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR} ${ZPIPE_SANITIZE})
set_tests_properties(install PROPERTIES LABELS e2e TIMEOUT 120)
