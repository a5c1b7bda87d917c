// 3D-Var of squares with independent observation errors, the case that must be fast:
// Newton in the observed components; the order of its expressions is the specification.
//
// With u the observed part of x, P = G^-1 and k_i = 2 / R_ii the cost has the gradient
//   P (u - u_b) - k u (y - u^2), component by component in the second term,
// and off the diagonal its Hessian is that of P, the same everywhere. One Newton step
// is
//   (P + diag(3 k u^2 - k y)) u_new = 2 k u^3 + P u_b.
// No cost is looked at on the way: a fall is certified afterwards. `settle` makes the
// last step in w (three_d_var.hpp), which knows no G^-1, and `certified` says which
// lanes may be believed: the Hessian was positive at every point, the last step agrees,
// the cost is not above the background's. The others start again, step by step.
#pragma once

#include "l63fast/three_d_var.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// What follows from B, R and the tolerance alone.
template <class T, int M>
struct SquareConstants {
  Matrix<T, M> g, p;          // B of the observed components, and its inverse
  Vector<T, M> q, k, k2, k3;  // 1 / R_ii, and 2, 4 and 6 times it
  Vector<T, M> spread;        // the smaller one
  Vector<T, M> bound;         // 1 / (2 G_ii)
  Vector<T, M> p_square;      // P_jk^2, jk being the pair without i; P_01^2 if M is 2
  Vector<T, M> p_product;     // P_ij P_ik, where M is 3
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

// The fall of one sample per lane.
template <class T, int M>
struct Fall {
  Vector<T, M> u_background, y;
  Vector<T, M> alpha, c;  // P_ii - k y, and P u_b
  Vector<T, M> u;
  Vector<T, M> scale, slack;  // what a step is small against besides |u|; tol times it
  Pack<T> n_steps;            // steps made, a whole number
  Mask<T> active;             // not ended
  Mask<T> unsound;            // the Hessian was not positive somewhere on the way
};

template <class T, int M>
L63FAST_INLINE void begin_fall(const SquareConstants<T, M>& s, Fall<T, M>& fall) {
  fall.c = times(s.p, fall.u_background);
  for (int i = 0; i < M; ++i) {
    const Pack<T> y = fall.y.at[i];
    fall.alpha.at[i] = fma(-s.k.at[i], y, s.p.at[i][i]);
    fall.u.at[i] = start<T>(fall.u_background.at[i], y, 2, false);
    fall.scale.at[i] = magnitude(fall.u_background.at[i]) + s.spread.at[i];
    fall.slack.at[i] = s.tol * fall.scale.at[i];
  }
  fall.n_steps = broadcast(T(1));
  fall.active = Mask<T>::all();
  fall.unsound = ~Mask<T>::all();
}

// Solves (P + diag(h - P_ii)) next = right; returns the active lanes where it is not
// positive: a leading minor is not.
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

// One Newton step of the lanes that are still active.
template <class T, int M>
L63FAST_INLINE void fall_on(const SquareConstants<T, M>& s, Fall<T, M>& fall) {
  Vector<T, M> h, right, next;
  for (int i = 0; i < M; ++i) {
    const Pack<T> u = fall.u.at[i], square = u * u;
    h.at[i] = fma(s.k3.at[i], square, fall.alpha.at[i]);
    right.at[i] = fma(s.k2.at[i] * square, u, fall.c.at[i]);
  }
  fall.unsound = fall.unsound | solve_step(s, h, right, fall.active, next);
  Mask<T> large = ~Mask<T>::all();
  for (int i = 0; i < M; ++i) {
    const Pack<T> limit = fma(s.tol, magnitude(next.at[i]), fall.slack.at[i]);
    large = large | not_less(fall.active, magnitude(next.at[i] - fall.u.at[i]), limit);
    fall.u.at[i] = select(fall.active, next.at[i], fall.u.at[i]);
  }
  fall.active = large;
  fall.n_steps = select(large, fall.n_steps + broadcast(T(1)), fall.n_steps);
}

// The last step, in w, with the cost there; returns the lanes that may be believed:
// converged, or out of steps where only rounding moves them, the tolerance being finer.
// `several` says that the other basins count too: none of them can be lower than what
// it costs to cross zero, min u_b^2 / (2 G_ii).
template <class T, int M>
L63FAST_INLINE Mask<T> settle(const SquareConstants<T, M>& s, const Fall<T, M>& fall,
                              bool several, Point<T, M>& p, Mask<T>& converged) {
  const Pack<T> one = broadcast(T(1));
  const Pack<T> rounding = broadcast(sizeof(T) == 8 ? T(0x1p-46) : T(0x1p-17));
  Matrix<T, M> inner;
  Vector<T, M> right, v;
  Pack<T> cost_of_background{};
  for (int i = 0; i < M; ++i) {
    const Pack<T> u = fall.u.at[i], y = fall.y.at[i], ub = fall.u_background.at[i];
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
  good = good & inside & ~fall.unsound;
  p.v = times(s.g, p.w);
  Mask<T> close = Mask<T>::all();
  converged = good;
  p.cost = p.w.at[0] * p.v.at[0];
  for (int i = 1; i < M; ++i) p.cost = fma(p.w.at[i], p.v.at[i], p.cost);
  for (int i = 0; i < M; ++i) {
    p.u.at[i] = fall.u_background.at[i] + p.v.at[i];
    const Pack<T> step = magnitude(p.v.at[i] - v.at[i]);
    const Pack<T> size = magnitude(p.u.at[i]);
    converged = converged & less(step, fma(s.tol, size, fall.slack.at[i]));
    close = close & less(step, rounding * (size + fall.scale.at[i]));
    p.r.at[i] = fma(-p.u.at[i], p.u.at[i], fall.y.at[i]);
    p.qr.at[i] = s.q.at[i] * p.r.at[i];
    p.cost = fma(p.r.at[i], p.qr.at[i], p.cost);
  }
  p.cost = broadcast(T(0.5)) * p.cost;
  good = good & at_most(p.cost, broadcast(T(0.5)) * cost_of_background);
  if (several) {
    for (int i = 0; i < M; ++i) {
      const Pack<T> ub = fall.u_background.at[i];
      good = good & less(p.cost, (ub * ub) * s.bound.at[i]);
    }
  }
  return good & (converged | (close & fall.active));
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
