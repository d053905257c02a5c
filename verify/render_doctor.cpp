#include "verify/render_doctor.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/render.h"
#include "base/shell.h"
#include "base/text.h"

namespace regauge {
namespace {

std::string loaders_of(const Ailment& ailment) {
  std::string text;
  for (const Loader loader : ailment.breaks) text += (text.empty() ? "" : ", ") + std::string(name(loader));
  return text;
}

std::string text_of(const Ailment& ailment) {
  const Finding& finding = ailment.finding;
  const bool fault = finding.severity == Severity::fault;
  std::string out = fmt::format("{} [{}]\n", to_string(finding), finding.code);
  if (!ailment.breaks.empty()) out += fmt::format("  {} {}\n", fault ? "breaks:" : "not for:", loaders_of(ailment));
  for (const Cure& cure : ailment.cures) {
    if (cure.command.empty()) {
      out += fmt::format("  {}\n", cure.effect);
    } else {
      out +=
          fmt::format("  {} {}\n          {}\n", fault ? "mend:  " : "or:    ", shell_line(cure.command), cure.effect);
    }
  }
  return out;
}

Json to_json(const Ailment& ailment) {
  Json json = to_json(ailment.finding);
  json["breaks"] = Json::array();
  for (const Loader loader : ailment.breaks) json["breaks"].push_back(std::string(name(loader)));
  json["cures"] = Json::array();
  for (const Cure& cure : ailment.cures) {
    Json one;
    one["command"] = cure.command.empty() ? Json(nullptr) : Json::array();
    for (const std::string& word : cure.command) one["command"].push_back(json_text(word));
    one["effect"] = cure.effect;
    json["cures"].push_back(std::move(one));
  }
  return json;
}

}  // namespace

std::string render_diagnosis(const Diagnosis& diagnosis) {
  std::string out;
  for (const Ailment& ailment : diagnosis.ailments) out += text_of(ailment);
  for (const Finding& finding : diagnosis.remarks) out += to_string(finding) + "\n";
  const auto faults = static_cast<std::uint64_t>(std::ranges::count_if(
      diagnosis.ailments, [](const Ailment& one) { return one.finding.severity == Severity::fault; }));
  const std::string verdict =
      faults == 0 ? "healthy" : fmt::format("{} {}", format_count(faults), faults == 1 ? "fault" : "faults");
  if (diagnosis.format.empty()) return out + fmt::format("could not be opened: {}\n", verdict);
  return out + fmt::format("{}, {} tensors, {} values: {}\n", diagnosis.format, format_count(diagnosis.tensors),
                           format_count(diagnosis.values), verdict);
}

Json diagnosis_to_json(const Diagnosis& diagnosis) {
  Json json;
  json["schema"] = "regauge.doctor/1";
  json["path"] = json_text(diagnosis.path);
  json["format"] = diagnosis.format.empty() ? Json(nullptr) : Json(diagnosis.format);
  json["healthy"] = diagnosis.healthy();
  json["ailments"] = Json::array();
  for (const Ailment& ailment : diagnosis.ailments) json["ailments"].push_back(to_json(ailment));
  json["remarks"] = Json::array();
  for (const Finding& finding : diagnosis.remarks) json["remarks"].push_back(to_json(finding));
  json["tensors"] = diagnosis.tensors;
  json["values"] = diagnosis.values;
  return json;
}

}  // namespace regauge
