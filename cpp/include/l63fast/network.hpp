// Networks in training, as data, and the cycles of encoders that contain them.
#pragma once

#include "l63fast/kernels.hpp"

namespace l63fast {

// A network in training, as data: layers that read slots and write others. A slot holds
// `width` values of each of n samples, (n, width); one slot follows the other.
enum class SlotKind : std::int8_t {
  inner,   // its gradient is a sum, which network_backward begins with zero
  output,  // likewise, but begins with the gradient that the caller gives
  saved    // what a layer keeps for network_backward
};

struct Slot {
  std::int64_t offset;  // values of a sample in the slots before it
  std::int64_t width;
  bool differentiated;  // whether layers that read it add to its gradient
  SlotKind kind;
};

// y = W x + b; silu of it; a gated recurrent unit; a long short-term memory. The last
// two are torch's nn.GRUCell and nn.LSTMCell.
enum class LayerKind : std::int8_t { linear, silu, gru, lstm };

constexpr int max_layer_inputs = 2;

// The weights of a layer follow one another: a matrix for each input, one for the state
// of a recurrent layer, the biases. A matrix has a row for each of its input's values
// and a column for each unit; recurrent layers have one for each gate and unit. The
// gates of a GRU are the candidate's state part, r, z and the candidate's input part:
// the first three for the state, the last three for the inputs. Those of an LSTM are
// torch's i, f, g, o.
struct Layer {
  LayerKind kind;
  std::int64_t n_units;
  int n_inputs;
  int inputs[max_layer_inputs];  // slots that it reads
  int state;                     // slot of the last state, -1: zero (recurrent layers)
  int cell;                      // slot of the last cell, -1: zero (LSTM)
  int saved;                     // slot of what the backpropagation needs; widths:
                                 // silu 1, gru 4, lstm 5 times n_units
  int output;                    // slot of the output
  int cell_output;               // slot of the next cell (LSTM)
  std::int64_t weights;          // where its weights begin
  std::int64_t packed;           // where its packed weights begin
  bool shared;                   // its weights are those of an earlier layer
};

struct Network {
  std::int64_t n;
  std::int64_t begin, end;  // the rows of a call within the kernels
  const Slot* slots;
  int n_slots;
  const Layer* layers;
  int n_layers;
  const float* weights;
  float* packed;            // written by network_pack
  float* values;            // the slots, and 16 values more
  float* gradients;         // likewise: with respect to the slots
  float* weight_gradients;  // like the weights: network_backward adds to them
};

// Cycles of an encoder in training. In each the states are forecast; the slot
// `last_slot` becomes the context, the scaled coordinates of the background and its
// innovations; the network gives the increments of the coordinates, in units of
// `scale`, and the next hidden states. Estimates whose coordinates are beyond `reach`
// are lost and continue from the truth with a hidden state of zero. The way back adds
// to the gradients of the weights. Gradients
// that pass from a cycle to the one before, through the hidden state and the forecast,
// are at most max_gradient times the median one.
struct Chain {
  Network net;  // values: (n_cycles, n_values), with the slots that no cycle
                // fills; gradients: (n_values)
  std::int64_t n_cycles;
  std::int64_t n_values;        // of the net, with its 16 more
  const std::int64_t* n_steps;  // (n_cycles): model steps of each forecast
  double dt;                    // time step (time units)
  Parameters parameters;        // of the model
  int last_slot, increment_slot;
  int other_slot = -1;  // of an output that stays in `values`, for each cycle; -1: none
  int n_parts;          // of the hidden state: 0 to 2 slots
  int parts_before[2], parts_after[2];
  std::int64_t n_hidden;   // width of all parts
  std::int64_t n_context;  // last_slot without coordinates and innovations
  const float* context;    // (n_cycles, n, n_context), with `turns` (2, ...): mirrored
  bool folds;              // the angle of the coordinates is doubled
  bool turns;  // where x < 0 the network sees the mirror image of everything, and the
               // second half of each part of the hidden state changes its sign
  const float* signs;              // (n_observed): of the observation of a mirror image
  bool reads_slope;                // there are two innovations for each value
  int n_observed;                  // values of an observation
  const std::int64_t* components;  // (n_observed): of the state, 0 to 2
  const std::int64_t* powers;      // (n_observed)
  const float* observations;       // (n_cycles, n, n_observed), NaN where missing
  const float* innovation_std;     // (n_observed)
  const float* mean;               // (3): of the coordinates
  const float* std;                // (3)
  const float* scale;              // (3)
  const double* centre;            // (3)
  const double* reach;             // (3)
  const double* truth;             // (n_cycles, n, 3)
  double* state;                // (n, 3): before the first cycle, then after the last
  float* hidden;                // (n, n_hidden): likewise
  double* starts;               // (n_cycles, n, 3): states that are forecast
  float* backgrounds;           // (n_cycles, n, 3)
  float* analyses;              // (n_cycles, n, 3)
  std::uint8_t* lost;           // (n_cycles, n): 1 where the estimate is lost
  const float* of_backgrounds;  // (n_cycles, n, 3): gradients of the loss
  const float* of_analyses;     // (n_cycles, n, 3)
  const float* of_other;        // (n_cycles, n, width of other_slot)
  bool through;                 // whether gradients pass through the forecasts
  double max_gradient;
};

// Returns n units in whole packs of the widest instruction set.
inline std::int64_t padded(std::int64_t n) { return (n + 15) / 16 * 16; }

// Returns the number of gates that an input of a layer takes part in.
inline std::int64_t gates_per_input(LayerKind kind) {
  return kind == LayerKind::lstm ? 4 : kind == LayerKind::gru ? 3 : 1;
}

// On the calling thread: pack the weights; compute the outputs; compute the gradients.
void network_pack(const KernelTable& kernels, const Network& net);
void network(const KernelTable& kernels, const Network& net);
void network_backward(const KernelTable& kernels, const Network& net);
// Likewise all cycles of a chain, forwards and back. Return -1, or the cycle in which a
// forecast became non-finite or most estimates were lost.
std::int64_t chain(const KernelTable& kernels, const Chain& chain);
std::int64_t chain_backward(const KernelTable& kernels, const Chain& chain);

}  // namespace l63fast
