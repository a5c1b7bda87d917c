// The encoder on libtorch. No exception type of torch leaves this file.
#include "l63fast/encoder.hpp"

#include <ATen/Parallel.h>
#include <torch/script.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <mutex>
#include <sstream>
#include <thread>

#include "model_files.hpp"

namespace l63fast {

namespace {

torch::jit::Module loaded(const std::string& program) {
  // Loaded from memory, not from the path, so that the loaded bytes are the checked
  // ones.
  std::istringstream stream(program);
  torch::jit::Module module = torch::jit::load(stream);
  module.eval();
  return module;
}

// With `size` above 0, the length of an observation, all of its values but the last may
// be NaN.
void check_finite(std::span<const double> values, std::int64_t n, const char* name,
                  std::ptrdiff_t size = 0) {
  const auto bad = std::find_if(values.begin(), values.end(), [&](const double& value) {
    const bool may_miss = size && (&value - values.data()) % size < size - 1;
    return !std::isfinite(value) && !(may_miss && std::isnan(value));
  });
  if (bad == values.end()) return;
  const auto member = (bad - values.begin()) / (std::int64_t(values.size()) / n);
  throw std::invalid_argument(std::string(name) + ": expected finite values, got " +
                              std::to_string(*bad) + " at sample " +
                              std::to_string(member));
}

void check_size(std::size_t size, std::int64_t expected, const char* name) {
  if (std::int64_t(size) != expected)
    throw std::invalid_argument(std::string(name) + ": expected " +
                                std::to_string(expected) + " numbers, got " +
                                std::to_string(size));
}

constexpr std::int64_t component_size = 13;

// The part of a batch that one call of the program analyses.
struct Chunk {
  const double *background, *obs_window;
  float* hidden;
  double *analysis, *components;
  std::int64_t n, window, observation_size, hidden_size, n_components;
};

// Calls body(0) to body(n - 1) on new threads, each with one thread of torch. Rethrows
// the first exception when all have ended.
template <class Body>
void each(std::int64_t n, int n_threads, const Body& body) {
  if (n_threads == 1) {
    for (std::int64_t i = 0; i < n; ++i) body(i);
    return;
  }
  std::atomic<std::int64_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&] {
    try {
      at::set_num_threads(1);
      for (std::int64_t i; (i = next++) < n;) body(i);
    } catch (...) {
      next = n;
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  const int before = at::get_num_threads();
  {
    std::vector<std::jthread> workers;
    for (int i = 0; i < n_threads; ++i) workers.emplace_back(work);
  }
  at::set_num_threads(before);  // the number that later threads of the caller start
                                // with
  if (failure) std::rethrow_exception(failure);
}

// Returns the program's output as a contiguous float32 tensor, if it has this shape.
torch::Tensor checked(const torch::jit::IValue& value, at::IntArrayRef shape) {
  if (!value.isTensor()) throw ModelError("the program returned no tensor");
  const torch::Tensor& tensor = value.toTensor();
  if (tensor.sizes() != shape || tensor.scalar_type() != torch::kFloat32 ||
      !tensor.device().is_cpu())
    throw ModelError("the program returned a tensor of another shape or type");
  return tensor.contiguous();
}

}  // namespace

ObservationOperator ObservationOperator::named(const std::string& name) {
  ObservationOperator h{name, {}, {}};
  for (std::size_t i = 0; i < name.size();) {
    const int component = name[i] - 'x';
    if (component < 0 || component > 2 ||
        (!h.components.empty() && component <= h.components.back()))
      break;
    h.components.push_back(component);
    const bool has_power = ++i < name.size() && name[i] >= '1' && name[i] <= '4';
    h.powers.push_back(has_power ? name[i++] - '0' : 1);
    if (i == name.size()) return h;
  }
  throw std::invalid_argument("operator: expected a name such as 'xy' or 'x2', got '" +
                              name + "'");
}

void ObservationOperator::observe(const double* state, double* out) const {
  for (std::size_t i = 0; i < components.size(); ++i) {
    const double value = state[components[i]];
    out[i] = value;
    for (int k = 1; k < powers[i]; ++k) out[i] *= value;
  }
}

struct Encoder::Parts {
  ModelCard card;
  torch::jit::Module module;

