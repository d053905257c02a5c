#include "formats/mlx/module.h"

#include <algorithm>
#include <memory>
#include <unordered_map>
#include <utility>
#include <variant>

#include "base/error.h"
#include "base/text.h"
#include "formats/layouts/mlx_stream.h"
#include "formats/safetensors/array_error.h"
#include "ir/transposed_rows.h"

namespace regauge::mlx {
namespace {

/// codes [rows, columns] from packed U32 rows.
class PackedRows final : public RowSource {
 public:
  PackedRows(std::shared_ptr<const File> file, std::uint64_t offset, std::int64_t rows, std::int64_t columns, int bits)
      : RowSource(rows, static_cast<std::size_t>(columns)),
        file_(std::move(file)),
        offset_(offset),
        bits_(bits),
        packed_bytes_(static_cast<std::size_t>(layouts::mlx_row_bytes(bits, columns))) {}

  RowSourcePtr packed() const override { return std::make_shared<FileRows>(file_, offset_, rows(), packed_bytes_); }

 private:
  void read_rows(RowRange range, std::span<std::byte> out) const override {
    const std::uint64_t at = offset_ + static_cast<std::uint64_t>(range.begin) * packed_bytes_;
    if (bits_ == 8) return file_->read_at(at, out);  // the words are the codes
    const auto words = thread_scratch(static_cast<std::size_t>(range.size()) * packed_bytes_);
    file_->read_at(at, words);
    layouts::unpack_mlx_rows(bits_, range.size(), static_cast<std::int64_t>(row_bytes()), words,
                             {reinterpret_cast<std::uint8_t*>(out.data()), out.size()});
  }

