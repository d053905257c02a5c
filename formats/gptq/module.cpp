#include "formats/gptq/module.h"

#include <algorithm>
#include <array>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <variant>

#include "base/error.h"
#include "base/text.h"
#include "formats/gptq/rows.h"
#include "formats/safetensors/array_error.h"
#include "ir/transposed_rows.h"

namespace regauge::gptq {
namespace {

using layouts::GptqPacking;
using layouts::ZeroConvention;

// Codes along either axis fill whole words in blocks of this many. Source: ModelCloud/GPTQModel
// gptqmodel/nn_modules/qlinear/__init__.py, pack_block.
constexpr std::int64_t kBlock = 32;

// What GPTQModel's kernels take. Source: gptqmodel/nn_modules/qlinear/torch.py, SUPPORTS_GROUP_SIZE.
constexpr std::array<std::int64_t, 7> kGroupSizes{16, 32, 64, 128, 256, 512, 1024};

struct Leaf {
  std::string_view suffix;
  std::optional<std::size_t> Module::* slot;
};

constexpr std::array kLeaves = {
    Leaf{".qweight", &Module::qweight}, Leaf{".qzeros", &Module::qzeros}, Leaf{".scales", &Module::scales},
    Leaf{".g_idx", &Module::g_idx},     Leaf{".B", &Module::b},           Leaf{".s", &Module::s},
};

const Leaf* leaf_of(std::string_view name) {
  const auto found = std::ranges::find_if(kLeaves, [&](const Leaf& leaf) { return name.ends_with(leaf.suffix); });
  return found == kLeaves.end() ? nullptr : &*found;
}

/// Two-dimensional, of one of these types: the shape as rows and columns.
std::pair<std::int64_t, std::int64_t> matrix(const Checkpoint& checkpoint, std::size_t index,
                                             std::initializer_list<DType> dtypes) {
  const StoredArray& array = checkpoint.arrays[index];
  const auto* dtype = std::get_if<DType>(&array.element);
  if (dtype == nullptr || std::ranges::find(dtypes, *dtype) == dtypes.end()) {
    throw malformed_array(checkpoint, index, "{} holds no {}", element_name(array),
                          array.name.substr(array.name.rfind('.') + 1));
  }
  if (array.shape.rank() != 2 || array.shape.dims[0] < 1 || array.shape.dims[1] < 1) {
    throw malformed_array(checkpoint, index, "shape {} is no matrix", to_string(array.shape));
  }
  return {array.shape.dims[0], array.shape.dims[1]};
}

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a - 1) / b + 1; }

/// The group size that the tensors' number of groups stands for: the config's when it fits, else, where K is beyond doubt,
/// the one that does.
std::int64_t group_size_of(const Checkpoint& checkpoint, const Module& module, std::int64_t k, std::int64_t groups,
                           const Settings& settings, bool k_is_sure, FindingTally& tally) {
  if (settings.group_size) {
    const std::int64_t size = *settings.group_size;
    // A size beyond K is kept: the module is one short group of it, as its neighbours are whole ones.
    if (groups == (size == -1 ? 1 : ceil_div(k, size))) return size == -1 ? 0 : size;
  }
  std::optional<std::int64_t> size;
  if (groups == 1) size = 0;
  for (const std::int64_t candidate : kGroupSizes) {
    if (!size && ceil_div(k, candidate) == groups) size = candidate;
  }
  if (!size && k % groups == 0) size = k / groups;
  const std::size_t scales = module.is_marlin() ? *module.s : *module.scales;
  if (!size || !k_is_sure) {
    throw malformed_array(checkpoint, scales, "{} groups do not come out of {} input columns{}", groups, k,
                          settings.group_size ? fmt::format(" in groups of {}", *settings.group_size) : std::string());
  }
  if (settings.group_size) {
    tally.add(Severity::warning, "gptq-group-mismatch",
              "the number of groups is not what the config's group size gives", module.name);
  }
  return *size;
}

ArrayAt at(const Checkpoint& checkpoint, std::size_t index) {
  const StoredArray& array = checkpoint.arrays[index];
  return {checkpoint.files[array.file].file, array.offset};
}

}  // namespace

