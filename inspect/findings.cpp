#include "inspect/findings.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/text.h"
#include "inspect/quantization.h"
#include "inspect/summary.h"
#include "ir/low_rank.h"

namespace regauge::inspect {
namespace {

constexpr std::size_t kNamed = 4;  // as many names as fit a line or two

std::string plural(std::size_t count, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", format_count(count), count == 1 ? one : many);
}

class Collector {
 public:
  explicit Collector(const Evidence& evidence) : evidence_(evidence), checkpoint_(evidence.checkpoint) {}

  Findings collect() {
    findings_ = checkpoint_.findings;
    if (evidence_.architecture == nullptr) {
      say_unknown_architecture();
    } else {
      say_towers();
      say_head();
      say_f32_pair();
      say_norm_convention();
      say_completeness();
    }
    say_factors();
    say_act_order();
    say_marlin();
    if (evidence_.scan != nullptr) say_data();
    say_unused_arrays();
    return std::move(findings_);
  }

 private:
  void add(Severity severity, std::string code, std::string message, std::string tensor = {}) {
    findings_.push_back({severity, std::move(code), std::move(message), {}, std::move(tensor)});
  }

  std::string names(const std::vector<std::size_t>& tensors) const {
    return name_tensors(checkpoint_, tensors, kNamed);
  }

  void say_unknown_architecture() {
    const std::string claimed = claimed_architecture(checkpoint_);
    if (claimed.empty()) return;
    add(Severity::note, "architecture-unknown",
        fmt::format("architecture '{}' is not one that regauge knows; tensors keep their own names", claimed));
  }

  void say_towers() {
    const Architecture& architecture = *evidence_.architecture;
    const Completeness& completeness = *evidence_.completeness;
    const int announced = architecture.announced_mtp_layers();
    const std::string_view where = checkpoint_.dialect == Dialect::gguf ? "nextn_predict_layers" : "config.json";
    if (completeness.is_draft)
      add(Severity::note, "mtp-draft",
          "an MTP block in a file of its own, with embedding and head: llama.cpp loads it beside the model's file");
    if (announced > 0 && !completeness.has_mtp) {
      add(Severity::warning, "mtp-announced-absent",
          fmt::format("{} announces {}, but no tensor of it is here", where,
                      plural(static_cast<std::size_t>(announced), "MTP layer", "MTP layers")));
    } else if (announced == 0 && completeness.has_mtp) {
      add(Severity::warning, "mtp-undeclared", fmt::format("MTP tensors are here, but {} announces none", where));
    }
    if (checkpoint_.dialect == Dialect::gguf) return;  // a GGUF model keeps its vision tower in a file of its own
    if (architecture.has_vision() && !completeness.has_vision) {
      add(Severity::warning, "vision-announced-absent",
          "config.json describes a vision tower, but no tensor of it is here; `regauge graft --vision DONOR` brings "
          "one");
    } else if (!architecture.has_vision() && completeness.has_vision) {
      add(Severity::warning, "vision-undeclared", "vision tensors are here, but config.json has no vision_config");
    } else if (!architecture.has_vision() && checkpoint_.dialect == Dialect::mlx) {
      add(Severity::note, "vision-absent",
          "text only: no vision tower and no vision_config, as mlx-lm leaves them out; `regauge graft --vision DONOR` "
          "brings one");
    }
  }

  void say_head() {
    if (!evidence_.architecture->tied_head()) return;
    std::vector<std::size_t> stored;
    for (const Entry& entry : evidence_.catalog.entries) {
      if (entry.tied_copy) stored.push_back(entry.tensor);
    }
    if (stored.empty()) {
      add(Severity::note, "head-tied", "the head is the embedding; it is stored and counted once");
    } else {
      add(Severity::warning, "head-tied-but-stored",
          fmt::format("the head is the embedding, yet a head of its own is stored ({}); its parameters are not counted",
                      names(stored)));
    }
  }

  /// The official Qwen3.5 keeps two kinds of small tensors in F32 that many tools cast with the rest. A GGUF file stores
  /// derived values, so the question has no meaning there.
  void say_f32_pair() {
    if (checkpoint_.dialect == Dialect::gguf) return;
    constexpr std::string_view kDecay = "linear_attn.A_log";
    constexpr std::string_view kNorm = "linear_attn.norm.weight";
    std::map<std::string_view, std::map<std::string, std::size_t>> stored;
    for (const Entry& entry : evidence_.catalog.entries) {
      if (entry.role == kDecay) ++stored[kDecay][entry.encoding];
      if (entry.role == kNorm) ++stored[kNorm][entry.encoding];
    }
    if (stored.empty()) return;
    std::string text;
    bool cast = false;
    for (const auto& [role, encodings] : stored) {
      for (const auto& [encoding, count] : encodings) {
        cast = cast || encoding != "F32";
        text += fmt::format("{}{} {} ({})", text.empty() ? "" : ", ", role, encoding, count);
      }
    }
    if (cast) {
      add(Severity::note, "f32-pair-cast",
          text + ": Qwen3.5 is published with F32 here (Qwen3.6 with BF16); a cast loses bits");
    } else {
      add(Severity::note, "f32-pair-kept", text + ": kept in F32 as published");
    }
  }

