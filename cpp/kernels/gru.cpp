// A gated recurrent unit over a window and its backpropagation, compiled once per
// instruction set.
//
// A few windows (rows of the batch) go through all steps together: their products with
// the weights stay in registers until the gates have used them. Each element is a sum
// in the order of its terms (bias, state, input), so that the bits of a row do not
// depend on the other rows.
#include "l63fast/gates.hpp"

#include "levels.hpp"

#include "l63fast/cancel.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {
namespace {

constexpr int w = width<float>;

// Rows that are computed together: with three accumulators each, and the weights, they
// fill the registers.
constexpr int rows = register_bytes == 64 ? 8 : 4;

// Rounds n units up to whole pairs of packs, as the backpropagation needs.
std::int64_t padded(std::int64_t n) { return (n + 2 * w - 1) / (2 * w) * (2 * w); }

// Copies a value to all lanes. Subtracting 0 keeps -0, unlike broadcast's addition,
// which makes +0 of it, so the compiler needs no instruction for it.
L63FAST_INLINE Pack<float> splat(float value) { return value - Pack<float>{}; }

L63FAST_INLINE Pack<float> load_some(const float* values, std::int64_t count) {
  if (count >= w) return load_pack(values);
  float some[w] = {};
  for (std::int64_t i = 0; i < count; ++i) some[i] = values[i];
  return load_pack(some);
}

L63FAST_INLINE void store_some(float* values, std::int64_t count, Pack<float> pack) {
  if (count >= w) return store_pack(values, pack);
  float some[w];
  store_pack(some, pack);
  for (std::int64_t i = 0; i < count; ++i) values[i] = some[i];
}

// Read and write the four gates of some units, n_units apart.
L63FAST_INLINE Gates load_gates(const float* values, std::int64_t n_units,
                                std::int64_t count) {
  return {load_some(values, count), load_some(values + n_units, count),
          load_some(values + 2 * n_units, count),
          load_some(values + 3 * n_units, count)};
}

L63FAST_INLINE void store_gates(float* values, std::int64_t n_units, std::int64_t count,
                                const Gates& g) {
  store_some(values, count, g.reset);
  store_some(values + n_units, count, g.update);
  store_some(values + 2 * n_units, count, g.candidate);
  store_some(values + 3 * n_units, count, g.part);
}

// Copies the weights in the order in which they are used. For each pack of units: the
// biases that the sums start from (r, z, the candidate's state part and input part),
// then the weights of r, z and c for each state, then for each input.
void pack_weights(const GruWindow& job, float* packed) {
  const std::int64_t h = job.n_units, d = job.n_inputs;
  for (std::int64_t first = 0; first < h; first += w) {
    for (int lane = 0; lane < w; ++lane) {
      const std::int64_t j = first + lane;
      float* out = packed + lane;
      const auto put = [&](float value) {
        *out = value;
        out += w;
      };
      if (j >= h) {
        for (std::int64_t k = 0; k < 4 + 3 * (h + d); ++k) put(0.0f);
        continue;
      }
      const float *bi = job.input_bias + j, *bs = job.state_bias + j;
      put(bi[0] + bs[0]);
      put(bi[h] + bs[h]);
      put(bs[2 * h]);
      put(bi[2 * h]);
      for (std::int64_t k = 0; k < h; ++k) {
        for (int g = 0; g < 3; ++g) put(job.state_weights[(g * h + j) * h + k]);
      }
      for (std::int64_t k = 0; k < d; ++k) {
        for (int g = 0; g < 3; ++g) put(job.input_weights[(g * h + j) * d + k]);
      }
    }
    packed += w * (4 + 3 * (h + d));
  }
}

// Returns the states of the rows before a step; null means zero.
const float* state_before(const GruWindow& job, std::int64_t t, std::int64_t row) {
  return t > 0 ? job.states + ((t - 1) * job.n + row) * job.n_units : nullptr;
}

// Adds to r, z and c the products of M rows of values, `stride` apart, with the packed
// weights.
template <int M>
L63FAST_INLINE void add_products(const float* values, std::int64_t stride,
                                 std::int64_t count, const float* packed,
                                 Pack<float> (&r)[M], Pack<float> (&z)[M],
                                 Pack<float> (&c)[M]) {
  for (std::int64_t k = 0; k < count; ++k) {
    const Pack<float> wr = load_pack(packed + 3 * w * k);
    const Pack<float> wz = load_pack(packed + 3 * w * k + w);
    const Pack<float> wc = load_pack(packed + 3 * w * k + 2 * w);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const Pack<float> value = splat(values[m * stride + k]);
      r[m] = fma(value, wr, r[m]);
      z[m] = fma(value, wz, z[m]);
      c[m] = fma(value, wc, c[m]);
    }
  }
}

// Makes one step of M rows.
template <int M>
void step(const GruWindow& job, const float* packed, std::int64_t t, std::int64_t row) {
  const std::int64_t h = job.n_units, d = job.n_inputs;
  const float* const input = job.inputs + (row * job.n_steps + t) * d;
  float* const gates = job.gates + (t * job.n + row) * 4 * h;
  float* const next = job.states + (t * job.n + row) * h;
  const float* const state = state_before(job, t, row);
  for (std::int64_t j = 0; j < h; j += w) {
    Pack<float> r[M], z[M], part[M], c[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      r[m] = load_pack(packed);
      z[m] = load_pack(packed + w);
      part[m] = load_pack(packed + 2 * w);
      c[m] = load_pack(packed + 3 * w);
    }
    packed += 4 * w;
    if (state != nullptr) add_products<M>(state, h, h, packed, r, z, part);
    packed += 3 * w * h;
    add_products<M>(input, job.n_steps * d, d, packed, r, z, c);
    packed += 3 * w * d;
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const Gates g = gates_of(r[m], z[m], c[m], part[m]);
      store_gates(gates + 4 * h * m + j, h, h - j, g);
      const Pack<float> old =
          state != nullptr ? load_some(state + m * h + j, h - j) : Pack<float>{};
      store_some(next + m * h + j, h - j, next_state(g, old));
    }
  }
}

