#include "models/qwen3_5/qwen3_5.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "base/error.h"
#include "ir/decode/dense.h"
#include "models/norm_shift.h"
#include "models/permutations.h"
#include "models/qwen3_5/conventions.h"
#include "models/qwen3_5/expected.h"
#include "models/qwen3_5/gguf_keys.h"
#include "models/qwen3_5/hf_config.h"
#include "models/qwen3_5/sizes.h"
#include "models/qwen3_5/slots.h"

namespace regauge::qwen3_5 {
namespace {

/// What the stored arrays say about how this checkpoint was made.
struct Habits {
  HfVariant variant = HfVariant::multimodal;
  bool norms_shifted = false;      ///< norms are stored as 1 + w
  bool mtp_norms_shifted = false;  ///< those of MTP weights
};

/// Every mlx-lm since the first decides by the convolution's shape whether norms were shifted already: [C, k, 1] is
/// converted, [C, 1, k] is raw. Source: ml-explore/mlx-lm mlx_lm/models/qwen3_5.py, sanitize.
std::optional<bool> convolutions_are_converted(const Config& config, const Checkpoint& checkpoint) {
  if (config.conv == 1) return std::nullopt;  // both forms look the same
  for (const Tensor& tensor : checkpoint.tensors) {
    if (!tensor.name.ends_with("linear_attn.conv1d.weight") || tensor.shape.rank() != 3) continue;
    if (tensor.shape.dims[2] == 1 && tensor.shape.dims[1] == config.conv) return true;
    if (tensor.shape.dims[1] == 1 && tensor.shape.dims[2] == config.conv) return false;
  }
  return std::nullopt;
}

Habits read_habits(const Config& config, const Checkpoint& checkpoint) {
  Habits habits;
  if (checkpoint.dialect == Dialect::gguf) {
    habits.norms_shifted = habits.mtp_norms_shifted = true;
    return habits;
  }
  const auto any = [&checkpoint](auto&& predicate) {
    return std::ranges::any_of(checkpoint.tensors, predicate, &Tensor::name);
  };
  const bool below_language_model =
      any([](const std::string& name) { return name.find("language_model.") != std::string::npos; });
  const bool below_model =
      any([](const std::string& name) { return name.starts_with("model.layers.") || name == "model.norm.weight"; });
  if (below_model && !below_language_model) habits.variant = HfVariant::text_only;
  // Before any array is there, as in a directory yet to be written, the configuration decides: the text class keeps its
  // sizes at the root.
  const bool flat = checkpoint.config && checkpoint.config->is_object() && !checkpoint.config->contains("text_config");
  if (checkpoint.tensors.empty() && flat) habits.variant = HfVariant::text_only;

  const bool mlx = checkpoint.dialect == Dialect::mlx;
  habits.norms_shifted = convolutions_are_converted(config, checkpoint).value_or(mlx);
  // MTP weights join an MLX directory later, in a side file: converted with it under "language_model.mtp.", or copied
  // from the Hugging Face checkpoint as they were, under "mtp.".
  const bool raw_mtp = any([&config](const std::string& name) {
    const auto target = parse_safetensors_name(config, name);
    return target && target->in_mtp && target->raw_name;
  });
  habits.mtp_norms_shifted = habits.norms_shifted && !raw_mtp;
  return habits;
}

/// Qwen3-VL's towers have the same projector type; theirs are marked by DeepStack layers.
bool is_own_tower(const Checkpoint& checkpoint) {
  const MetaValue* projector = checkpoint.metadata.find("clip.projector_type");
  if (projector == nullptr || *projector != MetaValue(std::string("qwen3vl_merger"))) return false;
  const MetaValue* layers = checkpoint.metadata.find("clip.vision.is_deepstack_layers");
  const auto* flags = layers == nullptr ? nullptr : std::get_if<MetaArray>(layers);
  if (flags != nullptr) {
    const auto* bytes = std::get_if<std::vector<std::uint8_t>>(&flags->values);
    if (bytes != nullptr && std::ranges::any_of(*bytes, [](std::uint8_t flag) { return flag != 0; })) return false;
  }
  return std::ranges::none_of(checkpoint.arrays,
                              [](const StoredArray& array) { return array.name.starts_with("v.deepstack."); });
}

class Qwen35 final : public Architecture {
 public:
  /// The norms of `checkpoint` that the architecture shifts, each with its mean.
  struct NormMeans {
    std::vector<double> model;
    std::vector<double> mtp;
  };

  Qwen35(Config config, const Checkpoint& checkpoint)
      : config_(std::move(config)),
        dialect_(checkpoint.dialect),
        habits_(read_habits(config_, checkpoint)),
        permutations_(read_permutations(checkpoint)) {}

