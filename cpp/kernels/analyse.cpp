// Batched 3D-Var, compiled once per instruction set: a sample in each lane.
#include "l63fast/three_d_var.hpp"
#include "levels.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {
namespace {

constexpr std::int64_t groups_per_look = 64;  // groups between two looks at `cancel`
constexpr int iterations_per_look = 256;      // iterations of one group, likewise

L63FAST_INLINE bool is_set(const int* cancel) {
  return __atomic_load_n(cancel, __ATOMIC_RELAXED) != 0;
}

// Packs of samples under way at once: one alone would wait for its divisions.
template <int M>
inline constexpr int packs_in_flight = M == 1 ? 4 : 2;

// What one pack of samples needs: the problem, the columns of B that x_b moves along,
// and the point and ending that are found.
template <class T, int M, int P>
struct Sample {
  Problem<T, M, P> problem;
  Pack<T> background[3];
  Pack<T> columns[3][M];
  Matrix<T, M> innovation_covariance;  // G + R, used where h is linear
  Point<T, M> best;
  Pack<T> status, n_iter;
};

// The pack whose lanes are value(0), value(1), ...
template <class T, class F>
L63FAST_INLINE Pack<T> lane_by_lane(F value) {
  T lanes[width<T>];
  for (int lane = 0; lane < width<T>; ++lane) lanes[lane] = value(lane);
  Pack<T> pack;
  __builtin_memcpy(&pack, lanes, sizeof pack);
  return pack;
}

// Entry `offset` of an array of `size` entries per sample, or of the one for all.
template <class T>
L63FAST_INLINE Pack<T> gather(const T* values, int size, int offset, bool each,
                              std::int64_t begin, std::int64_t count) {
  if (!each) return broadcast(values[offset]);
  return lane_by_lane<T>([=](int lane) __attribute__((always_inline)) {
    return values[size * (begin + (lane < count ? lane : count - 1)) + offset];
  });
}

template <class T, int M, int P>
L63FAST_INLINE void load(const Analysis<T>& job, std::int64_t begin, std::int64_t count,
                         Sample<T, M, P>& sample) {
  Problem<T, M, P>& s = sample.problem;
  for (int c = 0; c < 3; ++c) {
    sample.background[c] = gather(job.background, 3, c, true, begin, count);
    for (int j = 0; j < M; ++j) {
      const int entry = 3 * c + job.components[j];
      sample.columns[c][j] = gather(job.b_matrix, 9, entry, job.each_b, begin, count);
    }
  }
  Matrix<T, M> r;
  for (int j = 0; j < M; ++j) {
    s.powers[j] = job.powers[j];
    s.y.at[j] = gather(job.observation, M, j, true, begin, count);
    s.u_background.at[j] = sample.background[job.components[j]];
    for (int k = 0; k < M; ++k) {
      r.at[j][k] = gather(job.r_matrix, M * M, M * j + k, job.each_r, begin, count);
      s.g.at[j][k] = sample.columns[job.components[j]][k];
      sample.innovation_covariance.at[j][k] = s.g.at[j][k] + r.at[j][k];
    }
    s.spread.at[j] = square_root(s.g.at[j][j]);
  }
  s.r_inverse = inverse(r);
}

template <class T, int M, int P>
L63FAST_INLINE void start_at_background(Sample<T, M, P>& sample) {
  Point<T, M>& p = sample.best;
  for (int i = 0; i < M; ++i) {
    p.w.at[i] = p.v.at[i] = Pack<T>{};
    p.u.at[i] = sample.problem.u_background.at[i];
  }
  look(sample.problem, p);
  p.cost = cost_of(p);
  sample.status = number<T>(Status::max_iter);
  sample.n_iter = Pack<T>{};
}

// Linear h: the minimum at once.
template <class T, int M, int P>
L63FAST_INLINE void solve_linear(Sample<T, M, P>& sample) {
  solve(sample.innovation_covariance, sample.best.r, sample.best.w);
  sample.status = number<T>(Status::converged);
  sample.n_iter = broadcast(T(1));
}

// Nonlinear h: the lowest of the minima that the starts lead to.
template <class T, int M, int P, int K>
L63FAST_INLINE void minimise(const Analysis<T>& job, Sample<T, M, P>* samples,
                             const int* cancel) {
  const T tol = static_cast<T>(job.tol);
  Pack<T> background_cost[K];
  for (int k = 0; k < K; ++k) background_cost[k] = samples[k].best.cost;
  for (int basin = 0; basin < job.n_starts; ++basin) {
    Descent<T, M> descents[K];
    for (int k = 0; k < K; ++k) {
      descents[k] = begin(samples[k].problem, basin, job.max_iter);
    }
    for (int n = 1; n <= job.max_iter; ++n) {
      Mask<T> active = ~Mask<T>::all();
      for (int k = 0; k < K; ++k) {
        advance(samples[k].problem, tol * tol, n, descents[k]);
        active = active | descents[k].active;
      }
      if (!any(active)) break;
      if (n % iterations_per_look == 0 && is_set(cancel)) return;
    }
    for (int k = 0; k < K; ++k) {
      Sample<T, M, P>& sample = samples[k];
      const Mask<T> better =
          basin == 0 ? Mask<T>::all() : less(descents[k].at.cost, sample.best.cost);
      choose(better, descents[k].at, sample.best);
      sample.status = select(better, descents[k].status, sample.status);
      sample.n_iter = select(better, descents[k].n_iter, sample.n_iter);
    }
  }
  for (int k = 0; k < K; ++k) {
    Sample<T, M, P>& sample = samples[k];
    const Mask<T> worse = equal(sample.status, number<T>(Status::max_iter)) &
                          ~at_most(sample.best.cost, background_cost[k]);
    sample.status = select(worse, number<T>(Status::diverged), sample.status);
  }
}

// Writes `count` analyses from w; what is not finite becomes the canonical NaN.
template <class T, int M, int P>
L63FAST_INLINE void finish(const Analysis<T>& job, std::int64_t begin,
                           std::int64_t count, Sample<T, M, P>& sample) {
  Point<T, M>& p = sample.best;
  Pack<T> state[3];
  Mask<T> usable = ~equal(sample.status, number<T>(Status::non_finite));
  for (int c = 0; c < 3; ++c) {
    Pack<T> t = sample.columns[c][0] * p.w.at[0];
    for (int j = 1; j < M; ++j) t = fma(sample.columns[c][j], p.w.at[j], t);
    state[c] = sample.background[c] + t;
    usable = usable & finite<T>(state[c]);
  }
  for (int j = 0; j < M; ++j) p.u.at[j] = state[job.components[j]];
  look(sample.problem, p);
  p.v = times(sample.problem.g, p.w);
  p.cost = cost_of(p);
  usable = usable & finite<T>(p.cost);
  const Pack<T> nan = broadcast(static_cast<T>(__builtin_nan("")));
  for (int c = 0; c < 3; ++c) state[c] = select(usable, state[c], nan);
  for (int j = 0; j < M; ++j) p.r.at[j] = select(usable, p.r.at[j], nan);
  p.cost = select(usable, p.cost, nan);
  sample.status = select(usable, sample.status, number<T>(Status::non_finite));
  for (int lane = 0; lane < count; ++lane) {
    const std::int64_t i = begin + lane;
    for (int c = 0; c < 3; ++c) job.state[3 * i + c] = state[c][lane];
    for (int j = 0; j < M; ++j) job.residual[M * i + j] = p.r.at[j][lane];
    job.cost[i] = p.cost[lane];
    job.status[i] = static_cast<std::int8_t>(sample.status[lane]);
    job.n_iter[i] = static_cast<std::int32_t>(sample.n_iter[lane]);
  }
}

// Analyses `count` samples, at most K packs of them.
template <class T, int M, int P, int K>
void analyse_group(const Analysis<T>& job, std::int64_t begin, std::int64_t count,
                   const int* cancel) {
  Sample<T, M, P> samples[K];
  for (int k = 0; k < K; ++k) {
    // A pack beyond the end repeats the last sample and writes nothing.
    const std::int64_t first = k * width<T> < count ? k * width<T> : count - 1;
    load(job, begin + first, count - first, samples[k]);
    start_at_background(samples[k]);
  }
  if (job.max_iter > 0) {
    if constexpr (P == 1) {
      for (int k = 0; k < K; ++k) solve_linear(samples[k]);
    } else {
      minimise<T, M, P, K>(job, samples, cancel);
    }
  }
  for (int k = 0; k < K; ++k) {
    const std::int64_t left = count - k * width<T>;
    finish(job, begin + k * width<T>, left < width<T> ? left : width<T>, samples[k]);
  }
}

template <class T, int M, int P>
void analyse_range(const Analysis<T>& job, std::int64_t begin, std::int64_t end,
                   const int* cancel) {
  constexpr int packs = packs_in_flight<M>;
  constexpr std::int64_t group = packs * width<T>;
  std::int64_t groups = 0;
  for (std::int64_t i = begin; i < end; i += group) {
    analyse_group<T, M, P, packs>(job, i, end - i < group ? end - i : group, cancel);
    if (++groups % groups_per_look == 0 && is_set(cancel)) {
      return;
    }
  }
}

template <class T, int M>
void analyse_dim(const Analysis<T>& job, std::int64_t begin, std::int64_t end,
                 const int* cancel) {
  bool linear = true, squares = true;
  for (int i = 0; i < M; ++i) {
    linear = linear && job.powers[i] == 1;
    squares = squares && job.powers[i] == 2;
  }
  if (linear) return analyse_range<T, M, 1>(job, begin, end, cancel);
  if (squares) return analyse_range<T, M, 2>(job, begin, end, cancel);
  return analyse_range<T, M, 0>(job, begin, end, cancel);
}

template <class T>
void analyse_any(const Analysis<T>& job, std::int64_t begin, std::int64_t end,
                 const int* cancel) {
  if (job.obs_dim == 1) return analyse_dim<T, 1>(job, begin, end, cancel);
  if (job.obs_dim == 2) return analyse_dim<T, 2>(job, begin, end, cancel);
  return analyse_dim<T, 3>(job, begin, end, cancel);
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
