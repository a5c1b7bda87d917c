// A network in training: its layers, their backpropagation, and the gradients of the
// weights, compiled once per instruction set.
//
// A few rows (samples) and up to four packs of columns are computed together, so that
// their sums stay in registers while they run over the inputs. The loops over layers
// and columns are outside, the loop over rows inside: the weights of a few columns stay
// in the L1 cache.
#include "l63fast/network.hpp"

#include "l63fast/gates.hpp"

#include "levels.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {
namespace {

constexpr int w = width<float>;
constexpr int most = 4;  // packs of columns that are computed together

// Rows that are computed together: with four packs each they fill the registers.
constexpr int rows = register_bytes == 64 ? 6 : 3;

// Rows, and rows of packed weights, that are used at a time: four packs of each stay in
// the L1 cache.
constexpr std::int64_t at_a_time = 96;

// Values of a group of rows: with their gradients they take half of a small L2 cache.
constexpr std::int64_t cached_values = 1 << 16;

std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// Copies a value to all lanes. Subtracting 0 keeps -0, unlike broadcast's addition,
// which makes +0 of it, so the compiler needs no instruction for it.
L63FAST_INLINE Pack<float> splat(float value) { return value - Pack<float>{}; }

L63FAST_INLINE void store_some(float* values, std::int64_t count, Pack<float> pack) {
  if (count >= w) return store_pack(values, pack);
  float some[w];
  store_pack(some, pack);
  for (std::int64_t i = 0; i < count; ++i) values[i] = some[i];
}

template <int Value>
struct Constant {
  static constexpr int value = Value;
};

// Calls body(Constant<M>, row) for groups of M rows, which cover [0, n).
template <class Body>
L63FAST_INLINE void over_rows(std::int64_t n, Body body) {
  std::int64_t row = 0;
  for (; n - row >= rows; row += rows) body(Constant<rows>{}, row);
  for (; n - row >= 2; row += 2) body(Constant<2>{}, row);
  if (row < n) body(Constant<1>{}, row);
}

// Calls body(Constant<P>, first) for groups of P packs of columns, which cover
// [0, count).
template <class Body>
void over_columns(std::int64_t count, Body body) {
  for (std::int64_t first = 0; first < count; first += most * w) {
    switch ((count - first + w - 1) / w) {
      case 1:
        body(Constant<1>{}, first);
        break;
      case 2:
        body(Constant<2>{}, first);
        break;
      case 3:
        body(Constant<3>{}, first);
        break;
      default:
        body(Constant<most>{}, first);
    }
  }
}

// Rounds n columns up to whole packs.
std::int64_t whole(std::int64_t n) { return (n + w - 1) / w * w; }

bool is_recurrent(const Layer& layer) {
  return layer.kind == LayerKind::gru || layer.kind == LayerKind::lstm;
}

// The weights of one input of a layer: (n_rows, n_columns), a column per unit and gate.
struct Matrix {
  int slot;  // -1: all zero
  bool differentiated;
  std::int64_t n_rows, n_columns;
  const float* weights;
  std::int64_t first;  // column of the layer's pre-activations where its columns begin
};

// Calls body(matrix) for the inputs and the state of a layer; returns the biases.
template <class Body>
L63FAST_INLINE const float* over_matrices(const Network& net, const Layer& layer,
                                          Body body) {
  const float* weights = net.weights + layer.weights;
  const std::int64_t units = layer.n_units, n_gates = gates_per_input(layer.kind);
  for (int i = 0; i < layer.n_inputs; ++i) {
    const Slot& slot = net.slots[layer.inputs[i]];
    const std::int64_t first = layer.kind == LayerKind::gru ? units : 0;
    body(Matrix{layer.inputs[i], slot.differentiated, slot.width, n_gates * units,
                weights, first});
    weights += slot.width * n_gates * units;
  }
  if (is_recurrent(layer)) {
    body(Matrix{layer.state, true, units, n_gates * units, weights, 0});
    weights += n_gates * units * units;
  }
  return weights;
}

// Packs the weights in the order in which they are used, forwards and backwards. Lanes
// beyond the last column are zero.
void pack_layer(const Network& net, const Layer& layer) {
  float* out = net.packed + layer.packed;
  const std::int64_t units = layer.n_units;
  // Writes packs of a row: `n_packs` of neighbours, or one of each gate.
  const auto put = [&](const float* row, std::int64_t stride, int n_packs,
                       std::int64_t left, std::int64_t gate) {
    for (int p = 0; p < n_packs; ++p, row += (gate > 0 ? gate : w) * stride) {
      for (int j = 0; j < w; ++j) *out++ = j < left ? row[j * stride] : 0.0f;
      if (gate == 0) left -= w;
    }
  };
  const float* biases = over_matrices(net, layer, [](const Matrix&) {});
  if (is_recurrent(layer)) {
    for (std::int64_t first = 0; first < units; first += w) {
      put(biases + first, 1, 4, units - first, units);
      over_matrices(net, layer, [&](const Matrix& m) {
        const int n_gates = static_cast<int>(m.n_columns / units);
        for (std::int64_t k = 0; k < m.n_rows; ++k) {
          put(m.weights + k * m.n_columns + first, 1, n_gates, units - first, units);
        }
      });
    }
  } else {
    over_columns(units, [&](auto packs, std::int64_t first) {
      put(biases + first, 1, packs.value, units - first, 0);
      over_matrices(net, layer, [&](const Matrix& m) {
        for (std::int64_t k = 0; k < m.n_rows; ++k) {
          put(m.weights + k * units + first, 1, packs.value, units - first, 0);
        }
      });
    });
  }
  over_matrices(net, layer, [&](const Matrix& m) {
    over_columns(m.n_rows, [&](auto packs, std::int64_t first) {
      for (std::int64_t c = 0; c < m.n_columns; ++c) {
        put(m.weights + first * m.n_columns + c, m.n_columns, packs.value,
            m.n_rows - first, 0);
      }
    });
  });
}

// Adds to the sums of P packs the products of M rows of values with packed weights.
template <int P, int M>
L63FAST_INLINE void add_products(const float* values, std::int64_t stride,
                                 std::int64_t count, const float* packed,
                                 Pack<float> (*sums)[M]) {
  for (std::int64_t k = 0; k < count; ++k, packed += P * w) {
    Pack<float> weights[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) weights[p] = load_pack(packed + p * w);
#pragma GCC unroll 6
    for (int m = 0; m < M; ++m) {
      const Pack<float> value = splat(values[m * stride + k]);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) sums[p][m] = fma(value, weights[p], sums[p][m]);
    }
  }
}

