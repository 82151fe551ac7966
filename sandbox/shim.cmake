# The task filter, its answers and the loader shim: library `sandbox_filter`.  Included by
# sandbox/CMakeLists.txt; once is enough.
include_guard(GLOBAL)

# The shim is compiled by hand: no flag of the build (sanitizers, coverage, hardening) may reach it.
# Linked as a shared object: a program linked inside a sandbox finds it under the loader's name, and ld refuses
# a position-independent executable there, but passes over a library of no use (its symbols are the vDSO's).
set(ZPIPE_SHIM ${CMAKE_BINARY_DIR}/bin/zpipe-shim)
add_custom_command(OUTPUT ${ZPIPE_SHIM}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/bin
    COMMAND ${CMAKE_C_COMPILER} -std=gnu17 -O2 -Wall -Wextra -Werror -I${CMAKE_SOURCE_DIR}
        -ffreestanding -fno-stack-protector -fPIE -fvisibility=hidden -mgeneral-regs-only
        -fcf-protection=none -fno-asynchronous-unwind-tables -fno-builtin -U_FORTIFY_SOURCE
        -nostdlib -shared -Wl,-z,noexecstack,-z,norelro,-z,max-page-size=4096,--build-id=none,-s
        -Wl,-soname,linux-vdso.so.1,--hash-style=both,-T,${CMAKE_CURRENT_LIST_DIR}/shim.lds
        -Wl,--version-script,${CMAKE_CURRENT_LIST_DIR}/shim.map
        -o ${ZPIPE_SHIM} ${CMAKE_CURRENT_LIST_DIR}/shim.c
    DEPENDS
    ${CMAKE_CURRENT_LIST_DIR}/shim.c
    ${CMAKE_CURRENT_LIST_DIR}/shim.h
    ${CMAKE_CURRENT_LIST_DIR}/auxv.h
    ${CMAKE_CURRENT_LIST_DIR}/clock_page.h
    ${CMAKE_CURRENT_LIST_DIR}/raw_call.h
    ${CMAKE_CURRENT_LIST_DIR}/shim.lds
    ${CMAKE_CURRENT_LIST_DIR}/shim.map
    COMMENT "Building the loader shim" VERBATIM)
add_custom_target(zpipe_shim DEPENDS ${ZPIPE_SHIM})

# The forker likewise, as bytes for a fixed place.
set(ZPIPE_FORKER ${CMAKE_BINARY_DIR}/bin/zpipe-forker)
add_custom_command(OUTPUT ${ZPIPE_FORKER}
    COMMAND ${CMAKE_C_COMPILER} -std=gnu17 -O2 -Wall -Wextra -Werror -I${CMAKE_SOURCE_DIR}
        -ffreestanding -fno-stack-protector -fno-pie -mgeneral-regs-only -mno-red-zone -mcmodel=small
        -fcf-protection=none -fno-asynchronous-unwind-tables -fno-builtin -U_FORTIFY_SOURCE
        -nostdlib -static -Wl,-T,${CMAKE_CURRENT_LIST_DIR}/forker.ld -Wl,--build-id=none
        -o ${ZPIPE_FORKER} ${CMAKE_CURRENT_LIST_DIR}/forker.c
    DEPENDS ${CMAKE_CURRENT_LIST_DIR}/forker.c ${CMAKE_CURRENT_LIST_DIR}/forker.h ${CMAKE_CURRENT_LIST_DIR}/raw_call.h
        ${CMAKE_CURRENT_LIST_DIR}/forker.ld ${CMAKE_CURRENT_LIST_DIR}/wire.h
    COMMENT "Building the forker" VERBATIM)
add_custom_target(zpipe_forker DEPENDS ${ZPIPE_FORKER})

# And the gate.
set(ZPIPE_GATE ${CMAKE_BINARY_DIR}/bin/zpipe-gate)
add_custom_command(OUTPUT ${ZPIPE_GATE}
    COMMAND ${CMAKE_C_COMPILER} -std=gnu17 -O2 -Wall -Wextra -Werror -I${CMAKE_SOURCE_DIR}
        -ffreestanding -fno-stack-protector -fPIE -fvisibility=hidden -mgeneral-regs-only
        -fcf-protection=none -fno-asynchronous-unwind-tables -fno-builtin -U_FORTIFY_SOURCE
        -nostdlib -static -Wl,-T,${CMAKE_CURRENT_LIST_DIR}/gate.ld -Wl,--build-id=none
        -o ${ZPIPE_GATE} ${CMAKE_CURRENT_LIST_DIR}/gate.c
    DEPENDS ${CMAKE_CURRENT_LIST_DIR}/gate.c ${CMAKE_CURRENT_LIST_DIR}/gate.h ${CMAKE_CURRENT_LIST_DIR}/shim.h
        ${CMAKE_CURRENT_LIST_DIR}/gate.ld
    COMMENT "Building the gate" VERBATIM)
add_custom_target(zpipe_gate DEPENDS ${ZPIPE_GATE})

zpipe_layer(sandbox_filter
    SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/syscalls.c
    ${CMAKE_CURRENT_LIST_DIR}/filter.c
    ${CMAKE_CURRENT_LIST_DIR}/notify.c
    ${CMAKE_CURRENT_LIST_DIR}/notify_random.c
    ${CMAKE_CURRENT_LIST_DIR}/notify_answers.c
    ${CMAKE_CURRENT_LIST_DIR}/notify_list.c
    ${CMAKE_CURRENT_LIST_DIR}/notify_open.c
    ${CMAKE_CURRENT_LIST_DIR}/notify_given.c
    ${CMAKE_CURRENT_LIST_DIR}/notify_shared.c
    ${CMAKE_CURRENT_LIST_DIR}/notify_ready.c
    ${CMAKE_CURRENT_LIST_DIR}/notify_clock.c
    ${CMAKE_CURRENT_LIST_DIR}/notify_fork.c
    ${CMAKE_CURRENT_LIST_DIR}/notify_exec.c
    ${CMAKE_CURRENT_LIST_DIR}/notify_timers.c
    ${CMAKE_CURRENT_LIST_DIR}/notify_signals.c
    ${CMAKE_CURRENT_LIST_DIR}/notify_measure.c
    ${CMAKE_CURRENT_LIST_DIR}/notify_named.c
    ${CMAKE_CURRENT_LIST_DIR}/proc.c
    ${CMAKE_CURRENT_LIST_DIR}/usage.c
    ${CMAKE_CURRENT_LIST_DIR}/children.c
    ${CMAKE_CURRENT_LIST_DIR}/notify_path.c
    ${CMAKE_CURRENT_LIST_DIR}/notify_stat.c
    ${CMAKE_CURRENT_LIST_DIR}/notify_gate.c
    ${CMAKE_CURRENT_LIST_DIR}/shim_blob.c
    ${CMAKE_CURRENT_LIST_DIR}/forker_blob.c
    USES base_core)
set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/shim_blob.c PROPERTIES
    OBJECT_DEPENDS ${ZPIPE_SHIM}
    COMPILE_DEFINITIONS "SHIM_FILE=\"${ZPIPE_SHIM}\"")
set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/forker_blob.c PROPERTIES
    OBJECT_DEPENDS ${ZPIPE_FORKER}
    COMPILE_DEFINITIONS "FORKER_FILE=\"${ZPIPE_FORKER}\"")
set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/notify_gate.c PROPERTIES
    OBJECT_DEPENDS ${ZPIPE_GATE}
    COMPILE_DEFINITIONS "GATE_FILE=\"${ZPIPE_GATE}\"")
add_dependencies(sandbox_filter zpipe_shim zpipe_forker zpipe_gate)
