// Batched 3D-Var, compiled once per instruction set: one sample in each lane.
//
// Three methods: the closed form for linear h, the fast Newton iteration for x^2 with
// independent observation errors, and the safeguarded iteration for everything else and
// for the samples that the fast one does not certify. Where values may be missing, they
// run on the samples of each pattern of present values.
#include "analyse_present.hpp"
#include "analyse_safeguarded.hpp"
#include "analyse_squares.hpp"
#include "levels.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {
namespace {

// Returns (G + R)^-1.
template <class T, int M>
L63FAST_INLINE Matrix<T, M> weights_of(const Covariances<T, M>& s) {
  Matrix<T, M> sum;
  for (int j = 0; j < M; ++j) {
    for (int k = 0; k < M; ++k) sum.at[j][k] = s.g.at[j][k] + s.r.at[j][k];
  }
  return inverse(sum);
}

// Linear h: the closed form x_a = x_b + B_{:,C} w, w = (G + R)^-1 (y - h(x_b)), which
// is the Kalman update. At this minimum J = 1/2 w.(y - h(x_b)). The two terms of J are
// not computed one by one: they would need R^-1 and suffer from the rounding error of y
// - h(x).
template <class T, int M, bool each>
void analyse_linear(const Analysis<T>& job, std::int64_t begin, std::int64_t end,
                    const int* cancel) {
  const Lanes first = lanes_of<T>(begin, end, nullptr, 0);
  Covariances<T, M> covariances = load_covariances<T, M>(job, first);
  Matrix<T, M> weights = weights_of(covariances);
  for (std::int64_t i = begin; i < end; i += width<T>) {
    if ((i - begin) % block == 0 && is_set(cancel)) return;
    const Lanes lanes = lanes_of<T>(i, end, nullptr, 0);
    if (each) {
      covariances = load_covariances<T, M>(job, lanes);
      weights = weights_of(covariances);
    }
    const Vector<T, 3> background = load_rows<T, 3>(job.background, lanes);
    const Vector<T, M> y = load_rows<T, M>(job.observation, lanes);
    const Vector<T, M> ub = observed<T, M>(job, background);
    Vector<T, M> innovation;
    for (int j = 0; j < M; ++j) innovation.at[j] = y.at[j] - ub.at[j];
    Point<T, M> p;
    p.w = times(weights, innovation);
    const Vector<T, 3> state = state_of<T, M>(background, covariances.columns, p.w);
    p.u = observed<T, M>(job, state);
    for (int j = 0; j < M; ++j) p.r.at[j] = y.at[j] - p.u.at[j];
    p.cost = p.w.at[0] * innovation.at[0];
    for (int j = 1; j < M; ++j) p.cost = fma(p.w.at[j], innovation.at[j], p.cost);
    p.cost = broadcast(T(0.5)) * p.cost;
    write_finite(job, lanes, state, p, number<T>(Status::converged), broadcast(T(1)));
  }
}

template <class T, int M, bool each>
void analyse_dim(const Analysis<T>& job, std::int64_t begin, std::int64_t end,
                 const int* cancel) {
  bool linear = true, squares = true;
  for (int i = 0; i < M; ++i) {
    linear = linear && job.powers[i] == 1;
    squares = squares && job.powers[i] == 2;
  }
  const bool iterates = job.max_iter > 0;
  if (linear && iterates) return analyse_linear<T, M, each>(job, begin, end, cancel);
  if (squares && iterates) return analyse_squares<T, M, each>(job, begin, end, cancel);
  return analyse_safeguarded<T, M, 0>(job, begin, end, nullptr, cancel);
}

template <class T, bool each>
void analyse_each(const Analysis<T>& job, std::int64_t begin, std::int64_t end,
                  const int* cancel) {
  if (job.obs_dim == 1) return analyse_dim<T, 1, each>(job, begin, end, cancel);
  if (job.obs_dim == 2) return analyse_dim<T, 2, each>(job, begin, end, cancel);
  return analyse_dim<T, 3, each>(job, begin, end, cancel);
}

template <class T>
void analyse_any(const Analysis<T>& job, std::int64_t begin, std::int64_t end,
                 const int* cancel) {
  if (begin >= end) return;
  if (job.gaps) return analyse_present(job, begin, end, cancel, analyse_any<T>);
  if (job.each_b || job.each_r) return analyse_each<T, true>(job, begin, end, cancel);
  return analyse_each<T, false>(job, begin, end, cancel);
}

}  // namespace

void analyse_f64(const Analysis<double>& job, std::int64_t begin, std::int64_t end,
                 const int* cancel) {
  analyse_any(job, begin, end, cancel);
}

void analyse_f32(const Analysis<float>& job, std::int64_t begin, std::int64_t end,
                 const int* cancel) {
  analyse_any(job, begin, end, cancel);
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
