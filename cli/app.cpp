#include "cli/app.h"

#include <exception>
#include <new>
#include <sstream>

#include "base/error.h"
#include "base/text.h"
#include "cli/terminal.h"

namespace regauge::cli {
namespace {

void add_subcommands(CLI::App& app, Command& chosen) {
  add_inspect(app, chosen);
  add_convert(app, chosen);
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

int run(int argc, const char* const* argv) noexcept {
  ignore_closed_pipes();
  try {
    return parse_and_run(argc, argv);
  } catch (const ClosedPipe&) {
    return kExitYes;
  } catch (const Error& error) {
    complain(error.what());
    return error.code() == ErrorCode::refused ? kExitNo : kExitCouldNot;
  } catch (const std::bad_alloc&) {
    complain("out of memory");
  } catch (const std::exception& error) {
    complain(printable(error.what(), LineFeeds::keep));
  }
  return kExitCouldNot;
}

}  // namespace regauge::cli
