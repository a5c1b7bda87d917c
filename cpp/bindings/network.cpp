// Python binding of the layers of a network in training.
#include "l63fast/network.hpp"

#include "bindings.hpp"

namespace bindings {
namespace {

using l63fast::Layer;
using l63fast::LayerKind;
using l63fast::Slot;
using l63fast::SlotKind;

using Parameters = std::vector<py::array_t<float>>;

// Rows and columns of a parameter, (outputs, inputs) or (outputs), and where they stand
// in the weights, transposed.
struct Piece {
  std::int64_t parameter, row, n_rows, column, n_columns, begin, stride;

  std::size_t at(std::int64_t i, std::int64_t j) const {
    return static_cast<std::size_t>(begin + j * stride + i);
  }
};

// A network with its packed weights. The first check of every index and size is here;
// the arrays of the later calls need only have the right size.
class Network {
 public:
  Network(const std::vector<std::tuple<std::int64_t, bool, bool>>& slots,
          const std::vector<std::array<std::int64_t, 9>>& layers,
          const std::vector<std::array<std::int64_t, 7>>& pieces,
          std::int64_t n_weights, const std::string& level)
      : kernels_(table_of(level)), n_weights_(n_weights) {
    constexpr std::int64_t limit = std::int64_t{1} << 30;
    for (const auto& [width, differentiated, is_output] : slots) {
      if (width < 1 || width > limit) throw std::invalid_argument("slots: width");
      const SlotKind kind = is_output ? SlotKind::output : SlotKind::inner;
      slots_.push_back({n_values_, width, differentiated, kind});
      n_values_ += width;
    }
    for (const auto& fields : layers) add(fields);
    if (slots.empty()) throw std::invalid_argument("slots: none");
    if (n_weights < 0 || n_weights > limit) throw std::invalid_argument("n_weights");
    weights_.resize(static_cast<std::size_t>(n_weights));
    gradients_.resize(weights_.size());
    for (const auto& p : pieces) {
      for (const std::int64_t value : p) {
        if (value < 0 || value > limit) throw std::invalid_argument("pieces: range");
      }
      const Piece piece{p[0], p[1], p[2], p[3], p[4], p[5], p[6]};
      if (piece.begin + (piece.n_columns - 1) * piece.stride + piece.n_rows > n_weights)
        throw std::invalid_argument("pieces: range");
      pieces_.push_back(piece);
    }
    packed_.resize(static_cast<std::size_t>(n_packed_));
  }

  std::int64_t n_values() const { return n_values_; }

  // Adds up the pieces of the parameters to the weights of the layers.
  void pack(const Parameters& parameters) {
    std::fill(weights_.begin(), weights_.end(), 0.0f);
    over_pieces(parameters, [&](const Piece& piece, const float* row, std::int64_t i) {
      for (std::int64_t j = 0; j < piece.n_columns; ++j)
        weights_[piece.at(i, j)] += row[j];
    });
    l63fast::network_pack(kernels_, network(0));
  }

  // Writes the gradients of the parameters since the last call, where they have pieces.
  void take_gradients(const Parameters& parameters) {
    for (const auto& parameter : parameters) {
      if (!parameter.writeable()) throw std::invalid_argument("gradients: read-only");
    }
    over_pieces(parameters, [&](const Piece& piece, const float* row, std::int64_t i) {
      for (std::int64_t j = 0; j < piece.n_columns; ++j)
        const_cast<float*>(row)[j] = gradients_[piece.at(i, j)];
    });
    std::fill(gradients_.begin(), gradients_.end(), 0.0f);
  }

  void forward(py::array_t<float>& values, std::int64_t n) {
    l63fast::Network net = network(n);
    net.values = slots_of(values, n);
    without_gil([&](void*) { l63fast::network(kernels_, net); });
  }

  void backward(py::array_t<float>& values, py::array_t<float>& gradients,
                std::int64_t n) {
    l63fast::Network net = network(n);
    net.values = slots_of(values, n);
    net.gradients = slots_of(gradients, n);
    without_gil([&](void*) { l63fast::network_backward(kernels_, net); });
  }

