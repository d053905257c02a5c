#include "base/json.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <utility>

#include <xxhash.h>

#include "base/error.h"
#include "base/text.h"

namespace regauge {
namespace {

/// An input iterator that tells how far the lexer has read, which SAX events do not say.
struct TrackingIterator {
  // NOLINTBEGIN(readability-identifier-naming): the names that std::iterator_traits looks for
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;
  // NOLINTEND(readability-identifier-naming)

  const char* at;
  const char** furthest;

  reference operator*() const { return *at; }
  TrackingIterator& operator++() {
    *furthest = ++at;
    return *this;
  }
  bool operator==(const TrackingIterator& other) const { return at == other.at; }
  bool operator!=(const TrackingIterator& other) const { return at != other.at; }
};

/// "syntax error while parsing value - invalid literal; expected ..." out of the library's message, without the bytes of
/// the file that it quotes: those may be many, and hostile.
std::string reason_of(std::string_view message) {
  for (const std::string_view noise : {"] ", "syntax error "}) {
    const auto start = message.find(noise);
    if (start != std::string_view::npos) message.remove_prefix(start + (noise == "] " ? noise.size() : 0));
  }
  const auto quote = message.find("; last read");
  std::string reason(message.substr(0, std::min<std::size_t>(quote, 200)));
  if (quote == std::string_view::npos) return reason;
  const auto expected = message.rfind("; expected ");
  if (expected != std::string_view::npos && expected > quote && message.size() - expected < 100) {
    reason += message.substr(expected);
  }
  return reason;
}

/// Builds the document from the events of nlohmann's parser, which is iterative. Values of all open containers lie on one
/// stack and move into their container when it closes, at its exact size; so nothing is ever looked up, and duplicate keys
/// are found by one sort per object. The library's own builder looks every key up in a vector: quadratic.
class DocumentBuilder {
 public:
  DocumentBuilder(std::string_view text, const char* const& furthest, const JsonLimits& limits,
                  std::vector<std::string>* repeated)
      : text_(text), furthest_(furthest), limits_(limits), repeated_(repeated) {}

  Json take_document() { return std::move(values_.front()); }
  const std::optional<Error>& error() const { return error_; }

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(Json::number_integer_t value) { return add(value); }
  bool number_unsigned(Json::number_unsigned_t value) { return add(value); }
  bool number_float(Json::number_float_t value, const std::string& /*text*/) { return add(value); }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(Json::binary_t& /*value*/) { return false; }

  bool key(std::string& key) {
    key_offsets_.push_back(offset_of_key(key));
    keys_.push_back(std::move(key));
    return true;
  }

  bool start_object(std::size_t /*count*/) { return open(); }
  bool start_array(std::size_t /*count*/) { return open(); }

  bool end_object() {
    const Frame frame = open_.back();
    if (!settle_duplicates(frame)) return false;
    Json::object_t object;
    object.reserve(keys_.size() - frame.first_key);
    for (std::size_t i = frame.first_key; i < keys_.size(); ++i) {
      object.emplace_back(std::move(keys_[i]), std::move(values_[frame.first_value + (i - frame.first_key)]));
    }
    return close(frame, std::move(object));
  }

  bool end_array() {
    const Frame frame = open_.back();
    const auto first = values_.begin() + static_cast<std::ptrdiff_t>(frame.first_value);
    return close(frame, Json::array_t(std::move_iterator(first), std::move_iterator(values_.end())));
  }

  bool parse_error(std::size_t position, const std::string& /*token*/, const Json::exception& fault) {
    // The position counts the byte that did not fit, and the end of the text as one byte more.
    return fail(position == 0 ? 0 : position - 1, "not valid JSON: {}", reason_of(fault.what()));
  }

 private:
  struct Frame {
    std::size_t first_value;
    std::size_t first_key;
  };
  struct KeyRank {
    std::uint64_t hash;
    std::size_t index;
  };

  template <typename Value>
  bool add(Value&& value) {
    if (++count_ > limits_.max_values) return fail(offset(), "more than {} JSON values", limits_.max_values);
    values_.emplace_back(std::forward<Value>(value));
    return true;
  }

  bool open() {
    if (open_.size() >= limits_.max_depth) {
      return fail(offset() - 1, "JSON is nested deeper than {} levels", limits_.max_depth);
    }
    if (++count_ > limits_.max_values) return fail(offset(), "more than {} JSON values", limits_.max_values);
    open_.push_back({values_.size(), keys_.size()});
    return true;
  }