L63FAST_INLINE float* slot_of(float* values, const Network& net, int slot) {
  const Slot& place = net.slots[slot];
  return values + place.offset * net.n + net.begin * place.width;
}

template <int P>
void dense_columns(const Network& net, const Layer& layer, std::int64_t first,
                   const float* packed) {
  const std::int64_t units = layer.n_units;
  float* const out = slot_of(net.values, net, layer.output);
  float* const slopes =
      layer.kind == LayerKind::silu ? slot_of(net.values, net, layer.saved) : nullptr;
  over_rows(net.end - net.begin, [&](auto count, std::int64_t row) {
    constexpr int M = decltype(count)::value;
    Pack<float> sums[P][M];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 6
      for (int m = 0; m < M; ++m) sums[p][m] = load_pack(packed + p * w);
    }
    const float* weights = packed + P * w;
    for (int i = 0; i < layer.n_inputs; ++i) {
      const std::int64_t wide = net.slots[layer.inputs[i]].width;
      const float* values = slot_of(net.values, net, layer.inputs[i]) + row * wide;
      add_products<P, M>(values, wide, wide, weights, sums);
      weights += wide * P * w;
    }
    for (int p = 0; p < P; ++p) {
      for (int m = 0; m < M; ++m) {
        const std::int64_t at = (row + m) * units + first + p * w;
        const std::int64_t left = units - first - p * w;
        if (slopes != nullptr) {
          const Silu y = silu(sums[p][m]);
          store_some(out + at, left, y.value);
          store_some(slopes + at, left, y.slope);
        } else {
          store_some(out + at, left, sums[p][m]);
        }
      }
    }
  });
}

