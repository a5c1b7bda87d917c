// Parts that all methods of the batched analysis share: reading covariances, and
// writing analyses.
#pragma once

#include "l63fast/cancel.hpp"
#include "l63fast/three_d_var.hpp"
#include "samples.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

constexpr std::int64_t block = 512;        // samples between two reads of `cancel`
constexpr int iterations_per_check = 256;  // iterations of one group, likewise

// Returns the tolerance in T, or 0, which no step is below, where its square is 0 in T.
template <class T>
L63FAST_INLINE T reachable(double tol) {
  const T value = static_cast<T>(tol);
  return value * value > 0 ? value : T(0);
}

// B and R of one pack of samples: the columns of B that the increment is made of, G and
// R.
template <class T, int M>
struct Covariances {
  Pack<T> columns[3][M];
  Matrix<T, M> g, r;
};

template <class T, int M>
L63FAST_INLINE Covariances<T, M> load_covariances(const Analysis<T>& job,
                                                  const Lanes& lanes) {
  Covariances<T, M> s;
  for (int j = 0; j < M; ++j) {
    for (int c = 0; c < 3; ++c) {
      const int entry = 3 * c + job.components[j];
      s.columns[c][j] = gather(job.b_matrix, 9, entry, job.each_b, lanes);
    }
    for (int k = 0; k < M; ++k) {
      s.r.at[j][k] = gather(job.r_matrix, M * M, M * j + k, job.each_r, lanes);
    }
  }
  for (int j = 0; j < M; ++j) {
    for (int k = 0; k < M; ++k) s.g.at[j][k] = s.columns[job.components[j]][k];
  }
  return s;
}

template <class T, int M>
L63FAST_INLINE Vector<T, M> observed(const Analysis<T>& job, const Vector<T, 3>& x) {
  Vector<T, M> u;
  for (int j = 0; j < M; ++j) {
    // By branches, which are well predicted: an index would send x through memory.
    const int c = job.components[j];
    u.at[j] = c == 0 ? x.at[0] : c == 1 ? x.at[1] : x.at[2];
  }
  return u;
}

// Returns x_b + B_{:,C} w.
template <class T, int M>
L63FAST_INLINE Vector<T, 3> state_of(const Vector<T, 3>& background,
                                     const Pack<T> (&columns)[3][M],
                                     const Vector<T, M>& w) {
  Vector<T, 3> state;
  for (int c = 0; c < 3; ++c) {
    Pack<T> t = columns[c][0] * w.at[0];
    for (int j = 1; j < M; ++j) t = fma(columns[c][j], w.at[j], t);
    state.at[c] = background.at[c] + t;
  }
  return state;
}

template <class T>
L63FAST_INLINE Mask<T> finite_state(const Vector<T, 3>& x) {
  return finite<T>(x.at[0]) & finite<T>(x.at[1]) & finite<T>(x.at[2]);
}

template <class T, int M>
L63FAST_INLINE void write(const Analysis<T>& job, const Lanes& lanes,
                          const Vector<T, 3>& state, const Point<T, M>& p,
                          Pack<T> status, Pack<T> n_iter) {
  store_rows(job.state, lanes, state);
  store_rows(job.residual, lanes, p.r);
  store_rows<T, 1>(job.cost, lanes, {{p.cost}});
  store_whole<T>(job.status, lanes, status);
  store_whole<T>(job.n_iter, lanes, n_iter);
}

// Writes the same; values of a sample that is not finite become the canonical NaN.
template <class T, int M>
L63FAST_INLINE void write_finite(const Analysis<T>& job, const Lanes& lanes,
                                 Vector<T, 3> state, Point<T, M>& p, Pack<T> status,
                                 Pack<T> n_iter) {
  const Pack<T> nan = broadcast(static_cast<T>(__builtin_nan("")));
  const Pack<T> failed = number<T>(Status::non_finite);
  const Mask<T> usable =
      finite_state(state) & finite<T>(p.cost) & ~equal(status, failed);
  for (int c = 0; c < 3; ++c) state.at[c] = select(usable, state.at[c], nan);
  for (int j = 0; j < M; ++j) p.r.at[j] = select(usable, p.r.at[j], nan);
  p.cost = select(usable, p.cost, nan);
  write(job, lanes, state, p, select(usable, status, failed), n_iter);
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
