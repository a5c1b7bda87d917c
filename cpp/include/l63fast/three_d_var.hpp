// Batched 3D-Var: the safeguarded Newton iteration. The order of its operations is the
// specification that the Numba kernels follow.
//
// The minimiser of
//   J(x) = 1/2 |x - x_b|^2_{B^-1} + 1/2 |y - h(x)|^2_{R^-1}
// lies in x_b + span of the columns C of B, where C are the m observed components. So
// it is x_b + B_{:,C} w, and w is the unknown: B^-1 is never needed. With G = B_{CC}, u
// = u_b + v, v = G w, D = diag(h'), r = y - h(u) and E = diag(h'' R^-1 r):
//   J = 1/2 w.v + 1/2 r.R^-1 r,   w_new solves (I + A G) w_new = A v + D R^-1 r.
// A = D R^-1 D gives the Gauss-Newton step x_b + K [y - h(x) + H (x - x_b)], and A = D
// R^-1 D - E gives the Newton step. For linear h both are exact after one step.
//
// Gauss-Newton alone is not safe for x^2: H = 0 at x = 0, and far from the minimum it
// overshoots. So (1) Newton is used where I + A G has positive eigenvalues; elsewhere
// only the part of E that increases them is kept. (2) A step that raises J is repeated
// with a quarter of its length. (3) Where a determinant or J overflows, the step is
// repeated with divided rows (`scaled_step`). (4) `start` chooses a starting point from
// which Newton's method converges monotonically for one x^2 component.
#pragma once

#include "l63fast/kernels.hpp"
#include "l63fast/observation.hpp"
#include "l63fast/small_matrix.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// One minimisation problem per lane. P is the power of every observation where all
// powers are equal and known at compile time, else 0.
template <class T, int M, int P>
struct Problem {
  Vector<T, M> u_background;  // observed part of x_b
  Vector<T, M> y;             // observations
  Matrix<T, M> g;             // B of the observed components
  Matrix<T, M> r_inverse;     // R^-1
  Vector<T, M> scale;         // a step is small relative to |u| + scale
  int powers[M];              // the same for all lanes

  L63FAST_INLINE int power(int i) const { return P > 0 ? P : powers[i]; }
};

// A point of the iteration: w and the quantities that follow from it.
template <class T, int M>
struct Point {
  Vector<T, M> w, v, u, r, qr;
  Pack<T> cost;
};

// The state of an iteration: the current point of each lane and, once it has ended, how
// it ended.
template <class T, int M>
struct Descent {
  Point<T, M> at;
  Pack<T> alpha;           // fraction of the Newton step that is taken
  Mask<T> newton;          // whether E is used in full
  Mask<T> active;          // whether the iteration has not ended
  Pack<T> status, n_iter;  // whole numbers
};

template <class T>
L63FAST_INLINE Pack<T> number(Status status) {
  return broadcast(static_cast<T>(static_cast<int>(status)));
}

template <class T, int M, int P>
L63FAST_INLINE void evaluate(const Problem<T, M, P>& s, Point<T, M>& p) {
  for (int i = 0; i < M; ++i) p.r.at[i] = misfit<T>(p.u.at[i], s.y.at[i], s.power(i));
  p.qr = times(s.r_inverse, p.r);
}

template <class T, int M>
L63FAST_INLINE Pack<T> cost_of(const Point<T, M>& p) {
  Pack<T> sum = p.w.at[0] * p.v.at[0];
  for (int i = 1; i < M; ++i) sum = fma(p.w.at[i], p.v.at[i], sum);
  for (int i = 0; i < M; ++i) sum = fma(p.r.at[i], p.qr.at[i], sum);
  return broadcast(T(0.5)) * sum;
}

// Returns the largest cost that differs from p's by rounding errors only: y - h(u) has
// the rounding error of y, and J has R^-1 r times that error.
template <class T, int M, int P>
L63FAST_INLINE Pack<T> highest_acceptable(const Problem<T, M, P>& s,
                                          const Point<T, M>& p) {
  const T rounding = T(16) * (sizeof(T) == 8 ? T(0x1p-52) : T(0x1p-23));
  Pack<T> scale = p.cost;
  for (int i = 0; i < M; ++i) {
    const Pack<T> size = magnitude(s.y.at[i]) + magnitude(p.r.at[i]);
    scale = fma(magnitude(p.qr.at[i]), size, scale);
  }
  return fma(broadcast(rounding), scale, p.cost);
}

// Returns the cube root of y, accurate enough for a starting point.
template <class T>
L63FAST_INLINE Pack<T> rough_cube_root(Pack<T> y) {
  const Pack<T> zero{}, third = broadcast(T(1) / T(3)), two = broadcast(T(2));
  const Pack<T> a = magnitude(y);
  Pack<T> t = square_root(square_root(a));
  for (int i = 0; i < 8; ++i) t = third * fma(two, t, a / (t * t));
  t = select(less(zero, a), t, zero);
  return select(less(y, zero), -t, t);
}

