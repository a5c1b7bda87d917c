// Exercises every kernel for the sanitizers: levels, types, batch sizes and tails,
// strides, threads, cancellation. Arrays are exactly as large as they must be. The
// argument plants a bug of the kind that is named, which a sanitizer must find.
#include <l63fast/kernels.hpp>
#include <l63fast/network.hpp>

#include <climits>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

using l63fast::KernelTable;

// Sized at once: a vector that grew would have room behind its end.
template <class T>
std::vector<T> states(std::int64_t n) {
  std::vector<T> all(static_cast<std::size_t>(3 * n));
  for (std::int64_t i = 0; i < n; ++i) {
    all[3 * i] = static_cast<T>(i * 37 % 61 - 30) / 2;
    all[3 * i + 1] = static_cast<T>(i * 53 % 71 - 35) / 2;
    all[3 * i + 2] = static_cast<T>(i % 97 == 5 ? 1e30 : 20 + i * 29 % 83);
  }
  return all;
}

template <class T>
std::vector<T> integrated(const KernelTable& kernels, std::int64_t n,
                          std::int64_t n_saved, std::int64_t save_every, int layout,
                          int n_threads, l63fast::Poll poll) {
  const std::vector<T> initial = states<T>(n);
  std::vector<T> out(static_cast<std::size_t>(3 * n * n_saved));
  // Trajectory-major, time-major, component-major, and trajectories in reverse.
  const l63fast::Strides strides[] = {
      {3 * n_saved, 3, 1}, {3, 3 * n, 1}, {1, n, n * n_saved}, {-3 * n_saved, 3, 1}};
  T* first = layout == 3 ? out.data() + 3 * n_saved * (n - 1) : out.data();
  const l63fast::Integration<T> job{initial.data(), first, strides[layout],  n_saved,
                                    save_every,     0.01,  {10, 28, 8.0 / 3}};
  l63fast::integrate(kernels, job, n, n_threads, poll, nullptr);
  return out;
}

template <class T>
std::vector<T> analysed(const KernelTable& kernels, std::int64_t n, int m, bool each,
                        int power, int max_iter, int n_threads) {
  const std::vector<T> background = states<T>(n);
  std::vector<T> y(static_cast<std::size_t>(m * n), T(9));
  const std::int64_t n_matrices = each ? n : 1;
  std::vector<T> b(static_cast<std::size_t>(9 * n_matrices), T(0.5));
  std::vector<T> r(static_cast<std::size_t>(m * m * n_matrices), T(0.25));
  for (std::int64_t i = 0; i < n_matrices; ++i) {
    for (int j = 0; j < 3; ++j) b[9 * i + 4 * j] = T(2);
    for (int j = 0; j < m; ++j) r[m * m * i + (m + 1) * j] = T(1);
  }
  std::vector<T> state(static_cast<std::size_t>(3 * n)), cost(state.size() / 3),
      left(y);
  std::vector<std::int8_t> status(cost.size());
  std::vector<std::int32_t> n_iter(cost.size());
  l63fast::Analysis<T> job{};
  job.background = background.data();
  job.observation = y.data();
  job.b_matrix = b.data();
  job.r_matrix = r.data();
  job.each_b = job.each_r = each;
  job.obs_dim = m;
  for (int j = 0; j < m; ++j) job.components[j] = j, job.powers[j] = power;
  job.n_starts = power > 1 && m > 1 ? 1 << m : 1;
  job.max_iter = max_iter;
  job.tol = 1e-5;
  job.state = state.data();
  job.status = status.data();
  job.n_iter = n_iter.data();
  job.cost = cost.data();
  job.residual = left.data();
  l63fast::analyse(kernels, job, n, n_threads, nullptr, nullptr);
  state.insert(state.end(), cost.begin(), cost.end());
  // Again with every fifth value missing.
  for (std::size_t i = 0; i < y.size(); i += 5)
    y[i] = static_cast<T>(__builtin_nan(""));
  std::vector<T> with_gaps(static_cast<std::size_t>(3 * n));
  job.gaps = true;
  job.state = with_gaps.data();
  l63fast::analyse(kernels, job, n, n_threads, nullptr, nullptr);
  state.insert(state.end(), with_gaps.begin(), with_gaps.end());
  return state;
}

