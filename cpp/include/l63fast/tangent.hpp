// The exact derivative of rk4_step and its transpose; this order is the specification.
//
// Both differentiate the discrete step, not the continuous equations, so that they are
// adjoint to each other, and tangent to rk4_step, to rounding.
#pragma once

#include "l63fast/lorenz63.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// The change of the tendency at s for a change d of s.
template <class T>
L63FAST_INLINE Tendency<T> tangent_tendency(Components<T> s, Components<T> d,
                                            Pack<T> rho, Pack<T> beta) {
  return {d.y - d.x, fma(d.x, rho - s.z, -fma(s.x, d.z, d.y)),
          fma(s.x, d.y, fma(s.y, d.x, -(beta * d.z)))};
}

// Its transpose: the gradient with respect to s, given that with respect to the
// tendency.
template <class T>
L63FAST_INLINE Components<T> adjoint_tendency(Components<T> s, const Tendency<T>& p,
                                              Pack<T> rho, Pack<T> beta) {
  return {fma(s.y, p.c, fma(rho - s.z, p.b, -p.a)), fma(s.x, p.c, p.a - p.b),
          fma(-s.x, p.b, -(beta * p.c))};
}

// Carries a perturbation over one step: 45 operations.
template <class T>
L63FAST_INLINE Components<T> tangent_step(const Stages<T>& stages, Components<T> d,
                                          const StepConstants<T>& k) {
  const Pack<T> rho = broadcast(k.rho), beta = broadcast(k.beta);
  const Pack<T> h = broadcast(k.h), sh = broadcast(k.sh);
  const Pack<T> sd = broadcast(k.sd), dt = broadcast(k.dt);
  const Components<T>* at = stages.at;
  const Tendency<T> k1 = tangent_tendency<T>(at[0], d, rho, beta);
  const Tendency<T> k2 = tangent_tendency<T>(at[1], moved<T>(d, sh, h, k1), rho, beta);
  const Tendency<T> k3 = tangent_tendency<T>(at[2], moved<T>(d, sh, h, k2), rho, beta);
  const Tendency<T> k4 = tangent_tendency<T>(at[3], moved<T>(d, sd, dt, k3), rho, beta);
  return combined(d, k1, k2, k3, k4, k);
}

// The gradient with respect to a tendency, given q, that with respect to the stage
// that the tendency moved, and what the sum of the step adds.
template <class T>
L63FAST_INLINE Tendency<T> pulled(const Tendency<T>& added, Pack<T> by_a, Pack<T> by,
                                  Components<T> q) {
  return {fma(by_a, q.x, added.a), fma(by, q.y, added.b), fma(by, q.z, added.c)};
}

// Carries the gradient g with respect to the state after one step back to the state
// before it: 51 operations.
template <class T>
L63FAST_INLINE Components<T> adjoint_step(const Stages<T>& stages, Components<T> g,
                                          const StepConstants<T>& k) {
  const Pack<T> rho = broadcast(k.rho), beta = broadcast(k.beta);
  const Pack<T> h = broadcast(k.h), sh = broadcast(k.sh);
  const Pack<T> sd = broadcast(k.sd), dt = broadcast(k.dt);
  const Pack<T> s6 = broadcast(k.s6), h6 = broadcast(k.h6);
  const Components<T>* at = stages.at;
  const Tendency<T> once = {s6 * g.x, h6 * g.y, h6 * g.z};
  const Tendency<T> twice = {once.a + once.a, once.b + once.b, once.c + once.c};
  const Components<T> q4 = adjoint_tendency<T>(at[3], once, rho, beta);
  const Components<T> q3 =
      adjoint_tendency<T>(at[2], pulled<T>(twice, sd, dt, q4), rho, beta);
  const Components<T> q2 =
      adjoint_tendency<T>(at[1], pulled<T>(twice, sh, h, q3), rho, beta);
  const Components<T> q1 =
      adjoint_tendency<T>(at[0], pulled<T>(once, sh, h, q2), rho, beta);
  return {g.x + ((q1.x + q2.x) + (q3.x + q4.x)), g.y + ((q1.y + q2.y) + (q3.y + q4.y)),
          g.z + ((q1.z + q2.z) + (q3.z + q4.z))};
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