// Returns the smaller of two spreads of one component: sqrt(G_ii) of the background,
// and the spread that the observation error allows, R_ii^(1/(2p)). For p = 3 the root
// of degree 8 is used instead of 6, which is near enough. A step must be small relative
// to |u| + |u_b| + this. Relative to the background's spread alone every step would be
// small where B is large.
template <class T>
L63FAST_INLINE Pack<T> smaller_spread(Pack<T> g, Pack<T> r, int p) {
  Pack<T> spread = square_root(r);
  if (p > 1) spread = square_root(spread);
  if (p > 2) spread = square_root(spread);
  const Pack<T> background = square_root(g);
  return select(less(background, spread), background, spread);
}

// Returns the starting point of one component: the background for linear h, else the
// value that the observation suggests. For one x^2 component it is sign(u_b) max(|u_b|,
// sqrt(max(y, 0))). From there J' is convex, so Newton's method falls monotonically to
// the minimum. `second` chooses the other basin: the mirror image for an even power,
// the background for an odd power.
template <class T>
L63FAST_INLINE Pack<T> start(Pack<T> ub, Pack<T> y, int p, bool second) {
  const Pack<T> zero{};
  if (p == 1) return ub;
  const Pack<T> size = magnitude(ub);
  if (p == 3) {
    if (second) return ub;
    const Pack<T> t = rough_cube_root<T>(y);
    return select(less(magnitude(t), size) & at_most(zero, ub * t), ub, t);
  }
  Pack<T> root = square_root(select(less(zero, y), y, zero));
  if (p == 4) root = square_root(root);
  if (second) return select(less(ub, zero), root, -root);
  const Pack<T> larger = select(less(root, size), size, root);
  return select(less(ub, zero), -larger, larger);
}

// Returns the lanes where another basin may hold a lower minimum. With even powers the
// other basin lies beyond zero in some component, and reaching zero costs at least
// u_b^2 / (2 G_ii).
template <class T, int M, int P>
L63FAST_INLINE Mask<T> other_basin_may_be_lower(const Problem<T, M, P>& s,
                                                const Point<T, M>& p) {
  Mask<T> lowest = Mask<T>::all();
  for (int i = 0; i < M; ++i) {
    if (s.power(i) == 1) continue;
    if (s.power(i) == 3) return Mask<T>::all();
    const Pack<T> ub = s.u_background.at[i];
    lowest = lowest & less(p.cost, (ub * ub) * (broadcast(T(0.5)) / s.g.at[i][i]));
  }
  return ~lowest;
}

// Computes I + A G and A v + D R^-1 r at a point.
template <class T, int M, int P>
L63FAST_INLINE void linearise(const Problem<T, M, P>& s, const Point<T, M>& p,
                              Mask<T> newton, Matrix<T, M>& inner,
                              Vector<T, M>& right) {
  const Pack<T> zero{}, one = broadcast(T(1));
  Vector<T, M> d;
  Matrix<T, M> a;
  for (int i = 0; i < M; ++i) d.at[i] = slope<T>(p.u.at[i], s.power(i));
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < M; ++j) {
      a.at[i][j] = (d.at[i] * s.r_inverse.at[i][j]) * d.at[j];
    }
    if (s.power(i) > 1) {
      // The part of -E that increases the eigenvalues (e < 0) is always kept.
      const Pack<T> e = second_derivative<T>(p.u.at[i], s.power(i)) * p.qr.at[i];
      a.at[i][i] = select(newton | less(e, zero), a.at[i][i] - e, a.at[i][i]);
    }
  }
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < M; ++j) {
      Pack<T> t = a.at[i][0] * s.g.at[0][j];
      for (int k = 1; k < M; ++k) t = fma(a.at[i][k], s.g.at[k][j], t);
      inner.at[i][j] = i == j ? one + t : t;
    }
    Pack<T> t = d.at[i] * p.qr.at[i];
    for (int k = 0; k < M; ++k) t = fma(a.at[i][k], p.v.at[k], t);
    right.at[i] = t;
  }
}

template <class T, int M>
L63FAST_INLINE void choose(Mask<T> taken, const Point<T, M>& from, Point<T, M>& to) {
  for (int i = 0; i < M; ++i) {
    to.w.at[i] = select(taken, from.w.at[i], to.w.at[i]);
    to.v.at[i] = select(taken, from.v.at[i], to.v.at[i]);
    to.u.at[i] = select(taken, from.u.at[i], to.u.at[i]);
    to.r.at[i] = select(taken, from.r.at[i], to.r.at[i]);
    to.qr.at[i] = select(taken, from.qr.at[i], to.qr.at[i]);
  }
  to.cost = select(taken, from.cost, to.cost);
}

