#pragma once

#include <string>
#include <vector>

namespace regauge {

enum class Severity { note, warning, fault };

/// A remark that does not stop the work: what Error says when the answer is not "no". `code` is a stable kebab-case
/// word for programs ("mtp-announced-absent"), `message` a sentence for people.
struct Finding {
  Severity severity = Severity::note;
  std::string code;
  std::string message;
  std::string file;    ///< empty when it is about the whole checkpoint
  std::string tensor;  ///< tensor or key; empty when it is about none in particular

  bool operator==(const Finding&) const = default;
};

using Findings = std::vector<Finding>;

}  // namespace regauge
