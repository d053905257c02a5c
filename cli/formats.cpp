#include <memory>
#include <string>

#include <fmt/format.h>

#include "base/json.h"
#include "base/render.h"
#include "cli/app.h"
#include "cli/terminal.h"
#include "formats/format.h"

namespace regauge::cli {
namespace {

std::string render_formats_text() {
  TextTable table({TextTable::Align::left, TextTable::Align::left, TextTable::Align::left, TextTable::Align::left});
  table.add({"format", "read", "write", "what it is"});
  for (const Format* format : all_formats()) {
    table.add(
        {std::string(format->name), "yes", format->create != nullptr ? "yes" : "-", std::string(format->summary)});
  }
  return table.text();
}

std::string render_formats_json() {
  Json list = Json::array();
  for (const Format* format : all_formats()) {
    Json one;
    one["name"] = format->name;
    one["reads"] = true;
    one["writes"] = format->create != nullptr;
    one["summary"] = format->summary;
    list.push_back(std::move(one));
  }
  Json json;
  json["schema"] = "regauge.formats/1";
  json["formats"] = std::move(list);
  return json.dump(2) + "\n";
}

}  // namespace

void add_formats(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand("formats", "What can be read and written");
  const auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "One JSON document (docs/json.md)");
  command->footer("Examples:\n  regauge formats\n  regauge formats --json");
  command->callback([&chosen, json] {
    chosen = [json] {
      print(*json ? render_formats_json() : render_formats_text());
      return kExitYes;
    };
  });
}

}  // namespace regauge::cli
