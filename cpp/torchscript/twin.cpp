// Truth by the core's integrator, and observations by h and the noise in the file. This
// is compiled without contraction to fma, like the core, so the bits are those of
// Python.
#include "twin.hpp"

#include <algorithm>
#include <stdexcept>

namespace l63fast {

const KernelTable& fastest_kernels() {
  const KernelTable* tables[4];
  return *tables[available_kernels(tables) - 1];
}

std::vector<double> Model::forecast(const std::vector<double>& states) const {
  std::vector<double> later(states.size());
  const Integration<double> run{.initial = states.data(),
                                .out = later.data(),
                                .strides = {3, 3, 1},
                                .n_saved = 1,
                                .save_every = steps_per_cycle,
                                .dt = dt,
                                .parameters = parameters,
                                .streamed = false};
  integrate(fastest_kernels(), run, std::int64_t(states.size() / 3), n_threads, nullptr,
            nullptr);
  return later;
}

namespace {

Model read_model(const InputFile& file, int n_threads) {
  return {.dt = file.number("dt"),
          .parameters = {file.number("model_sigma"), file.number("model_rho"),
                         file.number("model_beta")},
          .steps_per_cycle = file.whole_number("steps_per_cycle", 1),
          .n_threads = n_threads};
}

}  // namespace

Twin Twin::from(const InputFile& file, const ObservationOperator& h, int n_threads) {
  if (const std::string name = file.text("operator"); name != h.name)
    throw std::runtime_error("operator: the model observes '" + h.name +
                             "', the file '" + name + "'");
  const Array noise = file.array("observation_noise");
  const std::size_t m = std::size_t(h.obs_dim());
  if (noise.shape.size() != 3 || noise.shape[2] != m)
    throw std::runtime_error("observation_noise: expected the shape n n_obs obs_dim");
  Twin twin{read_model(file, n_threads), noise.shape[0], noise.shape[1], m, {}, {}};
  const std::size_t n = twin.n, n_obs = twin.n_obs;
  auto state = file.values("initial_truth", {n, 3});
  std::vector<double> error;
  if (file.has("model_error")) error = file.values("model_error", {n, n_obs, 3});

  twin.truth.resize(n * n_obs * 3);
  twin.observations.resize(n * n_obs * m);
  for (std::size_t k = 0; k < n_obs; ++k) {
    state = twin.model.forecast(state);
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t place = i * n_obs + k;
      for (std::size_t c = 0; c < 3 && !error.empty(); ++c)
        state[3 * i + c] += error[3 * place + c];
      std::copy_n(&state[3 * i], 3, &twin.truth[3 * place]);
      double* y = &twin.observations[m * place];
      h.observe(&state[3 * i], y);
      for (std::size_t j = 0; j < m; ++j) y[j] += noise.values[m * place + j];
    }
  }
  return twin;
}

}  // namespace l63fast