  void say_norm_convention() {
    if (checkpoint_.dialect != Dialect::mlx) return;
    for (const Entry& entry : evidence_.catalog.entries) {
      if (!entry.assembly || entry.role.find("input_layernorm") == std::string::npos ||
          entry.component == Component::mtp)
        continue;
      const bool shifted = evidence_.architecture->stored_convention(entry.assembly->pieces.front().slot).elementwise ==
                           Elementwise::add_one;
      add(Severity::note, shifted ? "mlx-norms-shifted" : "mlx-norms-raw",
          shifted ? "norms are stored as 1 + w (by config: conv1d is in MLX's axis order)"
                  : "norms are stored as w (by config: conv1d is in Hugging Face's axis order); loaders will add one");
      return;
    }
  }

  void say_completeness() {
    const Completeness& completeness = *evidence_.completeness;
    const std::string label = evidence_.architecture->label();
    if (!completeness.missing.empty()) {
      add(Severity::fault, "tensor-missing",
          fmt::format("{} of {} not here: {}", plural(completeness.missing.size(), "weight", "weights"), label,
                      describe_slots(completeness.missing, kNamed)));
    }
    for (const WrongShape& wrong : completeness.wrong_shapes) {
      const Tensor& tensor = checkpoint_.tensors[wrong.tensor];
      add(Severity::fault, "tensor-wrong-shape",
          fmt::format("shape {} where {} has {}", to_string(tensor.shape), label, to_string(wrong.expected)),
          tensor.name);
    }
    if (!completeness.unknown.empty()) {
      add(Severity::warning, "tensor-unknown",
          fmt::format("{} of {}: {}", plural(completeness.unknown.size(), "tensor is none", "tensors are none"), label,
                      names(completeness.unknown)));
    }
    if (!completeness.repeated.empty()) {
      add(Severity::warning, "tensor-repeated",
          fmt::format("{} a weight that another tensor holds too: {}",
                      plural(completeness.repeated.size(), "tensor holds", "tensors hold"),
                      names(completeness.repeated)));
    }
  }

  void say_factors() {
    std::map<std::int64_t, std::size_t> modules_by_rank;
    std::set<std::string> dtypes;
    std::uint64_t parameters = 0;
    std::uint64_t bytes = 0;
    for (const Entry& entry : evidence_.catalog.entries) {
      if (entry.rank == 0) continue;
      const Tensor& tensor = checkpoint_.tensors[entry.tensor];
      for (const std::int64_t rank : low_rank_ranks(tensor)) {
        if (rank != 0) ++modules_by_rank[rank];
      }
      dtypes.emplace(name(tensor.part(PartId::lowrank_a).dtype));
      parameters += entry.factor_parameters;
      bytes += entry.factor_bytes;
    }
    if (modules_by_rank.empty()) return;
    std::string ranks;
    for (const auto& [rank, modules] : modules_by_rank) {
      ranks += fmt::format("{}rank {} on {}", ranks.empty() ? "" : ", ", rank, plural(modules, "module", "modules"));
    }
    add(Severity::note, "eora-found",
        fmt::format("low-rank factors (EoRA): {}, {}, {} parameters, {}", ranks, fmt::join(dtypes, "/"),
                    format_count(parameters), format_bytes(bytes)));
  }

  void say_act_order() {
    if (checkpoint_.array_format() != "gptq") return;
    if (const ScanReport* scan = evidence_.scan) {
      if (scan->act_order.empty()) {
        add(Severity::note, "act-order-absent", "no act-order (by data): every group is a run of neighbouring columns");
      } else {
        add(Severity::note, "act-order",
            fmt::format("act-order (by data): {} of {} have columns out of group order", scan->act_order.size(),
                        plural(scan->indexed, "indexed module", "indexed modules")));
      }
      return;
    }
    const QuantizationClaims claims = read_claims(checkpoint_);
    if (!claims.desc_act) return;
    if (*claims.desc_act) {
      add(Severity::note, "act-order",
          "act-order (by config: desc_act is true); --scan tells which modules really have it");
    } else {
      add(Severity::note, "act-order-absent", "no act-order (by config: desc_act is false)");
    }
  }

