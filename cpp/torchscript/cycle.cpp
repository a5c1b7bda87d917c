// A cycled twin experiment without Python: truth, observations, forecasts, analyses.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "data_file.hpp"
#include "l63fast/encoder.hpp"
#include "l63fast/kernels.hpp"
#include "program.hpp"
#include "twin.hpp"

namespace l63fast {

namespace {

struct Seconds {
  double load = 0, truth = 0, forecast = 0, analysis = 0, write = 0;
};

struct Cycles {
  std::size_t n, n_cycles;
  std::vector<double> background, analysis;  // (n, n_cycles, 3)
  std::vector<double> rmse;  // (n): time mean of the rms over components
};

bool is_finite(const double* state) {
  return std::isfinite(state[0]) && std::isfinite(state[1]) && std::isfinite(state[2]);
}

// 3D-Var with the latest observation, for the cycles before a window is full.
class WarmUp {
 public:
  WarmUp(const InputFile& file, const ObservationOperator& h)
      : b_(file.values("warm_up_B", {3, 3})),
        r_(file.values("warm_up_R", {h.components.size(), h.components.size()})) {
    job_.b_matrix = b_.data();
    job_.r_matrix = r_.data();
    job_.obs_dim = h.obs_dim();
    std::copy(h.components.begin(), h.components.end(), job_.components);
    std::copy(h.powers.begin(), h.powers.end(), job_.powers);
    job_.n_starts = file.whole_number("warm_up_n_starts", 1, 8);
    job_.max_iter = file.whole_number("warm_up_max_iter", 0);
    job_.tol = file.number("warm_up_tol");
  }

  std::vector<double> analyse(const std::vector<double>& background,
                              const std::vector<double>& observation, int n_threads) {
    const std::size_t n = background.size() / 3;
    std::vector<double> state(3 * n), cost(n), residual(observation.size());
    std::vector<std::int8_t> status(n);
    std::vector<std::int32_t> n_iter(n);
    job_.background = background.data();
    job_.observation = observation.data();
    job_.state = state.data();
    job_.status = status.data();
    job_.n_iter = n_iter.data();
    job_.cost = cost.data();
    job_.residual = residual.data();
    l63fast::analyse(fastest_kernels(), job_, std::int64_t(n), n_threads, nullptr,
                     nullptr);
    return state;
  }

