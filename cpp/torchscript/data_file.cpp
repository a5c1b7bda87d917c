// Reads and writes netCDF files by the netCDF C library.
#include "data_file.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <memory>
#include <stdexcept>

#include "netcdf_c.h"

namespace l63fast {

namespace {

constexpr int nc_nowrite = 0, nc_netcdf4 = 0x1000, nc_double = 6, nc_global = -1;
// By the type's number; 0 for characters. Strings and types of a user's own are above.
constexpr std::size_t value_sizes[] = {0, 1, 0, 2, 4, 4, 8, 1, 2, 4, 8, 8};
constexpr std::size_t most_compressed = 1032;  // deflate, which netCDF uses

// The number of values, or the largest one there is where it has no end. An axis
// without entries counts as one: who goes along the others must come to an end.
std::size_t product(const std::vector<std::size_t>& shape) {
  std::size_t size = 1;
  for (const std::size_t length : shape)
    if (__builtin_mul_overflow(size, std::max<std::size_t>(length, 1), &size))
      return SIZE_MAX;
  return size;
}

std::size_t machine_memory() {
  return std::size_t(sysconf(_SC_PHYS_PAGES)) * std::size_t(sysconf(_SC_PAGE_SIZE));
}

void check_status(int status, const std::string& path, const std::string& what) {
  if (status) throw std::runtime_error(path + ": " + what + ": " + nc_strerror(status));
}

}  // namespace

InputFile::InputFile(const std::string& path) : path_(path) {
  // A FIFO or a device would block, and netCDF would ask the network for an address.
  if (!std::filesystem::exists(path)) refuse("cannot be read", "No such file");
  if (!std::filesystem::is_regular_file(path))
    refuse("cannot be read", "expected a file");
  size_ = std::filesystem::file_size(path);
  check(nc_open(path.c_str(), nc_nowrite, &file_), "cannot be read");
}

InputFile::~InputFile() { nc_close(file_); }

void InputFile::check(int status, const char* what) const {
  check_status(status, path_, what);
}

void InputFile::refuse(const char* what, const std::string& why) const {
  throw std::runtime_error(path_ + ": " + what + ": " + why);
}

bool InputFile::has(const char* name) const {
  int variable;
  return nc_inq_varid(file_, name, &variable) == 0;
}

int InputFile::variable(const char* name) const {
  int variable;
  check(nc_inq_varid(file_, name, &variable), name);
  return variable;
}

Array InputFile::array(const char* name) const {
  const int id = variable(name);
  int n_dims, type;
  check(nc_inq_vartype(file_, id, &type), name);
  check(nc_inq_varndims(file_, id, &n_dims), name);
  std::vector<int> dims(static_cast<std::size_t>(n_dims));
  check(nc_inq_vardimid(file_, id, dims.data()), name);
  Array array;
  bool empty = false;
  for (const int dim : dims) {
    array.shape.emplace_back();
    check(nc_inq_dimlen(file_, dim, &array.shape.back()), name);
    empty |= array.shape.back() == 0;
  }
  const bool known = type > 0 && std::size_t(type) < std::size(value_sizes);
  if (!known || value_sizes[type] == 0) refuse(name, "expected numbers");
  const std::size_t size = product(array.shape);
  if (size / most_compressed > size_ / value_sizes[type])
    refuse(name, "declares more values than a file of " + std::to_string(size_) +
                     " bytes can hold");
  if (size > machine_memory() / sizeof(double))
    refuse(name, std::to_string(size) + " values are more than this machine can hold");
  array.values.resize(empty ? 0 : size);
  if (!empty) check(nc_get_var_double(file_, id, array.values.data()), name);
  return array;
}

std::vector<double> InputFile::values(const char* name,
                                      const std::vector<std::size_t>& shape) const {
  Array found = array(name);
  if (found.shape == shape) return std::move(found.values);
  std::string message = path_ + ": " + name + ": expected the shape";
  for (const std::size_t size : shape) message.append(" ").append(std::to_string(size));
  throw std::runtime_error(message);
}

double InputFile::number(const char* name) const {
  std::size_t size;
  check(nc_inq_attlen(file_, nc_global, name, &size), name);
  double number = 0;
  if (size != 1) refuse(name, "expected a number");
  check(nc_get_att_double(file_, nc_global, name, &number), name);
  if (!std::isfinite(number)) refuse(name, "expected a finite number");
  return number;
}

int InputFile::whole_number(const char* name, int least, int most) const {
  const double value = number(name);
  if (value == std::floor(value) && least <= value && value <= most) return int(value);
  refuse(name, "expected a whole number from " + std::to_string(least) + " to " +
                   std::to_string(most));
}

std::string InputFile::text(const char* name) const {
  std::size_t size;
  check(nc_inq_attlen(file_, nc_global, name, &size), name);
  if (size > size_) refuse(name, "expected a text");
  std::string text(size, '\0');
  check(nc_get_att_text(file_, nc_global, name, text.data()), name);
  return text;
}

namespace {

void write(int file, const std::string& path, const std::string& title,
           const std::map<std::string, std::size_t>& dims,
           const std::vector<Variable>& variables) {
  const auto check = [&](int status) { check_status(status, path, "cannot write"); };
  std::map<std::string, int> ids;
  for (const auto& [name, size] : dims)
    check(nc_def_dim(file, name.c_str(), size, &ids[name]));
  const auto note = [&](int variable, const char* name, const std::string& text) {
    check(nc_put_att_text(file, variable, name, text.size(), text.c_str()));
  };
  note(nc_global, "Conventions", "CF-1.11");
  note(nc_global, "title", title);
  note(nc_global, "source", "l63fast, C++");
  std::vector<int> places;
  for (const Variable& variable : variables) {
    std::vector<int> axes;
    for (const std::string& dim : variable.dims) axes.push_back(ids.at(dim));
    places.emplace_back();
    check(nc_def_var(file, variable.name.c_str(), nc_double, int(axes.size()),
                     axes.data(), &places.back()));
    note(places.back(), "long_name", variable.long_name);
    note(places.back(), "units", "1");
  }
  check(nc_enddef(file));
  for (std::size_t i = 0; i < variables.size(); ++i)
    if (!variables[i].values.empty())
      check(nc_put_var_double(file, places[i], variables[i].values.data()));
}

// Writes a file to the disk, without the HDF5 library, which crashes some time after it
// has met a full disk.
void store(const std::string& path, const void* data, std::size_t size) {
  const std::string temporary = path + ".tmp";
  std::FILE* file = std::fopen(temporary.c_str(), "wb");
  bool good = file && std::fwrite(data, 1, size, file) == size &&
              std::fflush(file) == 0 && fsync(fileno(file)) == 0;
  int reason = errno;
  if (file && std::fclose(file) && good) good = false, reason = errno;
  if (good && std::rename(temporary.c_str(), path.c_str()))
    good = false, reason = errno;
  if (good) return;
  if (file) std::remove(temporary.c_str());
  throw std::runtime_error(path + ": cannot write: " + std::strerror(reason));
}

}  // namespace

void write_file(const std::string& path, const std::string& title,
                const std::map<std::string, std::size_t>& dims,
                const std::vector<Variable>& variables) {
  int file;
  NC_memio memory{};
  check_status(nc_create_mem(path.c_str(), nc_netcdf4, 0, &file), path, "cannot write");
  try {
    write(file, path, title, dims, variables);
  } catch (...) {
    nc_close(file);
    throw;
  }
  check_status(nc_close_memio(file, &memory), path, "cannot write");
  const std::unique_ptr<void, decltype(&std::free)> owner(memory.memory, &std::free);
  store(path, memory.memory, memory.size);
}

}  // namespace l63fast
