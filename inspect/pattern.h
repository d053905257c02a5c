#pragma once

#include "base/name_pattern.h"

namespace regauge::inspect {

using regauge::NamePattern;

}  // namespace regauge::inspect
