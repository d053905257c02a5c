#include "convert/journal_lines.h"

#include <array>
#include <charconv>
#include <concepts>

#include <fmt/format.h>

#include "base/bytes.h"

namespace regauge::journal_lines {
namespace {

constexpr std::string_view kName = "regauge-journal";
constexpr std::string_view kVersion = "1";

std::string with_check(std::string line) {
  const std::uint64_t check = Xxh64::of(bytes_of(std::string_view(line)));
  return std::move(line) + " " + hex(check);
}

/// Exact, and the same in every locale.
std::string hex_float(double value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::hex).ptr;
  return {text.data(), end};
}

/// The blanks-separated words of a line whose checksum holds; empty otherwise.
std::vector<std::string_view> checked_words(std::string_view line) {
  const auto last = line.rfind(' ');
  if (last == std::string_view::npos) return {};
  if (line.substr(last + 1) != hex(Xxh64::of(bytes_of(line.substr(0, last))))) return {};
  line = line.substr(0, last);
  std::vector<std::string_view> words;
  while (true) {
    const auto blank = line.find(' ');
    words.push_back(line.substr(0, blank));
    if (blank == std::string_view::npos) return words;
    line.remove_prefix(blank + 1);
  }
}

/// Takes words off the front of a list; anything that does not parse makes the whole of it fail.
class Words {
 public:
  explicit Words(std::string_view line) : words_(checked_words(line)) {}

  bool take(std::string_view expected) { return next() == expected; }
  std::string_view next() {
    if (at_ < words_.size()) return words_[at_++];
    failed_ = true;
    return {};
  }
  template <std::integral T>
  T number() {
    T value{};
    accept(next(), [&](const char* begin, const char* end) { return std::from_chars(begin, end, value); });
    return value;
  }
  double real() {
    double value = 0;
    accept(next(), [&](const char* begin, const char* end) {
      return std::from_chars(begin, end, value, std::chars_format::hex);
    });
    return value;
  }
  Digest128 digest() {
    const std::string_view word = next();
    Digest128 digest;
    failed_ = failed_ || word.size() != 32;
    if (failed_) return digest;
    accept(word.substr(0, 16), [&](const char* b, const char* e) { return std::from_chars(b, e, digest.high, 16); });
    accept(word.substr(16), [&](const char* b, const char* e) { return std::from_chars(b, e, digest.low, 16); });
    return digest;
  }
  bool at_end() const { return at_ == words_.size(); }
  /// Everything was there, and nothing else.
  bool complete() const { return !failed_ && at_end(); }

 private:
  template <typename Parse>
  void accept(std::string_view word, Parse parse) {
    const auto result = parse(word.data(), word.data() + word.size());
    failed_ = failed_ || word.empty() || result.ec != std::errc() || result.ptr != word.data() + word.size();
  }

  std::vector<std::string_view> words_;
  std::size_t at_ = 0;
  bool failed_ = false;
};

}  // namespace

std::string head_line(const Fingerprint& fingerprint) {
  return with_check(fmt::format("{} {} {} {} {}", kName, kVersion, fingerprint.program, hex(fingerprint.source),
                                hex(fingerprint.plan)));
}

std::string band_line(const BandRecord& record) {
  // A new measure of loss has to get a word here, or a run that is resumed would report it as nothing.
  static_assert(sizeof(Loss) == 7 * sizeof(std::uint64_t));
  std::string line =
      fmt::format("band {} {} {} {} {} {} {} {} {} {} {} {}", record.band.output, record.band.step,
                  record.band.rows.begin, record.band.rows.end, record.loss.changed, hex_float(record.loss.worst),
                  hex_float(record.loss.worst_steps), record.loss.irreversible, record.loss.measured,
                  hex_float(record.loss.sum_error), hex_float(record.loss.sum_source), record.verified ? 1 : 0);
  for (const Digest128& digest : record.digests) line += " " + hex(digest);
  return with_check(std::move(line));
}

std::string sealed_line(const std::vector<SealedOutput>& outputs) {
  std::string line = "sealed";
  for (const SealedOutput& output : outputs) {
    line += fmt::format(" {} {} {} {}", output.device, output.inode, output.modified_ns, output.file_bytes);
  }
  return with_check(std::move(line));
}

std::optional<Fingerprint> parse_head(std::string_view line) {
  Words words(line);
  if (!words.take(kName) || !words.take(kVersion)) return std::nullopt;
  Fingerprint fingerprint;
  fingerprint.program = words.next();
  fingerprint.source = words.digest();
  fingerprint.plan = words.digest();
  if (!words.complete()) return std::nullopt;
  return fingerprint;
}

std::optional<BandRecord> parse_band(std::string_view line) {
  Words words(line);
  if (!words.take("band")) return std::nullopt;
  BandRecord record;
  record.band.output = words.number<std::size_t>();
  record.band.step = words.number<std::size_t>();
  record.band.rows.begin = words.number<std::int64_t>();
  record.band.rows.end = words.number<std::int64_t>();
  record.loss.changed = words.number<std::uint64_t>();
  record.loss.worst = words.real();
  record.loss.worst_steps = words.real();
  record.loss.irreversible = words.number<std::uint64_t>();
  record.loss.measured = words.number<std::uint64_t>();
  record.loss.sum_error = words.real();
  record.loss.sum_source = words.real();
  record.verified = words.number<int>() == 1;
  while (!words.at_end()) record.digests.push_back(words.digest());
  if (!words.complete()) return std::nullopt;
  return record;
}

std::optional<std::vector<SealedOutput>> parse_sealed(std::string_view line) {
  Words words(line);
  if (!words.take("sealed")) return std::nullopt;
  std::vector<SealedOutput> outputs;
  while (!words.at_end()) {
    SealedOutput& output = outputs.emplace_back();
    output.device = words.number<std::uint64_t>();
    output.inode = words.number<std::uint64_t>();
    output.modified_ns = words.number<std::int64_t>();
    output.file_bytes = words.number<std::uint64_t>();
  }
  if (!words.complete()) return std::nullopt;
  return outputs;
}

bool looks_like_head(std::string_view line) { return line.starts_with(kName); }

}  // namespace regauge::journal_lines