  /// Goes by the numbers of the norms from here on, and says so where they are not as announced.
  void look_at_norms(const Checkpoint& checkpoint, Findings& findings) {
    if (!config_.text || !config_.sizes_known) return;
    const NormMeans means = means_of(checkpoint);
    judge(means.model, "model", habits_.norms_shifted, findings);
    judge(means.mtp, "MTP layers", habits_.mtp_norms_shifted, findings);
  }

  std::string_view family() const override { return config_.moe ? "qwen3_5_moe" : "qwen3_5"; }
  std::string label() const override {
    if (!config_.sizes_known) return "Qwen3.5 adapter";
    if (!config_.text) return "Qwen3.5 vision tower";
    if (const PublishedSize* size = find_published(config_)) return "Qwen3.5 " + std::string(size->label);
    return config_.moe ? "Qwen3.5 MoE" : "Qwen3.5 dense";
  }
  int layers() const override { return static_cast<int>(config_.layers); }
  int announced_mtp_layers() const override { return static_cast<int>(config_.mtp_layers); }
  HeadCounts heads() const override { return {config_.heads, config_.kv_heads, config_.experts}; }
  bool has_vision() const override { return config_.vision.has_value(); }
  bool tied_head() const override { return config_.tied; }
  bool is_full_attention(int layer) const override {
    return layer >= 0 && layer < config_.layers && config_.full[static_cast<std::size_t>(layer)];
  }

  std::optional<Assembly> parse(Dialect dialect, std::string_view tensor, const Shape& shape) const override {
    if (!shape.checked_elements()) return std::nullopt;
    if (const auto target = parse_name(dialect, tensor)) return assemble(config_, *target, shape);
    const auto factor = parse_factor_name(dialect, tensor);
    if (!factor) return std::nullopt;
    const auto target = parse_name(dialect, factor->base);
    return target ? assemble_factor(config_, *target, factor->factor, shape) : std::nullopt;
  }

  std::optional<Placement> place(Dialect dialect, const Slot& slot, ExpertLayout experts) const override {
    const SlotKind* kind = find_kind(slot, config_);
    if (kind == nullptr) return std::nullopt;
    switch (dialect) {
      case Dialect::hf: return place_hf(config_, habits_.variant, *kind, slot, experts);
      case Dialect::mlx: return place_mlx(config_, *kind, slot);
      case Dialect::gguf: return place_gguf(config_, *kind, slot);
    }
    return std::nullopt;
  }

  Shape slot_shape(const Slot& slot) const override { return canonical_shape(kind_of(slot), config_); }
  std::string canonical_name(const Slot& slot) const override { return hf_name(HfVariant::multimodal, slot); }

  View convention(Dialect dialect, const Slot& slot) const override {
    switch (dialect) {
      case Dialect::hf: break;
      case Dialect::mlx: return mlx_convention(kind_of(slot));
      case Dialect::gguf: return gguf_convention(kind_of(slot), config_);
    }
    return {};
  }
  View stored_convention(const Slot& slot) const override {
    const View view = convention_of_dialect(slot);
    const View order = permuted(slot);
    if (order.is_identity()) return view;
    const Shape shape = slot_shape(slot);
    return compose(order, view, shape.rows(), shape.columns());
  }
  View effective(const Slot& slot) const override {
    View view;
    view.elementwise = kind_of(slot).change;
    return view;
  }

  std::optional<DType> required_dtype(Dialect dialect, const Slot& slot) const override {
    if (dialect != Dialect::gguf) return std::nullopt;
    const SlotKind& kind = kind_of(slot);
    const bool single = kind.single_precision || kind.rows == Extent::none;
    return single ? std::optional(DType::f32) : std::nullopt;
  }
  OutputKind output_of(Dialect dialect, const Slot& slot) const override {
    return dialect == Dialect::gguf && slot.component == Component::vision ? OutputKind::mmproj : OutputKind::model;
  }
  bool is_linear(const Slot& slot) const override { return kind_of(slot).linear; }

  std::vector<Slot> row_partners(const Slot& slot) const override {
    if (!slot.role.ends_with(kDown)) return {};
    const std::string prefix = slot.role.substr(0, slot.role.size() - kDown.size());
    std::vector<Slot> partners(2, slot);
    partners[0].role = prefix + std::string(kGate);
    partners[1].role = prefix + std::string(kUp);
    return partners;
  }
  std::optional<Slot> column_partner(const Slot& slot) const override {
    for (const std::string_view leaf : {kGate, kUp}) {
      if (!slot.role.ends_with(leaf)) continue;
      Slot partner = slot;
      partner.role = slot.role.substr(0, slot.role.size() - leaf.size()) + std::string(kDown);
      return partner;
    }
    return std::nullopt;
  }

