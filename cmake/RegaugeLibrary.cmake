# What another project gets: one static library out of all rooms, their headers, and a package that
# find_package(regauge) finds. tests/package builds a consumer of it.
include(CMakePackageConfigHelpers)

get_property(rooms GLOBAL PROPERTY REGAUGE_ROOMS)
get_property(third_parties GLOBAL PROPERTY REGAUGE_THIRD_PARTIES)
list(REMOVE_DUPLICATES third_parties)

add_library(regauge STATIC)
foreach(room IN LISTS rooms)
  target_sources(regauge PRIVATE $<TARGET_OBJECTS:${room}>)
endforeach()
set_target_properties(regauge PROPERTIES LINKER_LANGUAGE CXX)
target_compile_features(regauge PUBLIC cxx_std_20)
target_link_libraries(regauge PUBLIC ${third_parties})
# Our headers include each other from the root of the tree ("ir/tensor.h"), so their root is what a consumer sees.
target_include_directories(regauge PUBLIC
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/regauge>)
add_library(regauge::regauge ALIAS regauge)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/regauge)
install(TARGETS regauge EXPORT regauge-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT regauge-targets NAMESPACE regauge:: DESTINATION ${package_dir})
foreach(dir IN ITEMS base ir models formats convert inspect verify)
  install(DIRECTORY ${dir} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/regauge FILES_MATCHING PATTERN "*.h")
endforeach()
configure_package_config_file(cmake/regauge-config.cmake.in ${PROJECT_BINARY_DIR}/regauge-config.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/regauge-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/regauge-config.cmake ${PROJECT_BINARY_DIR}/regauge-config-version.cmake
  DESTINATION ${package_dir})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
