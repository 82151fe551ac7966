# Second copies of the programs, in which the nth allocation fails.
function(zpipe_faulty program folder env)
    get_target_property(sources ${program} SOURCES)
    list(TRANSFORM sources PREPEND ${CMAKE_SOURCE_DIR}/${folder}/)
    add_executable(faulty_${program} ${sources} ${CMAKE_SOURCE_DIR}/tests/fault/faulty.c)
    set_target_properties(faulty_${program} PROPERTIES OUTPUT_NAME ${program} RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fault)
    target_compile_definitions(faulty_${program} PRIVATE FAULT_ENV="${env}")
    target_link_libraries(faulty_${program} PRIVATE ${ARGN})
    foreach(f malloc calloc realloc strdup asprintf vasprintf realpath)
        target_link_options(faulty_${program} PRIVATE -Wl,--wrap=${f})
    endforeach()
endfunction()
zpipe_faulty(zpipe cli ZPIPE_FAULT zpipe_flags zpipe_static)
zpipe_faulty(zpipe-box sandbox ZPIPE_FAULT_BOX sandbox sandbox_filter)
zpipe_faulty(zpipe-keeper cli ZPIPE_FAULT zpipe_flags keeper zpipe_static)
add_dependencies(faulty_zpipe faulty_zpipe-box)

# Every 7th allocation; `make fault` takes each.
find_package(Python3 COMPONENTS Interpreter REQUIRED)
add_test(NAME memory COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/e2e/memory.py --bin ${CMAKE_BINARY_DIR}/bin
         --faulty ${CMAKE_BINARY_DIR}/fault --step 7)
set_tests_properties(memory PROPERTIES LABELS e2e TIMEOUT 900)
