// Counts the quotients of quotient.hpp that differ from the divider's: of random
// numbers and of pairs whose quotients lie next to a midpoint of two floating-point
// numbers. The reciprocal that it begins with is replaced by the worst that its
// definition allows.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>

#include <immintrin.h>

static std::mt19937_64 bits(1);

static __m512d rough_reciprocal(__m512d b) {
  double values[8];
  std::memcpy(values, &b, sizeof values);
  for (double& value : values) {
    const double part = static_cast<double>(bits() >> 11) * 0x1p-52 - 1;
    value = (1 + 0x1p-14 * (bits() % 2 ? part : part < 0 ? -1 : 1)) / value;
  }
  std::memcpy(&b, values, sizeof values);
  return b;
}
#define _mm512_mask_rcp14_pd(before, mask, b) rough_reciprocal(b)
#include "l63fast/quotient.hpp"

using l63fast::Pack;

static std::uint64_t n_differing = 0;

static double number(std::uint64_t whole, int power) {  // whole in [2^52, 2^53)
  const auto biased = static_cast<std::uint64_t>(power + 1023);
  const std::uint64_t word = (whole & ((1ull << 52) - 1)) | biased << 52;
  double value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

static void compare(std::uint64_t a, std::uint64_t b) {
  static double numerators[8], denominators[8];
  static int n = 0;
  const double sign = bits() % 2 ? 1.0 : -1.0;
  numerators[n] = sign * number(a, static_cast<int>(bits() % 1060) - 310);
  denominators[n] = number(b, static_cast<int>(bits() % 570) - 60);
  if (++n < 8) return;
  n = 0;
  const Pack<double> x = l63fast::load_pack(numerators),
                     y = l63fast::load_pack(denominators);
  const Pack<double> ours = l63fast::quotient(x, y), theirs = x / y;
  n_differing += std::memcmp(&ours, &theirs, sizeof ours) != 0;
}

static std::uint64_t any_whole() {  // often with a run of equal last bits
  const std::uint64_t word = bits() >> 12 | 1ull << 52, run = (1ull << bits() % 52) - 1;
  switch (bits() % 4) {
    case 0:
      return word | run;
    case 1:
      return word & ~run;
    case 2:
      return (2ull << 52) - 1 - (bits() & run);
    default:
      return word;
  }
}

int main() {
  for (int i = 0; i < 4000000; ++i) compare(any_whole(), any_whole());
  for (int i = 0; i < 400000; ++i) {
    // A 2^(j+1) - B (2 N + 1) = c: A / B is c / (2 B) from the midpoint N + 1/2.
    const std::uint64_t b = any_whole() | 1;
    std::uint64_t inverse = b;
    for (int k = 0; k < 6; ++k) inverse *= 2 - b * inverse;
    for (int j = 52; j < 54; ++j) {
      const std::uint64_t modulus = 2ull << j;
      for (int c = -5; c < 6; c += 2) {
        std::uint64_t odd = inverse * static_cast<std::uint64_t>(-c) & (modulus - 1);
        if (odd < 1ull << 53) odd += modulus;
        const auto a = static_cast<std::uint64_t>(
            (static_cast<__int128>(b) * static_cast<__int128>(odd) + c) >> (j + 1));
        if (odd < 2ull << 53 && a >> 52 == 1) compare(a, b);
      }
    }
  }
  std::printf("%llu\n", static_cast<unsigned long long>(n_differing));
}
