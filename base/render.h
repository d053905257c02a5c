#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/finding.h"
#include "base/json.h"

namespace regauge {

/// Rows of cells for people: columns as wide as their widest cell, the last one free, no trailing blanks.
class TextTable {
 public:
  enum class Align : std::uint8_t { left, right };

  explicit TextTable(std::vector<Align> columns = {}) : align_(std::move(columns)) {}
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  /// Every row indented by `indent` blanks and ended by a line feed.
  std::string text(std::size_t indent = 0) const;

 private:
  std::vector<Align> align_;  ///< left where it has no entry
  std::vector<std::vector<std::string>> rows_;
};

/// "warning: file: tensor 'name': message", leaving out what is not known.
std::string to_string(const Finding& finding);

/// {severity, code, message, file, tensor} with the last two only when known; the form that every --json report uses.
Json to_json(const Finding& finding);

/// A name from a file as a JSON string: as it is when it is UTF-8, else with bytes that are not written as \xNN.
Json json_text(std::string_view bytes);

}  // namespace regauge
