#pragma once

#include <cstdint>
#include <string>
#include <string_view>
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

/// Gathers remarks of which one file may give a million: one finding per code comes out, with the count and the first
/// place. Codes come out in the order of their first remark.
class FindingTally {
 public:
  /// One more remark; severity, wording and place of a code's first remark stand. `what` reads well before a colon
  /// ("key is not UTF-8"); `where` is the tensor or key, or empty.
  void add(Severity severity, std::string_view code, std::string_view what, std::string_view where = {});

  /// Appends the findings, all about `file`, and forgets them.
  void move_to(Findings& findings, std::string_view file);

 private:
  struct Entry {
    Finding first;
    std::uint64_t count = 0;
  };
  std::vector<Entry> entries_;
};

}  // namespace regauge
