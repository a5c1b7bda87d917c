// 3D-Var for h = x^2 with independent observation errors, in the fast form: Newton's
// method in the observed components. The order of operations is the specification.
//
// Let u be the observed part of x, P = G^-1 and k_i = 2 / R_ii. The gradient of J is
//   P (u - u_b) - k u (y - u^2),   the second term component by component,
// and the Hessian is P + diag(3 k u^2 - k y); only its diagonal changes. One Newton
// step is
//   (P + diag(3 k u^2 - k y)) u_new = 2 k u^3 + P u_b.
// For one component this solves the cubic 2 u^3 / R + u (1/b - 2 y / R) - u_b / b = 0.
//
// The iteration computes no J, which makes it fast, so its result is certified
// afterwards. `certify` makes the last step in w (as in three_d_var.hpp), which does
// not need G^-1, and returns the lanes whose result is certified: the Hessian was
// positive at every point, the last step is smaller than the tolerance, and J is not
// above J(x_b). All other lanes are analysed again by the safeguarded iteration of
// three_d_var.hpp.
#pragma once

#include "l63fast/quotient.hpp"
#include "l63fast/three_d_var.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// Constants that depend on B, R and the tolerance only.
template <class T, int M>
struct SquareConstants {
  Matrix<T, M> g, p;          // B of the observed components, and its inverse
  Vector<T, M> q, k, k2, k3;  // 1 / R_ii, and 2, 4 and 6 times it
  Vector<T, M> spread;        // see smaller_spread
  Vector<T, M> bound;         // 1 / (2 G_ii)
  Vector<T, M> p_square;      // P_jk^2, where j and k are the two others than i; P_01^2
                              // if M is 2
  Vector<T, M> p_product;     // P_ij P_ik, if M is 3
  Pack<T> tol;
};

template <class T, int M>
L63FAST_INLINE SquareConstants<T, M> square_constants(const Matrix<T, M>& g,
                                                      const Vector<T, M>& r, T tol) {
  const Pack<T> one = broadcast(T(1)), half = broadcast(T(0.5));
  SquareConstants<T, M> s;
  s.g = g;
  s.p = inverse(g);
  s.tol = broadcast(tol);
  for (int i = 0; i < M; ++i) {
    s.q.at[i] = one / r.at[i];
    s.k.at[i] = s.q.at[i] + s.q.at[i];
    s.k2.at[i] = s.k.at[i] + s.k.at[i];
    s.k3.at[i] = s.k2.at[i] + s.k.at[i];
    s.spread.at[i] = smaller_spread<T>(g.at[i][i], r.at[i], 2);
    s.bound.at[i] = half / g.at[i][i];
  }
  if constexpr (M == 2) s.p_square.at[0] = s.p.at[0][1] * s.p.at[0][1];
  if constexpr (M == 3) {
    for (int i = 0; i < M; ++i) {
      const int j = (i + 1) % 3, k = (i + 2) % 3;
      s.p_square.at[i] = s.p.at[j][k] * s.p.at[j][k];
      s.p_product.at[i] = s.p.at[i][j] * s.p.at[i][k];
    }
  }
  return s;
}

// The fast Newton iteration of one sample per lane.
template <class T, int M>
struct FastNewton {
  Vector<T, M> u_background, y;
  Vector<T, M> alpha, c;  // P_ii - k y, and P u_b
  Vector<T, M> u;
  Vector<T, M> scale, slack;  // a step is small relative to |u| + scale; slack is tol
                              // times scale
  Pack<T> n_steps;            // steps made
  Mask<T> active;             // whether the iteration has not ended
  Mask<T> unsound;            // whether the Hessian was not positive at some point
};

template <class T, int M>
L63FAST_INLINE void start_newton(const SquareConstants<T, M>& s,
                                 FastNewton<T, M>& newton) {
  newton.c = times(s.p, newton.u_background);
  for (int i = 0; i < M; ++i) {
    const Pack<T> y = newton.y.at[i];
    newton.alpha.at[i] = fma(-s.k.at[i], y, s.p.at[i][i]);
    newton.u.at[i] = start<T>(newton.u_background.at[i], y, 2, false);
    newton.scale.at[i] = magnitude(newton.u_background.at[i]) + s.spread.at[i];
    newton.slack.at[i] = s.tol * newton.scale.at[i];
  }
  newton.n_steps = broadcast(T(1));
  newton.active = Mask<T>::all();
  newton.unsound = ~Mask<T>::all();
}

