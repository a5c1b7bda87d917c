// Reads JSON by recursive descent; the depth is limited, so that the stack cannot
// overflow.
#include "json.hpp"

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>

namespace l63fast {

namespace {

constexpr int max_depth = 64;

void append_utf8(std::string& out, std::uint32_t code) {
  if (code < 0x80) {
    out += char(code);
  } else if (code < 0x800) {
    out += {char(0xC0 | code >> 6), char(0x80 | (code & 0x3F))};
  } else {  // surrogate pairs are not combined: no card contains them
    out += {char(0xE0 | code >> 12), char(0x80 | (code >> 6 & 0x3F)),
            char(0x80 | (code & 0x3F))};
  }
}

}  // namespace

class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  Json document() {
    Json json = value(0);
    blank();
    if (at_ != text_.size()) fail("the end");
    return json;
  }

 private:
  [[noreturn]] void fail(const std::string& expected) const {
    throw std::invalid_argument("expected " + expected + " at byte " +
                                std::to_string(at_));
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void blank() {
    while (at_ < text_.size() &&
           std::string_view(" \t\r\n").find(text_[at_]) != text_.npos)
      ++at_;
  }

  bool took(char wanted) {
    blank();
    if (peek() != wanted) return false;
    ++at_;
    return true;
  }

  bool took(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Json value(int depth) {
    if (depth > max_depth) fail("fewer nested values");
    Json json;
    blank();
    if (peek() == '{') {
      json.value_ = table(depth);
    } else if (peek() == '[') {
      json.value_ = list(depth);
    } else if (peek() == '"') {
      json.value_ = string();
    } else if (took("true")) {
      json.value_ = true;
    } else if (took("false")) {
      json.value_ = false;
    } else if (!took("null")) {
      json.value_ = number();
    }
    return json;
  }

  Json::Table table(int depth) {
    Json::Table table;
    ++at_;
    if (took('}')) return table;
    do {
      blank();
      if (peek() != '"') fail("a key");
      std::string key = string();
      if (!took(':')) fail("':'");
      if (!table.emplace(std::move(key), value(depth + 1)).second) fail("a new key");
    } while (took(','));
    if (!took('}')) fail("'}'");
    return table;
  }

  Json::List list(int depth) {
    Json::List list;
    ++at_;
    if (took(']')) return list;
    do {
      list.push_back(value(depth + 1));
    } while (took(','));
    if (!took(']')) fail("']'");
    return list;
  }

  std::string string() {
    std::string out;
    for (++at_; peek() != '"'; ++at_) {
      if (static_cast<unsigned char>(peek()) < 0x20) fail("the end of a string");
      if (peek() == '\\') {
        escaped(out);
      } else {
        out += peek();
      }
    }
    ++at_;
    return out;
  }

  void escaped(std::string& out) {
    constexpr std::string_view names = "\"\\/bfnrt", values = "\"\\/\b\f\n\r\t";
    ++at_;
    if (const auto place = names.find(peek()); peek() && place != names.npos) {
      out += values[place];
      return;
    }
    if (peek() != 'u') fail("an escape");
    std::uint32_t code = 0;
    for (int digit = 0; digit < 4; ++digit) {
      ++at_;
      const auto place = std::string_view("0123456789abcdef").find(char(peek() | 0x20));
      if (place == std::string_view::npos || !std::isxdigit(peek()))
        fail("four digits");
      code = 16 * code + std::uint32_t(place);
    }
    append_utf8(out, code);
  }

  double number() {
    const std::size_t begin = at_;
    while (std::string_view("+-.0123456789eE").find(peek()) != std::string_view::npos &&
           peek())
      ++at_;
    const std::string digits(text_.substr(begin, at_ - begin));
    char* end = nullptr;
    const double number = std::strtod(digits.c_str(), &end);
    if (digits.empty() || *end || !std::isfinite(number)) fail("a value");
    return number;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

Json Json::parse(std::string_view text) { return JsonReader(text).document(); }

bool Json::has(const std::string& key) const {
  const auto* table = std::get_if<Table>(&value_);
  return table && table->count(key);
}

const Json& Json::at(const std::string& key) const {
  if (!has(key)) throw std::invalid_argument(key + ": is missing");
  return std::get<Table>(value_).at(key);
}

const std::string& Json::text(const std::string& key) const {
  if (const auto* text = std::get_if<std::string>(&at(key).value_)) return *text;
  throw std::invalid_argument(key + ": expected a string");
}

double Json::number(const std::string& key) const {
  if (const auto* number = std::get_if<double>(&at(key).value_)) return *number;
  throw std::invalid_argument(key + ": expected a number");
}

int Json::count(const std::string& key, int least, int most) const {
  const double value = number(key);
  if (value == std::floor(value) && least <= value && value <= most) return int(value);
  throw std::invalid_argument(key + ": expected a whole number from " +
                              std::to_string(least) + " to " + std::to_string(most));
}

bool Json::flag(const std::string& key) const {
  if (const auto* flag = std::get_if<bool>(&at(key).value_)) return *flag;
  throw std::invalid_argument(key + ": expected true or false");
}

}  // namespace l63fast
