#include <algorithm>
#include <array>
#include <string>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"
#include "formats/container/container.h"
#include "formats/format.h"
#include "formats/gguf/gguf.h"
#include "formats/gptq/gptq.h"
#include "formats/mlx/mlx.h"
#include "formats/safetensors/safetensors.h"

namespace regauge {
namespace {

// From the particular to the general, so that a tie in confidence goes to the format that says more about the numbers.
// A container is a GGUF file with our keys; GGUF is known by its magic. GPTQ and MLX checkpoints are safetensors directories with a certain configuration or
// certain names; what neither of them claims is plain safetensors.
const std::array kFormats = {
    &kContainerFormat, &kGgufFormat, &kGptqFormat, &kMlxFormat, &kSafetensorsFormat,
};

std::string known_formats() {
  std::string names;
  for (const Format* format : kFormats) {
    if (!names.empty()) names += ", ";
    names += format->name;
  }
  return names;
}

std::string first_bytes(std::span<const std::byte> head) {
  std::string out;
  for (const std::byte byte : head.first(std::min<std::size_t>(head.size(), 8))) {
    if (!out.empty()) out += ' ';
    out += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  }
  return out;
}

/// The first file of a directory that has this extension, for a hint.
const std::filesystem::path* first_with_extension(const Source& source, std::string_view extension) {
  const auto found = std::ranges::find_if(
      source.entries, [&](const std::filesystem::path& path) { return path.extension() == extension; });
  return found == source.entries.end() ? nullptr : &*found;
}

Error nobody_bids(const Source& source) {
  std::string reason;
  if (!source.is_directory) {
    const auto foreign = describe_foreign(source.head);
    reason = foreign ? "is " + *foreign : fmt::format("begins with the bytes {}", first_bytes(source.head));
  } else if (const auto* gguf = first_with_extension(source, ".gguf")) {
    reason = fmt::format("is a directory; name one of its GGUF files, such as '{}'", gguf->native());
  } else if (const auto* nested = first_with_extension(source, ".safetensors")) {
    reason = fmt::format("has no .safetensors file at its top level; name the folder of '{}'", nested->native());
  } else if (const auto* pickled = first_with_extension(source, ".bin")) {
    reason = fmt::format("has no .safetensors file; '{}' may be a PyTorch file: convert it to safetensors first",
                         pickled->native());
  } else {
    reason = source.entries.empty() ? "is an empty directory" : "has no .safetensors file";
  }
  return Error(ErrorCode::unsupported, "{}. Formats that are read: {}", reason, known_formats())
      .at(source.path.native());
}

}  // namespace

std::span<const Format* const> all_formats() { return kFormats; }

const Format* find_format(std::string_view name) {
  const auto found = std::ranges::find(kFormats, name, &Format::name);
  return found == kFormats.end() ? nullptr : *found;
}

Findings check_stored_digests(const Checkpoint& checkpoint) {
  return checkpoint.format == kContainerFormat.name ? container::check(checkpoint.path) : Findings{};
}

Checkpoint open_checkpoint(const std::filesystem::path& path, const OpenOptions& options) {
  const Source source = probe(path);
  const Format* winner = nullptr;
  int highest = 0;
  for (const Format* format : kFormats) {
    const Bid bid = format->bid(source);
    if (bid.confidence > highest) {
      highest = bid.confidence;
      winner = format;
    }
  }
  if (winner == nullptr) throw nobody_bids(source);
  return winner->open(source, options);
}

}  // namespace regauge