// Solves (P + diag(h - P_ii)) next = right. Returns the active lanes where the matrix
// is not positive definite, because a leading principal minor is not positive.
template <class T, int M>
L63FAST_INLINE Mask<T> solve_step(const SquareConstants<T, M>& s, const Vector<T, M>& h,
                                  const Vector<T, M>& right, Mask<T> active,
                                  Vector<T, M>& next) {
  const Pack<T> zero{}, one = broadcast(T(1));
  const auto& r = right.at;
  const Mask<T> first = not_less(active, zero, h.at[0]);
  if constexpr (M == 1) {
    next.at[0] = r[0] / h.at[0];
    return first;
  } else if constexpr (M == 2) {
    const Pack<T> p01 = s.p.at[0][1];
    const Pack<T> det = fma(h.at[0], h.at[1], -s.p_square.at[0]);
    const Pack<T> inv = one / det;
    next.at[0] = fma(h.at[1], r[0], -(p01 * r[1])) * inv;
    next.at[1] = fma(h.at[0], r[1], -(p01 * r[0])) * inv;
    return first | not_less(active, zero, det);
  } else {
    const Pack<T> p01 = s.p.at[0][1], p02 = s.p.at[0][2], p12 = s.p.at[1][2];
    const Pack<T> m00 = fma(h.at[1], h.at[2], -s.p_square.at[0]);
    const Pack<T> m11 = fma(h.at[0], h.at[2], -s.p_square.at[1]);
    const Pack<T> m22 = fma(h.at[0], h.at[1], -s.p_square.at[2]);
    const Pack<T> m12 = fma(-p12, h.at[0], s.p_product.at[0]);
    const Pack<T> m02 = fma(-p02, h.at[1], s.p_product.at[1]);
    const Pack<T> m01 = fma(-p01, h.at[2], s.p_product.at[2]);
    const Pack<T> det = fma(p02, m02, fma(p01, m01, h.at[0] * m00));
    const Pack<T> inv = one / det;
    next.at[0] = fma(m02, r[2], fma(m01, r[1], m00 * r[0])) * inv;
    next.at[1] = fma(m12, r[2], fma(m11, r[1], m01 * r[0])) * inv;
    next.at[2] = fma(m22, r[2], fma(m12, r[1], m02 * r[0])) * inv;
    return first | not_less(active, zero, m22) | not_less(active, zero, det);
  }
}

// Computes h, the diagonal of P + diag(3 k u^2 - k y), and 2 k u^3 + P u_b.
template <class T, int M>
L63FAST_INLINE void linearise(const SquareConstants<T, M>& s,
                              const FastNewton<T, M>& newton, Vector<T, M>& h,
                              Vector<T, M>& right) {
  for (int i = 0; i < M; ++i) {
    const Pack<T> u = newton.u.at[i], square = u * u;
    h.at[i] = fma(s.k3.at[i], square, newton.alpha.at[i]);
    right.at[i] = fma(s.k2.at[i] * square, u, newton.c.at[i]);
  }
}

// Moves the active lanes to `next`; those that moved by little end there.
template <class T, int M>
L63FAST_INLINE void take_step(const SquareConstants<T, M>& s, const Vector<T, M>& next,
                              FastNewton<T, M>& newton) {
  Mask<T> large = ~Mask<T>::all();
  for (int i = 0; i < M; ++i) {
    const Pack<T> limit = fma(s.tol, magnitude(next.at[i]), newton.slack.at[i]);
    large =
        large | not_less(newton.active, magnitude(next.at[i] - newton.u.at[i]), limit);
    newton.u.at[i] = select(newton.active, next.at[i], newton.u.at[i]);
  }
  newton.active = large;
  newton.n_steps = select(large, newton.n_steps + broadcast(T(1)), newton.n_steps);
}

// Makes one Newton step of the lanes that are still active.
template <class T, int M>
L63FAST_INLINE void newton_step(const SquareConstants<T, M>& s,
                                FastNewton<T, M>& newton) {
  Vector<T, M> h, right, next;
  linearise(s, newton, h, right);
  newton.unsound = newton.unsound | solve_step(s, h, right, newton.active, next);
  take_step(s, next, newton);
}

// Makes the same step for one square, without the divider if `spared`; `least` becomes
// the smallest h so far. It does not look for unsound lanes: h tells them too.
template <bool spared, class T>
L63FAST_INLINE void quick_step(const SquareConstants<T, 1>& s, FastNewton<T, 1>& newton,
                               Pack<T>& least) {
  Vector<T, 1> h, right, next;
  linearise(s, newton, h, right);
  least = smaller(least, h.at[0]);
  next.at[0] = spared ? quotient(right.at[0], h.at[0]) : Pack<T>(right.at[0] / h.at[0]);
  take_step(s, next, newton);
}

