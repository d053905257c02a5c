#pragma once

#include <functional>
#include <span>

#include "convert/adapt.h"
#include "convert/options.h"
#include "ir/slot.h"

namespace regauge {

using HasSlot = std::function<bool(const Slot&)>;

/// A part that comes in a file of its own, behind the first of `sources`, is there as a whole: half an mmproj file is a
/// mistake, and so is one of keys alone, as llama.cpp's converter writes it of a tower whose names it does not know.
/// Throws Error{malformed} naming what is missing; not for parts that `options` leave out.
void check_parts(std::span<const OpenedPath> sources, const ConvertOptions& options, const HasSlot& has);

/// Throws Error{malformed} when weights are missing that llama.cpp demands: all of every tower of which there is one.
void check_demanded(std::span<const OpenedPath> sources, const Architecture& names, int mtp_layers, const HasSlot& has);

}  // namespace regauge
