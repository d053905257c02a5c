#include "convert/factors.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/name_pattern.h"
#include "convert/adapt.h"
#include "convert/plan.h"
#include "ir/decode/dense.h"
#include "ir/decode/tensor.h"
#include "ir/low_rank.h"
#include "ir/transposed_rows.h"

namespace regauge {
namespace {

// Part of what is summed in which order, so not a matter of memory: 64 rows of 131,072 columns are 32 MiB.
constexpr std::int64_t kMeasuredRows = 64;

double sum_of_squares(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
  return sum;
}

/// Products of all pairs of vectors; vector i has its element j at i * step + j * stride.
std::vector<double> gram(std::span<const float> values, std::size_t vectors, std::size_t length, std::size_t step,
                         std::size_t stride) {
  std::vector<double> products(vectors * vectors);
  for (std::size_t j = 0; j < length; ++j) {
    for (std::size_t a = 0; a < vectors; ++a) {
      const double first = values[a * step + j * stride];
      for (std::size_t b = 0; b <= a; ++b)
        products[a * vectors + b] += first * static_cast<double>(values[b * step + j * stride]);
    }
  }
  for (std::size_t a = 0; a < vectors; ++a) {
    for (std::size_t b = a + 1; b < vectors; ++b) products[a * vectors + b] = products[b * vectors + a];
  }
  return products;
}

std::vector<float> read_factor(const Part& part, RowRange rows) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows.size()) * part.rows->row_bytes());
  part.rows->read(rows, bytes);
  std::vector<float> values(static_cast<std::size_t>(rows.size() * part.shape.columns()));
  decode_dense(part.dtype, bytes, values);
  return values;
}

/// |B * A|^2 is the trace of (B^T B) (A A^T): r x r products instead of N x K ones. Of a stack, the sum over its weights.
double product_norm(const Tensor& tensor) {
  const Part& a = tensor.part(PartId::lowrank_a);
  const Part& b = tensor.part(PartId::lowrank_b);
  const LowRankGroups groups = low_rank_groups(tensor);
  const auto rank = static_cast<std::size_t>(groups.rank);
  const auto k = static_cast<std::size_t>(a.shape.columns());
  const auto n = static_cast<std::size_t>(groups.rows);
  double squares = 0;
  for (std::int64_t g = 0; g < groups.groups; ++g) {
    const std::vector<double> of_a = gram(read_factor(a, {g * groups.rank, (g + 1) * groups.rank}), rank, k, k, 1);
    const std::vector<double> of_b = gram(read_factor(b, {g * groups.rows, (g + 1) * groups.rows}), rank, n, 1, rank);
    squares += std::max(0.0, std::inner_product(of_a.begin(), of_a.end(), of_b.begin(), 0.0));
  }
  return std::sqrt(squares);
}

/// The rows of another maker, each array of one element type stored as the transpose.
class TurnedRows final : public RowMaker {
 public:
  TurnedRows(const Target& target, DType dtype, RowMakerPtr maker)
      : columns_(target.columns), dtype_(dtype), maker_(std::move(maker)) {}

  std::int64_t band_rows() const override { return maker_->band_rows(); }
  std::int64_t bytes_per_row() const override { return std::max(maker_->bytes_per_row(), 8 * columns_); }

  void make(RowRange rows, BandBuffers out, Scratch& scratch, Loss& loss) const override {
    std::vector<std::byte> upright(out.front().size());
    const std::span<std::byte> buffer(upright);
    maker_->make(rows, std::span(&buffer, 1), scratch, loss);
    transpose(rows.size(), columns_, element_bytes(), upright, out.front());
  }

  void decode(RowRange rows, StoredBuffers stored, Scratch& scratch, std::span<float> out) const override {
    std::vector<std::byte> upright(stored.front().size());
    transpose(columns_, rows.size(), element_bytes(), stored.front(), upright);
    const std::span<const std::byte> buffer(upright);
    maker_->decode(rows, std::span(&buffer, 1), scratch, out);
  }

 private:
  std::size_t element_bytes() const { return static_cast<std::size_t>(bits(dtype_)) / 8; }

  std::int64_t columns_;
  DType dtype_;
  RowMakerPtr maker_;
};

}  // namespace

double LowRankNorm::relative() const noexcept { return correction == 0 ? 0 : correction / weight; }

LowRankNorm measure_low_rank(const Tensor& tensor) {
  LowRankNorm norm;
  norm.correction = product_norm(tensor);
  TensorDecoder decoder(tensor);
  const std::int64_t height = std::lcm(kMeasuredRows, decoder.row_quantum());
  const std::int64_t rows = tensor.shape.rows();
  std::vector<float> values;
  double squares = 0;
  for (std::int64_t row = 0; row < rows; row += height) {
    const RowRange band{row, std::min(rows, row + height)};
    values.resize(static_cast<std::size_t>(band.size() * tensor.shape.columns()));
    decoder.decode(band, values);
    squares += sum_of_squares(values);
  }
  norm.weight = std::sqrt(squares);
  return norm;
}

EoraPolicy policy_for(const ConvertOptions& options, std::string_view canonical) {
  if (options.eora != EoraPolicy::merge || options.merge_only.empty()) return options.eora;
  const bool chosen = std::ranges::any_of(
      options.merge_only, [&](const std::string& pattern) { return NamePattern(pattern).matches(canonical); });
  return chosen ? EoraPolicy::merge : EoraPolicy::keep;
}

FactorForm factor_form(Dialect dialect, const Checkpoint& source, const ConvertOptions& options) {
  if (dialect == Dialect::gguf) return FactorForm::gguf;
  if (dialect == Dialect::mlx) return FactorForm::mlx;
  const bool one_file = options.format == "safetensors" && !options.directory;
  const bool among_weights =
      source.dialect == Dialect::hf && std::ranges::any_of(source.arrays, [](const StoredArray& array) {
        return array.name.ends_with(".lora_A") || array.name.ends_with(".lora_B");
      });
  return one_file || among_weights ? FactorForm::in_model : FactorForm::peft;
}

Tensor factor_tensor(const Tensor& tensor, PartId factor) {
  const Part& part = tensor.part(factor);
  Tensor out;
  // Sorts beside its weight.
  out.name = factor_array(FactorForm::gguf, tensor.name, factor);
  out.shape = part.shape;
  out.encoding = Dense{part.dtype};
  out.parts.push_back({PartId::values, part.dtype, part.shape, part.rows});
  return out;
}

void transpose_step(const Target& target, Step& step) {
  if (step.arrays.size() != 1) throw Error(ErrorCode::internal, "several arrays are turned").tensor(target.name);
  StepArray& array = step.arrays.front();
  const auto* dtype = std::get_if<DType>(&array.plan.element);
  if (dtype == nullptr) throw Error(ErrorCode::internal, "blocks are turned").tensor(target.name);
  array.plan.shape = Shape{target.columns, target.rows};
  array.layout = BandLayout::columns;
  step.maker = std::make_unique<TurnedRows>(target, *dtype, std::move(step.maker));
  if (step.fidelity == Fidelity::bytes) step.fidelity = Fidelity::values;
  step.reason += step.reason.empty() ? "stored as its transpose" : "; stored as its transpose";
}

}  // namespace regauge
