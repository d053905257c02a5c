#include "cli/opened_model.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include <fmt/format.h>

#include "base/text.h"
#include "convert/plan.h"
#include "formats/format.h"
#include "models/architecture.h"

namespace regauge::cli {

OpenedModel::OpenedModel(const std::vector<std::string>& paths) : first_(paths.front()) {
  for (const std::string& path : paths) open(path);
}

void OpenedModel::open(const std::string& path) {
  checkpoints_.push_back(std::make_unique<const Checkpoint>(open_checkpoint(path)));
  architectures_.push_back(recognise(*checkpoints_.back()));
  paths_.push_back({checkpoints_.back().get(), architectures_.back().get()});
}

bool OpenedModel::has_vision() const {
  return std::ranges::any_of(
      paths_, [](const OpenedPath& path) { return path.architecture != nullptr && path.architecture->has_vision(); });
}

void OpenedModel::take_vision_like(const OpenedModel& other, Telling telling) {
  if (paths_.front().checkpoint->dialect != Dialect::gguf || has_vision() || !other.has_vision()) return;
  const std::filesystem::path beside = output_path(first_, OutputKind::mmproj);
  if (!std::filesystem::is_regular_file(beside)) return;
  if (telling == Telling::note)
    fmt::print(stderr, "note: {}: taken for the model's vision tower\n", printable(beside.string()));
  open(beside.string());
}

}  // namespace regauge::cli
