// The particles of one trajectory, one array per component in scratch memory, and sums
// over them whose order is the same for every instruction set.
#pragma once

#include <cstdint>

#include "l63fast/interleave.hpp"
#include "l63fast/pack.hpp"
#include "l63fast/philox.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

constexpr std::int64_t lanes_per_sum = 8;  // the same at every level, whatever its
                                           // registers

// Arrays of `padded` values, a multiple of eight. Beyond the n particles the states are
// 0 (a fixed point of the model) and the log weights are -inf.
struct ParticleArrays {
  static constexpr int n_arrays = 11;

  std::int64_t n, padded;
  double *x, *y, *z;                 // states
  double *next_x, *next_y, *next_z;  // states of the resampled particles
  double *prior, *log_prior;         // weights before the observation
  double *weight, *log_weight;       // weights after it, not normalised: the largest is
                                     // 1
  double* is_copy;                   // 1 where several resampled particles are equal

  ParticleArrays(std::int64_t n_particles, double* scratch)
      : n(n_particles), padded(rows(n)) {
    double** arrays[n_arrays] = {&x,      &y,          &z,      &next_x,
                                 &next_y, &next_z,     &prior,  &log_prior,
                                 &weight, &log_weight, &is_copy};
    for (int i = 0; i < n_arrays; ++i) *arrays[i] = scratch + i * padded;
  }

  static constexpr std::int64_t rows(std::int64_t n) {
    return (n + lanes_per_sum - 1) / lanes_per_sum * lanes_per_sum;
  }

  // Makes the resampled particles the current ones.
  void take_drawn() {
    double* const old[3] = {x, y, z};
    x = next_x, y = next_y, z = next_z;
    next_x = old[0], next_y = old[1], next_z = old[2];
  }
};

// Computes total[k], the sum over particles of values[k]; terms(i, values) computes
// values for the particles of one register, from i on. Particle i is always added to
// lane i % 8, and the eight lanes are summed in a fixed order, so that the bits do not
// depend on the width of the registers.
template <int K, class Terms>
L63FAST_INLINE void sum_particles(std::int64_t padded, double (&total)[K],
                                  Terms terms) {
  constexpr int w = width<double>, packs = static_cast<int>(lanes_per_sum) / w;
  Pack<double> sums[K][packs] = {};
  for (std::int64_t i = 0; i < padded; i += lanes_per_sum) {
#pragma GCC unroll 4
    for (int p = 0; p < packs; ++p) {
      Pack<double> values[K];
      terms(i + p * w, values);
#pragma GCC unroll 16
      for (int k = 0; k < K; ++k) sums[k][p] = sums[k][p] + values[k];
    }
  }
  for (int k = 0; k < K; ++k) {
    double s[lanes_per_sum];
    for (int p = 0; p < packs; ++p) store_pack(s + p * w, sums[k][p]);
    total[k] = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
  }
}

// Reads the particles (n, 3) and their log weights (n).
inline void load_particles(ParticleArrays& particles, const double* states,
                           const double* log_weights) {
  constexpr std::int64_t w = width<double>;
  for (std::int64_t i = 0; i < particles.n; i += w) {
    const Components<double> s = load_states(states + 3 * i, 3, particles.n - i);
    store_pack(particles.x + i, s.x);
    store_pack(particles.y + i, s.y);
    store_pack(particles.z + i, s.z);
  }
  for (std::int64_t i = 0; i < particles.n; ++i)
    particles.log_weight[i] = log_weights[i];
  for (std::int64_t i = particles.n; i < particles.padded; ++i) {
    particles.x[i] = particles.y[i] = particles.z[i] = particles.next_x[i] =
        particles.next_y[i] = particles.next_z[i] = particles.is_copy[i] = 0.0;
    particles.log_weight[i] = -__builtin_inf();
  }
}

inline void store_particles(const ParticleArrays& particles, double* states,
                            double* log_weights) {
  constexpr std::int64_t w = width<double>;
  for (std::int64_t i = 0; i < particles.n; i += w) {
    const Components<double> s = {load_pack(particles.x + i),
                                  load_pack(particles.y + i),
                                  load_pack(particles.z + i)};
    store_states(states + 3 * i, 3, particles.n - i, s);
  }
  for (std::int64_t i = 0; i < particles.n; ++i)
    log_weights[i] = particles.log_weight[i];
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
