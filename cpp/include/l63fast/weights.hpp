// Weights of particles, by their logarithms, and drawing particles by weight.
#pragma once

#include "l63fast/cloud.hpp"
#include "l63fast/elementary.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

L63FAST_INLINE double largest(Pack<double> values) {
  double top = values[0];
  for (int i = 1; i < width<double>; ++i) top = values[i] > top ? values[i] : top;
  return top + 0.0;  // never -0: which of two zeros is met first depends on the level
}

// The log weights less their largest, and the weights. Returns whether there are any.
inline bool normalise(const Cloud& cloud, const double* from, double* log_weights,
                      double* weights) {
  constexpr double none = -__builtin_inf();
  Pack<double> tops = broadcast(none);
  for (std::int64_t i = 0; i < cloud.padded; i += width<double>) {
    const Pack<double> value = load_pack(from + i);
    tops = select(less(tops, value), value, tops);
  }
  const double top = largest(tops);
  if (!(top - top == 0)) return false;
  for (std::int64_t i = 0; i < cloud.padded; i += width<double>) {
    const Pack<double> value = load_pack(from + i) - broadcast(top);
    store_pack(log_weights + i, value);
    store_pack(weights + i, exponential(value));
  }
  return true;
}

// Particles that are not finite stand at the origin from now on and have no weight.
inline void bury_the_dead(Cloud& cloud) {
  const Pack<double> none = broadcast(-__builtin_inf()), zero{};
  for (std::int64_t i = 0; i < cloud.padded; i += width<double>) {
    const Pack<double> x = load_pack(cloud.x + i), y = load_pack(cloud.y + i),
                       z = load_pack(cloud.z + i),
                       log_w = load_pack(cloud.log_weight + i);
    const Mask<double> alive = finite<double>(x) & finite<double>(y) &
                               finite<double>(z) & finite<double>(log_w);
    store_pack(cloud.x + i, select(alive, x, zero));
    store_pack(cloud.y + i, select(alive, y, zero));
    store_pack(cloud.z + i, select(alive, z, zero));
    store_pack(cloud.log_weight + i, select(alive, log_w, none));
  }
}

// Systematic resampling (Kitagawa 1996) with the offset u: equally weighted particles,
// in the order of those they are drawn from.
inline void resample(Cloud& cloud, double u) {
  double total = 0;
  for (std::int64_t i = 0; i < cloud.n; ++i) {
    total = total + cloud.weight[i];
    cloud.prior[i] = total;  // no longer needed: the prefix sums
  }
  const double scale = static_cast<double>(cloud.n) / total;
  std::int64_t drawn = 0, parent = 0;
  const auto draw_until = [&](std::int64_t end) {
    const double several = end - drawn > 1 ? 1.0 : 0.0;
    for (; drawn < end; ++drawn) {
      cloud.next_x[drawn] = cloud.x[parent];
      cloud.next_y[drawn] = cloud.y[parent];
      cloud.next_z[drawn] = cloud.z[parent];
      cloud.is_copy[drawn] = several;
    }
  };
  for (std::int64_t i = 0; i < cloud.n; ++i) {
    const double edge = cloud.prior[i] * scale - u;
    std::int64_t end = static_cast<std::int64_t>(edge);
    end += edge > static_cast<double>(end);
    if (end <= drawn) continue;
    parent = i;
    draw_until(end < cloud.n ? end : cloud.n);
  }
  draw_until(cloud.n);  // rounding may leave the last one out
  for (std::int64_t i = 0; i < cloud.n; ++i) cloud.log_weight[i] = 0.0;
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