// The gates of a pack of units.
template <bool IsGru>
void recurrent_columns(const Network& net, const Layer& layer, std::int64_t first,
                       const float* packed) {
  constexpr int n_gates = IsGru ? 3 : 4;
  const std::int64_t units = layer.n_units, left = units - first;
  const std::int64_t n_saved = net.slots[layer.saved].width;
  over_rows(net.end - net.begin, [&](auto count, std::int64_t row) {
    constexpr int M = decltype(count)::value;
    Pack<float> sums[4][M];
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
#pragma GCC unroll 6
      for (int m = 0; m < M; ++m) sums[p][m] = load_pack(packed + p * w);
    }
    const float* weights = packed + 4 * w;
    for (int i = 0; i < layer.n_inputs; ++i) {
      const std::int64_t wide = net.slots[layer.inputs[i]].width;
      const float* values = slot_of(net.values, net, layer.inputs[i]) + row * wide;
      add_products<n_gates, M>(values, wide, wide, weights, sums + (4 - n_gates));
      weights += wide * n_gates * w;
    }
    const float *state = nullptr, *cell = nullptr;
    if (layer.state >= 0) {
      state = slot_of(net.values, net, layer.state) + row * units;
      add_products<n_gates, M>(state, units, units, weights, sums);
    }
    if (layer.cell >= 0) cell = slot_of(net.values, net, layer.cell) + row * units;
    float* const saved = slot_of(net.values, net, layer.saved) + row * n_saved + first;
    float* const out = slot_of(net.values, net, layer.output) + row * units + first;
    for (int m = 0; m < M; ++m) {
      float* const kept = saved + m * n_saved;
      const auto old = [&](const float* values) {
        return values == nullptr ? Pack<float>{}
                                 : load_pack(values + m * units + first);
      };
      if (IsGru) {
        const Gates g = gates_of(sums[1][m], sums[2][m], sums[3][m], sums[0][m]);
        store_some(kept, left, g.part);
        store_some(kept + units, left, g.reset);
        store_some(kept + 2 * units, left, g.update);
        store_some(kept + 3 * units, left, g.candidate);
        store_some(out + m * units, left, next_state(g, old(state)));
      } else {
        const CellGates g =
            cell_gates(sums[0][m], sums[1][m], sums[2][m], sums[3][m], old(cell));
        store_some(kept, left, g.input);
        store_some(kept + units, left, g.forget);
        store_some(kept + 2 * units, left, g.candidate);
        store_some(kept + 3 * units, left, g.output);
        store_some(kept + 4 * units, left, g.squashed);
        float* const next = slot_of(net.values, net, layer.cell_output);
        store_some(next + (row + m) * units + first, left, g.cell);
        store_some(out + m * units, left, g.output * g.squashed);
      }
    }
  });
}

// Replaces the gradient of a layer's output by that of its pre-activations: in the slot
// `output` of a dense layer, in `saved` of a recurrent one.
void activation_backward(const Network& net, const Layer& layer) {
  const std::int64_t units = layer.n_units, n = net.end - net.begin;
  const auto grad_of = [&](int slot) { return slot_of(net.gradients, net, slot); };
  float* const grad = grad_of(layer.output);
  if (layer.kind == LayerKind::linear) return;
  const float* const saved = slot_of(net.values, net, layer.saved);
  if (layer.kind == LayerKind::silu) {
    for (std::int64_t i = 0; i < n * units; i += w) {
      store_some(grad + i, n * units - i, load_pack(grad + i) * load_pack(saved + i));
    }
    return;
  }
  const bool is_gru = layer.kind == LayerKind::gru;
  const int before = is_gru ? layer.state : layer.cell;
  const float* const old = before < 0 ? nullptr : slot_of(net.values, net, before);
  float* const old_grad = before < 0 ? nullptr : grad_of(before);
  const float* const cell_grad = is_gru ? nullptr : grad_of(layer.cell_output);
  const std::int64_t n_saved = net.slots[layer.saved].width;
  for (std::int64_t row = 0; row < n; ++row) {
    for (std::int64_t j = 0; j < units; j += w) {
      const std::int64_t at = row * units + j, left = units - j;
      const float* const s = saved + row * n_saved + j;
      float* const out = grad_of(layer.saved) + row * n_saved + j;
      const Pack<float> state = old == nullptr ? Pack<float>{} : load_pack(old + at);
      const auto value = [&](int g) { return load_pack(s + g * units); };
      const auto put = [&](int g, Pack<float> pack) {
        store_some(out + g * units, left, pack);
      };
      Pack<float> kept;
      if (is_gru) {
        const Gates g{value(1), value(2), value(3), value(0)};
        const GateGradient d = gradient_of(g, state, load_pack(grad + at));
        put(0, d.part);
        put(1, d.reset);
        put(2, d.update);
        put(3, d.input);
        kept = d.state;
      } else {
        const CellGates g{value(0), value(1), value(2), value(3), value(4), {}};
        const CellGradient d =
            gradient_of(g, state, load_pack(grad + at), load_pack(cell_grad + at));
        put(0, d.input);
        put(1, d.forget);
        put(2, d.candidate);
        put(3, d.output);
        kept = d.cell;
      }
      if (old_grad != nullptr)
        store_some(old_grad + at, left, load_pack(old_grad + at) + kept);
    }
  }
}

