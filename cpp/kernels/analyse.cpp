// Batched 3D-Var, compiled once per instruction set: a sample in each lane.
#include "l63fast/squares.hpp"
#include "l63fast/three_d_var.hpp"
#include "levels.hpp"
#include "samples.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {
namespace {

constexpr std::int64_t block = 512;       // samples between two looks at `cancel`
constexpr int iterations_per_look = 256;  // iterations of one group, likewise

L63FAST_INLINE bool is_set(const int* cancel) {
  return __atomic_load_n(cancel, __ATOMIC_RELAXED) != 0;
}

// Packs of samples under way at once: one alone would wait for its divisions. Where
// they are rare, or their covariances fill the registers, fewer keep the code small.
constexpr int packs_in_flight = 4;
constexpr int careful_packs = 2;

// B and R of one pack of samples: the columns of B that x_b moves along, and G.
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
  for (int j = 0; j < M; ++j) u.at[j] = x.at[job.components[j]];
  return u;
}

// x_b + B_{:,C} w.
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

// What the careful iteration knows of one pack of samples, and what it found.
template <class T, int M, int P>
struct Sample {
  Problem<T, M, P> problem;
  Vector<T, 3> background;
  Covariances<T, M> covariances;
  Point<T, M> best;
  Pack<T> status, n_iter;
};

template <class T, int M, int P>
L63FAST_INLINE void load_covariances(const Analysis<T>& job, const Lanes& lanes,
                                     Sample<T, M, P>& sample) {
  Problem<T, M, P>& s = sample.problem;
  sample.covariances = load_covariances<T, M>(job, lanes);
  s.g = sample.covariances.g;
  s.r_inverse = inverse(sample.covariances.r);
  for (int j = 0; j < M; ++j) {
    s.powers[j] = job.powers[j];
    s.spread.at[j] = square_root(s.g.at[j][j]);
  }
}

