// Speed limits of the machine: loops that execute only one kind of instruction or only
// write, compiled once per instruction set like the kernels that are compared with
// them.
#include "l63fast/stream.hpp"
#include "levels.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {
namespace {

// Independent chains of instructions: enough to hide the latency of an instruction at
// two or three per cycle, and few enough to stay in registers.
constexpr int chains = register_bytes == 64 ? 24 : 14;

// Returns a value that was read through volatile, so that the compiler cannot compute
// with it in advance.
template <class T>
L63FAST_INLINE Pack<T> unknown(double value) {
  const volatile T hidden = static_cast<T>(value);
  return broadcast<T>(hidden);
}

template <class T, int N>
struct Chains {
  Pack<T> at[N];

  // Different values: the compiler would merge equal chains into one.
  L63FAST_INLINE Chains() {
    for (int i = 0; i < N; ++i) at[i] = unknown<T>(1.0 + i);
  }

  template <class Step>
  L63FAST_INLINE void advance(Step step) {
#pragma GCC unroll 24
    for (int i = 0; i < N; ++i) at[i] = step(at[i]);
  }

  // Uses the results, so that the compiler cannot remove the loop.
  L63FAST_INLINE void keep() const {
    Pack<T> sum = at[0];
    for (int i = 1; i < N; ++i) sum += at[i];
    volatile T sink = sum[0];
    static_cast<void>(sink);
  }
};

// Where there is no fma instruction: a multiplication and an addition.
#if defined(L63FAST_AVX512) || defined(L63FAST_AVX2)
constexpr int per_multiply_add = 1;
template <class T>
L63FAST_INLINE Pack<T> multiply_add(Pack<T> a, Pack<T> b, Pack<T> c) {
  return fma(a, b, c);
}
#else
constexpr int per_multiply_add = 2;
template <class T>
L63FAST_INLINE Pack<T> multiply_add(Pack<T> a, Pack<T> b, Pack<T> c) {
  return a * b + c;
}
#endif

template <class T, class Step>
std::int64_t of_one_kind(std::int64_t rounds, int per_step, Step step) {
  Chains<T, chains> values;
  for (std::int64_t round = 0; round < rounds; ++round) values.advance(step);
  values.keep();
  return rounds * chains * per_step;
}

// The instructions of an RK4 step without its dependences: 27 multiply-adds (including
// multiplications, which use the same units) and 14 additions per chain and round.
template <class T, class MultiplyAdd, class Add>
std::int64_t of_rk4_steps(std::int64_t rounds, MultiplyAdd multiply_add, Add add) {
  Chains<T, chains> values;
  for (std::int64_t round = 0; round < rounds; ++round) {
    for (int i = 0; i < 13; ++i) {
      values.advance(multiply_add);
      values.advance(multiply_add);
      values.advance(add);
    }
    values.advance(multiply_add);
    values.advance(add);
  }
  values.keep();
  return rounds * chains * (27 * per_multiply_add + 14);
}

template <class T>
std::int64_t instructions(Instruction kind, std::int64_t rounds) {
  const Pack<T> half = unknown<T>(0.5);  // the only constant: registers are few
  const auto fused = [half](Pack<T> v) { return multiply_add<T>(v, half, half); };
  const auto added = [half](Pack<T> v) { return v + half; };
  const auto divided = [half](Pack<T> v) { return half / v; };
  switch (kind) {
    case Instruction::fma:
      return of_one_kind<T>(rounds, per_multiply_add, fused);
    case Instruction::add:
      return of_one_kind<T>(rounds, 1, added);
    case Instruction::divide:
      return of_one_kind<T>(rounds, 1, divided);
    case Instruction::rk4_step:
      return of_rk4_steps<T>(rounds, fused, added);
  }
  return 0;
}

}  // namespace

std::int64_t instructions_f64(Instruction kind, std::int64_t rounds) {
  return instructions<double>(kind, rounds);
}

std::int64_t instructions_f32(Instruction kind, std::int64_t rounds) {
  return instructions<float>(kind, rounds);
}

void fill(double* out, std::int64_t n, bool non_temporal) {
  const Pack<double> value = unknown<double>(1.5);
  if (!non_temporal) {
    for (std::int64_t i = 0; i < n; i += width<double>) store_pack(out + i, value);
    return;
  }
  for (std::int64_t i = 0; i < n; i += width<double>) stream(out + i, value);
  stream_fence();
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
