#include "verify/manifest_check.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/render.h"
#include "base/text.h"

namespace regauge {
namespace {

using What = ManifestEntry::What;

std::string base_name(std::string_view path) { return std::filesystem::path(path).filename().string(); }

/// Tells which file of the checkpoints a name in a manifest means.
class FileNames {
 public:
  explicit FileNames(std::span<const StoredSums> sums) {
    for (std::size_t path = 0; path < sums.size(); ++path) {
      for (const FileSum& file : sums[path].files) {
        files_.push_back(&file);
        by_name_.emplace(std::pair(path, file.name), &file);
        by_label_.emplace(printable(file.label), &file);
        if (!by_base_.emplace(base_name(file.name), &file).second) twice_.insert(base_name(file.name));
      }
    }
  }

  const FileSum* find(std::size_t path, const std::string& name) const {
    if (const auto found = by_name_.find({path, name}); found != by_name_.end()) return found->second;
    if (const auto found = by_label_.find(name); found != by_label_.end()) return found->second;
    const std::string base = base_name(name);
    const auto found = by_base_.find(base);
    return found == by_base_.end() || twice_.contains(base) ? nullptr : found->second;
  }

  /// The only file, where there is but one.
  const FileSum* only() const { return files_.size() == 1 ? files_.front() : nullptr; }

  /// Takes "<path>:<array>" or "<path>" apart: behind a file that is here, else at the first colon.
  void take_apart(ManifestEntry& entry) const {
    const std::string name = std::exchange(entry.file, {});
    std::size_t end = find(0, name) != nullptr ? name.size() : name.find(':');
    for (std::size_t colon = name.find(':'); end != name.size() && colon != std::string::npos;
         colon = name.find(':', colon + 1)) {
      if (find(0, name.substr(0, colon)) == nullptr) continue;
      end = colon;
      break;
    }
    entry.file = name.substr(0, end);
    if (end < name.size()) entry.array = name.substr(end + 1);
    if (entry.what == What::array && entry.array.empty()) entry.what = What::arrays_of_file;
    entry.whole_name = false;
  }

 private:
  std::vector<const FileSum*> files_;
  std::map<std::pair<std::size_t, std::string>, const FileSum*> by_name_;
  std::map<std::string, const FileSum*> by_label_;
  std::map<std::string, const FileSum*> by_base_;
  std::set<std::string> twice_;
};

/// What is there, to be ticked off.
struct Present {
  std::string digest;
  const ArraySum* array = nullptr;
  bool recorded = false;
};

/// Holds what is there against entries of one kind and algorithm.
class Check {
 public:
  Check(std::span<const StoredSums> sums, What what, DigestAlgorithm algorithm)
      : files_(sums), what_(what), algorithm_(algorithm), several_(sums.size() > 1) {
    for (const StoredSums& sum : sums) {
      for (const FileSum& file : sum.files) note_file(file);
      if (what == What::array) note_arrays(sum);
    }
  }

  ManifestReport run(const std::vector<ManifestEntry>& entries) {
    std::set<std::pair<std::size_t, std::string>> recorded;
    for (const ManifestEntry& entry : entries) recorded.emplace(entry.path, entry.file);
    for (const ManifestEntry& entry : entries) {
      if (entry.what == what_) hold(entry, recorded.size() == 1);
    }
    for (const auto& [name, one] : present_) {
      if (!one.recorded) report_.added.push_back(name);
    }
    return std::move(report_);
  }

 private:
  const std::string& shown(const FileSum& file) const { return several_ ? file.label : file.name; }

  std::string digest_of(const DigestTexts& digests) const {
    const auto found = digests.find(algorithm_);
    return found == digests.end() ? std::string() : found->second;
  }

  void note_file(const FileSum& file) {
    if (what_ == What::array) return;
    const std::string digest = what_ == What::whole_file ? file.sha256 : digest_of(file.arrays);
    if (!digest.empty()) present_[shown(file)] = {digest, nullptr, false};
  }