  std::vector<ExpectedSlot> expected() const override { return expected_slots(config_); }

  Metadata gguf_metadata(const Checkpoint& source, OutputKind kind, const GgufFacts& facts,
                         Findings& findings) const override {
    if (source.dialect == Dialect::gguf) {
      throw Error(ErrorCode::internal, "keys of a GGUF file are copied, not made anew").at(source.path);
    }
    return make_gguf_keys(config_, source, kind, facts, findings);
  }

  std::vector<TextFile> hf_files(const Checkpoint& model, const HfFacts& facts, Findings& findings) const override {
    if (model.dialect != Dialect::gguf || facts.target == Dialect::gguf || !config_.text || !config_.sizes_known) {
      throw Error(ErrorCode::internal, "files of a directory are made from the keys of a GGUF model").at(model.path);
    }
    try {
      const auto vision = facts.vision == nullptr ? std::nullopt : tower_of(*facts.vision);
      return make_hf_files(config_, vision ? &*vision : nullptr, model, facts, findings);
    } catch (Error& error) {
      error.at(model.files.empty() ? model.path : model.files.front().name);
      throw;
    }
  }

 private:
  static constexpr std::string_view kDown = "down_proj.weight";
  static constexpr std::string_view kGate = "gate_proj.weight";
  static constexpr std::string_view kUp = "up_proj.weight";

  View convention_of_dialect(const Slot& slot) const {
    const SlotKind& kind = kind_of(slot);
    const bool shifted = slot.component == Component::mtp ? habits_.mtp_norms_shifted : habits_.norms_shifted;
    if (dialect_ != Dialect::gguf) return shifted ? mlx_convention(kind) : View{};
    View view = gguf_convention(kind, config_);
    if (kind.change == Elementwise::add_one && !shifted) view.elementwise = Elementwise::none;
    return view;
  }

  NormMeans means_of(const Checkpoint& checkpoint) const {
    NormMeans means;
    for (const Tensor& tensor : checkpoint.tensors) {
      const auto* dense = std::get_if<Dense>(&tensor.encoding);
      const auto assembly = dense == nullptr ? std::nullopt : parse(dialect_, tensor.name, tensor.shape);
      if (!assembly || assembly->pieces.size() != 1 || tensor.find(PartId::values) == nullptr) continue;
      const Slot& slot = assembly->pieces.front().slot;
      if (kind_of(slot).change != Elementwise::add_one || !is_float(dense->dtype)) continue;
      const RowSource& rows = *tensor.part(PartId::values).rows;
      std::vector<std::byte> bytes(static_cast<std::size_t>(rows.rows()) * rows.row_bytes());
      rows.read({0, rows.rows()}, bytes);
      std::vector<float> values(static_cast<std::size_t>(tensor.shape.elements()));
      decode_dense(dense->dtype, bytes, values);
      double sum = 0;
      for (const float value : values) sum += static_cast<double>(value);
      (slot.component == Component::mtp ? means.mtp : means.model).push_back(sum / static_cast<double>(values.size()));
    }
    return means;
  }

  static void judge(const std::vector<double>& means, std::string_view what, bool& shifted, Findings& findings) {
    const int shift = norm_shift(means, shifted);
    if (shift == 0) return;
    const auto say = [&](std::string_view consequence) {
      findings.push_back(
          {Severity::warning, "norms-by-data",
           fmt::format("the {} norms of the {} lie around {} where {} is due: {}", means.size(), what,
                       (shifted ? 1 : 0) + shift, shifted ? "1 + w, around 1," : "w, around 0,", consequence),
           "", ""});
    };
    const int stored = (shifted ? 1 : 0) + shift;
    if (stored != 0 && stored != 1) {
      say("what was done to them is not known, and they are taken as announced");
      return;
    }
    say(stored == 1 ? "taken as 1 + w already" : "taken as w");
    shifted = stored == 1;
  }

  /// The order in which this checkpoint keeps the columns or rows of `slot`, where it records one.
  View permuted(const Slot& slot) const {
    View view;
    if (permutations_.empty()) return view;
    if (const AxisMap* own = order_of(slot, columns_of(slot))) view.columns = *own;
    if (const auto other = column_partner(slot)) {
      if (const AxisMap* order = order_of(*other, slot_shape(slot).rows())) view.rows = *order;
    }
    return view;
  }

  std::int64_t columns_of(const Slot& slot) const { return slot_shape(slot).columns(); }

  const AxisMap* order_of(const Slot& slot, std::int64_t size) const {
    const auto found = permutations_.find(canonical_name(slot));
    if (found == permutations_.end()) return nullptr;
    if (found->second.size() != size) {
      throw Error(ErrorCode::malformed, "the recorded column order has {} entries, the weight {} columns",
                  found->second.size(), size)
          .tensor(found->first);
    }
    return &found->second;
  }