  std::shared_ptr<const File> file_;
  std::uint64_t offset_;
  int bits_;
  std::size_t packed_bytes_;
};

std::optional<DType> dtype_of(const StoredArray& array) {
  const auto* dtype = std::get_if<DType>(&array.element);
  return dtype != nullptr ? std::optional(*dtype) : std::nullopt;
}

DType float_dtype(const Checkpoint& checkpoint, std::size_t index) {
  const auto dtype = dtype_of(checkpoint.arrays[index]);
  if (dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16) return *dtype;
  throw malformed_array(checkpoint, index, "affine scales and biases are floats, not {}",
                        element_name(checkpoint.arrays[index]));
}

/// Throws unless the array has the weight's dimensions but for the last.
void require_rows(const Checkpoint& checkpoint, std::size_t index, const Shape& weight) {
  const Shape& shape = checkpoint.arrays[index].shape;
  const bool same =
      shape.rank() == weight.rank() && std::equal(shape.dims.begin(), shape.dims.end() - 1, weight.dims.begin());
  if (!same) {
    throw malformed_array(checkpoint, index, "shape {} does not go with a weight of {}", to_string(shape),
                          to_string(weight));
  }
}

Part rows_part(const Checkpoint& checkpoint, std::size_t index, PartId id, DType dtype, std::int64_t rows,
               std::int64_t columns) {
  const StoredArray& array = checkpoint.arrays[index];
  const auto row_bytes = static_cast<std::size_t>(columns) * static_cast<std::size_t>(bits(dtype)) / 8;
  return {id,
          dtype,
          {rows, columns},
          std::make_shared<FileRows>(checkpoint.files[array.file].file, array.offset, rows, row_bytes)};
}

/// The input columns that both the packed words and the groups stand for.
std::int64_t columns_of(const Checkpoint& checkpoint, const Module& module, const Settings& settings) {
  const std::int64_t words = checkpoint.arrays[module.weight].shape.columns();
  const std::int64_t groups = checkpoint.arrays[module.scales].shape.columns();
  const std::int64_t group_bits = settings.bits * settings.group_size;  // a multiple of 32 in every legal combination
  if (words < 1 || groups < 1 || words % (group_bits / 32) != 0 || words / (group_bits / 32) != groups) {
    throw malformed_array(checkpoint, module.weight, "{} words and {} groups a row are not {} bits in groups of {}",
                          words, groups, settings.bits, settings.group_size);
  }
  return groups * settings.group_size;
}

}  // namespace

std::vector<Module> collect_modules(const Checkpoint& checkpoint, FindingTally& tally) {
  constexpr std::string_view kWeight = ".weight";
  std::unordered_map<std::string_view, std::size_t> arrays;
  arrays.reserve(checkpoint.arrays.size());
  for (std::size_t i = 0; i < checkpoint.arrays.size(); ++i) arrays.emplace(checkpoint.arrays[i].name, i);
  const auto beside = [&](const std::string& stem, const char* leaf) -> std::optional<std::size_t> {
    const auto found = arrays.find(stem + leaf);
    return found == arrays.end() ? std::nullopt : std::optional(found->second);
  };
  std::vector<Module> modules;
  for (std::size_t i = 0; i < checkpoint.arrays.size(); ++i) {
    const StoredArray& array = checkpoint.arrays[i];
    // An empty array may have any dimensions, and no values to decode.
    if (!array.name.ends_with(kWeight) || dtype_of(array) != DType::u32 || array.bytes == 0) continue;
    std::string stem = array.name.substr(0, array.name.size() - kWeight.size());
    const auto scales = beside(stem, ".scales");
    if (!scales) {
      tally.add(Severity::warning, "mlx-scales-missing", "a packed weight has no scales and is carried as integers",
                array.name);
      continue;
    }
    modules.push_back({stem, i, *scales, beside(stem, ".biases"), beside(stem, ".global_scale")});
  }
  return modules;
}

Tensor make_tensor(const Checkpoint& checkpoint, const Module& module, const Settings& settings) {
  const StoredArray& weight = checkpoint.arrays[module.weight];
  const StoredArray& scales = checkpoint.arrays[module.scales];
  if (weight.shape.rank() < 2)
    throw malformed_array(checkpoint, module.weight, "shape {} is no matrix", to_string(weight.shape));
  require_rows(checkpoint, module.scales, weight.shape);
  const std::int64_t columns = columns_of(checkpoint, module, settings);
  const std::int64_t rows = weight.shape.rows();
  const std::int64_t groups = scales.shape.columns();

  Grouped encoding{.code = CodeKind::unsigned_int, .bits = settings.bits, .group = {1, settings.group_size}};
  Tensor tensor;
  tensor.name = weight.name;
  tensor.shape = weight.shape;
  tensor.shape.dims.back() = columns;
  tensor.arrays = {module.weight, module.scales};
  tensor.parts.push_back(
      {PartId::codes,
       DType::u8,
       {rows, columns},
       std::make_shared<PackedRows>(checkpoint.files[weight.file].file, weight.offset, rows, columns, settings.bits)});
  if (settings.mode == Mode::affine) {
    encoding.scale = float_dtype(checkpoint, module.scales);
    if (!module.biases) throw malformed_array(checkpoint, module.scales, "the biases of an affine module are missing");
    const StoredArray& biases = checkpoint.arrays[*module.biases];
    if (biases.shape != scales.shape) {
      throw malformed_array(checkpoint, *module.biases, "shape {} is not that of the scales, {}",
                            to_string(biases.shape), to_string(scales.shape));
    }
    encoding.offset = Offset::bias;
    encoding.offset_dtype = float_dtype(checkpoint, *module.biases);
    tensor.parts.push_back(rows_part(checkpoint, module.scales, PartId::scales, encoding.scale, rows, groups));
    tensor.parts.push_back(rows_part(checkpoint, *module.biases, PartId::biases, encoding.offset_dtype, rows, groups));
    tensor.arrays.push_back(*module.biases);
  } else {
    if (dtype_of(scales) != DType::u8) {
      throw malformed_array(checkpoint, module.scales, "scales of mode {} are U8, not {}", name(settings.mode),
                            element_name(scales));
    }
    if (module.biases) throw malformed_array(checkpoint, *module.biases, "mode {} has no biases", name(settings.mode));
    encoding.code = settings.mode == Mode::mxfp8 ? CodeKind::e4m3 : CodeKind::e2m1;
    encoding.scale = DType::u8;
    encoding.flavour = Flavour::mlx;
    tensor.parts.push_back(rows_part(checkpoint, module.scales, PartId::scales, DType::u8, rows, groups));
  }
  if (module.global_scale) {
    const StoredArray& scale = checkpoint.arrays[*module.global_scale];
    if (settings.mode != Mode::nvfp4 || dtype_of(scale) != DType::f32 || scale.shape.checked_elements() != 1) {
      throw malformed_array(checkpoint, *module.global_scale, "{} {} is no global scale of an nvfp4 module",
                            element_name(scale), to_string(scale.shape));
    }
    encoding.global_scale = true;
    tensor.parts.push_back(rows_part(checkpoint, *module.global_scale, PartId::global_scale, DType::f32, 1, 1));
    tensor.arrays.push_back(*module.global_scale);
  }
  tensor.encoding = encoding;
  std::ranges::sort(tensor.arrays);
  return tensor;
}

}  // namespace regauge::mlx