std::vector<Module> collect_modules(const Checkpoint& checkpoint) {
  const std::vector<StoredArray>& arrays = checkpoint.arrays;
  std::vector<Module> modules;
  std::unordered_set<std::string_view> dense;
  std::unordered_map<std::string_view, std::size_t> known;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    const std::string_view name = arrays[i].name;
    // vllm-project/vllm and compressed-tensors call the parts of 2:4 sparse Marlin so.
    if (name.ends_with(".B_24") || name.ends_with(".B_meta")) {
      throw Error(ErrorCode::unsupported, "2:4 sparse Marlin (marlin_24) is not read")
          .tensor(excerpt(name))
          .at(checkpoint.files[arrays[i].file].file->path())
          .offset(arrays[i].offset);
    }
    if (name.ends_with(".weight")) dense.insert(name.substr(0, name.rfind('.')));
    const Leaf* leaf = leaf_of(name);
    if (leaf == nullptr) continue;
    const std::string_view stem = name.substr(0, name.size() - leaf->suffix.size());
    const auto [place, is_new] = known.emplace(stem, modules.size());
    if (is_new) {
      modules.emplace_back();
      modules.back().name = stem;
      modules.back().first = i;
    }
    modules[place->second].*leaf->slot = i;
  }
  // Names like `.scales` and `.s` belong to other formats as well; only a weight makes a module of them.
  std::erase_if(modules, [](const Module& module) { return !module.qweight && !(module.b && module.s); });
  for (const Module& module : modules) {
    const std::size_t weight = module.qweight ? *module.qweight : *module.b;
    if (module.qweight && module.b) throw malformed_array(checkpoint, weight, "there is a Marlin weight beside it");
    if (module.qweight && !module.scales) throw malformed_array(checkpoint, weight, "there are no scales beside it");
    if (dense.contains(module.name)) throw malformed_array(checkpoint, weight, "there is a dense weight beside it");
  }
  return modules;
}

bool has_modules(const std::vector<std::string>& names) {
  return std::ranges::any_of(names, [](std::string_view name) {
    return name.ends_with(".qweight") || name.ends_with(".B") || name.ends_with(".B_24");
  });
}

Geometry resolve_geometry(const Checkpoint& checkpoint, const Module& module, const Config& config,
                          const Settings& settings, FindingTally& tally) {
  const auto [word_rows, n] = matrix(checkpoint, *module.qweight, {DType::i32, DType::u32});
  const auto [groups, scale_columns] = matrix(checkpoint, *module.scales, {DType::f16, DType::bf16, DType::f32});
  if (scale_columns != n) {
    throw malformed_array(checkpoint, *module.qweight, "has {} columns but the scales have {}{}", n, scale_columns,
                          scale_columns == 8 * n ? ": this looks like AWQ, which packs along the other axis" : "");
  }
  if (n % kBlock != 0)
    throw malformed_array(checkpoint, *module.qweight, "{} output rows are no multiple of {}", n, kBlock);

  std::optional<std::int64_t> bits;
  if (module.qzeros) {
    const auto [zero_rows, zero_columns] = matrix(checkpoint, *module.qzeros, {DType::i32, DType::u32});
    if (zero_rows != groups) {
      throw malformed_array(checkpoint, *module.qzeros, "has {} groups but the scales have {}", zero_rows, groups);
    }
    if (zero_columns % (n / kBlock) != 0) {
      throw malformed_array(checkpoint, *module.qzeros, "{} words do not hold the zero points of {} output rows",
                            zero_columns, n);
    }
    bits = zero_columns / (n / kBlock);
  } else if (settings.sym == false) {
    throw malformed_array(checkpoint, *module.qweight, "the config says sym false, but there are no zero points");
  }
  if (module.g_idx) {
    const StoredArray& index = checkpoint.arrays[*module.g_idx];
    const std::int64_t columns = index.shape.columns();
    if (index.element != decltype(index.element)(DType::i32) || index.shape.rank() != 1 || columns < 1) {
      throw malformed_array(checkpoint, *module.g_idx, "{} {} is no group index", element_name(index),
                            to_string(index.shape));
    }
    // bits = 32 * rows / K; K is a multiple of 32, so the quotient comes first and cannot overflow.
    const bool whole = columns % kBlock == 0 && word_rows % (columns / kBlock) == 0;
    const std::int64_t by_index = whole ? word_rows / (columns / kBlock) : 0;
    if (!whole || (bits && *bits != by_index)) {
      throw malformed_array(checkpoint, *module.g_idx,
                            "has {} entries, which does not go with the {} rows of qweight{}", columns, word_rows,
                            bits ? fmt::format(" and {} bits", *bits) : std::string());
    }
    bits = by_index;
  }
  if (!bits) bits = settings.bits;
  if (!bits)
    throw malformed_array(checkpoint, *module.qweight,
                          "neither zero points, nor g_idx, nor a config tell how many bits");
  if (*bits < 2 || *bits > 8)
    throw malformed_array(checkpoint, *module.qweight, "codes of {} bits do not exist in GPTQ", *bits);
  if (word_rows % *bits != 0) {
    throw malformed_array(checkpoint, *module.qweight, "{} rows of words do not hold blocks of 32 codes of {} bits",
                          word_rows, *bits);
  }
  if (settings.bits && *settings.bits != *bits) {
    tally.add(Severity::warning, "gptq-bits-mismatch", "the tensors have another width than the config says",
              module.name);
  }
  const bool planar = config.format == WordFormat::planar;
  if (!planar && (*bits == 5 || *bits == 6 || *bits == 7)) {
    throw malformed_array(checkpoint, *module.qweight, "codes of {} bits exist in the format gptq_p only, not in {}",
                          *bits, name(config.format));
  }

  Geometry geometry;
  geometry.n = n;
  geometry.k = word_rows / *bits * kBlock;
  geometry.groups = groups;
  geometry.layout = {static_cast<int>(*bits), planar ? GptqPacking::planar : GptqPacking::continuous};
  // Without g_idx, K hangs on the width; a config that agrees with neither width nor groups means a wrong shape.
  const bool k_is_sure = module.g_idx || !settings.bits || *settings.bits == *bits;
  geometry.group_size = group_size_of(checkpoint, module, geometry.k, groups, settings, k_is_sure, tally);
  return geometry;
}