  template <typename Container>
  bool close(const Frame& frame, Container&& container) {
    values_.resize(frame.first_value);
    keys_.resize(frame.first_key);
    key_offsets_.resize(frame.first_key);
    open_.pop_back();
    values_.emplace_back(std::forward<Container>(container));
    return true;
  }

  /// Refuses or drops keys of the innermost object that occur again.
  bool settle_duplicates(const Frame& frame) {
    ranks_.clear();
    for (std::size_t i = frame.first_key; i < keys_.size(); ++i) {
      ranks_.push_back({XXH3_64bits(keys_[i].data(), keys_[i].size()), i});
    }
    // Ordered by key where hashes meet, so that crafted collisions cost no more than a sort of the keys themselves.
    std::ranges::sort(ranks_, [this](const KeyRank& a, const KeyRank& b) {
      if (a.hash != b.hash) return a.hash < b.hash;
      const int order = keys_[a.index].compare(keys_[b.index]);
      return order != 0 ? order < 0 : a.index < b.index;
    });
    std::vector<std::size_t> again;  // stays empty, and unallocated, in every sound file
    std::size_t first = 0;
    for (std::size_t i = 1; i < ranks_.size(); ++i) {
      if (ranks_[i].hash != ranks_[first].hash || keys_[ranks_[i].index] != keys_[ranks_[first].index]) {
        first = i;
        continue;
      }
      again.push_back(ranks_[i].index);
      if (limits_.duplicates == JsonDuplicates::keep_last) {
        std::swap(value_of(frame, ranks_[first].index), value_of(frame, ranks_[i].index));
      }
    }
    if (again.empty()) return true;
    std::ranges::sort(again);
    if (limits_.duplicates == JsonDuplicates::refuse) {
      return fail(key_offsets_[again.front()], "key '{}' occurs twice", path_of(again.front()));
    }
    if (repeated_ != nullptr) {
      for (const std::size_t index : again) repeated_->push_back(path_of(index));
    }
    drop_keys(frame, again);
    return true;
  }

  void drop_keys(const Frame& frame, const std::vector<std::size_t>& sorted) {
    std::size_t kept = sorted.front();
    auto next = sorted.begin();
    for (std::size_t i = kept; i < keys_.size(); ++i) {
      if (next != sorted.end() && *next == i) {
        ++next;
        continue;
      }
      keys_[kept] = std::move(keys_[i]);
      value_of(frame, kept) = std::move(value_of(frame, i));
      ++kept;
    }
    values_.resize(frame.first_value + (kept - frame.first_key));
    keys_.resize(kept);
  }

  Json& value_of(const Frame& frame, std::size_t key) { return values_[frame.first_value + (key - frame.first_key)]; }

  /// The dotted path of a key of the innermost object: each enclosing object is at the last key it has read so far.
  std::string path_of(std::size_t index) const {
    std::string path;
    for (std::size_t i = 0; i + 1 < open_.size(); ++i) {
      const Frame& inner = open_[i + 1];
      if (inner.first_key > open_[i].first_key) {
        path += keys_[inner.first_key - 1] + ".";
      } else {
        path += std::to_string(inner.first_value - open_[i].first_value) + ".";
      }
    }
    return path + keys_[index];
  }

  std::uint64_t offset() const { return static_cast<std::uint64_t>(furthest_ - text_.data()); }

  /// Where the key that was just read starts, or where it ends when escapes make its written length another.
  std::uint64_t offset_of_key(std::string_view key) const {
    const std::uint64_t end = offset();
    const std::uint64_t written = key.size() + 2;
    if (written <= end && text_.substr(end - written + 1, key.size()) == key) return end - written;
    return end;
  }

  template <typename... Args>
  bool fail(std::uint64_t at, fmt::format_string<Args...> format, Args&&... args) {
    error_.emplace(ErrorCode::malformed, format, std::forward<Args>(args)...);
    error_->offset(at);
    return false;
  }

  std::string_view text_;
  const char* const& furthest_;
  const JsonLimits& limits_;
  std::vector<std::string>* repeated_;

