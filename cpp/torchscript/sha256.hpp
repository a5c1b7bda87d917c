// SHA-256 (FIPS 180-4) of bytes in memory.
#pragma once

#include <string>
#include <string_view>

namespace l63fast {

// Returns 64 lower-case hexadecimal digits.
std::string sha256(std::string_view data);

}  // namespace l63fast
