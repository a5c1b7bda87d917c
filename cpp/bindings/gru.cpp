// Takes the arrays of a GRU that reads windows apart.
#include "bindings.hpp"

namespace bindings {
namespace {

// The shape of a job; the arrays that both ways take.
l63fast::GruWindow gru_window(py::ssize_t n_inputs,
                              const py::array_t<float>& state_weights,
                              const py::array_t<float>& states) {
  if (states.ndim() != 3 || states.shape(0) < 1 || states.shape(2) < 1 || n_inputs < 1)
    throw std::invalid_argument("states: not (n_steps, n, n_units)");
  l63fast::GruWindow job{};
  job.n_steps = states.shape(0);
  job.n = states.shape(1);
  job.n_units = states.shape(2);
  job.n_inputs = n_inputs;
  job.state_weights = read(state_weights, 3 * job.n_units * job.n_units);
  return job;
}

void gru(const py::array_t<float>& inputs, const py::array_t<float>& input_weights,
         const py::array_t<float>& state_weights, const py::array_t<float>& input_bias,
         const py::array_t<float>& state_bias, py::array_t<float>& gates,
         py::array_t<float>& states, int n_threads, const std::string& level) {
  if (inputs.ndim() != 3) throw std::invalid_argument("inputs: not three axes");
  auto job = gru_window(inputs.shape(2), state_weights, states);
  job.inputs = read(inputs, job.n * job.n_steps * job.n_inputs);
  job.input_weights = read(input_weights, 3 * job.n_units * job.n_inputs);
  job.input_bias = read(input_bias, 3 * job.n_units);
  job.state_bias = read(state_bias, 3 * job.n_units);
  job.gates = written(gates, 4 * states.size());
  job.states = written(states, states.size());
  const KernelTable& table = table_of(level);
  without_gil([&] { l63fast::gru(table, job, n_threads, signals_pending, nullptr); });
}

void gru_back(const py::array_t<float>& state_weights, py::array_t<float>& gates,
              py::array_t<float>& states, const py::array_t<float>& gradient,
              py::array_t<float>& slopes, int n_threads, const std::string& level) {
  auto job = gru_window(1, state_weights, states);
  job.gates = written(gates, 4 * states.size());
  job.states = written(states, states.size());
  job.gradient = read(gradient, job.n * job.n_units);
  job.slopes = written(slopes, 4 * states.size());
  const KernelTable& table = table_of(level);
  without_gil(
      [&] { l63fast::gru_back(table, job, n_threads, signals_pending, nullptr); });
}

}  // namespace

void define_gru(py::module_& module) {
  module.def("gru", &gru, py::arg("inputs").noconvert(),
             py::arg("input_weights").noconvert(), py::arg("state_weights").noconvert(),
             py::arg("input_bias").noconvert(), py::arg("state_bias").noconvert(),
             py::arg("gates").noconvert(), py::arg("states").noconvert(),
             py::arg("n_threads"), py::arg("level"));
  module.def("gru_back", &gru_back, py::arg("state_weights").noconvert(),
             py::arg("gates").noconvert(), py::arg("states").noconvert(),
             py::arg("gradient").noconvert(), py::arg("slopes").noconvert(),
             py::arg("n_threads"), py::arg("level"));
}

}  // namespace bindings
