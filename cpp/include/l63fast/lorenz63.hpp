// The Lorenz-63 tendency and one RK4 step, for packs; this order is the specification.
#pragma once

#include "l63fast/kernels.hpp"
#include "l63fast/pack.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// Constants of one step: computed in double, left to right, then rounded once to T.
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

// a is the tendency of x without its factor sigma, which the step constants carry.
template <class T>
struct Tendency {
  Pack<T> a, b, c;
};

template <class T>
L63FAST_INLINE Tendency<T> tendency(Pack<T> x, Pack<T> y, Pack<T> z, Pack<T> rho,
                                    Pack<T> beta) {
  return {y - x, fma(x, rho - z, -y), fma(x, y, -(beta * z))};
}

// One step of classical RK4: 41 operations on packs.
template <class T>
L63FAST_INLINE void rk4_step(Pack<T>& x, Pack<T>& y, Pack<T>& z,
                             const StepConstants<T>& k) {
  const Pack<T> rho = broadcast(k.rho), beta = broadcast(k.beta);
  const Pack<T> h = broadcast(k.h), sh = broadcast(k.sh);
  const Pack<T> two = broadcast(T(2)), s6 = broadcast(k.s6), h6 = broadcast(k.h6);
  const Tendency<T> k1 = tendency<T>(x, y, z, rho, beta);
  const Tendency<T> k2 =
      tendency<T>(fma(sh, k1.a, x), fma(h, k1.b, y), fma(h, k1.c, z), rho, beta);
  const Tendency<T> k3 =
      tendency<T>(fma(sh, k2.a, x), fma(h, k2.b, y), fma(h, k2.c, z), rho, beta);
  const Pack<T> sd = broadcast(k.sd), dt = broadcast(k.dt);
  const Tendency<T> k4 =
      tendency<T>(fma(sd, k3.a, x), fma(dt, k3.b, y), fma(dt, k3.c, z), rho, beta);
  x = fma(s6, fma(two, k2.a + k3.a, k1.a + k4.a), x);
  y = fma(h6, fma(two, k2.b + k3.b, k1.b + k4.b), y);
  z = fma(h6, fma(two, k2.c + k3.c, k1.c + k4.c), z);
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
