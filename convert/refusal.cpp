#include "convert/refusal.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "base/text.h"

namespace regauge {

std::string list_names(std::span<const std::string> names, std::size_t most) {
  std::string out;
  for (std::size_t i = 0; i < std::min(names.size(), most); ++i) out += (i == 0 ? "" : ", ") + printable(names[i]);
  if (names.size() > most) out += fmt::format(" and {} more", names.size() - most);
  return out;
}

Error refusal(std::string_view reason, std::span<const std::string> offenders, std::string_view way_out) {
  std::string text;
  for (const std::string& offender : offenders.first(std::min<std::size_t>(offenders.size(), 20))) {
    text += "\n  " + printable(offender);
  }
  if (offenders.size() > 20) text += fmt::format("\n  and {} more", offenders.size() - 20);
  return Error(ErrorCode::refused, "{} ({}):{}\n{}", reason, offenders.size(), text, way_out);
}

}  // namespace regauge