// Adds to the gradient of an input (n, n_rows) the products of that of the
// pre-activations with the weights.
template <int P>
void input_columns(const Network& net, const Matrix& m, const float* grad,
                   std::int64_t stride, std::int64_t first, const float* packed) {
  float* const out = slot_of(net.gradients, net, m.slot) + first;
  for (std::int64_t begin = 0; begin < m.n_columns; begin += at_a_time) {
    const std::int64_t count = smaller(at_a_time, m.n_columns - begin);
    over_rows(net.end - net.begin, [&](auto number, std::int64_t row) {
      constexpr int M = decltype(number)::value;
      Pack<float> sums[P][M];
      for (int p = 0; p < P; ++p) {
        for (int i = 0; i < M; ++i)
          sums[p][i] = load_pack(out + (row + i) * m.n_rows + p * w);
      }
      add_products<P, M>(grad + row * stride + begin, stride, count,
                         packed + begin * P * w, sums);
      for (int p = 0; p < P; ++p) {
        for (int i = 0; i < M; ++i) {
          store_some(out + (row + i) * m.n_rows + p * w, m.n_rows - first - p * w,
                     sums[p][i]);
        }
      }
    });
  }
}

// Adds the gradients of weights, (n_inputs, n_columns): the inputs' rows of values
// times those of the gradients of the pre-activations, summed over the rows.
void add_outer(const float* values, std::int64_t n_inputs, const float* grad,
               std::int64_t stride, std::int64_t n_columns, std::int64_t n,
               float* out) {
  over_columns(n_columns, [&](auto packs, std::int64_t first) {
    constexpr int P = decltype(packs)::value;
    for (std::int64_t begin = 0; begin < n; begin += at_a_time) {
      const std::int64_t n_rows = smaller(at_a_time, n - begin);
      // A copy: rows that are a power of two apart would share a few lines of the
      // cache.
      alignas(64) float copy[at_a_time * P * w];
      for (std::int64_t row = 0; row < n_rows; ++row) {
        const float* const from = grad + (begin + row) * stride + first;
        for (int p = 0; p < P; ++p)
          store_pack(copy + (row * P + p) * w, load_pack(from + p * w));
      }
      over_rows(n_inputs, [&](auto number, std::int64_t k) {
        constexpr int M = decltype(number)::value;
        Pack<float> sums[P][M] = {};
        const float* value = values + begin * n_inputs + k;
        const float* other = copy;
        for (std::int64_t row = 0; row < n_rows; ++row) {
          Pack<float> g[P];
#pragma GCC unroll 4
          for (int p = 0; p < P; ++p) g[p] = load_pack(other + p * w);
#pragma GCC unroll 6
          for (int m = 0; m < M; ++m) {
            const Pack<float> x = splat(value[m]);
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p) sums[p][m] = fma(x, g[p], sums[p][m]);
          }
          value += n_inputs;
          other += P * w;
        }
        for (int m = 0; m < M; ++m) {
          for (int p = 0; p < P; ++p) {
            float* const at = out + (k + m) * n_columns + first + p * w;
            const std::int64_t left = n_columns - first - p * w;
            if (left >= w) {
              store_pack(at, load_pack(at) + sums[p][m]);
              continue;
            }
            float some[w];
            store_pack(some, sums[p][m]);
            for (int j = 0; j < left; ++j) at[j] += some[j];
          }
        }
      });
    }
  });
}

