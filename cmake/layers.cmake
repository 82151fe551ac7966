# Flags live in one INTERFACE target; zpipe_layer() and zpipe_test() keep every folder's file short.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)

find_package(PkgConfig REQUIRED)

add_library(zpipe_flags INTERFACE)
target_include_directories(zpipe_flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/include)
target_compile_definitions(zpipe_flags INTERFACE _GNU_SOURCE ZPIPE_VERSION="${PROJECT_VERSION}")
target_compile_options(zpipe_flags INTERFACE
    -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -fPIC
    -fvisibility=hidden)
if(ZPIPE_WERROR)
    target_compile_options(zpipe_flags INTERFACE -Werror)
endif()
if(ZPIPE_SANITIZE)
    target_compile_options(zpipe_flags INTERFACE
        -fsanitize=${ZPIPE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(zpipe_flags INTERFACE -fsanitize=${ZPIPE_SANITIZE})
endif()

# zpipe_layer(NAME SOURCES a.c ... [USES layer|library ...]): one folder, one static library.
function(zpipe_layer name)
    cmake_parse_arguments(L "" "" "SOURCES;USES" ${ARGN})
    add_library(${name} STATIC ${L_SOURCES})
    target_link_libraries(${name} PUBLIC zpipe_flags ${L_USES})
endfunction()

# zpipe_test(NAME SOURCES a.c ... [USES ...] [LABEL unit] [TIMEOUT 60]): one cmocka program, one ctest.
function(zpipe_test name)
    cmake_parse_arguments(T "" "LABEL;TIMEOUT" "SOURCES;USES" ${ARGN})
    add_executable(test_${name} ${T_SOURCES})
    target_link_libraries(test_${name} PRIVATE ${T_USES} cmocka)
    target_include_directories(test_${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
    add_test(NAME ${name} COMMAND test_${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    if(NOT T_TIMEOUT)
        set(T_TIMEOUT 60)
    endif()
    if(NOT T_LABEL)
        set(T_LABEL unit)
    endif()
    set_tests_properties(${name} PROPERTIES TIMEOUT ${T_TIMEOUT} LABELS ${T_LABEL})
endfunction()

# zpipe_fuzz(NAME SOURCES a.c USES ...): a libFuzzer program, when ZPIPE_FUZZ is on; always a replay of
# tests/fuzz/corpus/NAME as a ctest (with the driver in tests/fuzz/replay.c when libFuzzer is not there).
function(zpipe_fuzz name)
    cmake_parse_arguments(F "" "" "SOURCES;USES" ${ARGN})
    if(ZPIPE_FUZZ)
        add_executable(fuzz_${name} ${F_SOURCES})
        target_compile_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
        target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    else()
        add_executable(fuzz_${name} ${F_SOURCES} ${CMAKE_SOURCE_DIR}/tests/fuzz/replay.c)
    endif()
    target_link_libraries(fuzz_${name} PRIVATE ${F_USES})
    set(corpus ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
    if(EXISTS ${corpus})
        file(GLOB files ${corpus}/*)
        add_test(NAME fuzz_${name} COMMAND fuzz_${name} ${files})
        set_tests_properties(fuzz_${name} PROPERTIES TIMEOUT 120 LABELS fuzz)
    endif()
endfunction()
