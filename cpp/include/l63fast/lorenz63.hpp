// The Lorenz-63 tendency and one RK4 step, for packs.
//
// This order of operations is the specification: every instruction set and the Numba
// kernels repeat it, and so give the same bits. For a tendency f the step is
//   k1 = f(s), k2 = f(s + dt/2 k1), k3 = f(s + dt/2 k2), k4 = f(s + dt k3),
//   s_new = s + dt/6 ((k1 + k4) + 2 (k2 + k3)).
// The factor sigma of dx/dt is moved into the constants of the step, which saves one
// multiplication per stage. All the rest is written as fma where a product is added to
// something.
#pragma once

#include "l63fast/interleave.hpp"
#include "l63fast/kernels.hpp"
#include "l63fast/pack.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// Constants of one step: computed in double, from left to right, then rounded once to
// T.
template <class T>
struct StepConstants {
  T h, dt, sh, sd, s6, h6, rho, beta;

  L63FAST_INLINE StepConstants(double step, const Parameters& p)
      : h(static_cast<T>(0.5 * step)),
        dt(static_cast<T>(step)),
        sh(static_cast<T>(p.sigma * (0.5 * step))),
        sd(static_cast<T>(p.sigma * step)),
        s6(static_cast<T>(p.sigma * step / 6)),
        h6(static_cast<T>(step / 6)),
        rho(static_cast<T>(p.rho)),
        beta(static_cast<T>(p.beta)) {}
};

// The same where every lane has its own parameters.
template <class T>
struct LaneConstants {
  T h, dt, h6;
  Pack<T> sh, sd, s6, rho, beta;
};

// Constants of W members; lanes from `count` on repeat the last one. The parameters are
// those of the first member, `stride` members apart.
template <class T>
L63FAST_INLINE LaneConstants<T> lane_constants(double step, const double* parameters,
                                               std::int64_t stride, int count) {
  LaneConstants<T> k{};
  for (int lane = 0; lane < width<T>; ++lane) {
    const double* p = parameters + 3 * stride * (lane < count ? lane : count - 1);
    const StepConstants<T> own(step, {p[0], p[1], p[2]});
    k.h = own.h, k.dt = own.dt, k.h6 = own.h6;
    k.sh[lane] = own.sh, k.sd[lane] = own.sd, k.s6[lane] = own.s6;
    k.rho[lane] = own.rho, k.beta[lane] = own.beta;
  }
  return k;
}

// A constant as a pack, whether it is one value or has one in each lane.
template <class T>
L63FAST_INLINE Pack<T> in_lanes(T value) {
  return broadcast(value);
}
template <class T>
L63FAST_INLINE Pack<T> in_lanes(Pack<T> values) {
  return values;
}

// dx/dt without its factor sigma, dy/dt and dz/dt. The step constants carry sigma.
template <class T>
struct Tendency {
  Pack<T> a, b, c;
};

template <class T>
L63FAST_INLINE Tendency<T> tendency(Components<T> s, Pack<T> rho, Pack<T> beta) {
  return {s.y - s.x, fma(s.x, rho - s.z, -s.y), fma(s.x, s.y, -(beta * s.z))};
}

// States are passed by value: through a reference GCC would keep the states of a group
// in memory instead of in registers.

// The four states at which one RK4 step takes the tendency, and these tendencies.
template <class T>
struct Stages {
  Components<T> at[4];
  Tendency<T> k1, k2, k3, k4;
};

template <class T>
L63FAST_INLINE Components<T> moved(Components<T> s, Pack<T> by_a, Pack<T> by,
                                   const Tendency<T>& k) {
  return {fma(by_a, k.a, s.x), fma(by, k.b, s.y), fma(by, k.c, s.z)};
}

// `Constants` are StepConstants or LaneConstants.
template <class T, class Constants>
L63FAST_INLINE Stages<T> stages_of(Components<T> s, const Constants& k) {
  const Pack<T> rho = in_lanes<T>(k.rho), beta = in_lanes<T>(k.beta);
  const Pack<T> h = broadcast(k.h), sh = in_lanes<T>(k.sh);
  const Pack<T> sd = in_lanes<T>(k.sd), dt = broadcast(k.dt);
  Stages<T> stages;
  stages.at[0] = s;
  stages.k1 = tendency<T>(stages.at[0], rho, beta);
  stages.at[1] = moved<T>(s, sh, h, stages.k1);
  stages.k2 = tendency<T>(stages.at[1], rho, beta);
  stages.at[2] = moved<T>(s, sh, h, stages.k2);
  stages.k3 = tendency<T>(stages.at[2], rho, beta);
  stages.at[3] = moved<T>(s, sd, dt, stages.k3);
  stages.k4 = tendency<T>(stages.at[3], rho, beta);
  return stages;
}

// Returns s + dt/6 ((k1 + k4) + 2 (k2 + k3)); the constant s6 holds sigma dt/6 for x.
template <class T, class Constants>
L63FAST_INLINE Components<T> combined(Components<T> s, const Tendency<T>& k1,
                                      const Tendency<T>& k2, const Tendency<T>& k3,
                                      const Tendency<T>& k4, const Constants& k) {
  const Pack<T> two = broadcast(T(2)), s6 = in_lanes<T>(k.s6), h6 = broadcast(k.h6);
  return {fma(s6, fma(two, k2.a + k3.a, k1.a + k4.a), s.x),
          fma(h6, fma(two, k2.b + k3.b, k1.b + k4.b), s.y),
          fma(h6, fma(two, k2.c + k3.c, k1.c + k4.c), s.z)};
}

// Packs of members that are stepped together: enough to hide the latency of fma, and
// few enough that the states stay in registers (32 with AVX-512, 16 otherwise).
constexpr int step_packs = register_bytes == 64 ? 5 : 4;

// Returns the state after one step of classical RK4: 41 operations on packs.
template <class T, class Constants>
L63FAST_INLINE Components<T> rk4_step(Components<T> s, const Constants& k) {
  const Stages<T> at = stages_of(s, k);
  return combined(s, at.k1, at.k2, at.k3, at.k4, k);
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
