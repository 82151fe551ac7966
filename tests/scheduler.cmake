# The core, compiled once more with its planted bugs (off unless asked for), in the simulator.
add_executable(sim ${CMAKE_CURRENT_SOURCE_DIR}/sim/sim.c ${CMAKE_SOURCE_DIR}/scheduler/core.c
               ${CMAKE_SOURCE_DIR}/scheduler/job.c ${CMAKE_SOURCE_DIR}/scheduler/place.c
               ${CMAKE_SOURCE_DIR}/scheduler/plan.c)
target_compile_definitions(sim PRIVATE CORE_PLANTS)
target_link_libraries(sim PRIVATE proto base)
add_test(NAME sim_seeds COMMAND sim)
add_test(NAME sim_plants COMMAND sim plants)
set_tests_properties(sim_seeds sim_plants PROPERTIES LABELS sim TIMEOUT 300)