Geometry resolve_marlin(const Checkpoint& checkpoint, const Module& module, const Settings& settings,
                        FindingTally& tally) {
  const auto [tile_rows, words] = matrix(checkpoint, *module.b, {DType::i32, DType::u32});
  const auto [groups, n] = matrix(checkpoint, *module.s, {DType::f16, DType::bf16});
  if (words % 2 != 0 || words / 2 != n) {
    throw malformed_array(checkpoint, *module.b, "rows of {} words do not go with scales of {} columns at 4 bits",
                          words, n);
  }
  if (n % layouts::kMarlinTileColumns != 0) {
    throw malformed_array(checkpoint, *module.b, "{} output rows are no multiple of {}", n,
                          layouts::kMarlinTileColumns);
  }
  Geometry geometry;
  geometry.n = n;
  // The product is the number of codes per output row; the file holds half a byte of each, so it fits.
  geometry.k = tile_rows * layouts::kMarlinTileRows;
  geometry.groups = groups;
  geometry.layout = {4, GptqPacking::continuous};
  geometry.group_size = group_size_of(checkpoint, module, geometry.k, groups, settings, true, tally);
  return geometry;
}

Tensor make_tensor(const Checkpoint& checkpoint, const Module& module, const Geometry& geometry,
                   const Settings& settings, ZeroConvention convention) {
  const auto [n, k, groups, group_size, layout] = geometry;
  const StoredArray& scales = checkpoint.arrays[*module.scales];
  const DType scale = std::get<DType>(scales.element);

  // The config may exclude an assignment of its own; what it does not exclude, only the data would.
  const bool one_group = groups == 1;
  const bool act_order = settings.desc_act.value_or(true) && settings.group_size != -1;
  Tensor tensor;
  tensor.name = module.name + ".weight";
  tensor.shape = {n, k};
  tensor.encoding = Grouped{.code = CodeKind::unsigned_int,
                            .bits = layout.bits,
                            .group = {1, group_size},
                            .scale = scale,
                            .offset = module.qzeros ? Offset::zero_point : Offset::midpoint,
                            .offset_dtype = DType::u8,
                            .indexed = module.g_idx.has_value() && act_order && !one_group};
  tensor.parts.push_back(
      {PartId::codes, DType::u8, {n, k}, std::make_shared<QweightRows>(at(checkpoint, *module.qweight), layout, n, k)});
  tensor.arrays = {*module.qweight, *module.scales};
  const ArrayAt stored = at(checkpoint, *module.scales);
  tensor.parts.push_back({PartId::scales,
                          scale,
                          {n, groups},
                          std::make_shared<TransposedRows>(stored.file, stored.offset, groups, n,
                                                           static_cast<std::size_t>(bits(scale)) / 8)});
  if (module.qzeros) {
    tensor.arrays.push_back(*module.qzeros);
    tensor.parts.push_back(
        {PartId::zeros,
         DType::u8,
         {n, groups},
         std::make_shared<QzerosRows>(at(checkpoint, *module.qzeros), layout, convention, n, groups)});
  }
  if (module.g_idx) {
    tensor.arrays.push_back(*module.g_idx);
    tensor.parts.push_back({PartId::group_index,
                            DType::i32,
                            {1, k},
                            std::make_shared<GroupIndexRows>(at(checkpoint, *module.g_idx),
                                                             checkpoint.arrays[*module.g_idx].name, k, groups)});
  }
  std::ranges::sort(tensor.arrays);
  return tensor;
}

Tensor make_marlin_tensor(const Checkpoint& checkpoint, const Module& module, const Geometry& geometry) {
  const auto [n, k, groups, group_size, layout] = geometry;
  const DType scale = std::get<DType>(checkpoint.arrays[*module.s].element);
  const auto order = groups == 1 ? layouts::MarlinScaleOrder::single : layouts::MarlinScaleOrder::grouped;
  Tensor tensor;
  tensor.name = module.name + ".weight";
  tensor.shape = {n, k};
  tensor.encoding = Grouped{
      .code = CodeKind::unsigned_int, .bits = 4, .group = {1, group_size}, .scale = scale, .offset = Offset::midpoint};
  tensor.parts.push_back(
      {PartId::codes, DType::u8, {n, k}, std::make_shared<MarlinWeightRows>(at(checkpoint, *module.b), n, k)});
  tensor.parts.push_back({PartId::scales,
                          scale,
                          {n, groups},
                          std::make_shared<MarlinScaleRows>(at(checkpoint, *module.s), order, n, groups)});
  tensor.arrays = {std::min(*module.b, *module.s), std::max(*module.b, *module.s)};
  return tensor;
}

}  // namespace regauge::gptq