template <class T, int M, int P>
L63FAST_INLINE void load_states(const Analysis<T>& job, const Lanes& lanes,
                                Sample<T, M, P>& sample) {
  sample.background = load_rows<T, 3>(job.background, lanes);
  sample.problem.u_background = observed<T, M>(job, sample.background);
  sample.problem.y = load_rows<T, M>(job.observation, lanes);
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

// The lowest of the minima that the starts lead to.
template <class T, int M, int P, int K>
L63FAST_INLINE void minimise(const Analysis<T>& job, Sample<T, M, P>* samples,
                             const int* cancel) {
  const T tol = static_cast<T>(job.tol);
  Pack<T> background_cost[K];
  for (int k = 0; k < K; ++k) background_cost[k] = samples[k].best.cost;
  for (int basin = 0; basin < job.n_starts; ++basin) {
    Descent<T, M> descents[K];
    Mask<T> tried[K], active = ~Mask<T>::all();
    for (int k = 0; k < K; ++k) {
      tried[k] = basin == 0 ? Mask<T>::all()
                            : others_may_be_lower(samples[k].problem, samples[k].best);
      descents[k] = begin(samples[k].problem, basin, job.max_iter);
      descents[k].active = tried[k];
      active = active | tried[k];
    }
    if (!any(active)) break;
    for (int n = 1; n <= job.max_iter; ++n) {
      active = ~Mask<T>::all();
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
          basin == 0 ? tried[k]
                     : tried[k] & less(descents[k].at.cost, sample.best.cost);
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

// Writes what w leads to; what is not finite becomes the canonical NaN.
template <class T, int M, int P>
L63FAST_INLINE void finish(const Analysis<T>& job, const Lanes& lanes,
                           Sample<T, M, P>& sample) {
  Point<T, M>& p = sample.best;
  Vector<T, 3> state =
      state_of<T, M>(sample.background, sample.covariances.columns, p.w);
  Mask<T> usable =
      finite_state(state) & ~equal(sample.status, number<T>(Status::non_finite));
  p.u = observed<T, M>(job, state);
  look(sample.problem, p);
  p.v = times(sample.problem.g, p.w);
  p.cost = cost_of(p);
  usable = usable & finite<T>(p.cost);
  const Pack<T> nan = broadcast(static_cast<T>(__builtin_nan("")));
  for (int c = 0; c < 3; ++c) state.at[c] = select(usable, state.at[c], nan);
  for (int j = 0; j < M; ++j) p.r.at[j] = select(usable, p.r.at[j], nan);
  p.cost = select(usable, p.cost, nan);
  sample.status = select(usable, sample.status, number<T>(Status::non_finite));
  write(job, lanes, state, p, sample.status, sample.n_iter);
}

// The careful iteration for the samples [begin, end), or for index[begin, end).
template <class T, int M, int P>
void analyse_carefully(const Analysis<T>& job, std::int64_t begin, std::int64_t end,
                       const std::int64_t* index, const int* cancel) {
  constexpr int packs = careful_packs;
  for (std::int64_t i = begin; i < end; i += packs * width<T>) {
    if ((i - begin) % block == 0 && is_set(cancel)) return;
    Sample<T, M, P> samples[packs];
    for (int k = 0; k < packs; ++k) {
      const Lanes lanes = lanes_of<T>(i, end, index, k);
      load_covariances(job, lanes, samples[k]);
      load_states(job, lanes, samples[k]);
      start_at_background(samples[k]);
    }
    if (job.max_iter > 0) minimise<T, M, P, packs>(job, samples, cancel);
    for (int k = 0; k < packs; ++k) {
      finish(job, lanes_of<T>(i, end, index, k), samples[k]);
    }
  }
}

// The inverse of G + R.
template <class T, int M>
L63FAST_INLINE Matrix<T, M> weights_of(const Covariances<T, M>& s) {
  Matrix<T, M> sum;
  for (int j = 0; j < M; ++j) {
    for (int k = 0; k < M; ++k) sum.at[j][k] = s.g.at[j][k] + s.r.at[j][k];
  }
  return inverse(sum);
}

// Linear h: the minimum at once, w = (G + R)^-1 (y - h(x_b)).
template <class T, int M, bool each>
void analyse_linear(const Analysis<T>& job, std::int64_t begin, std::int64_t end,
                    const int* cancel) {
  Sample<T, M, 1> sample;
  load_covariances(job, lanes_of<T>(begin, end, nullptr, 0), sample);
  Matrix<T, M> weights = weights_of(sample.covariances);
  for (std::int64_t i = begin; i < end; i += width<T>) {
    if ((i - begin) % block == 0 && is_set(cancel)) return;
    const Lanes lanes = lanes_of<T>(i, end, nullptr, 0);
    if (each) {
      load_covariances(job, lanes, sample);
      weights = weights_of(sample.covariances);
    }
    load_states(job, lanes, sample);
    Vector<T, M> innovation;
    for (int j = 0; j < M; ++j) {
      innovation.at[j] = sample.problem.y.at[j] - sample.problem.u_background.at[j];
    }
    sample.best.w = times(weights, innovation);
    sample.status = number<T>(Status::converged);
    sample.n_iter = broadcast(T(1));
    finish(job, lanes, sample);
  }
}

// The lanes whose observation errors are independent.
template <class T, int M>
L63FAST_INLINE Mask<T> independent(const Matrix<T, M>& r) {
  Mask<T> yes = Mask<T>::all();
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < M; ++j) {
      if (i != j) yes = yes & equal(r.at[i][j], Pack<T>{});
    }
  }
  return yes;
}

// What `analyse_squares` knows of B and R, for one pack or for all.
template <class T, int M>
struct SquareCovariances {
  Covariances<T, M> covariances;
  SquareConstants<T, M> constants;
  Mask<T> usable;

  L63FAST_INLINE void load(const Analysis<T>& job, const Lanes& lanes) {
    const T tol = static_cast<T>(job.tol);
    covariances = load_covariances<T, M>(job, lanes);
    Vector<T, M> variances;
    for (int j = 0; j < M; ++j) variances.at[j] = covariances.r.at[j][j];
    // A tolerance whose square is zero is out of reach, as it is for the careful form.
    constants = square_constants(covariances.g, variances, tol * tol > 0 ? tol : T(0));
    usable = independent(covariances.r);
  }
};

// Squares: analyses a group of K packs at once; appends to `left` the samples that the
// careful iteration must do.
template <class T, int M, bool each, int K>
L63FAST_INLINE std::int64_t square_group(const Analysis<T>& job, std::int64_t begin,
                                         std::int64_t end,
                                         SquareCovariances<T, M>* known,
                                         std::int64_t* left, const int* cancel) {
  Fall<T, M> falls[K];
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    const Lanes lanes = lanes_of<T>(begin, end, nullptr, k);
    if (each) known[k].load(job, lanes);
    falls[k].u_background = observed<T, M>(job, load_rows<T, 3>(job.background, lanes));
    falls[k].y = load_rows<T, M>(job.observation, lanes);
    begin_fall(known[each ? k : 0].constants, falls[k]);
  }
  for (int n = 1; n < job.max_iter; ++n) {
    Mask<T> active = ~Mask<T>::all();
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) {
      fall_on(known[each ? k : 0].constants, falls[k]);
      active = active | falls[k].active;
    }
    if (!any(active)) break;
    if (n % iterations_per_look == 0 && is_set(cancel)) return 0;
  }
  std::int64_t n_left = 0;
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    const SquareCovariances<T, M>& s = known[each ? k : 0];
    const Lanes lanes = lanes_of<T>(begin, end, nullptr, k);
    Point<T, M> p;
    Mask<T> converged;
    Mask<T> done =
        s.usable & settle(s.constants, falls[k], job.n_starts > 1, p, converged);
    const Vector<T, 3> state = state_of<T, M>(load_rows<T, 3>(job.background, lanes),
                                              s.covariances.columns, p.w);
    done = done & finite_state(state);
    const Pack<T> status =
        select(converged, number<T>(Status::converged), number<T>(Status::max_iter));
    const Pack<T> n_iter = select(falls[k].active, broadcast(T(job.max_iter)),
                                  falls[k].n_steps + broadcast(T(1)));
    write(job, lanes, state, p, status, n_iter);
    if (!any(~done)) continue;
    const Pack<T> open = select(done, Pack<T>{}, broadcast(T(1)));
    for (int lane = 0; lane < lanes.count; ++lane) {
      if (open[lane] != T(0)) left[n_left++] = lanes.first + lane;
    }
  }
  return n_left;
}

template <class T, int M, bool each>
void analyse_squares(const Analysis<T>& job, std::int64_t begin, std::int64_t end,
                     const int* cancel) {
  constexpr int packs = each ? 1 : packs_in_flight;
  SquareCovariances<T, M> known[each ? packs : 1];
  if (!each) {
    known[0].load(job, lanes_of<T>(begin, end, nullptr, 0));
    if (!any(known[0].usable)) {
      return analyse_carefully<T, M, 2>(job, begin, end, nullptr, cancel);
    }
  }
  for (std::int64_t first = begin; first < end; first += block) {
    if (is_set(cancel)) return;
    const std::int64_t last = end - first < block ? end : first + block;
    std::int64_t left[block], n_left = 0;
    for (std::int64_t i = first; i < last; i += packs * width<T>) {
      n_left +=
          square_group<T, M, each, packs>(job, i, last, known, left + n_left, cancel);
    }
    if (n_left > 0) analyse_carefully<T, M, 2>(job, 0, n_left, left, cancel);
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
  return analyse_carefully<T, M, 0>(job, begin, end, nullptr, cancel);
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