  // Fields: those of l63fast._kernels.ChainJob.
  std::int64_t chain(const Job& fields) {
    const l63fast::Chain job = chain_of(fields);
    std::int64_t ended = -1;
    without_gil([&](void*) { ended = l63fast::chain(kernels_, job); });
    return ended;
  }

  std::int64_t chain_backward(const Job& fields, const py::array_t<float>& backgrounds,
                              const py::array_t<float>& analyses,
                              const py::array_t<float>& other,
                              py::array_t<float>& gradients) {
    l63fast::Chain job = chain_of(fields);
    const auto size = static_cast<py::ssize_t>(3 * job.n_cycles * job.net.n);
    job.of_backgrounds = read(backgrounds, size);
    job.of_analyses = read(analyses, size);
    const std::int64_t wide = job.other_slot < 0 ? 0 : width_of(job.other_slot);
    job.of_other = read(other, job.n_cycles * job.net.n * wide);
    job.net.gradients = slots_of(gradients, job.net.n);
    std::int64_t ended = -1;
    without_gil([&](void*) { ended = l63fast::chain_backward(kernels_, job); });
    return ended;
  }

 private:
  l63fast::Chain chain_of(const Job& fields) {
    const auto truth = array_of<double>(fields, "truth");
    if (truth.ndim() != 3 || truth.shape(2) != 3)
      throw std::invalid_argument("truth: not (n_cycles, n, 3)");
    const std::int64_t n_cycles = truth.shape(0), n = truth.shape(1);
    const py::ssize_t size = truth.size();
    l63fast::Chain job{};
    job.net = network(n);
    job.n_cycles = n_cycles;
    job.n_values = n_values_ * n + 16;
    job.net.values = write<float>(fields, "values", n_cycles * job.n_values);
    job.n_steps = read<std::int64_t>(fields, "n_steps", n_cycles);
    job.dt = value_of<double>(fields, "dt");
    job.parameters = parameters_of(fields);
    job.last_slot = slot(value_of<std::int64_t>(fields, "last_slot"), 0);
    job.increment_slot = slot(value_of<std::int64_t>(fields, "increment_slot"), 3);
    job.other_slot = slot(value_of<std::int64_t>(fields, "other_slot"), 0, true);
    const auto before = value_of<std::vector<std::int64_t>>(fields, "parts_before");
    const auto after = value_of<std::vector<std::int64_t>>(fields, "parts_after");
    if (before.size() != after.size() || before.size() > 2)
      throw std::invalid_argument("parts: 0 to 2");
    for (std::size_t i = 0; i < before.size(); ++i) {
      job.parts_before[i] = slot(before[i], 0);
      const std::int64_t units = width_of(job.parts_before[i]);
      job.parts_after[i] = slot(after[i], units);
      job.n_hidden += units;
    }
    job.n_parts = static_cast<int>(before.size());
    const std::int64_t wide = width_of(job.last_slot);
    job.folds = value_of<bool>(fields, "folds");
    job.reads_slope = value_of<bool>(fields, "reads_slope");
    const auto components = array_of<std::int64_t>(fields, "components");
    if (components.size() < 1 || components.size() > 3)
      throw std::invalid_argument("components: not 1 to 3");
    const py::ssize_t m = components.size();
    job.n_observed = static_cast<int>(m);
    job.components = read(components, m);
    job.powers = read<std::int64_t>(fields, "powers", m);
    for (py::ssize_t j = 0; j < m; ++j) {
      if (job.components[j] < 0 || job.components[j] > 2)
        throw std::invalid_argument("components: not 0 to 2");
    }
    job.n_context = wide - 3 - (job.reads_slope ? 2 : 1) * m;
    if (job.n_context < 0) throw std::invalid_argument("last_slot: width");
    job.turns = value_of<bool>(fields, "turns");
    job.signs = read<float>(fields, "signs", m);
    const std::int64_t n_contexts = n_cycles * n * (job.turns ? 2 : 1);
    job.context = read<float>(fields, "context", n_contexts * job.n_context);
    job.observations = read<float>(fields, "observations", n_cycles * n * m);
    job.innovation_std = read<float>(fields, "innovation_std", m);
    job.mean = read<float>(fields, "mean", 3);
    job.std = read<float>(fields, "std", 3);
    job.scale = read<float>(fields, "scale", 3);
    job.centre = read<double>(fields, "centre", 3);
    job.reach = read<double>(fields, "reach", 3);
    job.truth = read(truth, size);
    job.state = write<double>(fields, "state", 3 * n);
    job.hidden = write<float>(fields, "hidden", n * job.n_hidden);
    job.starts = write<double>(fields, "starts", size);
    job.backgrounds = write<float>(fields, "backgrounds", size);
    job.analyses = write<float>(fields, "analyses", size);
    job.lost = write<std::uint8_t>(fields, "lost", n_cycles * n);
    job.through = value_of<bool>(fields, "through");
    job.max_gradient = value_of<double>(fields, "max_gradient");
    for (std::int64_t k = 0; k < n_cycles; ++k) {
      if (job.n_steps[k] < 1) throw std::invalid_argument("n_steps: below 1");
    }
    return job;
  }

