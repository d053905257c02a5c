#include "ir/encoding.h"

#include <fmt/format.h>

namespace regauge {
namespace {

template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <typename... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return out;
}

std::string print(const Grouped& g) {
  std::string out;
  if (g.code == CodeKind::unsigned_int) {
    out = fmt::format("u{}", g.bits);
  } else if (g.scale == DType::u8) {
    const bool micro = g.group.cols == 32;
    out = g.code == CodeKind::e2m1 ? (micro ? "mxfp4" : "nvfp4") : "mxfp8";
  } else {
    out = g.code == CodeKind::e2m1 ? "e2m1" : "e4m3";
  }
  if (g.group.cols == 0) {
    out += " row";
  } else {
    out += g.group.rows == 1 ? fmt::format(" g{}", g.group.cols) : fmt::format(" g{}x{}", g.group.rows, g.group.cols);
  }
  if (g.scale != DType::u8) out += " " + lower(name(g.scale));
  if (g.offset == Offset::zero_point) out += " zp";
  if (g.offset == Offset::midpoint) out += " mid";
  if (g.offset == Offset::bias) out += " bias";
  if (g.indexed) out += " idx";
  if (g.global_scale) out += " gs";
  return out;
}

}  // namespace

std::string to_string(const Encoding& encoding) {
  return std::visit(
      Overloaded{[](const Dense& d) { return std::string(name(d.dtype)); }, [](const Grouped& g) { return print(g); },
                 [](const Blocked& b) { return std::string(name(b.type)); },
                 [](const Opaque& o) { return "opaque " + o.origin; }},
      encoding);
}

bool is_decodable(const Encoding& encoding) {
  return std::visit(
      Overloaded{[](const Dense& d) { return d.dtype != DType::c64; }, [](const Grouped&) { return true; },
                 [](const Blocked& b) { return b.type != BlockType::q8_1; }, [](const Opaque&) { return false; }},
      encoding);
}

}  // namespace regauge
