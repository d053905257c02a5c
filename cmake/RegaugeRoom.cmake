# Settings that every target of ours shares. Values must not depend on the compiler or the CPU: no contraction of a*b+c
# into a fused multiply-add, and never -ffast-math.
function(regauge_settings target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
  target_compile_options(${target} PRIVATE -ffp-contract=off -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor
    -Woverloaded-virtual $<$<BOOL:${REGAUGE_WERROR}>:-Werror>)
  if(REGAUGE_TIDY)
    find_program(REGAUGE_CLANG_TIDY clang-tidy REQUIRED)
    set_target_properties(${target} PROPERTIES CXX_CLANG_TIDY "${REGAUGE_CLANG_TIDY};--quiet")
  endif()
endfunction()

# regauge_room(NAME [DIR folder] LINKS target...): every .cpp below the folder becomes the static library regauge_NAME.
# The room `formats` leaves out formats/layouts, which is a room of its own with fewer rights.
function(regauge_room name)
  cmake_parse_arguments(ROOM "" "DIR" "LINKS" ${ARGN})
  if(NOT ROOM_DIR)
    set(ROOM_DIR ${name})
  endif()
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${ROOM_DIR}/*.cpp)
  if(name STREQUAL "formats")
    list(FILTER sources EXCLUDE REGEX "/formats/layouts/")
  endif()
  add_library(regauge_${name} STATIC ${sources})
  target_link_libraries(regauge_${name} PUBLIC ${ROOM_LINKS})
  regauge_settings(regauge_${name})
  set_target_properties(regauge_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  set_property(GLOBAL APPEND PROPERTY REGAUGE_ROOMS regauge_${name})
  list(FILTER ROOM_LINKS EXCLUDE REGEX "^regauge_")
  set_property(GLOBAL APPEND PROPERTY REGAUGE_THIRD_PARTIES ${ROOM_LINKS})
endfunction()
