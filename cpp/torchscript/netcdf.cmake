# The netCDF C library as target `netcdf`: NETCDF_LIBRARY, the system's, or the one in
# the netCDF4 wheel of the python3 that is found (such as that of a virtual environment).
find_library(NETCDF_LIBRARY netcdf)
if(NOT NETCDF_LIBRARY)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  execute_process(
    COMMAND ${Python3_EXECUTABLE} -c
      "import netCDF4, pathlib as p; \
print(next(p.Path(netCDF4.__file__).parent.parent.glob('netcdf4.libs/libnetcdf[-.]*')))"
    OUTPUT_VARIABLE wheel_library OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(NOT wheel_library)
    message(FATAL_ERROR "no libnetcdf: install libnetcdf-dev or the netCDF4 wheel, or "
      "set NETCDF_LIBRARY; L63FAST_PROGRAMS=OFF builds the library alone")
  endif()
  set(NETCDF_LIBRARY ${wheel_library} CACHE FILEPATH "The netCDF C library" FORCE)
endif()
message(STATUS "netCDF: ${NETCDF_LIBRARY}")

add_library(netcdf SHARED IMPORTED)
set_target_properties(netcdf PROPERTIES IMPORTED_LOCATION ${NETCDF_LIBRARY})
get_filename_component(netcdf_directory ${NETCDF_LIBRARY} DIRECTORY)
# A wheel keeps the libraries that this one needs beside it.
target_link_options(netcdf INTERFACE -Wl,-rpath-link,${netcdf_directory})
