#include "cli/opened_model.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/text.h"
#include "convert/plan.h"
#include "models/architecture.h"
#include "models/low_rank.h"
#include "models/mtp_draft.h"
#include "models/norm_shift.h"

namespace regauge::cli {
namespace {

std::string_view part_name(OutputKind kind) {
  switch (kind) {
    case OutputKind::mmproj: return "vision tower";
    case OutputKind::mtp: return "MTP layer";
    case OutputKind::adapter: return "low-rank factors";
    default: return "model";
  }
}

}  // namespace

OpenedModel::OpenedModel(const std::vector<std::string>& paths, const OpenOptions& options, Adapters adapters,
                         Norms norms, std::string assets)
    : first_(paths.front()), adapters_(adapters), norms_(norms), assets_(std::move(assets)) {
  open_first(first_, options);
  for (std::size_t i = 1; i < paths.size(); ++i) add(paths[i]);
}

void OpenedModel::open_first(const std::string& path, const OpenOptions& options) {
  OpenOptions alone = options;
  alone.adapter.reset();
  alone.find_adapter = options.find_adapter && !options.adapter;
  auto model = std::make_unique<Checkpoint>(open_checkpoint(path, alone));
  Findings noted;
  auto architecture = recognise_first(*model, noted);
  std::optional<Checkpoint> adapter;
  if (options.adapter) adapter = open_checkpoint(*options.adapter);
  // Readers attach an adapter of their own ecosystem by names alone, also to models that nobody knows.
  const bool by_names = adapter && model->dialect != Dialect::gguf &&
                        (model->dialect == adapter->dialect || architecture == nullptr || !is_adapter(*adapter));
  const bool by_reader = by_names && (architecture == nullptr || !is_adapter(*adapter) ||
                                      !corrects_stacks(*model, *architecture, *adapter));
  if (by_reader) *model = open_checkpoint(path, options);
  std::ranges::move(noted, std::back_inserter(model->findings));
  paths_.push_back({model.get(), architecture.get()});
  checkpoints_.push_back(std::move(model));
  architectures_.push_back(std::move(architecture));
  if (!adapter || by_reader) return;
  if (!is_adapter(*adapter))
    throw Error(ErrorCode::invalid, "is no adapter: it holds more than low-rank factors").at(adapter->path);
  attach(*std::move(adapter));
}

/// A configuration that makes no sense is one of the things that `--assets` is there for.
std::unique_ptr<const Architecture> OpenedModel::recognise_first(Checkpoint& model, Findings& findings) const {
  try {
    return recognise(model, findings);
  } catch (const Error& error) {
    const bool senseless = error.code() == ErrorCode::malformed || error.code() == ErrorCode::unsupported;
    const std::filesystem::path config = std::filesystem::path(assets_) / "config.json";
    if (!senseless || assets_.empty() || !std::filesystem::is_regular_file(config)) throw;
    model.config =
        parse_json(read_text_file(config, kMaxConfigBytes), config.string(), {.duplicates = JsonDuplicates::keep_last});
    return recognise(model, findings);
  }
}

void OpenedModel::add(const std::string& path) {
  auto checkpoint = std::make_unique<Checkpoint>(open_checkpoint(path));
  const bool attaches = adapters_ == Adapters::attach && is_adapter(*checkpoint) &&
                        paths_.front().architecture != nullptr && !is_adapter(first());
  if (attaches) return attach(std::move(*checkpoint));
  architectures_.push_back(recognise(*checkpoint, checkpoint->findings));
  const Architecture* architecture = architectures_.back().get();
  OpenedPath added{checkpoint.get(), architecture};
  // A draft file repeats the embedding, norm and head that the model's own file has.
  if (architecture != nullptr && is_mtp_draft(*checkpoint, *architecture)) added.only = Component::mtp;
  paths_.push_back(added);
  checkpoints_.push_back(std::move(checkpoint));
}

std::unique_ptr<const Architecture> OpenedModel::recognise(const Checkpoint& checkpoint, Findings& findings) const {
  return norms_ == Norms::by_data ? recognise_by_data(checkpoint, findings) : regauge::recognise(checkpoint);
}

void OpenedModel::attach(Checkpoint adapter) {
  if (architectures_.front() == nullptr) {
    throw Error(ErrorCode::unsupported,
                "the architecture is not known, so the names in an adapter of another format cannot be matched")
        .at(adapter.path);
  }
  attach_adapter(*checkpoints_.front(), *architectures_.front(), std::move(adapter));
}

bool OpenedModel::has_vision() const {
  return std::ranges::any_of(
      paths_, [](const OpenedPath& path) { return path.architecture != nullptr && path.architecture->has_vision(); });
}

bool OpenedModel::has_mtp() const {
  return std::ranges::any_of(paths_, [](const OpenedPath& path) {
    return path.architecture != nullptr && has_mtp_tensors(*path.checkpoint, *path.architecture);
  });
}

bool OpenedModel::has_factors() const {
  return std::ranges::any_of(paths_, [](const OpenedPath& path) {
    return is_adapter(*path.checkpoint) || std::ranges::any_of(path.checkpoint->tensors, &Tensor::has_low_rank);
  });
}

bool OpenedModel::take_beside(OutputKind kind, Telling telling) {
  if (first().dialect != Dialect::gguf || !first().packed_format.empty()) return false;
  const std::filesystem::path beside = output_path(first_, kind);
  if (!std::filesystem::is_regular_file(beside)) return false;
  if (telling == Telling::note) {
    fmt::print(stderr, "note: {}: taken for the model's {}\n", printable(beside.string()), part_name(kind));
  }
  add(beside.string());
  return true;
}

void OpenedModel::take_parts_like(const OpenedModel& other, Telling telling) {
  if (!has_vision() && other.has_vision()) take_beside(OutputKind::mmproj, telling);
  if (!has_mtp() && other.has_mtp()) take_beside(OutputKind::mtp, telling);
  if (!has_factors() && other.has_factors()) take_beside(OutputKind::adapter, telling);
}

}  // namespace regauge::cli
