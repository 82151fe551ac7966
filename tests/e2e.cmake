# Every row of the tables, three ways; bad input and bad moments.
find_package(Python3 COMPONENTS Interpreter REQUIRED)
function(zpipe_e2e name script)
    add_test(NAME ${name} COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/e2e/${script} --bin ${CMAKE_BINARY_DIR}/bin
             ${ARGN})
    set_tests_properties(${name} PROPERTIES LABELS e2e TIMEOUT 900 SKIP_RETURN_CODE 77
                         ENVIRONMENT LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/lsan.supp:print_suppressions=0)
endfunction()
# An ordinary user: a number that no password file knows, so that nothing can hang on a name.
set(somebody 20017)
# Uncut it runs optimised in `make test`, which is four times as fast; with everything cut that may be, small inputs in small blocks, and
# not as root, with sanitizers.  `make tables` runs all eight ways.
if(CMAKE_BUILD_TYPE STREQUAL "Release")
    zpipe_e2e(table_embedded run.py)
    zpipe_e2e(classify bad.py what_classify_finds_is_so classify_leaves_alone_what_is_known)
endif()
zpipe_e2e(table_blocks_user run.py --split always,64K --user ${somebody})
zpipe_e2e(table_blocks_cluster_user run.py --split always,64K --cluster --user ${somebody})
# Inputs that are cut by themselves, at several widths.
zpipe_e2e(blocks blocks.py)
# Lines by key, beside a model of it.
zpipe_e2e(reduce reduce.py)
zpipe_e2e(reduce_cluster reduce.py --cluster)
# sort with any options, merged by ranges of keys.
zpipe_e2e(sorts sorts.py)
# The same over workers with one slot each, which lend each other theirs.
zpipe_e2e(lent lent.py)
# Directories that workers have as the client has them.
zpipe_e2e(shared shared.py)
# Workers that lie to each other.
add_executable(liar lib/liar.c)
target_link_libraries(liar PRIVATE sandbox proto)
set_target_properties(liar PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
zpipe_e2e(liars liars.py)
# Hosts whose clocks are apart.
add_library(clock SHARED lib/clock.c)
set_target_properties(clock PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
zpipe_e2e(clocks clocks.py)
# The units, under a systemd of its own.
if(CMAKE_BUILD_TYPE STREQUAL "Release")
    add_test(NAME units COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/e2e/units.py --build ${CMAKE_BINARY_DIR})
    set_tests_properties(units PROPERTIES LABELS e2e TIMEOUT 300 SKIP_RETURN_CODE 77)
endif()
# Workers that are not alike.
zpipe_e2e(images images.py)
zpipe_e2e(room room.py)
# Tasks that are run twice, and compared.
zpipe_e2e(audit audit.py)
# A few rows over hosts of their own: network namespaces, where they are permitted; `make hosts` runs all.
zpipe_e2e(hosts run.py --hosts --slots 1 --split always,64K
          top-words grep-logs-script cut-tee-sort big-chain big-grep big-sort cat-big-head sort-temp-files job-big base64)
# Each limit, met in each way that a program comes to run.
zpipe_e2e(limits limits.py)
zpipe_e2e(limits_cluster limits.py --cluster)
# Maps, beside a model of how they are cut.
zpipe_e2e(maps maps.py)
zpipe_e2e(maps_cluster maps.py --cluster)
# Sandboxes at work are killed; `make killed` does it at all widths.
zpipe_e2e(killed killed.py)
# kill -9 of zpipe-box, zpipe and zpipe serve.
zpipe_e2e(ends ends.py)
# Full disks.
zpipe_e2e(full full.py)
# The same of each process of a cluster.
zpipe_e2e(killed_cluster killed_cluster.py)
# Memory is no longer zpipe's own under sanitizers; `make bounded` reads thirty times as much.
if(CMAKE_BUILD_TYPE STREQUAL "Release")
    zpipe_e2e(bounded bounded.py --bytes 600e6)
endif()
# Pipelines that nobody wrote; `make compare` runs many more.
zpipe_e2e(random_embedded run.py --random 40)
# Random pipelines from the table of commands, of which all forms come, and 324 written ones, through one process; `make test` runs them optimised
# too, and more of them then.
add_executable(many lib/many.c)
target_link_libraries(many PRIVATE zpipe_flags zpipe_static)
set_target_properties(many PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(many_count 60)
if(CMAKE_BUILD_TYPE STREQUAL "Release")
    set(many_count 1000)
    zpipe_e2e(many_written many.py --written)
endif()
foreach(seed 1 2)
    zpipe_e2e(many_random_${seed} many.py --random ${many_count} --seed ${seed})
endforeach()
zpipe_e2e(cluster_moments cluster.py)
zpipe_e2e(submitted submitted.py)
# A task that failed, run again alone.
zpipe_e2e(records records.py)
# Pipelines as a service.
zpipe_e2e(serve serve.py)
zpipe_e2e(bad_input bad.py)
zpipe_e2e(bad_input_user bad.py --user ${somebody})
# Both look at the machine's mounts, and for the same programs.
set_tests_properties(bad_input bad_input_user PROPERTIES RESOURCE_LOCK bad_input)
# A look for leaks at each end costs a quarter of a short run; what these run, others with that look run too.
foreach(name table_blocks_user bad_input_user blocks sorts full killed)
    set_tests_properties(${name} PROPERTIES ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
endforeach()
zpipe_e2e(random_edges run.py --edges 15)
zpipe_e2e(random_edges_cluster run.py --edges 10 --seed 100 --cluster)
# Graphs in which programs would wait for each other for ever, if edges were pipes; `make graphs` runs many more.
add_executable(graphs ${CMAKE_CURRENT_SOURCE_DIR}/e2e/graphs.c)
target_link_libraries(graphs PRIVATE zpipe_flags zpipe_static)
set_target_properties(graphs PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
add_test(NAME graphs COMMAND graphs 1 15)
set_tests_properties(graphs PROPERTIES LABELS e2e TIMEOUT 300)
