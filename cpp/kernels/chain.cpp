// Cycles of an encoder in training: forecast, network, analysis, and the way back.
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "calls.hpp"
#include "encoder_inputs.hpp"
#include "l63fast/network.hpp"

namespace l63fast {
namespace {

// Returns the values of a slot, or their gradients.
float* slot_of(float* values, const Network& net, int slot) {
  return values + net.slots[slot].offset * net.n;
}

// Calls body(part, at, units) for each sample and each part of a hidden state: its row
// in the part's slot, and where it stands in the whole, which has all parts in each
// row.
template <class Body>
void over_parts(const Chain& chain, const int* slots, float* values, Body body) {
  const std::int64_t n = chain.net.n;
  std::int64_t first = 0;
  for (int part = 0; part < chain.n_parts; ++part) {
    float* const rows = slot_of(values, chain.net, slots[part]);
    const std::int64_t units = chain.net.slots[slots[part]].width;
    for (std::int64_t i = 0; i < n; ++i)
      body(rows + i * units, i * chain.n_hidden + first, units);
    first += units;
  }
}

void split(const Chain& chain, const float* hidden, const int* slots, float* values) {
  over_parts(chain, slots, values, [&](float* part, std::int64_t at, std::int64_t m) {
    std::copy_n(hidden + at, m, part);
  });
}

void join(const Chain& chain, float* values, const int* slots, float* hidden) {
  over_parts(chain, slots, values, [&](float* part, std::int64_t at, std::int64_t m) {
    std::copy_n(part, m, hidden + at);
  });
}

// Returns the observation of a sample in a cycle.
const float* observed(const Chain& chain, std::int64_t k, std::int64_t i) {
  return chain.observations + (k * chain.net.n + i) * chain.n_observed;
}

// What the network sees of a sample: the background and its observation, or their
// mirror images.
struct Seen {
  bool turned;
  float state[3], observed[3];
};

Seen seen_of(const Chain& chain, const float* background, std::int64_t k,
             std::int64_t i) {
  Seen seen{chain.turns && background[0] < 0.0f, {}, {}};
  const float* const y = observed(chain, k, i);
  for (int c = 0; c < 3; ++c)
    seen.state[c] = seen.turned && c < 2 ? -background[c] : background[c];
  for (int j = 0; j < chain.n_observed; ++j)
    seen.observed[j] = seen.turned ? chain.signs[j] * y[j] : y[j];
  return seen;
}

// Mirrors the hidden states of samples with x < 0, or their gradients.
void turn(const Chain& chain, const float* backgrounds, float* hidden) {
  const std::int64_t n_parts = std::max(chain.n_parts, 1);
  const std::int64_t units = chain.n_hidden / n_parts;
  for (std::int64_t i = 0; i < chain.net.n && chain.turns; ++i) {
    if (!(backgrounds[3 * i] < 0.0f)) continue;
    for (std::int64_t part = 0; part < n_parts; ++part) {
      float* const row = hidden + i * chain.n_hidden + part * units;
      for (std::int64_t j = units - units / 2; j < units; ++j) row[j] = -row[j];
    }
  }
}

void coordinates_of(const Chain& chain, const float* state, float* coordinates) {
  if (chain.folds) {
    fold(state, coordinates);
  } else {
    std::copy_n(state, 3, coordinates);
  }
}

// Shortens gradients (n, width) to at most max_gradient times the median norm of those
// that are numbers.
template <class T>
void limit(T* gradients, std::int64_t n, std::int64_t width, double max_gradient,
           std::vector<double>& norms) {
  norms.clear();
  std::vector<double> all(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    // Several sums, which the compiler may compute together.
    T sums[8] = {};
    const T* const row = gradients + i * width;
    std::int64_t j = 0;
    for (; width - j >= 8; j += 8) {
      for (int lane = 0; lane < 8; ++lane) sums[lane] += row[j + lane] * row[j + lane];
    }
    double square = 0;
    for (; j < width; ++j) square += row[j] * row[j];
    for (const T sum : sums) square += sum;
    all[static_cast<std::size_t>(i)] = std::sqrt(square);
    if (square == square) norms.push_back(all[static_cast<std::size_t>(i)]);
  }
  if (norms.empty()) return;
  const auto middle =
      norms.begin() + static_cast<std::ptrdiff_t>((norms.size() - 1) / 2);
  std::nth_element(norms.begin(), middle, norms.end());
  const double most = max_gradient * *middle;
  for (std::int64_t i = 0; i < n; ++i) {
    const double norm = all[static_cast<std::size_t>(i)];
    if (!(norm > most && most > 0.0)) continue;
    for (std::int64_t j = 0; j < width; ++j) {
      gradients[i * width + j] =
          static_cast<T>(gradients[i * width + j] * (most / norm));
    }
  }
}

}  // namespace

void network_pack(const KernelTable& kernels, const Network& net) {
  kernels.network_pack(net);
}

void network(const KernelTable& kernels, const Network& net) {
  const DefaultArithmetic arithmetic;
  kernels.network(net);
}

void network_backward(const KernelTable& kernels, const Network& net) {
  const DefaultArithmetic arithmetic;
  kernels.network_backward(net);
}

std::int64_t chain(const KernelTable& kernels, const Chain& chain) {
  const DefaultArithmetic arithmetic;
  const int cancel = 0;
  Network net = chain.net;
  const std::int64_t n = net.n, size = 3 * n;
  const std::int64_t wide = net.slots[chain.last_slot].width;
  const std::int64_t n_context = chain.n_context;
  std::vector<float> coordinates(static_cast<std::size_t>(size));
  for (std::int64_t k = 0; k < chain.n_cycles; ++k) {
    net.values = chain.net.values + k * chain.n_values;
    double* const start = chain.starts + k * size;
    std::copy_n(chain.state, size, start);
    Integration<double> job{};
    job.initial = start;
    job.out = chain.state;
    job.strides = {3, 3, 1};
    job.n_saved = 1;
    job.save_every = chain.n_steps[k];
    job.dt = chain.dt;
    job.parameters = chain.parameters;
    if (kernels.integrate_f64(job, 0, n, &cancel) > 0) {
      for (std::int64_t i = 0; i < n; ++i)
        chain.lost[k * n + i] = !std::isfinite(chain.state[3 * i]);
      return k;
    }
    float* const background = chain.backgrounds + k * size;
    float* const last = slot_of(net.values, net, chain.last_slot);
    for (std::int64_t i = 0; i < size; ++i) {
      background[i] = static_cast<float>(chain.state[i]);
    }
    for (std::int64_t i = 0; i < n; ++i) {
      float* const row = last + i * wide;
      const Seen seen = seen_of(chain, background + 3 * i, k, i);
      float* const at = coordinates.data() + 3 * i;
      const std::int64_t sample = (k + (seen.turned ? chain.n_cycles : 0)) * n + i;
      std::copy_n(chain.context + sample * n_context, n_context, row);
      coordinates_of(chain, seen.state, at);
      for (int c = 0; c < 3; ++c)
        row[n_context + c] = (at[c] - chain.mean[c]) / chain.std[c];
      innovations(chain, seen.state, seen.observed, row + n_context + 3);
    }
    turn(chain, background, chain.hidden);
    split(chain, chain.hidden, chain.parts_before, net.values);
    kernels.network(net);
    join(chain, net.values, chain.parts_after, chain.hidden);
    turn(chain, background, chain.hidden);
    const float* const increment = slot_of(net.values, net, chain.increment_slot);
    std::int64_t n_lost = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      bool near = true;
      float* const analysis = chain.analyses + k * size + 3 * i;
      float* const at = coordinates.data() + 3 * i;
      for (int c = 0; c < 3; ++c) {
        at[c] += increment[3 * i + c] * chain.scale[c];
        if (c < 2 && chain.turns && background[3 * i] < 0.0f) at[c] = -at[c];
        near = near && std::fabs(at[c] - chain.centre[c]) <= chain.reach[c];
      }
      std::copy_n(at, 3, analysis);
      if (chain.folds) unfold(at, background + 3 * i, analysis);
      std::copy_n(analysis, 3, chain.state + 3 * i);
      chain.lost[k * n + i] = !near;
      if (near) continue;
      ++n_lost;
      std::copy_n(chain.truth + k * size + 3 * i, 3, chain.state + 3 * i);
      std::fill_n(chain.hidden + i * chain.n_hidden, chain.n_hidden, 0.0f);
    }
    if (2 * n_lost > n) return k;
  }
  return -1;
}

