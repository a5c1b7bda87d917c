// The table of one level's kernels, compiled once per instruction set.
#include "table.hpp"

#include "levels.hpp"

#define L63FAST_JOIN_(a, b) a##b
#define L63FAST_JOIN(a, b) L63FAST_JOIN_(a, b)
#define L63FAST_TEXT_(a) #a
#define L63FAST_TEXT(a) L63FAST_TEXT_(a)

namespace l63fast {

const KernelTable L63FAST_JOIN(table_, L63FAST_LEVEL) = {
    Level::L63FAST_LEVEL,
    L63FAST_TEXT(L63FAST_LEVEL),
    L63FAST_LEVEL::integrate_f64,
    L63FAST_LEVEL::integrate_f32,
    L63FAST_LEVEL::analyse_f64,
    L63FAST_LEVEL::analyse_f32,
    L63FAST_LEVEL::tangent_f64,
    L63FAST_LEVEL::tangent_f32,
    L63FAST_LEVEL::adjoint_f64,
    L63FAST_LEVEL::adjoint_f32,
    L63FAST_LEVEL::adjoint_scratch,
    register_bytes,
    L63FAST_LEVEL::instructions_f64,
    L63FAST_LEVEL::instructions_f32,
    L63FAST_LEVEL::fill,
    L63FAST_LEVEL::filter_particles,
    L63FAST_LEVEL::particle_scratch,
    L63FAST_LEVEL::network_pack,
    L63FAST_LEVEL::network,
    L63FAST_LEVEL::network_backward,
};

}  // namespace l63fast
