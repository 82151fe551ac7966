# What is installed: the program, its helper, the library with its header and pkg-config file.
# It is made of whole layers and has no source of its own.
file(WRITE ${CMAKE_BINARY_DIR}/libzpipe.c "\n")
add_library(libzpipe SHARED ${CMAKE_BINARY_DIR}/libzpipe.c)
set_target_properties(libzpipe PROPERTIES OUTPUT_NAME zpipe LINKER_LANGUAGE C VERSION ${PROJECT_VERSION}
                                          SOVERSION ${PROJECT_VERSION_MAJOR})
target_link_libraries(libzpipe PRIVATE $<LINK_LIBRARY:WHOLE_ARCHIVE,client> $<LINK_LIBRARY:WHOLE_ARCHIVE,embed>)
file(RELATIVE_PATH pc_prefix ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX}/.) # an installed tree may be moved as a whole
configure_file(${CMAKE_SOURCE_DIR}/cmake/zpipe.pc.in ${CMAKE_BINARY_DIR}/zpipe.pc @ONLY)
install(TARGETS zpipe RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS libzpipe LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${CMAKE_SOURCE_DIR}/include/zpipe.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${CMAKE_BINARY_DIR}/zpipe.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${CMAKE_SOURCE_DIR}/share/zpipe/commands.conf DESTINATION ${CMAKE_INSTALL_DATADIR}/zpipe)
foreach(unit scheduler worker keeper)
    configure_file(${CMAKE_SOURCE_DIR}/share/systemd/zpipe-${unit}.service.in ${CMAKE_BINARY_DIR}/zpipe-${unit}.service @ONLY)
    install(FILES ${CMAKE_BINARY_DIR}/zpipe-${unit}.service DESTINATION lib/systemd/system)
endforeach()