// Backpropagates through the gates of one step, for M rows. `gradient` (M, padded
// units) is with respect to the state after the step; it is replaced by the part of the
// gradient that does not pass through the gates.
template <int M>
void gates_backward(const GruWindow& job, std::int64_t t, std::int64_t row,
                    float* gradient) {
  const std::int64_t h = job.n_units, wide = padded(h);
  const float* const gates = job.gates + (t * job.n + row) * 4 * h;
  float* const grad = job.preactivation_grad + (t * job.n + row) * 4 * h;
  const float* const state = state_before(job, t, row);
  for (int m = 0; m < M; ++m) {
    for (std::int64_t j = 0; j < h; j += w) {
      const Gates g = load_gates(gates + 4 * h * m + j, h, h - j);
      const Pack<float> old =
          state != nullptr ? load_some(state + m * h + j, h - j) : Pack<float>{};
      float* const later = gradient + m * wide + j;
      const GateGradient before = gradient_of(g, old, load_pack(later));
      store_gates(grad + 4 * h * m + j, h, h - j,
                  {before.reset, before.update, before.part, before.input});
      store_pack(later, before.state);
    }
  }
}

// Adds the products of M rows of preactivation_grad with the weights of the state:
// `gradient` is then the gradient with respect to the state before the step.
template <int M>
void weights_backward(const GruWindow& job, const float* packed, std::int64_t t,
                      std::int64_t row, float* gradient) {
  const std::int64_t h = job.n_units, wide = padded(h);
  const float* const grad = job.preactivation_grad + (t * job.n + row) * 4 * h;
  for (std::int64_t j = 0; j < wide; j += 2 * w) {
    Pack<float> first[M], second[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      first[m] = load_pack(gradient + m * wide + j);
      second[m] = load_pack(gradient + m * wide + j + w);
    }
    for (std::int64_t k = 0; k < 3 * h; ++k) {
      const Pack<float> w0 = load_pack(packed + k * wide + j);
      const Pack<float> w1 = load_pack(packed + k * wide + j + w);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const Pack<float> value = splat(grad[4 * h * m + k]);
        first[m] = fma(value, w0, first[m]);
        second[m] = fma(value, w1, second[m]);
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      store_pack(gradient + m * wide + j, first[m]);
      store_pack(gradient + m * wide + j + w, second[m]);
    }
  }
}

template <int M>
void window(const GruWindow& job, const float* packed, std::int64_t row) {
  for (std::int64_t t = 0; t < job.n_steps; ++t) step<M>(job, packed, t, row);
}

template <int M>
void window_backward(const GruWindow& job, const float* packed, std::int64_t row,
                     float* gradient) {
  const std::int64_t h = job.n_units, wide = padded(h);
  for (int m = 0; m < M; ++m) {
    for (std::int64_t j = 0; j < wide; ++j) {
      gradient[m * wide + j] = j < h ? job.gradient[(row + m) * h + j] : 0.0f;
    }
  }
  for (std::int64_t t = job.n_steps - 1; t >= 0; --t) {
    gates_backward<M>(job, t, row, gradient);
    if (t > 0) weights_backward<M>(job, packed, t, row, gradient);
  }
}

}  // namespace

std::int64_t gru_scratch(std::int64_t n_units, std::int64_t n_inputs) {
  const std::int64_t wide = padded(n_units);
  const std::int64_t there = wide * (4 + 3 * (n_units + n_inputs));
  const std::int64_t back = wide * (3 * n_units + rows);
  return (there > back ? there : back) * static_cast<std::int64_t>(sizeof(float));
}

void gru(const GruWindow& job, std::int64_t begin, std::int64_t end, void* scratch,
         const int* cancel) {
  float* const packed = static_cast<float*>(scratch);
  pack_weights(job, packed);
  std::int64_t row = begin;
  for (; end - row >= rows && !is_set(cancel); row += rows) {
    window<rows>(job, packed, row);
  }
  for (; row < end && !is_set(cancel); ++row) window<1>(job, packed, row);
}

void gru_backward(const GruWindow& job, std::int64_t begin, std::int64_t end,
                  void* scratch, const int* cancel) {
  const std::int64_t h = job.n_units, wide = padded(h);
  float* const gradient = static_cast<float*>(scratch);
  float* const packed = gradient + rows * wide;
  for (std::int64_t k = 0; k < 3 * h; ++k) {
    for (std::int64_t j = 0; j < wide; ++j) {
      packed[k * wide + j] = j < h ? job.state_weights[k * h + j] : 0.0f;
    }
  }
  std::int64_t row = begin;
  for (; end - row >= rows && !is_set(cancel); row += rows) {
    window_backward<rows>(job, packed, row, gradient);
  }
  for (; row < end && !is_set(cancel); ++row) {
    window_backward<1>(job, packed, row, gradient);
  }
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