// Cycles of forecast and analysis, drawn anew each time; states and scores.
std::vector<double> filtered(const KernelTable& kernels, std::int64_t n_particles,
                             int m, int n_threads, l63fast::Poll poll) {
  const std::int64_t n = 3, n_cycles = 4;
  const std::vector<double> particles = states<double>(n * n_particles);
  const std::vector<double> log_weights(static_cast<std::size_t>(n * n_particles));
  const std::vector<double> y(static_cast<std::size_t>(n * n_cycles * m), 9.0);
  const std::vector<double> root = {1, 0, 0, 0.5, 1, 0, 0, 0, 1};
  // For each of the 2^m sets of values that are present.
  std::vector<double> whitening(static_cast<std::size_t>(m * m) << m);
  const std::vector<double> lost(std::size_t{1} << m, 30.0);
  for (std::size_t i = 0; i < lost.size(); ++i) {
    for (int j = 0; j < m; ++j)
      whitening[i * static_cast<std::size_t>(m * m) +
                static_cast<std::size_t>((m + 1) * j)] = 0.5;
  }
  std::vector<double> out(particles), out_weights(log_weights);
  const std::size_t cycles = static_cast<std::size_t>(n * n_cycles);
  const std::size_t d = static_cast<std::size_t>(m);
  std::vector<double> mean(3 * cycles), background(mean), spread(mean), size(cycles);
  std::vector<double> innovation(d * cycles), covariance(d * d * cycles);
  std::vector<std::int8_t> status(cycles);
  l63fast::ParticleFilter job{};
  job.n_particles = n_particles;
  job.states = particles.data();
  job.log_weights = log_weights.data();
  job.n_cycles = n_cycles;
  job.forecasts = job.analyses = true;
  job.n_steps = poll == nullptr ? 7 : 1'000'000'000'000;
  job.dt = 0.01;
  job.parameters = {10, 28, 8.0 / 3};
  job.noise_root = job.rescue_root = root.data();
  job.observation = y.data();
  job.whitening = whitening.data();
  job.obs_dim = m;
  for (int j = 0; j < m; ++j) job.components[j] = j, job.powers[j] = 1 + j;
  job.threshold = 1;
  job.bandwidth = 0.2;
  job.lost = lost.data();
  job.folded = m == 2;
  job.out_states = out.data();
  job.out_log_weights = out_weights.data();
  job.background = background.data();
  job.innovation = innovation.data();
  job.observed_covariance = covariance.data();
  job.mean = mean.data();
  job.spread = spread.data();
  job.effective_size = size.data();
  job.status = status.data();
  l63fast::filter_particles(kernels, job, n, n_threads, poll, nullptr);
  for (const auto* more : {&out_weights, &mean, &spread, &covariance, &size}) {
    out.insert(out.end(), more->begin(), more->end());
  }
  return out;
}

