// The exact derivative of rk4_step and its transpose; this order of operations is the
// specification.
//
// Both differentiate the discrete step, not the continuous equations. So the
// tangent-linear step is the derivative of rk4_step, and the adjoint step is its
// transpose, up to rounding errors. The tangent-linear step follows the four stages
// with
//   df = [[-sigma, sigma, 0], [rho - z, -1, -x], [y, x, -beta]] ds
// (without sigma, which the step constants hold); the adjoint step goes through the
// stages from the last to the first with the transposed matrix.
#pragma once

#include "l63fast/lorenz63.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// Returns the change of the tendency at s for a change d of s.
template <class T>
L63FAST_INLINE Tendency<T> tangent_tendency(Components<T> s, Components<T> d,
                                            Pack<T> rho, Pack<T> beta) {
  return {d.y - d.x, fma(d.x, rho - s.z, -fma(s.x, d.z, d.y)),
          fma(s.x, d.y, fma(s.y, d.x, -(beta * d.z)))};
}

// Returns the transpose times p: the gradient with respect to s, given the gradient p
// with respect to the tendency.
template <class T>
L63FAST_INLINE Components<T> adjoint_tendency(Components<T> s, const Tendency<T>& p,
                                              Pack<T> rho, Pack<T> beta) {
  return {fma(s.y, p.c, fma(rho - s.z, p.b, -p.a)), fma(s.x, p.c, p.a - p.b),
          fma(-s.x, p.b, -(beta * p.c))};
}

// Returns a perturbation d after one step: 45 operations.
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

// Returns the gradient with respect to a tendency: the part `added` from the final sum
// of the step, and q, the gradient with respect to the stage that this tendency leads
// to.
template <class T>
L63FAST_INLINE Tendency<T> gradient_of_tendency(const Tendency<T>& added, Pack<T> by_a,
                                                Pack<T> by, Components<T> q) {
  return {fma(by_a, q.x, added.a), fma(by, q.y, added.b), fma(by, q.z, added.c)};
}

// Returns the gradient with respect to the state before one step, given the gradient g
// with respect to the state after it: 51 operations.
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
      adjoint_tendency<T>(at[2], gradient_of_tendency<T>(twice, sd, dt, q4), rho, beta);
  const Components<T> q2 =
      adjoint_tendency<T>(at[1], gradient_of_tendency<T>(twice, sh, h, q3), rho, beta);
  const Components<T> q1 =
      adjoint_tendency<T>(at[0], gradient_of_tendency<T>(once, sh, h, q2), rho, beta);
  return {g.x + ((q1.x + q2.x) + (q3.x + q4.x)), g.y + ((q1.y + q2.y) + (q3.y + q4.y)),
          g.z + ((q1.z + q2.z) + (q3.z + q4.z))};
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