  void analyse(const Chunk& chunk);
};

void Encoder::Parts::analyse(const Chunk& chunk) {
  const c10::InferenceMode inference;
  auto states = torch::empty({chunk.n, 3});
  auto windows = torch::empty({chunk.n, chunk.window, chunk.observation_size});
  auto memory = torch::empty({chunk.n, chunk.hidden_size});
  std::copy_n(chunk.background, states.numel(), states.data_ptr<float>());
  std::copy_n(chunk.obs_window, windows.numel(), windows.data_ptr<float>());
  std::copy_n(chunk.hidden, memory.numel(), memory.data_ptr<float>());
  try {
    const auto result = module.forward({states, windows, memory});
    const std::size_t n_outputs = chunk.n_components ? 3 : 2;
    if (!result.isTuple() || result.toTupleRef().elements().size() != n_outputs)
      throw ModelError("the program returned another number of tensors");
    const auto& outputs = result.toTupleRef().elements();
    const auto found = checked(outputs[0], {chunk.n, 3});
    const auto kept = checked(outputs[1], {chunk.n, chunk.hidden_size});
    if (chunk.components) {
      const auto all =
          checked(outputs[2], {chunk.n, chunk.n_components, component_size});
      std::copy_n(all.data_ptr<float>(), all.numel(), chunk.components);
    }
    std::copy_n(found.data_ptr<float>(), found.numel(), chunk.analysis);
    std::copy_n(kept.data_ptr<float>(), kept.numel(), chunk.hidden);
  } catch (const ModelError&) {
    throw;
  } catch (const c10::Error& error) {
    throw ModelError(std::string("the program failed: ") +
                     error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw ModelError(std::string("the program failed: ") + error.what());
  }
}

Encoder::Encoder(const std::filesystem::path& directory, const Permission& permission) {
  ModelCard card = read_card(directory);
  const std::string program = read_program(directory, card, permission);
  try {
    parts_ = std::make_unique<Parts>(std::move(card), loaded(program));
    parts_->module.get_method("forward");
  } catch (const c10::Error& error) {
    throw ModelError(directory.string() + ": is not a TorchScript program: " +
                     error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw ModelError(directory.string() +
                     ": is not a TorchScript program: " + error.what());
  }
}

Encoder::Encoder(Encoder&&) noexcept = default;
Encoder& Encoder::operator=(Encoder&&) noexcept = default;
Encoder::~Encoder() = default;

const ObservationOperator& Encoder::observation_operator() const {
  return parts_->card.observation_operator;
}
int Encoder::window() const { return parts_->card.window; }
int Encoder::hidden_size() const { return parts_->card.hidden_size; }
bool Encoder::looks_ahead() const { return parts_->card.looks_ahead; }
bool Encoder::reads_gaps() const { return parts_->card.reads_gaps; }
int Encoder::observation_size() const {
  return observation_operator().obs_dim() + reads_gaps();
}
int Encoder::n_components() const { return parts_->card.n_components; }
double Encoder::interval() const { return parts_->card.interval; }

void Encoder::analyse(std::span<const double> background,
                      std::span<const double> obs_window, std::span<float> hidden,
                      std::span<double> analysis, const Batching& batching,
                      std::span<double> components) const {
  const std::int64_t n = std::int64_t(background.size()) / 3;
  const std::int64_t m = observation_size(), length = window();
  check_size(background.size(), 3 * n, "background");
  check_size(obs_window.size(), length * m * n, "obs_window");
  check_size(hidden.size(), hidden_size() * n, "hidden");
  check_size(analysis.size(), 3 * n, "analysis");
  const std::int64_t per_sample = n_components() * component_size;
  if (!components.empty()) check_size(components.size(), per_sample * n, "components");
  if (batching.chunk < 1 || batching.n_threads < 1)
    throw std::invalid_argument("batching: expected at least 1 sample and 1 thread");
  if (n == 0) return;
  check_finite(background, n, "background");
  check_finite(obs_window, n, "obs_window", reads_gaps() ? m : 0);
  const std::int64_t share = (n + batching.n_threads - 1) / batching.n_threads;
  const std::int64_t chunk = std::min(batching.chunk, share);
  const std::int64_t n_chunks = (n + chunk - 1) / chunk;
  const auto one_chunk = [&](std::int64_t index) {
    const std::int64_t first = index * chunk, size = std::min(chunk, n - first);
    parts_->analyse(
        {background.data() + 3 * first, obs_window.data() + length * m * first,
         hidden.data() + hidden_size() * first, analysis.data() + 3 * first,
         components.empty() ? nullptr : components.data() + per_sample * first, size,
         length, m, hidden_size(), n_components()});
  };
  each(n_chunks, int(std::min<std::int64_t>(batching.n_threads, n_chunks)), one_chunk);
}

}  // namespace l63fast
