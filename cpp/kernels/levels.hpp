// The functions that every level defines, each level in its own namespace.
#pragma once

#include "l63fast/kernels.hpp"
#include "l63fast/pack.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

std::int64_t integrate_f64(const Integration<double>&, std::int64_t, std::int64_t,
                           const int*);
std::int64_t integrate_f32(const Integration<float>&, std::int64_t, std::int64_t,
                           const int*);
void analyse_f64(const Analysis<double>&, std::int64_t, std::int64_t, const int*);
void analyse_f32(const Analysis<float>&, std::int64_t, std::int64_t, const int*);
std::int64_t tangent_f64(const Linearised<double>&, std::int64_t, std::int64_t,
                         const int*);
std::int64_t tangent_f32(const Linearised<float>&, std::int64_t, std::int64_t,
                         const int*);
std::int64_t adjoint_f64(const Linearised<double>&, std::int64_t, std::int64_t, void*,
                         const int*);
std::int64_t adjoint_f32(const Linearised<float>&, std::int64_t, std::int64_t, void*,
                         const int*);
std::int64_t adjoint_scratch(std::int64_t n_steps);
std::int64_t instructions_f64(Instruction, std::int64_t);
std::int64_t instructions_f32(Instruction, std::int64_t);
void fill(double*, std::int64_t, bool);
void filter_particles(const ParticleFilter&, std::int64_t, std::int64_t, void*,
                      const int*);
std::int64_t particle_scratch(std::int64_t n_particles);
void network_pack(const Network&);
void network(const Network&);
void network_backward(const Network&);

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
