// Analyses the backgrounds and observation windows of a file, without Python.
#include <cstdio>
#include <ctime>

#include "data_file.hpp"
#include "l63fast/encoder.hpp"
#include "program.hpp"

namespace l63fast {

namespace {

void analyse(const CommandLine& given) {
  const Encoder encoder(given.model, given.permission);
  const InputFile file(given.input);
  const Array background = file.array("background");
  const std::size_t n = background.shape.empty() ? 0 : background.shape[0];
  const std::size_t window = std::size_t(encoder.window());
  const std::size_t size = std::size_t(encoder.observation_size());
  if (background.shape != std::vector<std::size_t>{n, 3})
    throw std::runtime_error(given.input + ": background: expected the shape n 3");
  const auto obs_window = file.values("obs_window", {n, window, size});

  std::vector<float> hidden(n * std::size_t(encoder.hidden_size()));
  std::vector<double> analysis(3 * n);
  const std::size_t k = std::size_t(encoder.n_components());
  std::vector<double> components(13 * k * n);
  Stopwatch watch;
  double seconds = 0;
  const std::clock_t begun = std::clock();
  encoder.analyse(background.values, obs_window, hidden, analysis, given.batching,
                  components);
  watch.stop(seconds);
  const double processor = double(std::clock() - begun) / CLOCKS_PER_SEC;
  std::map<std::string, std::size_t> dims{{"trajectory", n}, {"component", 3}};
  std::vector<Variable> found{
      {"analysis", "analysed state x_a", {"trajectory", "component"}, analysis}};
  if (k) {
    dims.insert({{"normal", k}, {"number", 13}});
    found.push_back({"mixture",
                     "weight, mean, rows of A with the covariance A A^T",
                     {"trajectory", "normal", "number"},
                     components});
  }
  write_file(given.output, "Analyses by a trained encoder", dims, found);
  std::printf("%zu analyses in %.3g s, %.3g us each; %.6g s of the processor\n", n,
              seconds, n ? 1e6 * seconds / double(n) : 0.0, processor);
}

}  // namespace

}  // namespace l63fast

int main(int n_words, char** words) {
  return l63fast::run_program(n_words, words, l63fast::analyse);
}
