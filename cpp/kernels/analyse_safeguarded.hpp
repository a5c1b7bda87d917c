// The safeguarded iteration over a batch: for any operator, any covariances and every
// basin.
#pragma once

#include "analysis_parts.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

constexpr int safeguarded_packs = 2;  // packs of samples that are iterated together

// The input of the safeguarded iteration for one pack of samples, and its result.
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
  }
}

template <class T, int M, int P>
L63FAST_INLINE void load_states(const Analysis<T>& job, const Lanes& lanes,
                                Sample<T, M, P>& sample) {
  sample.background = load_rows<T, 3>(job.background, lanes);
  sample.problem.u_background = observed<T, M>(job, sample.background);
  sample.problem.y = load_rows<T, M>(job.observation, lanes);
  Problem<T, M, P>& s = sample.problem;
  for (int j = 0; j < M; ++j) {
    const Pack<T> r = sample.covariances.r.at[j][j];
    s.scale.at[j] = magnitude(s.u_background.at[j]) +
                    smaller_spread<T>(s.g.at[j][j], r, s.power(j));
  }
}

template <class T, int M, int P>
L63FAST_INLINE void start_at_background(Sample<T, M, P>& sample) {
  Point<T, M>& p = sample.best;
  for (int i = 0; i < M; ++i) {
    p.w.at[i] = p.v.at[i] = Pack<T>{};
    p.u.at[i] = sample.problem.u_background.at[i];
  }
  evaluate(sample.problem, p);
  p.cost = cost_of(p);
  sample.status = number<T>(Status::max_iter);
  sample.n_iter = Pack<T>{};
}

// Finds the lowest of the minima that the starting points lead to. A minimum that is
// lower by rounding errors only does not replace one that has converged.
template <class T, int M, int P, int K>
L63FAST_INLINE void minimise(const Analysis<T>& job, Sample<T, M, P>* samples,
                             const int* cancel) {
  const T tol = reachable<T>(job.tol);
  Pack<T> background_cost[K];
  for (int k = 0; k < K; ++k) background_cost[k] = samples[k].best.cost;
  for (int basin = 0; basin < job.n_starts; ++basin) {
    Descent<T, M> descents[K];
    Mask<T> tried[K], active = ~Mask<T>::all();
    for (int k = 0; k < K; ++k) {
      tried[k] = basin == 0
                     ? Mask<T>::all()
                     : other_basin_may_be_lower(samples[k].problem, samples[k].best);
      descents[k] = begin(samples[k].problem, basin, job.max_iter);
      descents[k].active = tried[k];
      active = active | tried[k];
    }
    if (!any(active)) break;
    for (int n = 1; n <= job.max_iter; ++n) {
      active = ~Mask<T>::all();
      for (int k = 0; k < K; ++k) {
        advance(samples[k].problem, tol, n, descents[k]);
        active = active | descents[k].active;
      }
      if (!any(active)) break;
      if (n % iterations_per_check == 0 && is_set(cancel)) return;
    }
    for (int k = 0; k < K; ++k) {
      Sample<T, M, P>& sample = samples[k];
      Mask<T> better = tried[k];
      if (basin > 0) {
        const Pack<T> best = sample.best.cost,
                      highest = highest_acceptable(sample.problem, sample.best);
        const Mask<T> converged = equal(sample.status, number<T>(Status::converged));
        const Pack<T> rounding = select(converged, highest - best, Pack<T>{});
        better = better & ~at_most(best, descents[k].at.cost + rounding);
      }
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

// Writes the analysis that belongs to w.
template <class T, int M, int P>
L63FAST_INLINE void finish(const Analysis<T>& job, const Lanes& lanes,
                           Sample<T, M, P>& sample) {
  Point<T, M>& p = sample.best;
  const Vector<T, 3> state =
      state_of<T, M>(sample.background, sample.covariances.columns, p.w);
  p.u = observed<T, M>(job, state);
  evaluate(sample.problem, p);
  p.v = times(sample.problem.g, p.w);
  p.cost = cost_of(p);
  write_finite(job, lanes, state, p, sample.status, sample.n_iter);
}

// Runs the safeguarded iteration for the samples [begin, end), or index[begin, end).
template <class T, int M, int P>
void analyse_safeguarded(const Analysis<T>& job, std::int64_t begin, std::int64_t end,
                         const std::int64_t* index, const int* cancel) {
  constexpr int packs = safeguarded_packs;
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

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