  std::vector<Frame> open_;
  std::vector<Json> values_;
  std::vector<std::string> keys_;
  std::vector<std::uint64_t> key_offsets_;
  std::vector<KeyRank> ranks_;
  std::uint64_t count_ = 0;
  std::optional<Error> error_;
};

[[noreturn]] void throw_wrong_type(const Json& value, std::string_view key, std::string_view expected) {
  throw Error(ErrorCode::malformed, "'{}' is {} where {} is expected", printable(key),
              value.is_number() ? value.dump() : std::string(value.type_name()), expected);
}

}  // namespace

Json parse_json(std::string_view text, std::string_view source, const JsonLimits& limits,
                std::vector<std::string>* repeated) {
  if (text.size() > limits.max_bytes) {
    throw Error(ErrorCode::malformed, "JSON of {} bytes, more than the {} allowed", text.size(), limits.max_bytes)
        .at(source);
  }
  if (text.starts_with("\xEF\xBB\xBF")) {
    throw Error(ErrorCode::malformed, "not valid JSON: starts with a byte order mark").at(source).offset(0);
  }
  // nlohmann's lexer takes a zero byte for the end of the text and would not see what follows. No JSON text has one.
  if (const auto zero = text.find('\0'); zero != std::string_view::npos) {
    throw Error(ErrorCode::malformed, "not valid JSON: zero byte").at(source).offset(zero);
  }
  const char* furthest = text.data();
  DocumentBuilder builder(text, furthest, limits, repeated);
  const TrackingIterator first{text.data(), &furthest};
  const TrackingIterator last{text.data() + text.size(), &furthest};
  const bool complete = Json::sax_parse(first, last, &builder);
  if (builder.error()) {
    Error error = *builder.error();
    throw std::move(error).at(source);
  }
  if (!complete) throw Error(ErrorCode::malformed, "not valid JSON").at(source);
  return builder.take_document();
}

const Json* find(const Json& object, std::string_view key) {
  if (!object.is_object()) {
    throw Error(ErrorCode::malformed, "{} where an object with the key '{}' is expected", object.type_name(),
                printable(key));
  }
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

const Json* find_path(const Json& object, std::string_view path) {
  const Json* value = &object;
  for (std::size_t begin = 0; value != nullptr;) {
    const std::size_t dot = path.find('.', begin);
    value = find(*value, path.substr(begin, dot - begin));
    if (dot == std::string_view::npos) return value;
    begin = dot + 1;
  }
  return nullptr;
}

std::optional<std::int64_t> get_int(const Json& object, std::string_view key) {
  const Json* value = find(object, key);
  if (value == nullptr) return std::nullopt;
  constexpr std::string_view kExpected = "a whole number";
  if (value->is_number_unsigned()) {
    const auto number = value->get<std::uint64_t>();
    if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      throw_wrong_type(*value, key, "a whole number below 2^63");
    }
    return static_cast<std::int64_t>(number);
  }
  if (value->is_number_integer()) return value->get<std::int64_t>();
  if (!value->is_number_float()) throw_wrong_type(*value, key, kExpected);
  const auto number = value->get<double>();
  constexpr double kLargestExact = 9007199254740992.0;  // 2^53: beyond it neighbouring integers share a double
  if (!(std::abs(number) <= kLargestExact) || std::trunc(number) != number) throw_wrong_type(*value, key, kExpected);
  return static_cast<std::int64_t>(number);
}

std::optional<double> get_double(const Json& object, std::string_view key) {
  const Json* value = find(object, key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) throw_wrong_type(*value, key, "a number");
  return value->get<double>();
}

std::optional<bool> get_bool(const Json& object, std::string_view key) {
  const Json* value = find(object, key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) throw_wrong_type(*value, key, "true or false");
  return value->get<bool>();
}

std::optional<std::string> get_string(const Json& object, std::string_view key) {
  const Json* value = find(object, key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) throw_wrong_type(*value, key, "a string");
  return value->get<std::string>();
}

const Json* get_array(const Json& object, std::string_view key) {
  const Json* value = find(object, key);
  if (value != nullptr && !value->is_array()) throw_wrong_type(*value, key, "an array");
  return value;
}

const Json* get_object(const Json& object, std::string_view key) {
  const Json* value = find(object, key);
  if (value != nullptr && !value->is_object()) throw_wrong_type(*value, key, "an object");
  return value;
}

}  // namespace regauge