void layer_backward(const Network& net, const Layer& layer) {
  activation_backward(net, layer);
  const bool recurrent = is_recurrent(layer);
  const int slot = recurrent ? layer.saved : layer.output;
  const float* const grad = slot_of(net.gradients, net, slot);
  const std::int64_t stride = net.slots[slot].width;
  const std::int64_t n_biases = recurrent ? 4 * layer.n_units : layer.n_units;
  const float* packed = net.packed + layer.packed;
  const float* biases = over_matrices(net, layer, [&](const Matrix& m) {
    const std::int64_t per_pack = recurrent ? m.n_columns / layer.n_units : 1;
    packed += whole(layer.n_units) * m.n_rows * per_pack;
  });
  packed += whole(layer.n_units) * (recurrent ? 4 : 1);
  over_matrices(net, layer, [&](const Matrix& m) {
    if (m.slot >= 0) {
      add_outer(slot_of(net.values, net, m.slot), m.n_rows, grad + m.first, stride,
                m.n_columns, net.end - net.begin,
                net.weight_gradients + (m.weights - net.weights));
    }
    over_columns(m.n_rows, [&](auto packs, std::int64_t first) {
      if (m.slot >= 0 && m.differentiated) {
        input_columns<decltype(packs)::value>(net, m, grad + m.first, stride, first,
                                              packed);
      }
      packed += packs.value * w * m.n_columns;
    });
  });
  float* const out = net.weight_gradients + (biases - net.weights);
  for (std::int64_t row = 0; row < net.end - net.begin; ++row) {
    for (std::int64_t j = 0; j < n_biases; ++j) out[j] += grad[row * stride + j];
  }
}

void layers_forward(const Network& net) {
  for (int i = 0; i < net.n_layers; ++i) {
    const Layer& layer = net.layers[i];
    const float* packed = net.packed + layer.packed;
    std::int64_t n_inputs = 1;  // with the bias
    for (int k = 0; k < layer.n_inputs; ++k) {
      n_inputs += net.slots[layer.inputs[k]].width;
    }
    if (is_recurrent(layer)) {
      const bool is_gru = layer.kind == LayerKind::gru;
      const std::int64_t n_gates = gates_per_input(layer.kind);
      for (std::int64_t first = 0; first < layer.n_units; first += w) {
        (is_gru ? recurrent_columns<true> : recurrent_columns<false>)(net, layer, first,
                                                                      packed);
        packed += (4 + n_gates * (n_inputs - 1 + layer.n_units)) * w;
      }
    } else {
      over_columns(layer.n_units, [&](auto packs, std::int64_t first) {
        dense_columns<decltype(packs)::value>(net, layer, first, packed);
        packed += packs.value * w * n_inputs;
      });
    }
  }
}

// Calls body(net) for the rows in groups, whose slots stay in the L2 cache.
template <class Body>
void over_groups(Network net, Body body) {
  const Slot& last = net.slots[net.n_slots - 1];
  const std::int64_t fitting = cached_values / (last.offset + last.width) / rows;
  const std::int64_t count = rows * (fitting < 8 ? 8 : fitting);
  for (net.begin = 0; net.begin < net.n; net.begin = net.end) {
    net.end = smaller(net.begin + count, net.n);
    body(net);
  }
}

}  // namespace

void network_pack(const Network& net) {
  for (int i = 0; i < net.n_layers; ++i) {
    if (!net.layers[i].shared) pack_layer(net, net.layers[i]);
  }
}

void network(const Network& net) { over_groups(net, layers_forward); }

void network_backward(const Network& whole) {
  over_groups(whole, [](const Network& net) {
    for (int i = 0; i < net.n_slots; ++i) {
      if (net.slots[i].kind != SlotKind::inner) continue;
      float* const gradient = slot_of(net.gradients, net, i);
      const std::int64_t size = (net.end - net.begin) * net.slots[i].width;
      for (std::int64_t k = 0; k < size; ++k) gradient[k] = 0.0f;
    }
    for (int i = net.n_layers - 1; i >= 0; --i) layer_backward(net, net.layers[i]);
  });
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