// Three cycles of a network with a layer of every kind, there and back.
std::vector<float> trained(const KernelTable& kernels, std::int64_t n,
                           std::int64_t units) {
  const auto numbers = [](std::int64_t count) {
    std::vector<float> all(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
      all[static_cast<std::size_t>(i)] = static_cast<float>(i * 37 % 127 - 63) / 512;
    }
    return all;
  };
  constexpr std::int64_t n_cycles = 3, wide = 6;
  using l63fast::LayerKind;
  // Slots: read, h and c before; mixed with its slope; gru; lstm's h and c; increment.
  const std::int64_t widths[] = {wide,      units, units,     units, units, units,
                                 4 * units, units, 5 * units, units, 3};
  std::vector<l63fast::Slot> slots;
  std::int64_t n_values = 0;
  for (const std::int64_t width : widths) {
    using l63fast::SlotKind;
    const std::size_t i = slots.size();
    const bool saved = i == 4 || i == 6 || i == 8, out = i == 5 || i == 9 || i == 10;
    slots.push_back({n_values, width, true,
                     saved ? SlotKind::saved
                     : out ? SlotKind::output
                           : SlotKind::inner});
    n_values += width;
  }
  std::vector<l63fast::Layer> layers(4);
  std::int64_t n_weights = 0, n_packed = 0;
  const auto add = [&](std::size_t i, l63fast::Layer layer) {
    const bool dense = layer.kind == LayerKind::linear || layer.kind == LayerKind::silu;
    const std::int64_t gates = l63fast::gates_per_input(layer.kind);
    std::int64_t n_rows = dense ? 0 : layer.n_units;
    for (int k = 0; k < layer.n_inputs; ++k)
      n_rows += widths[static_cast<std::size_t>(layer.inputs[k])];
    layer.weights = n_weights;
    layer.packed = n_packed;
    n_weights += gates * n_rows * layer.n_units + (dense ? 1 : 4) * layer.n_units;
    n_packed += 2 * (gates + 4) * l63fast::padded(n_rows + 64) *
                l63fast::padded(layer.n_units + 64);
    layers[i] = layer;
  };
  add(0, {LayerKind::silu, units, 2, {0, 1}, -1, -1, 4, 3, -1, 0, 0, false});
  add(1, {LayerKind::gru, units, 2, {3, 0}, 1, -1, 6, 5, -1, 0, 0, false});
  add(2, {LayerKind::lstm, units, 1, {5, 0}, 5, 2, 8, 7, 9, 0, 0, false});
  add(3, {LayerKind::linear, 3, 2, {0, 7}, -1, -1, -1, 10, -1, 0, 0, false});
  const auto weights = numbers(n_weights);
  std::vector<float> packed(static_cast<std::size_t>(n_packed));
  l63fast::Chain job{};
  job.n_values = n_values * n + 16;
  std::vector<float> values(static_cast<std::size_t>(n_cycles * job.n_values));
  std::vector<float> gradients(static_cast<std::size_t>(job.n_values));
  std::vector<float> sums(weights.size());
  job.net = {n,
             0,
             n,
             slots.data(),
             static_cast<int>(slots.size()),
             layers.data(),
             static_cast<int>(layers.size()),
             weights.data(),
             packed.data(),
             values.data(),
             gradients.data(),
             sums.data()};
  l63fast::network_pack(kernels, job.net);
  const std::int64_t n_steps[n_cycles] = {3, 1, 2};
  const std::int64_t n_context = wide - 5;  // one observed value makes two innovations
  const auto context = numbers(n_cycles * n * n_context);
  auto observations = numbers(n_cycles * n);
  for (std::size_t i = 0; i < observations.size(); i += 3) observations[i] = NAN;
  const std::int64_t component = 0, power = 2;
  const auto loss = numbers(n_cycles * n * 3);
  const float scale[3] = {1, 2, 3};
  const double centre[3] = {0, 0, 25}, reach[3] = {70, 70, 90};
  std::vector<double> truth = states<double>(n), state = truth;
  truth.resize(static_cast<std::size_t>(n_cycles * 3 * n), 1.0);
  for (double& x : state) x = x > 1e3 ? 20 : x;
  std::vector<double> starts(truth.size());
  std::vector<float> hidden(static_cast<std::size_t>(n * 2 * units)),
      backgrounds(truth.size()), analyses(truth.size());
  std::vector<std::uint8_t> lost(static_cast<std::size_t>(n_cycles * n));
  job.n_cycles = n_cycles;
  job.n_steps = n_steps;
  job.dt = 0.01;
  job.parameters = {10, 28, 8.0 / 3};
  job.last_slot = 0;
  job.increment_slot = 10;
  job.n_parts = 2;
  job.parts_before[0] = 1;
  job.parts_before[1] = 2;
  job.parts_after[0] = 5;
  job.parts_after[1] = 9;
  job.n_hidden = 2 * units;
  job.n_context = n_context;
  job.context = context.data();
  job.folds = job.reads_slope = true;
  job.n_observed = 1;
  job.components = &component;
  job.powers = &power;
  job.observations = observations.data();
  job.innovation_std = job.mean = job.std = scale;
  job.scale = scale;
  job.centre = centre;
  job.reach = reach;
  job.truth = truth.data();
  job.state = state.data();
  job.hidden = hidden.data();
  job.starts = starts.data();
  job.backgrounds = backgrounds.data();
  job.analyses = analyses.data();
  job.lost = lost.data();
  job.of_backgrounds = job.of_analyses = loss.data();
  job.through = true;
  job.max_gradient = 8;
  l63fast::chain(kernels, job);
  l63fast::chain_backward(kernels, job);
  sums.insert(sums.end(), analyses.begin(), analyses.end());
  sums.insert(sums.end(), hidden.begin(), hidden.end());
  return sums;
}

