// Mean and covariance of weighted particles, and the noise that separates copies.
#pragma once

#include "l63fast/draws.hpp"
#include "l63fast/particle_arrays.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// A direction in the (x, y) plane. A particle (x, y, z) on its negative side is
// replaced by its mirror image (-x, -y, z) before moments are taken; the direction (0,
// 0) replaces none. Lorenz-63 is symmetric under this reflection.
struct Axis {
  double x, y;

  // Returns 1 on the positive side, -1 on the negative side.
  L63FAST_INLINE Pack<double> side(Pack<double> px, Pack<double> py) const {
    const Pack<double> along = fma(broadcast(x), px, broadcast(y) * py);
    return select(less(along, Pack<double>{}), broadcast(-1.0), broadcast(1.0));
  }
};

// Returns the principal axis of the particles' (x, y), pointing towards their mean: the
// eigenvector of the larger eigenvalue of [[xx, xy], [xy, yy]]. The arguments are
// weighted sums.
inline Axis principal_axis(double x, double y, double xx, double xy, double yy) {
  const double difference = xx - yy, twice = 2 * xy;
  const double root = __builtin_sqrt(difference * difference + twice * twice);
  Axis axis =
      difference >= 0 ? Axis{difference + root, twice} : Axis{twice, root - difference};
  if (axis.x * x + axis.y * y < 0) axis = {-axis.x, -axis.y};
  return axis;
}

struct Moments {
  double mean[3];
  double covariance[6];   // xx, xy, xz, yy, yz, zz
  double effective_size;  // (sum w)^2 / sum w^2
  Axis axis;
};

// Returns the moments of the particles with these weights. With `folded` each particle
// is first replaced by that one of itself and its mirror image on the positive side of
// the principal axis. So where the sign of (x, y) is unknown, as with h = x^2, the two
// mirrored modes do not cancel in the mean.
inline Moments weighted_moments(const ParticleArrays& particles, const double* weights,
                                bool folded) {
  double sums[8];
  sum_particles(particles.padded, sums, [&](std::int64_t i, Pack<double>(&v)[8]) {
    const Pack<double> w = load_pack(weights + i), x = load_pack(particles.x + i),
                       y = load_pack(particles.y + i), wx = w * x, wy = w * y;
    v[0] = w, v[1] = w * w, v[2] = wx, v[3] = wy, v[4] = w * load_pack(particles.z + i);
    v[5] = wx * x, v[6] = wx * y, v[7] = wy * y;
  });
  const double total = sums[0];
  Moments m{{sums[2] / total, sums[3] / total, sums[4] / total},
            {},
            total * total / sums[1],
            {0, 0}};
  if (folded) {
    m.axis = principal_axis(sums[2], sums[3], sums[5], sums[6], sums[7]);
    double folds[2];
    sum_particles(particles.padded, folds, [&](std::int64_t i, Pack<double>(&v)[2]) {
      const Pack<double> x = load_pack(particles.x + i), y = load_pack(particles.y + i),
                         w = load_pack(weights + i) * m.axis.side(x, y);
      v[0] = w * x, v[1] = w * y;
    });
    m.mean[0] = folds[0] / total, m.mean[1] = folds[1] / total;
  }
  sum_particles(
      particles.padded, m.covariance, [&](std::int64_t i, Pack<double>(&v)[6]) {
        const Pack<double> x = load_pack(particles.x + i),
                           y = load_pack(particles.y + i), w = load_pack(weights + i),
                           side = m.axis.side(x, y),
                           dx = fma(side, x, broadcast(-m.mean[0])),
                           dy = fma(side, y, broadcast(-m.mean[1])),
                           dz = load_pack(particles.z + i) - broadcast(m.mean[2]),
                           wx = w * dx, wy = w * dy;
        v[0] = wx * dx, v[1] = wx * dy, v[2] = wx * dz;
        v[3] = wy * dy, v[4] = wy * dz, v[5] = w * dz * dz;
      });
  for (double& entry : m.covariance) entry = entry / total;
  return m;
}

// A lower triangular root of a covariance (Cholesky). Directions without variance get a
// row of zeros.
struct Root {
  double xx, yx, yy, zx, zy, zz;

  Root scaled(double by) const {
    return {xx * by, yx * by, yy * by, zx * by, zy * by, zz * by};
  }
};

inline Root lower_root(const double (&c)[6], double factor) {
  const auto pivot = [](double value) {
    return value > 0 ? __builtin_sqrt(value) : 0.0;
  };
  const auto ratio = [](double value, double by) { return by > 0 ? value / by : 0.0; };
  Root root{};
  root.xx = pivot(c[0]);
  root.yx = ratio(c[1], root.xx);
  root.zx = ratio(c[2], root.xx);
  root.yy = pivot(c[3] - root.yx * root.yx);
  root.zy = ratio(c[4] - root.yx * root.zx, root.yy);
  root.zz = pivot(c[5] - root.zx * root.zx - root.zy * root.zy);
  return root.scaled(factor);
}

// Adds root * N(0, I) to the resampled particles that are copies; the noise is mirrored
// for particles that are replaced by their mirror images in the moments.
inline void jitter_copies(ParticleArrays& particles, const Draws& draws,
                          const Root& root, const Axis& axis) {
  for (std::int64_t i = 0; i < particles.padded; i += width<double>) {
    Pack<double> n[3];
    draws.normals_of(i, Use::jitter, n);
    const Pack<double> x = load_pack(particles.next_x + i),
                       y = load_pack(particles.next_y + i),
                       z = load_pack(particles.next_z + i),
                       moves = load_pack(particles.is_copy + i),
                       moves_xy = moves * axis.side(x, y);
    const Pack<double> dx = broadcast(root.xx) * n[0],
                       dy = fma(broadcast(root.yx), n[0], broadcast(root.yy) * n[1]),
                       dz = fma(
                           broadcast(root.zx), n[0],
                           fma(broadcast(root.zy), n[1], broadcast(root.zz) * n[2]));
    store_pack(particles.next_x + i, fma(moves_xy, dx, x));
    store_pack(particles.next_y + i, fma(moves_xy, dy, y));
    store_pack(particles.next_z + i, fma(moves, dz, z));
  }
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