// Returns the iteration of one basin before its first step; bit k of `basin` chooses
// the basin of the k-th nonlinear component. The cost there is set to infinity, so that
// the first step is always accepted.
template <class T, int M, int P>
L63FAST_INLINE Descent<T, M> begin(const Problem<T, M, P>& s, int basin, int max_iter) {
  Descent<T, M> descent;
  Point<T, M>& p = descent.at;
  int bit = 1;
  for (int i = 0; i < M; ++i) {
    const bool second = s.power(i) > 1 && (basin & bit) != 0;
    if (s.power(i) > 1) bit <<= 1;
    const Pack<T> ub = s.u_background.at[i];
    p.w.at[i] = Pack<T>{};
    p.v.at[i] = start<T>(ub, s.y.at[i], s.power(i), second) - ub;
    p.u.at[i] = ub + p.v.at[i];
  }
  evaluate(s, p);
  p.cost = broadcast(static_cast<T>(__builtin_inf()));
  descent.alpha = broadcast(T(1));
  descent.newton = descent.active = Mask<T>::all();
  descent.status = number<T>(Status::max_iter);
  descent.n_iter = broadcast(static_cast<T>(max_iter));
  return descent;
}

// A step of the iteration: the new point, and the lanes where I + A G has positive
// eigenvalues, where the step is smaller than the tolerance, and where nothing has
// overflowed.
template <class T, int M>
struct Step {
  Point<T, M> to;
  Mask<T> positive, small, inside;
};

// Computes the damped step. With `scaled` no intermediate product overflows unless I +
// A G itself does.
template <bool scaled, class T, int M, int P>
L63FAST_INLINE Step<T, M> damped_step(const Problem<T, M, P>& s, const Point<T, M>& p,
                                      Mask<T> newton, Pack<T> alpha, Pack<T> tol) {
  const Pack<T> one = broadcast(T(1));
  Matrix<T, M> inner;
  Vector<T, M> right, scale, w_full;
  Step<T, M> step;
  Point<T, M>& t = step.to;
  linearise(s, p, newton, inner, right);
  if (scaled) scale = divide_rows(inner, right);
  step.positive = adjugate<scaled>(inner, right, scale, w_full, step.inside);
  for (int i = 0; i < M; ++i) {
    const Pack<T> full = w_full.at[i];
    // full + (alpha - 1) (full - w): exactly the full step where alpha is 1.
    t.w.at[i] = fma(alpha - one, full - p.w.at[i], full);
  }
  t.v = times(s.g, t.w);
  step.small = equal(alpha, one);
  for (int i = 0; i < M; ++i) {
    t.u.at[i] = s.u_background.at[i] + t.v.at[i];
    const Pack<T> moved = magnitude(t.v.at[i] - p.v.at[i]);
    const Pack<T> size = magnitude(t.u.at[i]) + s.scale.at[i];
    step.small = step.small & less(moved, tol * size);
  }
  evaluate(s, t);
  t.cost = cost_of(t);
  step.inside = step.inside & finite<T>(t.cost);
  return step;
}

// Computes the scaled step for the lanes that are not `inside`. It is a function of its
// own and takes its arguments by value, so that it takes no registers from the plain
// step.
template <class T, int M, int P>
__attribute__((noinline, cold)) Step<T, M> scaled_step(Problem<T, M, P> s,
                                                       Point<T, M> p, Mask<T> newton,
                                                       Pack<T> alpha, Pack<T> tol) {
  return damped_step<true>(s, p, newton, alpha, tol);
}

// Makes the n-th iteration of the lanes that are still active.
template <class T, int M, int P>
L63FAST_INLINE void advance(const Problem<T, M, P>& s, T tol, int n,
                            Descent<T, M>& descent) {
  const Pack<T> one = broadcast(T(1)), quarter = broadcast(T(0.25));
  Point<T, M>& p = descent.at;
  Step<T, M> step =
      damped_step<false>(s, p, descent.newton, descent.alpha, broadcast(tol));
  const Mask<T> outside = descent.active & ~step.inside;
  if (M > 1 && __builtin_expect(any(outside), false)) {
    const Step<T, M> again =
        scaled_step(s, p, descent.newton, descent.alpha, broadcast(tol));
    choose(outside, again.to, step.to);
    step.positive = (outside & again.positive) | (~outside & step.positive);
    step.small = (outside & again.small) | (~outside & step.small);
  }
  const Point<T, M>& t = step.to;
  const Mask<T> stepping = descent.active & step.positive;
  const Mask<T> usable = finite<T>(t.cost);
  const Mask<T> lost = (descent.active & ~step.positive & ~descent.newton) |
                       (stepping & ~usable & ~finite<T>(p.cost));
  const Mask<T> small = step.small & stepping & usable;
  const Mask<T> taken = stepping & usable & at_most(t.cost, highest_acceptable(s, p));
  choose(taken, t, p);
  const Pack<T> cut = select(stepping & ~small, descent.alpha * quarter, descent.alpha);
  descent.alpha = select(taken, one, cut);
  descent.newton = taken | (descent.newton & step.positive);
  descent.status = select(lost, number<T>(Status::non_finite), descent.status);
  descent.status = select(small, number<T>(Status::converged), descent.status);
  descent.n_iter = select(lost | small, broadcast(static_cast<T>(n)), descent.n_iter);
  descent.active = descent.active & ~lost & ~small;
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