template <class T>
L63FAST_INLINE Mask<T> between(Pack<T> a, T low, T high) {
  return at_most(broadcast(low), a) & at_most(a, broadcast(high));
}

// Returns the lanes whose quotients are all in the range of `quotient`, as long as no h
// is below `least_pivot`. From |u| > 2^50 a step leads towards zero, because h is then
// 3 k u^2 to 2^-20 of it; from elsewhere at most to 2^231. So 2 k u^3 + P u_b stays
// below 2^750. It is no negative zero, because P u_b is not zero. Where its terms
// nearly cancel, both are above 2^-202 and products of normal numbers, so that it is +0
// or a multiple of 2^-310.
template <class T>
L63FAST_INLINE Mask<T> may_be_quick(const SquareConstants<T, 1>& s,
                                    const FastNewton<T, 1>& newton) {
  return between<T>(s.k2.at[0], 0x1p-40, 0x1p40) &
         between<T>(magnitude(newton.c.at[0]), 0x1p-200, 0x1p40) &
         between<T>(newton.alpha.at[0], -0x1p40, 0x1p40) &
         at_most(magnitude(newton.u.at[0]), broadcast(T(0x1p100)));
}
constexpr double least_pivot = 0x1p-40;

// Makes the last step, in w, and computes J there. Returns the lanes whose result is
// certified: the step is below the tolerance, or the steps are used up and only
// rounding errors move the lane because the tolerance is finer than these. `several`
// says that other basins count too: none of them has a J below min u_b^2 / (2 G_ii),
// the cost of crossing zero.
template <class T, int M>
L63FAST_INLINE Mask<T> certify(const SquareConstants<T, M>& s,
                               const FastNewton<T, M>& newton, bool several,
                               Point<T, M>& p, Mask<T>& converged) {
  const Pack<T> one = broadcast(T(1));
  const Pack<T> rounding = broadcast(sizeof(T) == 8 ? T(0x1p-46) : T(0x1p-17));
  Matrix<T, M> inner;
  Vector<T, M> right, v;
  Pack<T> cost_of_background{};
  for (int i = 0; i < M; ++i) {
    const Pack<T> u = newton.u.at[i], y = newton.y.at[i],
                  ub = newton.u_background.at[i];
    v.at[i] = u - ub;
    const Pack<T> r = fma(-u, u, y), d = u + u, dq = d * s.q.at[i];
    const Pack<T> a = fma(d, dq, -(s.k.at[i] * r));
    right.at[i] = fma(a, v.at[i], dq * r);
    for (int j = 0; j < M; ++j) {
      inner.at[i][j] = i == j ? fma(a, s.g.at[i][j], one) : a * s.g.at[i][j];
    }
    const Pack<T> innovation = fma(-ub, ub, y);
    cost_of_background = fma(s.q.at[i] * innovation, innovation, cost_of_background);
  }
  Mask<T> inside, good = adjugate<false>(inner, right, {}, p.w, inside);
  good = good & inside & ~newton.unsound;
  p.v = times(s.g, p.w);
  Mask<T> close = Mask<T>::all();
  converged = good;
  p.cost = p.w.at[0] * p.v.at[0];
  for (int i = 1; i < M; ++i) p.cost = fma(p.w.at[i], p.v.at[i], p.cost);
  for (int i = 0; i < M; ++i) {
    p.u.at[i] = newton.u_background.at[i] + p.v.at[i];
    const Pack<T> step = magnitude(p.v.at[i] - v.at[i]);
    const Pack<T> size = magnitude(p.u.at[i]);
    converged = converged & less(step, fma(s.tol, size, newton.slack.at[i]));
    close = close & less(step, rounding * (size + newton.scale.at[i]));
    p.r.at[i] = fma(-p.u.at[i], p.u.at[i], newton.y.at[i]);
    p.qr.at[i] = s.q.at[i] * p.r.at[i];
    p.cost = fma(p.r.at[i], p.qr.at[i], p.cost);
  }
  p.cost = broadcast(T(0.5)) * p.cost;
  good = good & at_most(p.cost, broadcast(T(0.5)) * cost_of_background);
  if (several) {
    for (int i = 0; i < M; ++i) {
      const Pack<T> ub = newton.u_background.at[i];
      good = good & less(p.cost, (ub * ub) * s.bound.at[i]);
    }
  }
  return good & (converged | (close & newton.active));
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