std::int64_t chain_backward(const KernelTable& kernels, const Chain& chain) {
  const DefaultArithmetic arithmetic;
  const int cancel = 0;
  Network net = chain.net;
  const std::int64_t n = net.n, size = 3 * n;
  const std::int64_t wide = net.slots[chain.last_slot].width;
  std::vector<double> norms, of_state(static_cast<std::size_t>(size)),
      of_background(static_cast<std::size_t>(size));
  std::vector<float> of_hidden(static_cast<std::size_t>(n * chain.n_hidden)),
      of_coordinates(static_cast<std::size_t>(size));
  std::int64_t most_steps = 1;
  for (std::int64_t k = 0; k < chain.n_cycles; ++k)
    most_steps = std::max(most_steps, chain.n_steps[k]);
  const auto n_bytes = static_cast<std::size_t>(kernels.adjoint_scratch(most_steps));
  const std::unique_ptr<CacheLine[]> scratch(new CacheLine[n_bytes / 64 + 1]);
  for (std::int64_t k = chain.n_cycles - 1; k >= 0; --k) {
    const bool is_last = k == chain.n_cycles - 1;
    net.values = chain.net.values + k * chain.n_values;
    for (std::int64_t i = 0; i < n && !is_last; ++i) {
      if (!chain.lost[k * n + i]) continue;
      std::fill_n(of_state.data() + 3 * i, 3, 0.0);
      std::fill_n(of_hidden.data() + i * chain.n_hidden, chain.n_hidden, 0.0f);
    }
    if (chain.through && !is_last)
      limit(of_state.data(), n, 3, chain.max_gradient, norms);
    float* const of_increment = slot_of(net.gradients, net, chain.increment_slot);
    const float* const increment = slot_of(net.values, net, chain.increment_slot);
    const float* const background = chain.backgrounds + k * size;
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t first = 3 * i;
      const bool turned = chain.turns && background[first] < 0.0f;
      float* const gradient = of_coordinates.data() + first;
      for (int c = 0; c < 3; ++c) {
        gradient[c] = chain.of_analyses[k * size + first + c];
        if (chain.through && !is_last)
          gradient[c] +=
              static_cast<float>(of_state[static_cast<std::size_t>(first + c)]);
        if (turned && c < 2) gradient[c] = -gradient[c];
      }
      if (chain.folds) {
        float at[3], state[3];
        fold(background + first, at);
        for (int c = 0; c < 3; ++c) at[c] += increment[first + c] * chain.scale[c];
        unfold(at, background + first, state, gradient);
      }
      for (int c = 0; c < 3; ++c)
        of_increment[first + c] = gradient[c] * chain.scale[c];
    }
    if (chain.other_slot >= 0) {
      const std::int64_t n_values = n * net.slots[chain.other_slot].width;
      std::copy_n(chain.of_other + k * n_values, n_values,
                  slot_of(net.gradients, net, chain.other_slot));
    }
    turn(chain, background, of_hidden.data());
    split(chain, of_hidden.data(), chain.parts_after, net.gradients);
    kernels.network_backward(net);
    if (k == 0) break;
    join(chain, net.gradients, chain.parts_before, of_hidden.data());
    turn(chain, background, of_hidden.data());
    limit(of_hidden.data(), n, chain.n_hidden, chain.max_gradient, norms);
    if (!chain.through) continue;
    float* const of_last = slot_of(net.gradients, net, chain.last_slot);
    for (std::int64_t i = 0; i < n; ++i) {
      const float* const row = of_last + i * wide + chain.n_context;
      const Seen seen = seen_of(chain, background + 3 * i, k, i);
      float* const sum = of_coordinates.data() + 3 * i;
      for (int c = 0; c < 3; ++c) sum[c] += row[c] / chain.std[c];
      if (chain.folds) fold_backward(seen.state, sum);
      for (int c = 0; c < 3; ++c) {
        const float of_loss = chain.of_backgrounds[k * size + 3 * i + c];
        sum[c] += seen.turned && c < 2 ? -of_loss : of_loss;
      }
      innovations(chain, seen.state, seen.observed, nullptr, row + 3, sum);
      for (int c = 0; c < 2 && seen.turned; ++c) sum[c] = -sum[c];
    }
    std::copy(of_coordinates.begin(), of_coordinates.end(), of_background.begin());
    Linearised<double> job{};
    job.state = chain.starts + k * size;
    job.vectors = of_background.data();
    job.n_vectors = 1;
    job.n_steps = chain.n_steps[k];
    job.dt = chain.dt;
    job.parameters = chain.parameters;
    job.out_vectors = of_state.data();
    if (kernels.adjoint_f64(job, 0, n, scratch.get(), &cancel) > 0) return k;
  }
  return -1;
}

}  // namespace l63fast
