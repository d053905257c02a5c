#include "tests/support/llama_run.h"

#include "tests/support/command.h"

namespace regauge::testing {
namespace {

std::vector<std::string> checker(const std::string& command) {
  return {"python3", std::string(REGAUGE_SOURCE_DIR) + "/tests/support/llama_logits.py", command};
}

void add_path(std::vector<std::string>& words, const std::string& option, const std::filesystem::path& path) {
  if (!path.empty()) words.insert(words.end(), {option, path.string()});
}

}  // namespace

LlamaAnswer run_in_llama(const LlamaRun& run) {
  std::vector<std::string> words = checker("logits");
  words.insert(words.end(), {run.model.string(), "--expected", run.expected.string(), "--tensor", run.tensor});
  if (run.mtp) words.emplace_back("--mtp");
  add_path(words, "--draft", run.draft);
  add_path(words, "--adapter", run.adapter);
  add_path(words, "--save", run.save);
  const CommandResult result = run_command(words);
  LlamaAnswer answer;
  answer.status = result.exit_code;
  answer.log = result.out + result.err;
  const auto report = nlohmann::json::parse(result.out, nullptr, false);
  if (!report.is_object() || !report.contains("max_abs_diff")) return answer;
  answer.main = report["max_abs_diff"].get<double>();
  answer.positions = report["positions"].get<int>();
  answer.argmax_agrees = report["argmax_agrees"].get<int>();
  if (report.contains("mtp")) answer.mtp = report["mtp"]["max_abs_diff"].get<double>();
  return answer;
}

std::vector<nlohmann::json> tokenize_in_llama(const std::filesystem::path& model,
                                              const std::vector<std::string>& texts) {
  std::vector<std::string> words = checker("tokenize");
  words.insert(words.end(), {model.string(), "--"});
  words.insert(words.end(), texts.begin(), texts.end());
  const auto report = nlohmann::json::parse(run_command(words).out, nullptr, false);
  std::vector<nlohmann::json> ids;
  if (!report.is_object()) return ids;
  for (const auto& text : report["texts"]) ids.push_back(text["ids"]);
  return ids;
}

}  // namespace regauge::testing
