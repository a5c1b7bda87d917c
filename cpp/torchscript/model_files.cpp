// Reads and checks the files of an exported encoder; their content is not trusted.
#include "model_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>

#include "json.hpp"
#include "sha256.hpp"

namespace l63fast {

namespace {

constexpr int schema = 1, max_window = 4096, max_hidden = 1 << 16;
constexpr off_t max_card = 1 << 20, max_program = 1 << 30;  // bytes
constexpr const char* card_name = "model.json";
constexpr const char* program_name = "model.ts.pt";

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& why) {
  throw ModelError(path.string() + ": " + why);
}

struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) close(number);
  }
};

// Reads a file. A FIFO or a device is refused before it is read, so that nothing can
// block.
std::string read_file(const std::filesystem::path& path, off_t most) {
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat found;
  if (file.number < 0 || fstat(file.number, &found))
    refuse(path, std::string("cannot be read: ") + std::strerror(errno));
  if (!S_ISREG(found.st_mode)) refuse(path, "expected a file");
  if (found.st_size > most)
    refuse(path, "expected at most " + std::to_string(most) + " bytes, got " +
                     std::to_string(found.st_size));
  std::string data(std::size_t(found.st_size), '\0');
  std::size_t have = 0;
  while (have < data.size()) {
    const ssize_t more = read(file.number, data.data() + have, data.size() - have);
    if (more < 0 && errno == EINTR) continue;
    if (more <= 0) refuse(path, "cannot be read to its end");
    have += std::size_t(more);
  }
  return data;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return char(std::tolower(c)); });
  return text;
}

// Older cards have no such entry: their analyses are at the last observation.
bool looks_ahead(const Json& encoder) {
  const std::string at =
      encoder.has("analysis_at") ? encoder.text("analysis_at") : "last";
  if (at != "last" && at != "first")
    throw std::invalid_argument("analysis_at: expected last or first");
  return at == "first";
}

int n_components(const Json& encoder) {
  const std::string kind =
      encoder.has("uncertainty") ? encoder.text("uncertainty") : "none";
  if (kind != "none" && kind != "gaussian" && kind != "mixture")
    throw std::invalid_argument("uncertainty: expected none, gaussian or mixture");
  return kind == "none" ? 0 : kind == "gaussian" ? 1 : 2;
}

}  // namespace

ModelCard read_card(const std::filesystem::path& directory) {
  const auto path = directory / card_name;
  try {
    const Json json = Json::parse(read_file(path, max_card));
    json.count("schema", schema, schema);
    const Json& encoder = json.at("encoder");
    const Json& training = json.at("training");
    const Json& files = json.at("files");
    if (!files.has("torchscript"))
      refuse(path, "lists no TorchScript program; export one with l63fast export");
    return {
        .observation_operator = ObservationOperator::named(encoder.text("operator")),
        .window = encoder.count("window", 1, max_window),
        .hidden_size = json.count("hidden_size", 0, max_hidden),
        .looks_ahead = looks_ahead(encoder),
        // Older cards have no such entry.
        .reads_gaps = encoder.has("gaps") && encoder.flag("gaps"),
        .n_components = n_components(encoder),
        .interval = training.has("interval") ? training.number("interval")
                                             : std::numeric_limits<double>::quiet_NaN(),
        .sha256 = lower(files.at("torchscript").text("sha256"))};
  } catch (const std::invalid_argument& error) {
    refuse(path, error.what());
  }
}

std::string read_program(const std::filesystem::path& directory, const ModelCard& card,
                         const Permission& permission) {
  const auto path = directory / program_name;
  std::string data = read_file(path, max_program);
  const std::string found = sha256(data), expected = lower(permission.expected());
  if (!expected.empty() && found != expected)
    refuse(path, "expected sha256 " + expected + ", got " + found);
  if (found != card.sha256)
    refuse(path, "is not the file of its model card (sha256 " + found + ")");
  return data;
}

}  // namespace l63fast