  template <class Body>
  void over_pieces(const Parameters& parameters, Body body) const {
    for (const Piece& piece : pieces_) {
      const auto index = static_cast<std::size_t>(piece.parameter);
      if (index >= parameters.size()) throw std::invalid_argument("parameters: number");
      const py::array_t<float>& parameter = parameters[index];
      const bool is_matrix = parameter.ndim() == 2;
      const std::int64_t width = is_matrix ? parameter.shape(1) : 1;
      if (parameter.ndim() < 1 || parameter.ndim() > 2 ||
          piece.row + piece.n_rows > parameter.shape(0) ||
          piece.column + piece.n_columns > width)
        throw std::invalid_argument("parameters: shape");
      const float* const values = read(parameter, parameter.size());
      for (std::int64_t i = 0; i < piece.n_rows; ++i)
        body(piece, values + (piece.row + i) * width + piece.column, i);
    }
  }

  std::int64_t width_of(int slot) const {
    return slots_[static_cast<std::size_t>(slot)].width;
  }

  l63fast::Network network(std::int64_t n) {
    l63fast::Network net{};
    net.n = n;
    net.slots = slots_.data();
    net.n_slots = static_cast<int>(slots_.size());
    net.layers = layers_.data();
    net.n_layers = static_cast<int>(layers_.size());
    net.weights = weights_.data();
    net.packed = packed_.data();
    net.weight_gradients = gradients_.data();
    return net;
  }

  float* slots_of(py::array_t<float>& values, std::int64_t n) const {
    if (n < 0 || (n > 0 && n_values_ > values.size() / n))
      throw std::invalid_argument("n: not that of the array");
    read(values, n_values_ * n + 16);
    return values.mutable_data();
  }

  // Returns a slot of this width; -1 only where that is allowed.
  int slot(std::int64_t index, std::int64_t width, bool optional = false) const {
    const auto count = static_cast<std::int64_t>(slots_.size());
    if (index == -1 && optional) return -1;
    if (index < 0 || index >= count) throw std::invalid_argument("layers: slot");
    const auto& slot = slots_[static_cast<std::size_t>(index)];
    if (width > 0 && slot.width != width) throw std::invalid_argument("layers: width");
    return static_cast<int>(index);
  }

