#include "cli/app.h"

#include <exception>
#include <new>
#include <sstream>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/shell.h"
#include "base/text.h"
#include "cli/terminal.h"

namespace regauge::cli {
namespace {

/// What the program was started with, and what it says after an error: the process has one of each.
std::vector<std::string> command_line;
std::string way_out;

/// The message of a failure and what else there is to say.
void complain_of(std::string_view message) noexcept {
  complain(message);
  if (!way_out.empty()) complain(way_out);
}

void add_subcommands(CLI::App& app, Command& chosen) {
  add_inspect(app, chosen);
  add_convert(app, chosen);
  add_diff(app, chosen);
  add_graft(app, chosen);
  add_verify(app, chosen);
  add_checksum(app, chosen);
  add_doctor(app, chosen);
  add_formats(app, chosen);
}

/// The subcommand that was being parsed, for "Try 'regauge inspect --help'".
std::string help_command(const CLI::App& app) {
  std::string command = "regauge";
  const auto parsed = app.get_subcommands();
  if (!parsed.empty()) command += " " + parsed.front()->get_name();
  return command + " --help";
}

int parse_and_run(int argc, const char* const* argv) {
  CLI::App app("Reads, converts, inspects and verifies quantized model checkpoints.", "regauge");
  app.set_version_flag("--version", "regauge " REGAUGE_VERSION);
  app.require_subcommand(0, 1);  // none is told below, in words that name them
  app.failure_message(CLI::FailureMessage::simple);
  app.footer("Exit status: 0 done or equal, 1 the answer is no, 2 could not.");
  Command chosen;
  add_subcommands(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
      std::ostringstream out;
      app.exit(error, out, out);
      print(out.str());
      return kExitYes;
    }
    complain(printable(error.what(), LineFeeds::keep) + std::string("\nTry '") + help_command(app) + "'.");
    return kExitCouldNot;
  }
  if (chosen) return chosen();
  std::string names;
  for (const CLI::App* command : app.get_subcommands({})) names += (names.empty() ? "" : ", ") + command->get_name();
  complain("a subcommand is required: " + names + "\nTry 'regauge --help'.");
  return kExitCouldNot;
}

}  // namespace

void explain_failure(std::string text) { way_out = std::move(text); }

std::string command_line_with(std::string_view subcommand, std::string_view flag) {
  std::string out;
  bool added = false;
  for (const std::string& word : command_line) {
    if (word == flag) continue;
    out += (out.empty() ? "" : " ") + shell_word(word);
    if (!added && word == subcommand) {
      out += " " + std::string(flag);
      added = true;
    }
  }
  return out;
}

int run(int argc, const char* const* argv) noexcept {
  ignore_closed_pipes();
  try {
    command_line.assign(argv, argv + argc);
    return parse_and_run(argc, argv);
  } catch (const ClosedPipe&) {
    return kExitYes;
  } catch (const Error& error) {
    complain_of(error.what());
    return error.code() == ErrorCode::refused ? kExitNo : kExitCouldNot;
  } catch (const std::bad_alloc&) {
    complain_of("out of memory");
  } catch (const std::exception& error) {
    complain_of(printable(error.what(), LineFeeds::keep));
  }
  return kExitCouldNot;
}

}  // namespace regauge::cli
