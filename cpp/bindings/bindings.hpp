// Shared by the bindings: checks of memory, the GIL, the kernels of a level.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "l63fast/kernels.hpp"

namespace bindings {

namespace py = pybind11;
using l63fast::KernelTable;

inline std::vector<const KernelTable*> tables() {
  const KernelTable* available[4];
  const int count = l63fast::available_kernels(available);
  return {available, available + count};
}

inline const KernelTable& table_of(const std::string& level) {
  for (const KernelTable* table : tables()) {
    if (level == table->name) return *table;
  }
  throw std::invalid_argument("level: not available: " + level);
}

// Gives the GIL up while it lives. A thread that wants it back when the interpreter
// ends waits for the end of the process: before 3.14 Python ends such a thread, and
// does so by unwinding it, which no destructor on the way survives.
class GilReleased {
 public:
  GilReleased() : ends_(!Py_IsInitialized()), state_(PyEval_SaveThread()) {}
  ~GilReleased() { take(); }
  GilReleased(const GilReleased&) = delete;
  GilReleased& operator=(const GilReleased&) = delete;

  // Runs Python's signal handlers; returns true where one of them raised.
  bool signals_pending() {
    take();
    const bool raised = PyErr_CheckSignals() != 0;
    state_ = PyEval_SaveThread();
    return raised;
  }

 private:
  void take() noexcept {
    // Who had the GIL while the interpreter ended is who ends it, and may have it.
    if (!ends_ && !Py_IsInitialized()) wait_forever();
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {  // the end came while this thread waited; to leave would be fatal
      wait_forever();
    }
  }

  [[noreturn]] static void wait_forever() {
    for (;;) pause();
  }

  const bool ends_;
  PyThreadState* state_;
};

inline bool signals_pending(void* gil) {
  return static_cast<GilReleased*>(gil)->signals_pending();
}

inline void rethrow_python_error() {
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
}

// Returns the data of a contiguous array of n_items values. The errors never reach a
// user: arguments are checked in Python, and this check protects the memory.
template <class T>
const T* read(const py::array_t<T>& array, py::ssize_t n_items) {
  if (array.size() != n_items || !(array.flags() & py::array::c_style)) {
    throw std::invalid_argument("array: not contiguous or of unexpected size");
  }
  return array.data();
}

// A job is one of the tuples of l63fast._kernels.jobs; its fields are read by name. It
// keeps its arrays alive during the call.
using Job = py::tuple;

// `name` is a string literal. Its Python string is made once and kept, because Python's
// attribute cache compares strings by address.
inline py::object field(const Job& job, const char* name) {
  static std::unordered_map<const char*, PyObject*> names;
  PyObject*& kept = names[name];
  if (kept == nullptr) kept = PyUnicode_InternFromString(name);
  return job.attr(py::handle(kept));
}

// Returns an array without conversion; another dtype is refused.
template <class T>
py::array_t<T> array_of(const Job& job, const char* name) {
  py::object array = field(job, name);
  if (!py::isinstance<py::array_t<T>>(array))
    throw py::type_error(std::string(name) + ": not an array of the dtype expected");
  return py::reinterpret_steal<py::array_t<T>>(array.release());
}

template <class T>
const T* read(const Job& job, const char* name, py::ssize_t n_items) {
  return read(array_of<T>(job, name), n_items);
}

template <class T>
T* write(const Job& job, const char* name, py::ssize_t n_items) {
  auto array = array_of<T>(job, name);
  read(array, n_items);
  return array.mutable_data();
}

template <class Value>
Value value_of(const Job& job, const char* name) {
  try {
    return field(job, name).cast<Value>();
  } catch (const py::cast_error&) {
    throw py::type_error(std::string(name) + ": not of the type expected");
  }
}

inline l63fast::Parameters parameters_of(const Job& job) {
  const auto values = value_of<std::array<double, 3>>(job, "parameters");
  return {values[0], values[1], values[2]};
}

// Reads one set of parameters, or the array (n, 3) of those of each member.
template <class KernelJob>
void read_parameters(const Job& fields, KernelJob& job, py::ssize_t n) {
  if (py::isinstance<py::array>(field(fields, "parameters"))) {
    job.own_parameters = read<double>(fields, "parameters", 3 * n);
  } else {
    job.parameters = parameters_of(fields);
  }
}

// Returns a function of a job in float64 or float32, chosen by the dtype of its first
// field.
template <class Result, class... Others>
auto either(Result (*f64)(const Job&, Others...),
            Result (*f32)(const Job&, Others...)) {
  return [f64, f32](const Job& job, Others... others) {
    const bool is_double = py::isinstance<py::array_t<double>>(job[0]);
    return (is_double ? f64 : f32)(job, others...);
  };
}

// Calls a kernel without the GIL, which it hands to `signals_pending`; a handler that
// raised meanwhile is heard of afterwards.
template <class Call>
void without_gil(Call call) {
  {
    GilReleased gil;
    call(&gil);
  }
  rethrow_python_error();
}

// Reads the observation operator of a job, as components and powers.
template <class KernelJob>
void read_operator(const Job& fields, KernelJob& job) {
  const auto components = value_of<std::vector<int>>(fields, "components");
  const auto powers = value_of<std::vector<int>>(fields, "powers");
  if (components.empty() || components.size() > 3 || powers.size() != components.size())
    throw std::invalid_argument("components: 1 to 3");
  job.obs_dim = static_cast<int>(components.size());
  for (std::size_t i = 0; i < components.size(); ++i) {
    if (components[i] < 0 || components[i] > 2 || powers[i] < 1 || powers[i] > 4)
      throw std::invalid_argument("components, powers: out of range");
    job.components[i] = components[i];
    job.powers[i] = powers[i];
  }
}

template <class T>
py::ssize_t element_stride(const py::array_t<T>& array, int axis) {
  if (array.strides(axis) % static_cast<py::ssize_t>(sizeof(T)) != 0) {
    throw std::invalid_argument("array: strides are not whole elements");
  }
  return array.strides(axis) / static_cast<py::ssize_t>(sizeof(T));
}

// Each of these adds its functions to the module.
void define_model(py::module_& module);
void define_analysis(py::module_& module);
void define_particles(py::module_& module);
void define_network(py::module_& module);

}  // namespace bindings
