// The command line of the programs, and the place where all their exceptions are
// caught.
#include "program.hpp"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

namespace l63fast {

namespace {

struct Misuse : std::runtime_error {
  using std::runtime_error::runtime_error;
};

int number(const std::string& option, const std::string& word, int most) {
  try {
    std::size_t end;
    const int n = std::stoi(word, &end);
    if (end == word.size() && n >= 1 && n <= most) return n;
  } catch (const std::exception&) {  // not a number, or a huge one
  }
  throw Misuse(option + ": expected 1 to " + std::to_string(most) + ", got '" + word +
               "'");
}

CommandLine parsed(const std::vector<std::string>& words) {
  std::vector<std::string> places;
  std::optional<Permission> permission;
  Batching batching{.n_threads = std::max(1, int(std::thread::hardware_concurrency()))};
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--trust") {
      permission = Permission::trust();
    } else if (word == "--sha256" || word == "--threads" || word == "--chunk") {
      if (++i == words.size() || words[i].empty())
        throw Misuse(word + ": expected a value");
      if (word == "--sha256") permission = Permission::sha256(words[i]);
      if (word == "--threads") batching.n_threads = number(word, words[i], 1024);
      if (word == "--chunk") batching.chunk = number(word, words[i], 1 << 30);
    } else if (word.rfind("--", 0) == 0) {
      throw Misuse(word + ": is not an option");
    } else {
      places.push_back(word);
    }
  }
  if (places.size() != 3) throw Misuse("expected MODEL INPUT OUTPUT");
  if (!permission)
    throw Misuse(
        "a TorchScript program runs when it is loaded: give --sha256 with the hash "
        "you expect, or --trust");
  return {places[0], places[1], places[2], *permission, batching};
}

}  // namespace

int run_program(int n_words, char** words,
                const std::function<void(const CommandLine&)>& body) {
  const std::string name = n_words ? words[0] : "program";
  std::signal(
      SIGXFSZ,
      SIG_IGN);  // makes a file beyond the size limit an error, like a full disk
  try {
    body(parsed({words + 1, words + n_words}));
    return 0;
  } catch (const Misuse& error) {
    std::fprintf(stderr,
                 "error: %s\nusage: %s MODEL INPUT OUTPUT "
                 "(--sha256 HASH | --trust) [--threads N] [--chunk N]\n",
                 error.what(), name.c_str());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}

}  // namespace l63fast
