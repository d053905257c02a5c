#include "base/finding.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/text.h"

namespace regauge {

void FindingTally::add(Severity severity, std::string_view code, std::string_view what, std::string_view where) {
  const auto known = std::ranges::find_if(entries_, [&](const Entry& entry) { return entry.first.code == code; });
  if (known != entries_.end()) {
    ++known->count;
    return;
  }
  entries_.push_back({Finding{severity, std::string(code), std::string(what), {}, excerpt(where)}, 1});
}

void FindingTally::move_to(Findings& findings, std::string_view file) {
  for (Entry& entry : entries_) {
    Finding& finding = entry.first;
    if (entry.count > 1) finding.message += fmt::format(", {} times", entry.count);
    if (!finding.tensor.empty()) {
      finding.message += fmt::format("{} '{}'", entry.count > 1 ? ", first" : ":", finding.tensor);
    }
    finding.file = file;
    findings.push_back(std::move(finding));
  }
  entries_.clear();
}

}  // namespace regauge