  std::optional<Target> parse_name(Dialect dialect, std::string_view name) const {
    return dialect == Dialect::gguf ? parse_gguf_name(config_, name) : parse_safetensors_name(config_, name);
  }

  /// The tower of an mmproj file, which has to end in vectors of our width.
  std::optional<VisionConfig> tower_of(const Checkpoint& mmproj) const {
    const std::string_view file = mmproj.files.empty() ? mmproj.path : mmproj.files.front().name;
    if (mmproj.metadata.get_string("general.architecture") != "clip" || !is_own_tower(mmproj)) {
      throw Error(ErrorCode::invalid, "no vision tower of Qwen3.5").at(file);
    }
    const Config tower = config_from_gguf(mmproj, "clip");
    if (tower.vision->out_hidden != config_.hidden) {
      throw Error(ErrorCode::invalid, "the vision tower ends in vectors of {}, the model takes {}",
                  tower.vision->out_hidden, config_.hidden)
          .at(file);
    }
    return tower.vision;
  }

  const SlotKind& kind_of(const Slot& slot) const {
    const SlotKind* kind = find_kind(slot, config_);
    if (kind == nullptr) {
      throw Error(ErrorCode::internal, "{} has no weight '{}' in layer {}", label(), slot.role, slot.layer);
    }
    return *kind;
  }

  Config config_;
  Dialect dialect_;
  Habits habits_;
  std::map<std::string, AxisMap> permutations_;
};

/// A string of `object`, or "" for anything else: looking for our name in a foreign configuration must not fail.
std::string_view text_of(const Json& object, std::string_view key) {
  if (!object.is_object()) return {};
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return {};
  return found->get_ref<const std::string&>();
}

/// The first name by which config.json claims this family; empty when it claims none.
std::string claimed_name(const Json& config) {
  if (!config.is_object()) return {};
  std::vector<std::string> claims{std::string(text_of(config, "model_type"))};
  if (const auto text = config.find("text_config"); text != config.end()) {
    claims.emplace_back(text_of(*text, "model_type"));
  }
  if (const auto classes = config.find("architectures"); classes != config.end() && classes->is_array()) {
    for (const Json& one : *classes) {
      if (one.is_string()) claims.push_back(one.get<std::string>());
    }
  }
  for (const std::string& claim : claims) {
    for (const std::string_view known :
         {"qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "Qwen3_5ForConditionalGeneration",
          "Qwen3_5ForCausalLM", "Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM"}) {
      if (claim == known) return claim;
    }
  }
  return {};
}

std::unique_ptr<Qwen35> bind(const Checkpoint& checkpoint) {
  if (checkpoint.dialect == Dialect::gguf) {
    const MetaValue* value = checkpoint.metadata.find("general.architecture");
    const auto* architecture = value == nullptr ? nullptr : std::get_if<std::string>(value);
    if (architecture == nullptr) return nullptr;
    const bool text = *architecture == "qwen35" || *architecture == "qwen35moe";
    if (!text && !(*architecture == "clip" && is_own_tower(checkpoint))) return nullptr;
    return std::make_unique<Qwen35>(config_from_gguf(checkpoint, *architecture), checkpoint);
  }
  if (!checkpoint.config) return nullptr;
  const std::string claim = claimed_name(*checkpoint.config);
  if (claim.empty()) return nullptr;
  const bool moe = claim.find("moe") != std::string::npos || claim.find("Moe") != std::string::npos;
  return std::make_unique<Qwen35>(config_from_json(*checkpoint.config, moe), checkpoint);
}

}  // namespace

VisionFiles vision_files(const Checkpoint& mmproj, bool moe, Findings& findings) {
  if (mmproj.metadata.get_string("general.architecture") != "clip" || !is_own_tower(mmproj))
    throw Error(ErrorCode::invalid, "no vision tower of Qwen3.5").at(mmproj.path);
  const VisionConfig tower = *config_from_gguf(mmproj, "clip").vision;
  VisionFiles out{hf_vision_config(tower, moe), {}};
  append_processor_files(tower, mmproj, out.files, findings);
  return out;
}

std::unique_ptr<const Architecture> recognise(const Checkpoint& checkpoint) { return bind(checkpoint); }

std::unique_ptr<const Architecture> recognise_by_data(const Checkpoint& checkpoint, Findings& findings) {
  std::unique_ptr<Qwen35> architecture = bind(checkpoint);
  if (architecture != nullptr) architecture->look_at_norms(checkpoint, findings);
  return architecture;
}

}  // namespace regauge::qwen3_5
