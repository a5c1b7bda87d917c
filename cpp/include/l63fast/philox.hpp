// Random numbers from a counter: Philox 4x32-10 of Salmon, Moraes, Dror & Shaw,
// "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A number depends only on its
// key and counter, and not on the thread, the batch or the instruction set.
#pragma once

#include <cstdint>

#include "l63fast/pack.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace l63fast {
inline namespace L63FAST_LEVEL {

// A register of 64-bit words, with as many lanes as a register of doubles.
typedef std::uint64_t Words __attribute__((vector_size(register_bytes)));

L63FAST_INLINE Words broadcast_word(std::uint64_t value) { return Words{} + value; }

// Returns 0, 1, 2, ... in the lanes.
L63FAST_INLINE Words lane_numbers() {
  Words lanes{};
  for (int i = 0; i < width<double>; ++i) lanes[i] = static_cast<std::uint64_t>(i);
  return lanes;
}

// Returns the 64-bit product of the lower 32 bits of each lane and a 32-bit constant.
L63FAST_INLINE Words multiply_low(Words a, std::uint32_t factor) {
  const Words b = broadcast_word(factor);
#if defined(L63FAST_AVX512)
  // The masked form: GCC warns about an undefined operand in the plain one's header.
  return (Words)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);
#elif defined(L63FAST_AVX2)
  return (Words)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Words)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & broadcast_word(0xffffffffu)) * b;
#endif
}

struct PhiloxKey {
  std::uint32_t k0, k1;
};

// Four 32-bit words per lane, each in the lower half; the upper half is ignored.
struct PhiloxBlock {
  Words w0, w1, w2, w3;
};

// Returns the block after ten rounds; the argument is the counter.
L63FAST_INLINE PhiloxBlock philox(PhiloxBlock c, PhiloxKey key) {
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const Words p0 = multiply_low(c.w0, 0xD2511F53u);
    const Words p1 = multiply_low(c.w2, 0xCD9E8D57u);
    c = {(p1 >> 32) ^ c.w1 ^ broadcast_word(key.k0), p1,
         (p0 >> 32) ^ c.w3 ^ broadcast_word(key.k1), p0};
    key.k0 += 0x9E3779B9u;
    key.k1 += 0xBB67AE85u;
  }
  return c;
}

// Converts integers below 2^52 to doubles, exactly: they become the mantissa of a
// number between 2^52 and 2^53, from which 2^52 is subtracted.
L63FAST_INLINE Pack<double> to_double(Words a) {
  return (Pack<double>)(a | broadcast_word(0x4330000000000000u)) -
         broadcast(4503599627370496.0);
}

// Computes three uniforms in (0, 1) from one block, each a multiple of 2^-42 plus
// 2^-43. The high bits of a uniform are one of the first three words, its low ten bits
// are part of the fourth word.
L63FAST_INLINE void uniforms(const PhiloxBlock& block, Pack<double> (&u)[3]) {
  const Words low = broadcast_word(0xffffffffu), ten = broadcast_word(1023);
  const Words high[3] = {block.w0 & low, block.w1 & low, block.w2 & low};
  const Words rest = block.w3 & low;
  for (int i = 0; i < 3; ++i) {
    const Words bits = (high[i] << 10) | ((rest >> (10 * i)) & ten);
    u[i] = fma(to_double(bits), broadcast(0x1p-42), broadcast(0x1p-43));
  }
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
