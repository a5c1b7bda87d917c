// The files of an exported encoder: its model card and its program.
#pragma once

#include <filesystem>
#include <string>

#include "l63fast/encoder.hpp"

namespace l63fast {

// The content of model.json, checked.
struct ModelCard {
  ObservationOperator observation_operator;
  int window = 0;
  int hidden_size = 0;
  bool looks_ahead = false;
  bool reads_gaps = false;
  int n_components = 0;  // of an estimated distribution; 0: none
  double interval = 0;   // time units; NaN: not given
  std::string sha256;    // of model.ts.pt
};

// Throws ModelError.
ModelCard read_card(const std::filesystem::path& directory);

// Returns the bytes of model.ts.pt, checked against the permission and the card. Throws
// ModelError.
std::string read_program(const std::filesystem::path& directory, const ModelCard& card,
                         const Permission& permission);

}  // namespace l63fast
