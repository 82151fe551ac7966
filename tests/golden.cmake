# One program per source of nondeterminism, dynamic and static; no sanitizer reaches them, as they look at what
# lies where.  Bare they vary, inside they must not.
set(golden ${CMAKE_CURRENT_LIST_DIR}/golden)
set(golden_tables ${golden}/time.c ${golden}/random.c ${golden}/memory.c ${golden}/process.c ${golden}/files.c
    ${golden}/streams.c ${golden}/parallel.c ${golden}/turns.c ${golden}/threads.c ${golden}/own.c)
foreach(kind golden golden-static)
    add_executable(${kind} ${golden_tables} ${golden}/main.c)
    target_compile_definitions(${kind} PRIVATE _GNU_SOURCE)
    target_include_directories(${kind} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
    target_compile_options(${kind} PRIVATE -Wall -Wextra -fno-sanitize=all)
endforeach()
target_link_options(golden-static PRIVATE -static)
# Static, and without a C library: nothing but the kernel's own words.
add_executable(no-libc ${golden}/no_libc.c)
target_compile_options(no-libc PRIVATE -O1 -ffreestanding -fno-stack-protector -fno-pie -fno-sanitize=all
    -fno-asynchronous-unwind-tables)
target_link_options(no-libc PRIVATE -static -nostdlib -fno-sanitize=all)
add_executable(golden_run ${golden_tables} ${golden}/run.c)
target_link_libraries(golden_run PRIVATE test_boxed)
add_test(NAME golden COMMAND golden_run $<TARGET_FILE:zpipe-box> $<TARGET_FILE:golden> $<TARGET_FILE:golden-static>)
set_tests_properties(golden PROPERTIES TIMEOUT 900 LABELS e2e)

find_package(Python3 COMPONENTS Interpreter REQUIRED)
add_test(NAME programs COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/e2e/programs.py
         --bin ${CMAKE_BINARY_DIR}/bin --static $<TARGET_FILE:no-libc>)
set_tests_properties(programs PROPERTIES LABELS e2e TIMEOUT 600)

# Processes and threads at random; `make tangle` tries thousands.
add_executable(tangle ${CMAKE_CURRENT_LIST_DIR}/lib/tangle.c)
target_compile_options(tangle PRIVATE -Wall -Wextra -fno-sanitize=all)
target_link_options(tangle PRIVATE -fno-sanitize=all)
target_link_libraries(tangle PRIVATE pthread)
add_test(NAME tangle COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/e2e/tangle.py --box $<TARGET_FILE:zpipe-box>
         --tangle $<TARGET_FILE:tangle>)
set_tests_properties(tangle PROPERTIES LABELS e2e TIMEOUT 600)
# As on a kernel before 6.9, where a thread's end is not told.
add_test(NAME tangle_unheard COMMAND refuse pidfd_open 22 -- ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/e2e/tangle.py
         --box $<TARGET_FILE:zpipe-box> --tangle $<TARGET_FILE:tangle>)
set_tests_properties(tangle_unheard PROPERTIES LABELS e2e TIMEOUT 600)
