# The core in the simulator; and once more with bugs planted on purpose, which the linker puts before the
# core's own functions, so that the core knows nothing of them.
set(sim ${CMAKE_CURRENT_SOURCE_DIR}/sim)
add_executable(sim
    ${sim}/sim.c
    ${sim}/actors.c
    ${sim}/clients.c
    ${sim}/workers.c
    ${sim}/streams.c
    ${sim}/jobs.c
    ${sim}/world.c
    ${sim}/check.c
    ${sim}/plants.c)
target_link_libraries(sim PRIVATE scheduler)
foreach(f fleet_release fleet_take lend_step remains_any core_send wait_expire job_cancel verdict job_bind job_may_have workers_alike lend_lose_worker
          action_queue job_resume job_worker_message part_lose held_lose_keeper wait_add held_keeper_came fleet_drain drain_step remains_expire place_remnants part_outdated part_begins)
    target_link_options(sim PRIVATE -Wl,--wrap=${f})
endforeach()
# Ten thousand seeds take a minute under sanitizers: there they are the first two thousand, and all of them optimised.
set(seeds 2000)
if(CMAKE_BUILD_TYPE STREQUAL "Release") # where the planted bugs are looked for, too
    set(seeds 10000)
    add_test(NAME sim_plants COMMAND sim plants)
    set_tests_properties(sim_plants PROPERTIES LABELS sim TIMEOUT 900)
endif()
add_test(NAME sim_seeds COMMAND sim seeds ${seeds})
set_tests_properties(sim_seeds PROPERTIES LABELS sim TIMEOUT 900)
zpipe_test(scheduler_turns SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/unit/scheduler_turns.c USES scheduler)
