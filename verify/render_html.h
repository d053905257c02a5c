#pragma once

#include <string>

#include "verify/faithful.h"

namespace regauge {

/// How faithful a candidate is, as one HTML document that needs nothing but itself: verdict, components, what each kind of
/// weight takes and what it lost in every block, how large errors are, and the worst tensors, in tables that sort. Neither
/// time nor place is in it.
std::string render_faithfulness_html(const Faithfulness& result, const std::string& candidate,
                                     const std::string& reference);

}  // namespace regauge
