// Weights of particles, kept as logarithms, and resampling by weight.
#pragma once

#include "l63fast/elementary.hpp"
#include "l63fast/particle_arrays.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

L63FAST_INLINE double largest(Pack<double> values) {
  double top = values[0];
  for (int i = 1; i < width<double>; ++i) top = values[i] > top ? values[i] : top;
  return top + 0.0;  // never -0: which of two zeros comes first depends on the level
}

// Subtracts the largest log weight from all, and computes the weights: the largest is
// 1, so that no sum overflows or vanishes. Returns false where no particle has a finite
// log weight.
inline bool normalise(const ParticleArrays& particles, const double* from,
                      double* log_weights, double* weights) {
  constexpr double none = -__builtin_inf();
  Pack<double> tops = broadcast(none);
  for (std::int64_t i = 0; i < particles.padded; i += width<double>) {
    const Pack<double> value = load_pack(from + i);
    tops = select(less(tops, value), value, tops);
  }
  const double top = largest(tops);
  if (!(top - top == 0)) return false;
  for (std::int64_t i = 0; i < particles.padded; i += width<double>) {
    const Pack<double> value = load_pack(from + i) - broadcast(top);
    store_pack(log_weights + i, value);
    store_pack(weights + i, exponential(value));
  }
  return true;
}

// Sets particles that are not finite to the origin, with weight zero.
inline void discard_nonfinite(ParticleArrays& particles) {
  const Pack<double> none = broadcast(-__builtin_inf()), zero{};
  for (std::int64_t i = 0; i < particles.padded; i += width<double>) {
    const Pack<double> x = load_pack(particles.x + i), y = load_pack(particles.y + i),
                       z = load_pack(particles.z + i),
                       log_w = load_pack(particles.log_weight + i);
    const Mask<double> usable = finite<double>(x) & finite<double>(y) &
                                finite<double>(z) & finite<double>(log_w);
    store_pack(particles.x + i, select(usable, x, zero));
    store_pack(particles.y + i, select(usable, y, zero));
    store_pack(particles.z + i, select(usable, z, zero));
    store_pack(particles.log_weight + i, select(usable, log_w, none));
  }
}

// Systematic resampling (Kitagawa 1996) with the offset u, 0 < u < 1: particle i is
// copied as often as a number u + k, k = 0, 1, ..., lies in its interval of the
// cumulative weights, scaled to [0, n]. The n new particles have equal weights and keep
// the order of the old ones. Writes the old particle of each new one to `ancestors`,
// unless that is null.
inline void resample(ParticleArrays& particles, double u, std::int32_t* ancestors) {
  double total = 0;
  for (std::int64_t i = 0; i < particles.n; ++i) {
    total = total + particles.weight[i];
    particles.prior[i] =
        total;  // the cumulative weights; the prior is no longer needed
  }
  const double scale = static_cast<double>(particles.n) / total;
  std::int64_t drawn = 0, parent = 0;
  const auto draw_until = [&](std::int64_t end) {
    const double several = end - drawn > 1 ? 1.0 : 0.0;
    if (ancestors != nullptr) {
      for (std::int64_t i = drawn; i < end; ++i)
        ancestors[i] = static_cast<std::int32_t>(parent);
    }
    for (; drawn < end; ++drawn) {
      particles.next_x[drawn] = particles.x[parent];
      particles.next_y[drawn] = particles.y[parent];
      particles.next_z[drawn] = particles.z[parent];
      particles.is_copy[drawn] = several;
    }
  };
  for (std::int64_t i = 0; i < particles.n; ++i) {
    const double edge = particles.prior[i] * scale - u;
    std::int64_t end = static_cast<std::int64_t>(edge);
    end += edge > static_cast<double>(end);
    if (end <= drawn) continue;
    parent = i;
    draw_until(end < particles.n ? end : particles.n);
  }
  draw_until(particles.n);  // rounding may leave out the last one
  for (std::int64_t i = 0; i < particles.n; ++i) particles.log_weight[i] = 0.0;
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
