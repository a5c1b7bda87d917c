// Exercises every kernel for the sanitizers: levels, types, batch sizes and tails,
// strides, threads, cancellation. Arrays are exactly as large as they must be. The
// argument plants a bug of the kind that is named, which a sanitizer must find.
#include <l63fast/kernels.hpp>

#include <climits>
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

// Windows there and back: gates, states, preactivation_grad.
std::vector<float> remembered(const KernelTable& kernels, std::int64_t n,
                              std::int64_t n_steps, std::int64_t n_inputs,
                              std::int64_t n_units, int n_threads, l63fast::Poll poll) {
  const auto numbers = [](std::int64_t count) {
    std::vector<float> all(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
      all[static_cast<std::size_t>(i)] = static_cast<float>(i * 37 % 127 - 63) / 128;
    }
    return all;
  };
  const auto inputs = numbers(n * n_steps * n_inputs), gradient = numbers(n * n_units);
  const auto input_weights = numbers(3 * n_units * n_inputs),
             bias = numbers(3 * n_units);
  const auto state_weights = numbers(3 * n_units * n_units);
  std::vector<float> gates(static_cast<std::size_t>(4 * n_steps * n * n_units));
  std::vector<float> states(gates.size() / 4), grad(gates);
  l63fast::GruWindow job{};
  job.n = n;
  job.n_steps = n_steps;
  job.n_inputs = n_inputs;
  job.n_units = n_units;
  job.inputs = inputs.data();
  job.input_weights = input_weights.data();
  job.state_weights = state_weights.data();
  job.input_bias = job.state_bias = bias.data();
  job.gates = gates.data();
  job.states = states.data();
  job.gradient = gradient.data();
  job.preactivation_grad = grad.data();
  l63fast::gru(kernels, job, n_threads, poll, nullptr);
  l63fast::gru_backward(kernels, job, n_threads, poll, nullptr);
  gates.insert(gates.end(), states.begin(), states.end());
  gates.insert(gates.end(), grad.begin(), grad.end());
  return gates;
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

bool remembers(const KernelTable& kernels, const KernelTable& reference) {
  bool good = true;
  for (const std::int64_t n : {0, 1, 3, 8, 9, 17}) {
    for (const std::int64_t n_units : {1, 15, 16, 17, 33}) {
      const auto windows = [&](const KernelTable& k) {
        return remembered(k, n, 3, 2, n_units, 1, nullptr);
      };
      good = good && same(windows(kernels), windows(reference));
    }
  }
  const auto many = [&](int threads) {
    return remembered(kernels, 1300, 5, 2, 64, threads, nullptr);
  };
  for (const int n_threads : {2, 4, 300}) good = good && same(many(n_threads), many(1));
  remembered(kernels, 3000, 20, 2, 64, 2, [](void*) { return true; });
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
                      filters(*tables[i], *tables[0]) &&
                      remembers(*tables[i], *tables[0]);
    std::printf("%s %s\n", tables[i]->name, good ? "same" : "DIFFERENT");
    if (!good) return 1;
  }
}