  // kind, two inputs, state, cell, saved, output, cell_output, weights.
  void add(const std::array<std::int64_t, 9>& fields) {
    if (fields[0] < 0 || fields[0] > 3) throw std::invalid_argument("layers: kind");
    Layer layer{};
    layer.kind = static_cast<LayerKind>(fields[0]);
    const bool gru = layer.kind == LayerKind::gru, lstm = layer.kind == LayerKind::lstm;
    layer.output = slot(fields[6], 0);
    const std::int64_t units = slots_[static_cast<std::size_t>(layer.output)].width;
    layer.n_units = units;
    const std::int64_t n_gates = l63fast::gates_per_input(layer.kind);
    const std::int64_t n_biases = gru || lstm ? 4 : 1;
    const std::int64_t wide = l63fast::padded(units);
    std::int64_t n_weights = n_biases * units, n_packed = n_biases * wide;
    const auto add_matrix = [&](std::int64_t n_rows) {
      n_weights += n_rows * n_gates * units;
      n_packed += n_gates * (n_rows * wide + l63fast::padded(n_rows) * units);
    };
    for (int i = 1; i <= 2; ++i) {
      if (fields[static_cast<std::size_t>(i)] < 0) continue;
      const int input = slot(fields[static_cast<std::size_t>(i)], 0);
      layer.inputs[layer.n_inputs++] = input;
      add_matrix(slots_[static_cast<std::size_t>(input)].width);
    }
    if (gru || lstm) add_matrix(units);
    layer.state = gru || lstm ? slot(fields[3], units, true) : -1;
    layer.cell = lstm ? slot(fields[4], units, true) : -1;
    const std::int64_t n_saved = lstm ? 5 : gru ? 4 : 1;
    layer.saved =
        layer.kind == LayerKind::linear ? -1 : slot(fields[5], n_saved * units);
    if (layer.saved >= 0)
      slots_[static_cast<std::size_t>(layer.saved)].kind = SlotKind::saved;
    layer.cell_output = lstm ? slot(fields[7], units) : -1;
    layer.weights = fields[8];
    if (layer.weights < 0 || layer.weights > n_weights_ - n_weights)
      throw std::invalid_argument("layers: weights");
    layer.packed = n_packed_;
    for (const Layer& earlier : layers_) {
      if (earlier.weights != layer.weights) continue;
      const auto same_input = [&](int i) {
        return width_of(earlier.inputs[i]) == width_of(layer.inputs[i]);
      };
      bool same = earlier.kind == layer.kind && earlier.n_units == layer.n_units &&
                  earlier.n_inputs == layer.n_inputs;
      for (int i = 0; same && i < layer.n_inputs; ++i) same = same_input(i);
      if (!same) throw std::invalid_argument("layers: shared weights");
      layer.packed = earlier.packed;
      layer.shared = true;
    }
    if (!layer.shared) n_packed_ += n_packed;
    layers_.push_back(layer);
  }

  const KernelTable& kernels_;
  std::vector<Slot> slots_;
  std::vector<Layer> layers_;
  std::vector<Piece> pieces_;
  std::vector<float> weights_, gradients_, packed_;
  std::int64_t n_values_ = 0, n_weights_, n_packed_ = 0;
};

}  // namespace

void define_network(py::module_& module) {
  py::class_<Network>(module, "Network")
      .def(py::init<const std::vector<std::tuple<std::int64_t, bool, bool>>&,
                    const std::vector<std::array<std::int64_t, 9>>&,
                    const std::vector<std::array<std::int64_t, 7>>&, std::int64_t,
                    const std::string&>(),
           py::arg("slots"), py::arg("layers"), py::arg("pieces"), py::arg("n_weights"),
           py::arg("level"))
      .def_property_readonly("n_values", &Network::n_values)
      .def("pack", &Network::pack, py::arg("parameters").noconvert())
      .def("take_gradients", &Network::take_gradients, py::arg("gradients").noconvert())
      .def("forward", &Network::forward, py::arg("values").noconvert(), py::arg("n"))
      .def("backward", &Network::backward, py::arg("values").noconvert(),
           py::arg("gradients").noconvert(), py::arg("n"))
      .def("chain", &Network::chain, py::arg("job"))
      .def("chain_backward", &Network::chain_backward, py::arg("job"),
           py::arg("of_backgrounds").noconvert(), py::arg("of_analyses").noconvert(),
           py::arg("of_other").noconvert(), py::arg("gradients").noconvert());
}

}  // namespace bindings
