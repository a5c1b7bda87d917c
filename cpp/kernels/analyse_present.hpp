// Missing observations: samples with the same values present are gathered and analysed
// as a problem that has these values only. So they get the bits of that problem.
#pragma once

#include "analysis_parts.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// Input and results of samples that have the same values present.
template <class T>
struct Gathered {
  T background[3 * block], observation[3 * block], b_matrix[9 * block];
  T r_matrix[9 * block], state[3 * block], cost[block], residual[3 * block];
  std::int8_t status[block];
  std::int32_t n_iter[block];
};

// Returns the values that are present: bit j is set for value j.
template <class T>
int present_in(const T* y, int obs_dim) {
  int present = 0;
  for (int j = 0; j < obs_dim; ++j) present |= (y[j] == y[j]) << j;
  return present;
}

// Returns the job of the present values only, for samples that lie in `to`. The number
// of starts is that of the basins that are left; a single even power needs one.
template <class T>
Analysis<T> job_of_present(const Analysis<T>& job, int present, int (&chosen)[3],
                           Gathered<T>& to) {
  Analysis<T> part = job;
  part.gaps = false;
  part.obs_dim = 0;
  int n_basins = 1;
  for (int j = 0; j < job.obs_dim; ++j) {
    if ((present >> j & 1) == 0) continue;
    chosen[part.obs_dim] = j;
    part.components[part.obs_dim] = job.components[j];
    part.powers[part.obs_dim++] = job.powers[j];
    if (job.powers[j] > 1) n_basins *= 2;
  }
  if (part.obs_dim == 1 && part.powers[0] % 2 == 0) n_basins = 1;
  if (job.n_starts > 1) part.n_starts = n_basins;
  part.background = to.background;
  part.observation = to.observation;
  part.r_matrix = to.r_matrix;
  if (job.each_b) part.b_matrix = to.b_matrix;
  part.state = to.state;
  part.status = to.status;
  part.n_iter = to.n_iter;
  part.cost = to.cost;
  part.residual = to.residual;
  return part;
}

// Copies sample i, and its matrices, to place k.
template <class T>
void gather_sample(const Analysis<T>& job, std::int64_t i, const int (&chosen)[3],
                   int dim, std::int64_t k, Gathered<T>& to) {
  const int m = job.obs_dim;
  for (int c = 0; c < 3; ++c) to.background[3 * k + c] = job.background[3 * i + c];
  if (job.each_b) {
    for (int c = 0; c < 9; ++c) to.b_matrix[9 * k + c] = job.b_matrix[9 * i + c];
  }
  for (int a = 0; a < dim; ++a) {
    to.observation[dim * k + a] = job.observation[m * i + chosen[a]];
  }
  if (k > 0 && !job.each_r) return;
  const T* const r = job.r_matrix + (job.each_r ? m * m * i : 0);
  for (int a = 0; a < dim; ++a) {
    for (int b = 0; b < dim; ++b) {
      to.r_matrix[dim * (dim * k + a) + b] = r[m * chosen[a] + chosen[b]];
    }
  }
}

// Writes the result at place k as that of sample i; residuals of missing values are
// NaN.
template <class T>
void scatter_sample(const Analysis<T>& job, std::int64_t i, const int (&chosen)[3],
                    int dim, std::int64_t k, const Gathered<T>& from) {
  for (int c = 0; c < 3; ++c) job.state[3 * i + c] = from.state[3 * k + c];
  job.status[i] = from.status[k];
  job.n_iter[i] = from.n_iter[k];
  job.cost[i] = from.cost[k];
  T* const residual = job.residual + job.obs_dim * i;
  for (int j = 0; j < job.obs_dim; ++j) residual[j] = static_cast<T>(__builtin_nan(""));
  for (int a = 0; a < dim; ++a) residual[chosen[a]] = from.residual[dim * k + a];
}

// Without any observed value the analysis is the background, and J is 0 there.
template <class T>
void keep_background(std::int64_t k, Gathered<T>& sample) {
  bool finite = true;
  for (int c = 0; c < 3; ++c) {
    const T value = sample.background[3 * k + c];
    sample.state[3 * k + c] = value;
    finite = finite && value - value == 0;
  }
  const T nan = static_cast<T>(__builtin_nan(""));
  for (int c = 0; !finite && c < 3; ++c) sample.state[3 * k + c] = nan;
  sample.cost[k] = finite ? T(0) : nan;
  sample.status[k] =
      static_cast<std::int8_t>(finite ? Status::converged : Status::non_finite);
  sample.n_iter[k] = 0;
}

// Calls `analyse` for the samples of each pattern of present values, block by block.
template <class T, class Method>
void analyse_present(const Analysis<T>& job, std::int64_t begin, std::int64_t end,
                     const int* cancel, Method analyse) {
  const int n_patterns = 1 << job.obs_dim;
  Gathered<T> samples;
  for (std::int64_t first = begin; first < end; first += block) {
    if (is_set(cancel)) return;
    // The samples by pattern: a counting sort, which has no branch per sample.
    const int n = static_cast<int>(end - first < block ? end - first : block);
    const T* const y = job.observation + job.obs_dim * first;
    std::int8_t pattern[block];
    int place[9] = {};
    for (int i = 0; i < n; ++i) {
      const int present = present_in(y + job.obs_dim * i, job.obs_dim);
      pattern[i] = static_cast<std::int8_t>(present);
      ++place[present + 1];
    }
    for (int i = 1; i < n_patterns; ++i) place[i] += place[i - 1];
    std::int64_t sorted[block];
    for (int i = 0; i < n; ++i) sorted[place[pattern[i]]++] = first + i;
    // Now place[i] is the end of pattern i.
    for (int present = 0, from = 0; present < n_patterns; ++present) {
      const int count = place[present] - from;
      const std::int64_t* const index = sorted + from;
      from = place[present];
      if (count == 0) continue;
      int chosen[3] = {};
      const Analysis<T> part = job_of_present(job, present, chosen, samples);
      for (int k = 0; k < count; ++k) {
        gather_sample(job, index[k], chosen, part.obs_dim, k, samples);
        if (present == 0) keep_background(k, samples);
      }
      if (present != 0) analyse(part, 0, count, cancel);
      for (int k = 0; k < count; ++k) {
        scatter_sample(job, index[k], chosen, part.obs_dim, k, samples);
      }
    }
  }
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
