// The extension module: the functions of the other files here, and the speed limits of
// the machine.
#include <cstdlib>

#include "bindings.hpp"

namespace {

namespace py = pybind11;
using bindings::KernelTable;
using bindings::read;
using bindings::table_of;
using bindings::tables;
using bindings::without_gil;

std::vector<std::string> levels() {
  std::vector<std::string> names;
  for (const KernelTable* table : tables()) names.emplace_back(table->name);
  return names;
}

// os.environ raises and catches an exception where a variable is not set, which takes
// as long as the other work of a short call.
py::object environment(const char* name) {
  const char* const value = std::getenv(name);
  if (value == nullptr) return py::none();
  return py::reinterpret_steal<py::object>(PyUnicode_DecodeFSDefault(value));
}

std::int64_t instructions(int kind, bool single, std::int64_t rounds,
                          const std::string& level) {
  if (kind < 0 || kind > 3) throw std::invalid_argument("kind: 0 to 3");
  const KernelTable& table = table_of(level);
  const auto entry = single ? table.instructions_f32 : table.instructions_f64;
  std::int64_t count = 0;
  without_gil(
      [&](void*) { count = entry(static_cast<l63fast::Instruction>(kind), rounds); });
  return count;
}

void fill(py::array_t<double>& out, bool non_temporal, const std::string& level) {
  double* const data = out.mutable_data();
  read(out, out.size());
  if (out.size() % 8 != 0 || reinterpret_cast<std::uintptr_t>(data) % 64 != 0)
    throw std::invalid_argument("out: not whole lines of 64 bytes");
  const std::int64_t n = out.size();
  const KernelTable& table = table_of(level);
  without_gil([&](void*) { table.fill(data, n, non_temporal); });
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.doc() =
      "The compiled kernels of l63fast; l63fast._kernels.cpp is their only user.";
  module.def("levels", &levels, "Instruction sets that can run here, in rising order.");
  module.def("environment", &environment, py::arg("name"),
             "The value of an environment variable, or None; quicker than os.environ.");
  module.def(
      "register_bytes",
      [](const std::string& level) { return table_of(level).register_bytes; },
      py::arg("level"));
  module.def("instructions", &instructions, py::arg("kind"), py::arg("single"),
             py::arg("rounds"), py::arg("level"));
  module.def("fill", &fill, py::arg("out").noconvert(), py::arg("non_temporal"),
             py::arg("level"));
  bindings::define_model(module);
  bindings::define_analysis(module);
  bindings::define_particles(module);
  bindings::define_network(module);
}
