#include "cli/verify_round_trip.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "cli/app.h"
#include "cli/convert_arguments.h"
#include "cli/interrupt.h"
#include "cli/opened_model.h"
#include "cli/terminal.h"
#include "convert/plan.h"
#include "verify/round_trip.h"

namespace regauge::cli {
namespace {

namespace fs = std::filesystem;

/// Where the outputs go: a folder of its own below the system's for temporary files, removed with everything in it, or
/// the one that is to be kept.
class Scratch {
 public:
  explicit Scratch(const std::string& keep) : keeps_(!keep.empty()), path_(keep) {
    if (keeps_) {
      if (fs::exists(path_) && !(fs::is_directory(path_) && fs::is_empty(path_)))
        throw Error(ErrorCode::invalid, "exists already and is no empty directory").at(keep);
      fs::create_directories(path_);
      return;
    }
    std::string pattern = (fs::temp_directory_path() / "regauge-round-trip-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr)
      throw Error(ErrorCode::io, "cannot be created: {}", std::strerror(errno)).at(pattern);
    path_ = pattern;
  }
  ~Scratch() {
    std::error_code ignored;
    if (!keeps_) fs::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  /// A folder for one step.
  fs::path step(std::size_t number, const std::string& format) const {
    fs::path folder = path_ / fmt::format("{}-{}", number, format);
    fs::create_directory(folder);
    return folder;
  }
  /// Disk space is for what is still needed.
  void let_go(const fs::path& folder) const {
    std::error_code ignored;
    if (!keeps_ && !folder.empty()) fs::remove_all(folder, ignored);
  }

 private:
  bool keeps_;
  fs::path path_;
};

/// What the source is, as far as coming back to it goes.
struct Form {
  std::string format;
  std::string layout;      ///< of GPTQ other than v1; else empty
  bool directory = false;  ///< rather than one file
};

Form form_of(const std::string& path) {
  const Checkpoint checkpoint = open_checkpoint(path);
  Form form{checkpoint.format, {}, checkpoint.is_directory()};
  for (const std::string_view layout : {"v2", "planar", "marlin"}) {
    if (form.format == "gptq" && checkpoint.format_version == layout) form.layout = layout;
  }
  return form;
}

fs::path target_in(const fs::path& folder, const std::string& format, bool directory) {
  if (format == "container") return folder / "model.rg.gguf";
  if (format == "gguf") return folder / "model.gguf";
  return folder / (format == "safetensors" && !directory ? "model.safetensors" : "model");
}

/// A checkpoint with the vision tower that lies beside a GGUF model.
OpenedModel open_with_vision(const std::string& path, const std::string& format) {
  std::vector<std::string> paths{path};
  const fs::path beside = output_path(path, OutputKind::mmproj);
  if (format == "gguf" && fs::is_regular_file(beside)) paths.push_back(beside.string());
  return OpenedModel(paths);
}

std::vector<Component> dropped(const std::vector<std::string>& drop) {
  std::vector<Component> components;
  for (const std::string& part : drop) {
    for (const auto& [name, component] : {std::pair<std::string_view, Component>{"vision", Component::vision},
                                          {"mtp", Component::mtp},
                                          {"eora", Component::adapter},
                                          {"foreign", Component::other}}) {
      if (part == name) components.push_back(component);
    }
  }
  return components;
}

class Trip {
 public:
  explicit Trip(const RoundTripArguments& arguments)
      : arguments_(arguments), form_(form_of(arguments.source)), scratch_(arguments.keep) {
    way_.push_back(form_.format);
    way_.insert(way_.end(), arguments.via.begin(), arguments.via.end());
    way_.push_back(form_.format);
  }

  int run() {
    fs::path at = arguments_.source;
    fs::path folder;
    for (std::size_t step = 1; step < way_.size(); ++step) {
      const bool last = step + 1 == way_.size();
      const fs::path next = scratch_.step(step, way_[step]);
      const fs::path target = target_in(next, way_[step], !last || form_.directory);
      convert(at, target, step);
      scratch_.let_go(std::exchange(folder, next));
      at = target;
    }
    return tell(at.string());
  }

 private:
  void convert(const fs::path& from, const fs::path& to, std::size_t step) const {
    if (!arguments_.quiet && !arguments_.json) fmt::print(stderr, "{} -> {}\n", way_[step - 1], way_[step]);
    ConvertArguments convert;
    convert.sources = {from.string()};
    convert.target = to.string();
    convert.to = way_[step];
    convert.allow = arguments_.allow;
    convert.require = arguments_.require;
    convert.drop = arguments_.drop;
    convert.threads = arguments_.threads;
    if (step + 1 == way_.size()) convert.layout = form_.layout;
    convert.no_value_digests = true;
    convert.no_journal = true;
    convert.quiet = true;
    try {
      run_convert(convert);
    } catch (const Error&) {
      explain_failure(fmt::format("that was step {} of the way, {} -> {}", step, way_[step - 1], way_[step]));
      throw;
    }
  }

  int tell(const std::string& back) const {
    const std::atomic<bool>& interrupted = catch_interrupts();
    const OpenedModel source = open_with_vision(arguments_.source, form_.format);
    const OpenedModel returned = open_with_vision(back, form_.format);
    const RoundTrip result =
        compare_round_trip(source.paths(), returned.paths(),
                           {.left_out = dropped(arguments_.drop), .threads = arguments_.threads}, &interrupted);
    if (arguments_.json) {
      print(round_trip_to_json(result, arguments_.source, way_).dump(2) + "\n");
    } else if (!arguments_.quiet) {
      constexpr std::size_t kMost = 10;
      print(render_round_trip(result, arguments_.source, way_, arguments_.all ? SIZE_MAX : kMost));
    }
    return result.survived() ? kExitYes : kExitNo;
  }

  const RoundTripArguments& arguments_;
  Form form_;
  Scratch scratch_;
  std::vector<std::string> way_;
};

}  // namespace

int verify_round_trip(const RoundTripArguments& arguments) { return Trip(arguments).run(); }

}  // namespace regauge::cli
