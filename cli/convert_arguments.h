#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "convert/options.h"
#include "formats/format.h"
#include "ir/checkpoint.h"

namespace regauge::cli {

/// The command line of `regauge convert`, as typed.
struct ConvertArguments {
  std::vector<std::string> sources;
  std::string target;
  std::string to;
  std::string dtype;
  std::string dense;
  std::vector<std::string> allow;
  std::string require;
  std::vector<std::string> drop;
  std::string name;
  std::string layout;
  std::string compress;
  bool fresh = false;
  bool no_value_digests = false;
  std::string manifest;
  std::string assets;
  std::string mmproj;
  std::vector<std::string> outputs;
  std::string shard_size;
  bool no_fold = false;
  std::string adapter;
  std::string eora;
  std::vector<std::string> merge_only;
  std::string zeros = "auto";
  std::string norms = "data";
  std::string recipe;
  std::vector<std::string> tensor_types;
  std::string like;
  std::string imatrix;
  std::string mlx_rule = "cpu";
  int threads = 0;
  std::string max_memory;
  bool verify = false;
  bool resume = false;
  bool no_journal = false;  ///< what an early end leaves is of no use to anybody
  bool dry_run = false;
  bool json = false;
  bool force = false;
  bool quiet = false;
};

/// Target format: --to, or by DST's extension. Throws Error{invalid} when neither tells.
std::string target_format(const ConvertArguments& arguments);

/// Throws Error{invalid} for a size that is none.
ConvertOptions options_of(const ConvertArguments& arguments);
OpenOptions open_options_of(const ConvertArguments& arguments);

/// Whether DST is a directory rather than a file, for the formats that have both.
bool names_directory(const ConvertArguments& arguments);

/// Whether everything is to be as it is in `source`: the same format, and nothing asked for that would change it.
bool asks_for_a_copy(const ConvertArguments& arguments, const Checkpoint& source);

/// `regauge convert`: returns the exit status; throws what opening, planning and executing throw.
int run_convert(const ConvertArguments& arguments);

}  // namespace regauge::cli
