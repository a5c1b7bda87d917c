// Python binding of the GRU over windows and its backpropagation.
#include "bindings.hpp"

namespace bindings {
namespace {

// Reads the shape of a job, and the arrays that both functions need.
l63fast::GruWindow gru_window(const Job& fields) {
  const auto states = array_of<float>(fields, "states");
  if (states.ndim() != 3 || states.shape(0) < 1 || states.shape(2) < 1)
    throw std::invalid_argument("states: not (n_steps, n, n_units)");
  l63fast::GruWindow job{};
  job.n_steps = states.shape(0);
  job.n = states.shape(1);
  job.n_units = states.shape(2);
  job.n_inputs = 1;
  job.state_weights =
      read<float>(fields, "state_weights", 3 * job.n_units * job.n_units);
  job.gates = write<float>(fields, "gates", 4 * states.size());
  job.states = write<float>(fields, "states", states.size());
  return job;
}

void gru(const Job& fields, int n_threads, const std::string& level) {
  auto job = gru_window(fields);
  const auto inputs = array_of<float>(fields, "inputs");
  if (inputs.ndim() != 3 || inputs.shape(2) < 1)
    throw std::invalid_argument("inputs: not (n, n_steps, n_inputs)");
  job.n_inputs = inputs.shape(2);
  job.inputs = read(inputs, job.n * job.n_steps * job.n_inputs);
  job.input_weights =
      read<float>(fields, "input_weights", 3 * job.n_units * job.n_inputs);
  job.input_bias = read<float>(fields, "input_bias", 3 * job.n_units);
  job.state_bias = read<float>(fields, "state_bias", 3 * job.n_units);
  const KernelTable& table = table_of(level);
  without_gil(
      [&](void* gil) { l63fast::gru(table, job, n_threads, signals_pending, gil); });
}

void gru_backward(const Job& fields, int n_threads, const std::string& level) {
  auto job = gru_window(fields);
  job.gradient = read<float>(fields, "gradient", job.n * job.n_units);
  job.preactivation_grad =
      write<float>(fields, "preactivation_grad", 4 * job.n_steps * job.n * job.n_units);
  const KernelTable& table = table_of(level);
  without_gil([&](void* gil) {
    l63fast::gru_backward(table, job, n_threads, signals_pending, gil);
  });
}

}  // namespace

void define_gru(py::module_& module) {
  module.def("gru", &gru, py::arg("job"), py::arg("n_threads"), py::arg("level"));
  module.def("gru_backward", &gru_backward, py::arg("job"), py::arg("n_threads"),
             py::arg("level"));
}

}  // namespace bindings
