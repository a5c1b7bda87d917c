// Reads the JSON of a model card; refuses text that is not JSON.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace l63fast {

class Json {
 public:
  using List = std::vector<Json>;
  using Table = std::map<std::string, Json>;

  // Throws std::invalid_argument with the position of the error.
  static Json parse(std::string_view text);

  // Throw std::invalid_argument with the key, where it is missing or of another type.
  const Json& at(const std::string& key) const;
  const std::string& text(const std::string& key) const;
  double number(const std::string& key) const;
  int count(const std::string& key, int least, int most) const;
  bool flag(const std::string& key) const;
  bool has(const std::string& key) const;

 private:
  friend class JsonReader;
  std::variant<std::nullptr_t, bool, double, std::string, List, Table> value_;
};

}  // namespace l63fast
