#include "base/render.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/text.h"

namespace regauge {
namespace {

/// Columns of a terminal that a cell takes: one for every code point.
std::size_t width(std::string_view cell) {
  return static_cast<std::size_t>(
      std::ranges::count_if(cell, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

std::string_view severity_name(Severity severity) {
  switch (severity) {
    case Severity::note: return "note";
    case Severity::warning: return "warning";
    case Severity::fault: return "fault";
  }
  return "?";
}

}  // namespace

std::string TextTable::text(std::size_t indent) const {
  std::vector<std::size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line(indent, ' ');
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string gap(widths[i] - width(row[i]), ' ');
      const bool right = i < align_.size() && align_[i] == Align::right;
      line += (right ? gap + row[i] : row[i] + gap) + "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::string to_string(const Finding& finding) {
  std::string out = fmt::format("{}: ", severity_name(finding.severity));
  if (!finding.file.empty()) out += printable(finding.file) + ": ";
  if (!finding.tensor.empty()) out += "tensor '" + printable(finding.tensor) + "': ";
  return out + printable(finding.message);
}

Json to_json(const Finding& finding) {
  Json out = {
      {"severity", severity_name(finding.severity)}, {"code", finding.code}, {"message", json_text(finding.message)}};
  if (!finding.file.empty()) out["file"] = json_text(finding.file);
  if (!finding.tensor.empty()) out["tensor"] = json_text(finding.tensor);
  return out;
}

Json json_text(std::string_view bytes) {
  if (is_utf8(bytes)) return bytes;
  std::string out;
  for (std::size_t i = 0; i < bytes.size();) {
    std::size_t length = std::min<std::size_t>(4, bytes.size() - i);
    while (length > 0 && !is_utf8(bytes.substr(i, length))) --length;
    out += length > 0 ? std::string(bytes.substr(i, length))
                      : fmt::format("\\x{:02x}", static_cast<unsigned char>(bytes[i]));
    i += std::max<std::size_t>(length, 1);
  }
  return out;
}

}  // namespace regauge
