// The particles of one trajectory, component by component in scratch memory, and sums
// over them whose order is the same at every instruction set.
#pragma once

#include <cstdint>

#include "l63fast/interleave.hpp"
#include "l63fast/pack.hpp"
#include "l63fast/philox.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

constexpr std::int64_t lanes_per_sum = 8;  // of every level, whatever its registers

// Arrays of `padded` values, whole rows of eight. Beyond the n particles the states are
// 0 (a fixed point) and the log weights -inf.
struct Cloud {
  static constexpr int n_arrays = 11;

  std::int64_t n, padded;
  double *x, *y, *z;                 // states
  double *next_x, *next_y, *next_z;  // and those being drawn from them
  double *prior, *log_prior;         // weights before the observation
  double *weight, *log_weight;       // and after it, not normalised: the largest is 1
  double* is_copy;                   // 1 where a drawn particle is one of several equal

  Cloud(std::int64_t n_particles, double* scratch) : n(n_particles), padded(rows(n)) {
    double** arrays[n_arrays] = {&x,      &y,          &z,      &next_x,
                                 &next_y, &next_z,     &prior,  &log_prior,
                                 &weight, &log_weight, &is_copy};
    for (int i = 0; i < n_arrays; ++i) *arrays[i] = scratch + i * padded;
  }

  static constexpr std::int64_t rows(std::int64_t n) {
    return (n + lanes_per_sum - 1) / lanes_per_sum * lanes_per_sum;
  }

  // What is in the states now is what has been drawn.
  void take_drawn() {
    double* const old[3] = {x, y, z};
    x = next_x, y = next_y, z = next_z;
    next_x = old[0], next_y = old[1], next_z = old[2];
  }
};

// total[k] = the sum over particles of what terms(i, values) puts into values[k] for
// the particles of one register, from i on. Particle i is added to lane i % 8.
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
inline void load_cloud(Cloud& cloud, const double* states, const double* log_weights) {
  constexpr std::int64_t w = width<double>;
  for (std::int64_t i = 0; i < cloud.n; i += w) {
    const Components<double> s = load_states(states + 3 * i, 3, cloud.n - i);
    store_pack(cloud.x + i, s.x);
    store_pack(cloud.y + i, s.y);
    store_pack(cloud.z + i, s.z);
  }
  for (std::int64_t i = 0; i < cloud.n; ++i) cloud.log_weight[i] = log_weights[i];
  for (std::int64_t i = cloud.n; i < cloud.padded; ++i) {
    cloud.x[i] = cloud.y[i] = cloud.z[i] = cloud.next_x[i] = cloud.next_y[i] =
        cloud.next_z[i] = cloud.is_copy[i] = 0.0;
    cloud.log_weight[i] = -__builtin_inf();
  }
}

inline void store_cloud(const Cloud& cloud, double* states, double* log_weights) {
  constexpr std::int64_t w = width<double>;
  for (std::int64_t i = 0; i < cloud.n; i += w) {
    const Components<double> s = {load_pack(cloud.x + i), load_pack(cloud.y + i),
                                  load_pack(cloud.z + i)};
    store_states(states + 3 * i, 3, cloud.n - i, s);
  }
  for (std::int64_t i = 0; i < cloud.n; ++i) log_weights[i] = cloud.log_weight[i];
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
