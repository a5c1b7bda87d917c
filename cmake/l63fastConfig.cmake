# What find_package(l63fast) reads: the target l63fast::core.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
include("${CMAKE_CURRENT_LIST_DIR}/l63fastTargets.cmake")
