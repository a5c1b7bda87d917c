// netCDF files of the two programs: named arrays of doubles, and attributes.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace l63fast {

struct Array {
  std::vector<std::size_t> shape;
  std::vector<double> values;
};

// An open file. Every function throws std::runtime_error, with the names of file and
// variable, where something is missing
// or larger than its file can hold; memory is taken afterwards.
class InputFile {
 public:
  explicit InputFile(const std::string& path);
  InputFile(const InputFile&) = delete;
  ~InputFile();

  bool has(const char* variable) const;
  Array array(const char* variable) const;
  // Returns the values of an array that must have the given shape.
  std::vector<double> values(const char* variable,
                             const std::vector<std::size_t>& shape) const;
  double number(const char* attribute) const;  // finite
  int whole_number(const char* attribute, int least, int most = 1'000'000'000) const;
  std::string text(const char* attribute) const;

 private:
  int variable(const char* name) const;
  void check(int status, const char* what) const;
  [[noreturn]] void refuse(const char* what, const std::string& why) const;
  std::string path_;
  std::size_t size_ = 0;  // bytes
  int file_ = -1;
};

struct Variable {
  std::string name, long_name;
  std::vector<std::string> dims;
  const std::vector<double>& values;
};

// Writes a file under a temporary name and then renames it, so that no half-written
// file is ever seen. Throws std::runtime_error; then an old file of that name is
// unchanged.
void write_file(const std::string& path, const std::string& title,
                const std::map<std::string, std::size_t>& dims,
                const std::vector<Variable>& variables);

}  // namespace l63fast
