// Simulates an ensemble and analyses it with 3D-Var of x squared, without Python.
#include <l63fast/kernels.hpp>

#include <cstdint>
#include <cstdio>
#include <vector>

int main() {
  constexpr int n = 20, n_steps = 500, n_threads = 2;
  std::vector<double> start, truth(3 * n), background, y, state(3 * n), cost(n),
      left(n);
  for (int i = 0; i < n; ++i) start.insert(start.end(), {i - 9.5, i - 8.5, i + 20.});
  const l63fast::KernelTable* tables[4];
  const auto& kernels = *tables[l63fast::available_kernels(tables) - 1];

  const l63fast::Integration<double> run{.initial = start.data(),
                                         .out = truth.data(),
                                         .strides = {3, 3, 1},
                                         .n_saved = 1,
                                         .save_every = n_steps,
                                         .dt = 0.01,
                                         .parameters = {10, 28, 8.0 / 3}};
  if (l63fast::integrate(kernels, run, n, n_threads, nullptr, nullptr)) return 1;

  for (const double value : truth) background.push_back(value + 0.5);
  for (int i = 0; i < n; ++i) y.push_back(truth[3 * i] * truth[3 * i]);
  const double B[] = {1, 0.5, 0, 0.5, 1, 0, 0, 0, 1}, R[] = {0.25};
  std::vector<std::int8_t> status(n);
  std::vector<std::int32_t> n_iter(n);
  const l63fast::Analysis<double> analysis{.background = background.data(),
                                           .observation = y.data(),
                                           .b_matrix = B,
                                           .r_matrix = R,
                                           .each_b = false,
                                           .each_r = false,
                                           .obs_dim = 1,
                                           .components = {0},
                                           .powers = {2},
                                           .n_starts = 1,
                                           .max_iter = 20,
                                           .tol = 1e-9,
                                           .gaps = false,
                                           .state = state.data(),
                                           .status = status.data(),
                                           .n_iter = n_iter.data(),
                                           .cost = cost.data(),
                                           .residual = left.data()};
  l63fast::analyse(kernels, analysis, n, n_threads, nullptr, nullptr);

  for (int i = 0; i < n; ++i)
    std::printf("%a %a %a %d %d\n", state[3 * i], state[3 * i + 1], state[3 * i + 2],
                int(status[i]), int(n_iter[i]));
}