template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class T>
bool exercised(const KernelTable& kernels, const KernelTable& reference) {
  bool good = true;
  for (const std::int64_t n : {0, 1, 2, 3, 7, 8, 9, 39, 40, 41, 83, 320, 321}) {
    for (int layout = 0; layout < (n == 0 ? 1 : 4); ++layout) {
      const auto path = [&](const KernelTable& k) {
        return integrated<T>(k, n, 19, 2, layout, 2, nullptr);
      };
      good = good && same(path(kernels), path(reference));
    }
    for (int m = 1; m <= 3; ++m) {
      for (int power = 1; power <= 4; ++power) {
        const auto analysis = [&](const KernelTable& k) {
          return analysed<T>(k, n, m, power % 2 == 0, power, 5, 2);
        };
        good = good && same(analysis(kernels), analysis(reference));
      }
    }
  }
  // Large enough that the threads are really started.
  const auto many = [&](int n_threads) {
    std::vector<T> all = integrated<T>(kernels, 1013, 1, 2500, 0, n_threads, nullptr);
    const std::vector<T> more = analysed<T>(kernels, 1013, 2, true, 2, 500, n_threads);
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  for (const int n_threads : {2, 4, 300}) good = good && same(many(n_threads), many(1));
  const auto at_once = [](void*) { return true; };
  integrated<T>(kernels, 2000, 1, 1'000'000'000'000, 0, 4, at_once);
  return good;
}

bool filters(const KernelTable& kernels, const KernelTable& reference) {
  bool good = true;
  for (const std::int64_t n : {1, 2, 7, 8, 9, 39, 41, 321}) {
    for (int m = 1; m <= 3; ++m) {
      good = good && same(filtered(kernels, n, m, 1, nullptr),
                          filtered(reference, n, m, 1, nullptr));
    }
  }
  const auto many = [&](int threads) {
    return filtered(kernels, 20'003, 3, threads, nullptr);
  };
  for (const int n_threads : {2, 4, 300}) good = good && same(many(n_threads), many(1));
  filtered(kernels, 100, 3, 2, [](void*) { return true; });
  return good;
}

bool trains(const KernelTable& kernels, const KernelTable& reference) {
  bool good = true;
  for (const std::int64_t n : {0, 1, 3, 6, 17, 100}) {
    for (const std::int64_t units : {1, 15, 16, 17, 65}) {
      good = good && same(trained(kernels, n, units), trained(reference, n, units));
    }
  }
  return good;
}

void plant(const std::string& kind) {
  if (kind == "overflow") {
    std::vector<double> last = states<double>(1);
    last.data()[3 + (std::thread::hardware_concurrency() > INT_MAX)] = 1;
  } else if (kind == "undefined") {
    volatile int largest = INT_MAX;
    largest = largest + 1;
  } else if (kind == "race") {
    int shared = 0;
    std::thread other([&] { ++shared; });
    ++shared;
    other.join();
  }
}

int main(int argc, char** argv) {
  if (argc > 1) plant(argv[1]);
  const KernelTable* tables[4];
  const int count = l63fast::available_kernels(tables);
  for (int i = 0; i < count; ++i) {
    const bool good = exercised<double>(*tables[i], *tables[0]) &&
                      exercised<float>(*tables[i], *tables[0]) &&
                      filters(*tables[i], *tables[0]) && trains(*tables[i], *tables[0]);
    std::printf("%s %s\n", tables[i]->name, good ? "same" : "DIFFERENT");
    if (!good) return 1;
  }
}
