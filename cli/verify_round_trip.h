#pragma once

#include <string>
#include <vector>

namespace regauge::cli {

/// `regauge verify --round-trip`, as typed.
struct RoundTripArguments {
  std::string source;
  std::vector<std::string> via;
  std::vector<std::string> allow;
  std::string require;
  std::vector<std::string> drop;
  std::string keep;  ///< where the outputs stay; empty: nowhere
  int threads = 0;
  bool all = false;
  bool json = false;
  bool quiet = false;
};

/// Converts along the chain and back into a scratch folder, which is removed whatever happens, and tells what came back.
/// Returns the exit status; throws what converting and comparing throw.
int verify_round_trip(const RoundTripArguments& arguments);

}  // namespace regauge::cli