  void say_marlin() {
    const MarlinVerdict& marlin = evidence_.marlin;
    if (!marlin.applies || marlin.modules == 0) return;
    if (!marlin.config_reason.empty()) {
      add(Severity::note, "marlin-incompatible",
          fmt::format("not for Marlin kernels (by config): {}", marlin.config_reason));
      return;
    }
    const std::string text =
        fmt::format("by config and shapes: {} of {} modules pass the strict rule, {} with padded tiles", marlin.strict,
                    marlin.modules, marlin.padded);
    const ScanReport* scan = evidence_.scan;
    if (scan != nullptr && !scan->asymmetric.empty()) {
      // The kernels take the midpoint for granted and never look at stored zero points.
      add(Severity::note, "marlin-incompatible",
          fmt::format("not for Marlin kernels (by data): zero points other than the midpoint in {}",
                      names(scan->asymmetric)));
    } else if (marlin.compatible()) {
      add(Severity::note, "marlin-compatible",
          fmt::format("Marlin-compatible ({}{})", text,
                      scan == nullptr ? "" : "; by data: all zero points are the midpoint"));
    } else {
      add(Severity::note, "marlin-incompatible",
          fmt::format("not for Marlin kernels as a whole ({}){}", text, first_refusals()));
    }
    if (!marlin.mixed.empty()) {
      const MixedFusion& first = marlin.mixed.front();
      add(Severity::warning, "fusion-mixed",
          fmt::format("{} that engines fuse are quantized differently inside; first {}.{}: {}",
                      plural(marlin.mixed.size(), "group of projections", "groups of projections"), first.module,
                      first.fused, names(first.tensors)));
    }
  }

  std::string first_refusals() const {
    std::string text;
    std::size_t named = 0;
    for (const MarlinRefusal& refusal : evidence_.marlin.refusals) {
      if (!refusal.padded_too || named++ == kNamed) continue;
      text +=
          fmt::format("{}{}: {}", text.empty() ? "; " : ", ", checkpoint_.tensors[refusal.tensor].name, refusal.reason);
    }
    return text;
  }

  void say_data() {
    const ScanReport& scan = *evidence_.scan;
    if (checkpoint_.array_format() == "gptq" && scan.with_zeros != 0) {
      add(Severity::note, scan.asymmetric.empty() ? "zeros-midpoint" : "zeros-asymmetric",
          scan.asymmetric.empty()
              ? fmt::format("all zero points are the midpoint (by data, {})",
                            plural(scan.with_zeros, "module", "modules"))
              : fmt::format("{} of {} have zero points other than the midpoint (by data): {}", scan.asymmetric.size(),
                            plural(scan.with_zeros, "module", "modules"), names(scan.asymmetric)));
    }
    for (const NonFinite& found : scan.non_finite) {
      add(Severity::warning, "not-finite",
          fmt::format("{} NaN and {} infinities in its {}", format_count(found.nan), format_count(found.infinite),
                      found.part),
          checkpoint_.tensors[found.tensor].name);
    }
    if (auto contrary = contradicted_norms(checkpoint_, scan.norms)) {
      findings_.push_back(*std::move(contrary));
    } else if (!scan.norms.empty()) {
      add(Severity::note, "norm-convention-confirmed",
          fmt::format("{} as this dialect stores them, {} (by data)",
                      plural(scan.norms.size(), "norm lies", "norms lie"),
                      scan.norms.front().stored_shifted ? "around 1" : "around 0"));
    }
    if (!scan.opaque.empty()) {
      add(Severity::note, "data-opaque",
          fmt::format("{} not read, because the encoding has no values: {}",
                      plural(scan.opaque.size(), "tensor was", "tensors were"), names(scan.opaque)));
    }
    for (const std::string& line : scan.unread) add(Severity::fault, "data-unread", line);
  }

  void say_unused_arrays() {
    const std::vector<std::size_t>& unused = evidence_.catalog.unused_arrays;
    if (unused.empty()) return;
    std::uint64_t bytes = 0;
    for (const std::size_t index : unused) bytes += checkpoint_.arrays[index].bytes;
    add(Severity::note, "array-unused",
        fmt::format("{} to no tensor ({}), first '{}'",
                    plural(unused.size(), "stored array belongs", "stored arrays belong"), format_bytes(bytes),
                    checkpoint_.arrays[unused.front()].name));
  }

  const Evidence& evidence_;
  const Checkpoint& checkpoint_;
  Findings findings_;
};

}  // namespace

std::optional<Finding> contradicted_norms(const Checkpoint& checkpoint, const std::vector<NormMean>& norms) {
  std::vector<std::size_t> contrary;
  for (const NormMean& norm : norms) {
    if (norm.looks_shifted != norm.stored_shifted) contrary.push_back(norm.tensor);
  }
  if (contrary.empty()) return std::nullopt;
  const bool shifted = std::ranges::find(norms, contrary.front(), &NormMean::tensor)->looks_shifted;
  return Finding{Severity::warning,
                 "norm-convention-contradicted",
                 fmt::format("{} around {} where this dialect stores {} (by data): {}",
                             plural(contrary.size(), "norm lies", "norms lie"), shifted ? "1" : "0",
                             shifted ? "w" : "1 + w", name_tensors(checkpoint, contrary, kNamed)),
                 {},
                 {}};
}

std::string name_tensors(const Checkpoint& checkpoint, const std::vector<std::size_t>& tensors, std::size_t most) {
  std::string text;
  for (std::size_t i = 0; i < tensors.size() && i < most; ++i) {
    if (i != 0) text += ", ";
    text += checkpoint.tensors[tensors[i]].name;
  }
  if (tensors.size() > most) text += fmt::format(" and {} more", tensors.size() - most);
  return text;
}

Findings collect_findings(const Evidence& evidence) { return Collector(evidence).collect(); }

}  // namespace regauge::inspect