 private:
  std::vector<double> b_, r_;
  Analysis<double> job_{};
};

// Returns the observations [k + 1 - length, k + 1) of the trajectories `which`.
std::vector<double> latest(const Twin& twin, std::size_t k, std::size_t length,
                           const std::vector<std::size_t>& which) {
  std::vector<double> window;
  for (const std::size_t i : which) {
    const auto end = twin.observations.begin() +
                     std::ptrdiff_t((i * twin.n_obs + k + 1) * twin.obs_dim);
    window.insert(window.end(), end - std::ptrdiff_t(length * twin.obs_dim), end);
  }
  return window;
}

template <class T>
std::vector<T> rows(const std::vector<T>& from, std::size_t width,
                    const std::vector<std::size_t>& which) {
  std::vector<T> chosen;
  for (const std::size_t i : which)
    chosen.insert(chosen.end(), from.begin() + std::ptrdiff_t(i * width),
                  from.begin() + std::ptrdiff_t((i + 1) * width));
  return chosen;
}

// Replaces background and memory of every trajectory whose background is finite.
void analyse(const Encoder& encoder, const Twin& twin, std::size_t k,
             const Batching& batching, std::vector<double>& state,
             std::vector<float>& hidden) {
  std::vector<std::size_t> alive;
  for (std::size_t i = 0; i < twin.n; ++i)
    if (is_finite(&state[3 * i])) alive.push_back(i);
  const std::size_t width = std::size_t(encoder.hidden_size());
  const auto background = rows(state, 3, alive);
  auto memory = rows(hidden, width, alive);
  std::vector<double> found(background.size());
  encoder.analyse(background, latest(twin, k, std::size_t(encoder.window()), alive),
                  memory, found, batching);
  for (std::size_t j = 0; j < alive.size(); ++j) {
    std::copy_n(&found[3 * j], 3, &state[3 * alive[j]]);
    std::copy_n(memory.data() + j * width, width, hidden.data() + alive[j] * width);
  }
}

void record(const std::vector<double>& state, std::vector<double>& series,
            std::size_t place, std::size_t n_places) {
  for (std::size_t i = 0; i < state.size() / 3; ++i)
    std::copy_n(&state[3 * i], 3, &series[3 * (i * n_places + place)]);
}

Cycles cycle(const Encoder& encoder, const Twin& twin, const InputFile& file,
             const Batching& batching, Seconds& seconds) {
  const std::size_t first = std::size_t(file.whole_number("first_cycle", 0));
  const std::size_t ready = std::size_t(encoder.window()) - 1;
  if (first < ready || first >= twin.n_obs)
    throw std::runtime_error("first_cycle: expected " + std::to_string(ready) + " to " +
                             std::to_string(twin.n_obs - 1));
  Cycles cycles{twin.n, twin.n_obs - first, {}, {}, {}};
  cycles.background.resize(3 * twin.n * cycles.n_cycles);
  cycles.analysis.resize(cycles.background.size());
  auto state = file.values("initial_background", {twin.n, 3});
  std::vector<float> hidden(twin.n * std::size_t(encoder.hidden_size()));
  std::vector<std::size_t> everyone(twin.n);
  for (std::size_t i = 0; i < twin.n; ++i) everyone[i] = i;

  Stopwatch watch;
  for (std::size_t k = 0; k < twin.n_obs; ++k) {
    state = twin.model.forecast(state);
    watch.stop(seconds.forecast);
    if (k >= first) record(state, cycles.background, k - first, cycles.n_cycles);
    if (k < ready) {
      state = WarmUp(file, encoder.observation_operator())
                  .analyse(state, latest(twin, k, 1, everyone), twin.model.n_threads);
    } else {
      analyse(encoder, twin, k, batching, state, hidden);
    }
    if (k >= first) record(state, cycles.analysis, k - first, cycles.n_cycles);
    watch.stop(seconds.analysis);
  }
  return cycles;
}

std::vector<double> rmse(const Cycles& cycles, const Twin& twin) {
  const std::size_t first = twin.n_obs - cycles.n_cycles;
  std::vector<double> mean(cycles.n);
  for (std::size_t i = 0; i < cycles.n; ++i) {
    for (std::size_t k = 0; k < cycles.n_cycles; ++k) {
      double square = 0;
      for (std::size_t c = 0; c < 3; ++c) {
        const double error = cycles.analysis[3 * (i * cycles.n_cycles + k) + c] -
                             twin.truth[3 * (i * twin.n_obs + first + k) + c];
        square += error * error;
      }
      mean[i] += std::sqrt(square / 3) / double(cycles.n_cycles);
    }
  }
  return mean;
}

void report(const Cycles& cycles, const Seconds& s) {
  double sum = 0, squares = 0, n = 0;
  for (const double value : cycles.rmse)
    if (std::isfinite(value)) sum += value, squares += value * value, ++n;
  const double mean = sum / n;
  const double error = std::sqrt(std::max(squares / n - mean * mean, 0.0) / n);
  std::printf("%zu trajectories, %zu scored cycles\n", cycles.n, cycles.n_cycles);
  std::printf("rmse.a %.4f (95 %% %.4f to %.4f), lost %zu\n", mean, mean - 1.96 * error,
              mean + 1.96 * error, cycles.n - std::size_t(n));
  std::printf(
      "seconds: load %.3f, truth %.3f, forecast %.3f, analysis %.3f, "
      "write %.3f\n",
      s.load, s.truth, s.forecast, s.analysis, s.write);
}

void write(const std::string& path, const Cycles& cycles, const Twin& twin) {
  const std::vector<std::string> observed{"trajectory", "time", "component"};
  const std::vector<std::string> cycled{"trajectory", "cycle", "component"};
  write_file(
      path, "A cycled twin experiment with a trained encoder",
      {{"trajectory", twin.n},
       {"time", twin.n_obs},
       {"cycle", cycles.n_cycles},
       {"component", 3},
       {"observed", twin.obs_dim}},
      {{"truth", "true state at each observation", observed, twin.truth},
       {"observation",
        "observation",
        {"trajectory", "time", "observed"},
        twin.observations},
       {"background", "background state x_b, scored cycles", cycled, cycles.background},
       {"analysis", "analysed state x_a, scored cycles", cycled, cycles.analysis},
       {"rmse_a",
        "time mean of the rms error of the analysis",
        {"trajectory"},
        cycles.rmse}});
}

void run(const CommandLine& given) {
  Seconds seconds;
  Stopwatch watch;
  const Encoder encoder(given.model, given.permission);
  if (encoder.looks_ahead())
    throw std::runtime_error(given.model +
                             ": sees later observations, and a cycle has none");
  if (encoder.reads_gaps())
    throw std::runtime_error(given.model +
                             ": reads observations with gaps, and a cycle has none");
  const InputFile file(given.input);
  watch.stop(seconds.load);
  const Twin twin =
      Twin::from(file, encoder.observation_operator(), given.batching.n_threads);
  watch.stop(seconds.truth);
  Cycles cycles = cycle(encoder, twin, file, given.batching, seconds);
  cycles.rmse = rmse(cycles, twin);
  Stopwatch last;
  write(given.output, cycles, twin);
  last.stop(seconds.write);
  report(cycles, seconds);
}

}  // namespace

}  // namespace l63fast

int main(int n_words, char** words) {
  return l63fast::run_program(n_words, words, l63fast::run);
}
