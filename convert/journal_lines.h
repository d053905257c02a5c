#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "convert/journal.h"

namespace regauge::journal_lines {

// The lines of a journal, without their line feed:
//
//   regauge-journal 1 PROGRAM SOURCE PLAN CHECK
//   band OUTPUT STEP BEGIN END CHANGED WORST IRREVERSIBLE VERIFIED DIGEST... CHECK
//   sealed DEVICE INODE MODIFIED BYTES [DEVICE ...] CHECK
//
// Numbers are decimal, WORST a hexadecimal float, digests XXH3-128, CHECK the XXH64 of the line before it.

std::string head_line(const Fingerprint& fingerprint);
std::string band_line(const BandRecord& record);
std::string sealed_line(const std::vector<SealedOutput>& outputs);

/// Each gives nothing for a line of another kind and for one that is not as it was written.
std::optional<Fingerprint> parse_head(std::string_view line);
std::optional<BandRecord> parse_band(std::string_view line);
std::optional<std::vector<SealedOutput>> parse_sealed(std::string_view line);

/// Whether a line begins as the head of a journal does, whatever its version.
bool looks_like_head(std::string_view line);

}  // namespace regauge::journal_lines