  void note_arrays(const StoredSums& sum) {
    auto file = sum.files.begin();
    for (const ArraySum& array : sum.arrays) {
      while (file->name != array.file) ++file;  // both are by file
      present_[shown(*file) + ":" + array.name] = {digest_of(array.digests), &array, false};
    }
  }

  void hold(const ManifestEntry& entry, bool only_file) {
    const FileSum* file = files_.find(entry.path, entry.file);
    if (file == nullptr && only_file) file = files_.only();
    const std::string name =
        (file != nullptr ? shown(*file) : entry.file) + (what_ == What::array ? ":" + entry.array : "");
    const auto found = present_.find(name);
    if (found == present_.end()) {
      report_.missing.push_back(name);
      return;
    }
    if (std::exchange(found->second.recorded, true)) return;  // the first line about something counts
    const ArraySum* array = found->second.array;
    if (found->second.digest != entry.digest) {
      report_.changed.push_back(name);
    } else if (array != nullptr && entry.shape && (array->shape != *entry.shape || array->element != entry.element)) {
      report_.retyped.push_back(name);
    } else {
      ++report_.same;
    }
  }

  FileNames files_;
  What what_;
  DigestAlgorithm algorithm_;
  bool several_;
  std::map<std::string, Present> present_;
  ManifestReport report_;
};

}  // namespace

ManifestReport check_stored(const Manifest& manifest, std::span<const StoredSums> sums, DigestAlgorithm algorithm) {
  const FileNames files(sums);
  std::vector<ManifestEntry> entries;
  bool arrays = false;
  for (const ManifestEntry& recorded : manifest.entries) {
    if (recorded.algorithm != algorithm || recorded.what == What::whole_file) continue;
    entries.push_back(recorded);
    if (recorded.whole_name) files.take_apart(entries.back());
    arrays = arrays || entries.back().what == What::array;
  }
  return Check(sums, arrays ? What::array : What::arrays_of_file, algorithm).run(entries);
}

ManifestReport check_whole_files(const Manifest& manifest, std::span<const StoredSums> sums) {
  std::vector<ManifestEntry> entries = manifest.entries;
  std::erase_if(entries, [](const ManifestEntry& entry) { return entry.what != What::whole_file; });
  return Check(sums, What::whole_file, DigestAlgorithm::sha256).run(entries);
}

ManifestReport check_values(const Manifest& manifest, const ValueDigests& values) {
  ManifestReport report;
  for (const auto& [name, digest] : manifest.values->tensors) {
    const auto found = values.tensors.find(name);
    if (found == values.tensors.end()) {
      report.missing.push_back(name);
    } else if (found->second != digest) {
      report.changed.push_back(name);
    } else {
      ++report.same;
    }
  }
  for (const auto& [name, digest] : values.tensors) {
    if (!manifest.values->tensors.contains(name)) report.added.push_back(name);
  }
  return report;
}

std::string render_report(const ManifestReport& report) {
  std::string out;
  for (const auto& [word, names] :
       {std::pair<std::string_view, const std::vector<std::string>&>{"changed", report.changed},
        {"retyped", report.retyped},
        {"missing", report.missing},
        {"added", report.added}}) {
    for (const std::string& name : names) out += fmt::format("{:<7}  {}\n", word, printable(name));
  }
  out += fmt::format("{} the same, {} changed, {} retyped, {} missing, {} added\n", report.same, report.changed.size(),
                     report.retyped.size(), report.missing.size(), report.added.size());
  return out;
}

Json report_to_json(const ManifestReport& report, std::string_view manifest) {
  Json json;
  json["schema"] = "regauge.check/1";
  json["manifest"] = json_text(manifest);
  json["equal"] = report.equal();
  json["same"] = report.same;
  for (const auto& [word, names] : {std::pair<std::string, const std::vector<std::string>&>{"changed", report.changed},
                                    {"retyped", report.retyped},
                                    {"missing", report.missing},
                                    {"added", report.added}}) {
    json[word] = Json::array();
    for (const std::string& name : names) json[word].push_back(json_text(name));
  }
  return json;
}

}  // namespace regauge
