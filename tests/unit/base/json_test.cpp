#include "base/json.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <ctime>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"

namespace regauge {
namespace {

using namespace std::string_literals;

Json parse(std::string_view text, const JsonLimits& limits = {}) { return parse_json(text, "config.json", limits); }

struct Refusal {
  bool refused = false;
  std::uint64_t offset = 0;
};

Refusal refusal_of(std::string_view text, const JsonLimits& limits = {}) {
  try {
    parse(text, limits);
    return {};
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::malformed);
    EXPECT_EQ(error.file(), "config.json");
    EXPECT_TRUE(error.byte_offset().has_value()) << error.what();
    return {.refused = true, .offset = error.byte_offset().value_or(0)};
  }
}

void expect_refused(std::string_view text, std::uint64_t offset) {
  const Refusal refusal = refusal_of(text);
  EXPECT_TRUE(refusal.refused) << text;
  EXPECT_EQ(refusal.offset, offset) << text;
}

std::string repeat(std::string_view piece, std::size_t times) {
  std::string text;
  for (std::size_t i = 0; i < times; ++i) text += piece;
  return text;
}

TEST(ParseJson, BuildsWhatTheTextSaysInItsOrder) {
  const Json json = parse(R"( {"z": [1, -2, 2.5, "s", true, false, null, [], {}], "a": {"b": {"c": []}}, "": ""} )");
  EXPECT_EQ(json.dump(), R"({"z":[1,-2,2.5,"s",true,false,null,[],{}],"a":{"b":{"c":[]}},"":""})");
}

TEST(ParseJson, AnyValueMayBeTheDocument) {
  EXPECT_EQ(parse("7"), 7);
  EXPECT_EQ(parse("\"x\""), "x");
  EXPECT_TRUE(parse(" null\n").is_null());
  EXPECT_TRUE(parse("[]").is_array());
}

TEST(ParseJson, KeepsWholeNumbersOf64BitsExact) {
  const Json json = parse("[18446744073709551615, -9223372036854775808, 9007199254740993]");
  EXPECT_EQ(json[0].get<std::uint64_t>(), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(json[1].get<std::int64_t>(), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(json[2].get<std::uint64_t>(), 9007199254740993U);
}

TEST(ParseJson, FloatsStayFloats) {
  const Json json = parse("[55562855904.0, 1e3, 18446744073709551616, -0.0]");
  for (const auto& value : json) EXPECT_TRUE(value.is_number_float()) << value;
  EXPECT_EQ(json[0].get<double>(), 55562855904.0);
  EXPECT_TRUE(std::signbit(json[3].get<double>()));
}

TEST(ParseJson, ReadsEscapesIntoUtf8) {
  EXPECT_EQ(parse(R"("\u00e4\ud83d\ude42\n\u0000")").get<std::string>(), "\u00e4\U0001F642\n\0"s);
}

TEST(ParseJson, RefusesWhatRfc8259DoesNotAllow) {
  for (const auto& [text, offset] :
       std::initializer_list<std::pair<const char*, std::uint64_t>>{{"", 0},
                                                                    {"  ", 2},
                                                                    {"{", 1},
                                                                    {"[1,", 3},
                                                                    {"[1,]", 3},
                                                                    {R"({"a":1,})", 7},
                                                                    {"{a:1}", 1},
                                                                    {R"({"a" 1})", 5},
                                                                    {"{'a':1}", 1},
                                                                    {"[1 2]", 3},
                                                                    {"01", 1},
                                                                    {"[+1]", 1},
                                                                    {"[.5]", 1},
                                                                    {"[1.]", 3},
                                                                    {"NaN", 0},
                                                                    {"[Infinity]", 1},
                                                                    {"[-Infinity]", 2},
                                                                    {"nul", 3},
                                                                    {"{} x", 3},
                                                                    {"{}{}", 2},
                                                                    {"// c\n1", 0},
                                                                    {"\"a\nb\"", 2},
                                                                    {R"("\x")", 2},
                                                                    {R"("\ud800")", 7},
                                                                    {"\"abc", 4},
                                                                    {"\xEF\xBB\xBF{}", 0}}) {
    expect_refused(text, offset);
  }
}

TEST(ParseJson, RefusesNumbersBeyondADouble) { EXPECT_TRUE(refusal_of("[1e400]").refused); }

TEST(ParseJson, RefusesTextThatIsNotUtf8) {
  expect_refused("\"a\xFF\"", 2);
  expect_refused("\"\xC0\x80\"", 1);
  expect_refused("\"\xED\xA0\x80\"", 2);
  expect_refused("\xFF", 0);
}

TEST(ParseJson, AZeroByteIsNotTheEndOfTheText) {
  expect_refused("{}\0junk"s, 2);
  expect_refused("{}\0"s, 2);
  expect_refused("\"a\0b\""s, 2);
}

TEST(ParseJson, RefusesEveryTruncationOfADocument) {
  const auto text = R"({"a":[1,{"b":"cd\u00e4"},null],"e":-1.5e3})"s;
  ASSERT_FALSE(refusal_of(text).refused);
  for (std::size_t size = 0; size < text.size(); ++size) {
    EXPECT_TRUE(refusal_of(text.substr(0, size)).refused) << size;
  }
}

TEST(ParseJson, NeverQuotesTheBytesOfAHostileFile) {
  try {
    parse("[\"" + std::string(100'000, 'A') + "\x1B[2J");
    FAIL();
  } catch (const Error& error) {
    EXPECT_LT(std::string(error.what()).size(), 400U);
    EXPECT_EQ(std::string(error.what()).find("AAAA"), std::string::npos);
  }
}

TEST(ParseJson, NestingUpToTheLimitIsReadAndOneMoreIsRefused) {
  const JsonLimits limits{.max_depth = 10};
  EXPECT_FALSE(refusal_of(repeat("[", 10) + repeat("]", 10), limits).refused);
  EXPECT_FALSE(refusal_of(repeat("{\"a\":", 10) + "1" + repeat("}", 10), limits).refused);
  const Refusal arrays = refusal_of(repeat("[", 11) + repeat("]", 11), limits);
  EXPECT_TRUE(arrays.refused);
  EXPECT_EQ(arrays.offset, 10U);
  const Refusal objects = refusal_of(repeat("{\"a\":", 11) + "1" + repeat("}", 11), limits);
  EXPECT_TRUE(objects.refused);
  EXPECT_EQ(objects.offset, 50U);
}

TEST(ParseJson, AHundredThousandLevelsAreRefusedAtTheLimit) {
  for (const auto* piece : {"[", "{\"a\":", "[{\"a\":"}) {
    const Refusal refusal = refusal_of(repeat(piece, 100'000));
    EXPECT_TRUE(refusal.refused);
    EXPECT_LT(refusal.offset, 1000U);
  }
}

TEST(ParseJson, RefusesMoreBytesOrValuesThanAllowed) {
  EXPECT_THROW(parse("[1,2,3]", {.max_bytes = 6}), Error);
  EXPECT_NO_THROW(parse("[1,2,3]", {.max_bytes = 7}));
  EXPECT_THROW(parse("[1,2,3]", {.max_values = 3}), Error);
  EXPECT_NO_THROW(parse("[1,2,3]", {.max_values = 4}));
  EXPECT_THROW(parse("[[],[],[]]", {.max_values = 3}), Error);
}

TEST(ParseJson, RefusesADuplicateKeyAtItsSecondPlace) {
  expect_refused(R"({"a":1,"b":2,"a":3})", 13);
  expect_refused(R"({"x":{"y":[{"b":1,"c":1,"b":1}]}})", 24);
  expect_refused(R"({"a":1,"\u0061":2})", 15);
  expect_refused(R"({"":1,"":1})", 6);
}

TEST(ParseJson, TheSameKeyInDifferentObjectsIsNoDuplicate) {
  EXPECT_FALSE(refusal_of(R"({"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]})").refused);
}

TEST(ParseJson, KeepLastTakesTheLastValueInTheFirstPlaceAndTellsWhere) {
  std::vector<std::string> repeated;
  const Json json = parse_json(R"({"a":1,"t":[0,{"k":{"n":1},"m":5,"k":[7],"k":[8]}],"b":2,"a":3,"c":4})",
                               "config.json", {.duplicates = JsonDuplicates::keep_last}, &repeated);
  EXPECT_EQ(json.dump(), R"({"a":3,"t":[0,{"k":[8],"m":5}],"b":2,"c":4})");
  EXPECT_EQ(repeated, (std::vector<std::string>{"t.1.k", "t.1.k", "a"}));
}

TEST(ParseJson, FindsDuplicatesAmongManyKeys) {
  std::string text = "{";
  for (int i = 0; i < 5000; ++i) text += "\"key" + std::to_string(i) + "\":" + std::to_string(i) + ",";
  const std::uint64_t second = text.size();
  EXPECT_FALSE(refusal_of(text + "\"last\":0}").refused);
  const Refusal refusal = refusal_of(text + "\"key77\":0}");
  EXPECT_TRUE(refusal.refused);
  EXPECT_EQ(refusal.offset, second);
}

std::string vocabulary(int tokens) {
  std::string text = "{";
  for (int i = 0; i < tokens; ++i) text += "\"token" + std::to_string(i) + "\":" + std::to_string(i) + ",";
  text.back() = '}';
  return text;
}

std::string header(int tensors) {
  std::string text = "{";
  for (int i = 0; i < tensors; ++i) {
    text += "\"model.layers." + std::to_string(i) + R"(.mlp.up_proj.qweight":{"dtype":"I32","shape":[2048,4096],)" +
            R"("data_offsets":[)" + std::to_string(i * 33'554'432LL) + "," + std::to_string((i + 1) * 33'554'432LL) +
            "]},";
  }
  text.back() = '}';
  return text;
}

double seconds_to_parse(const std::string& text) {
  double best = 1e9;
  for (int run = 0; run < 2; ++run) {
    const std::clock_t start = std::clock();  // processor time, so that a busy machine does not count
    const Json json = parse(text);
    best = std::min(best, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  }
  return best;
}

// Ten times the keys take about ten times as long. A builder that looks each key up among those before it, as the JSON
// library's own does, takes a hundred times as long.
TEST(ParseJson, TimeGrowsWithTheNumberOfKeysAndNotItsSquare) {
  EXPECT_LT(seconds_to_parse(vocabulary(100'000)), 40 * seconds_to_parse(vocabulary(10'000)));
  EXPECT_LT(seconds_to_parse(header(20'000)), 40 * seconds_to_parse(header(2'000)));
}

TEST(ParseJson, KeepsEveryEntryOfALargeObjectInItsPlace) {
  const Json json = parse(vocabulary(250'000));
  ASSERT_EQ(json.size(), 250'000U);
  int expected = 0;
  for (const auto& [key, value] : json.items()) {
    ASSERT_EQ(key, "token" + std::to_string(expected));
    ASSERT_EQ(value, expected);
    ++expected;
  }
}

TEST(JsonGetters, AbsentAndNullAreNothing) {
  const Json json = parse(R"({"n":null})");
  for (const char* key : {"n", "absent"}) {
    EXPECT_EQ(find(json, key), nullptr);
    EXPECT_EQ(get_int(json, key), std::nullopt);
    EXPECT_EQ(get_double(json, key), std::nullopt);
    EXPECT_EQ(get_bool(json, key), std::nullopt);
    EXPECT_EQ(get_string(json, key), std::nullopt);
    EXPECT_EQ(get_array(json, key), nullptr);
    EXPECT_EQ(get_object(json, key), nullptr);
  }
}

TEST(JsonGetters, GiveTheValueOfTheirType) {
  const Json json =
      parse(R"({"i":-3,"big":9223372036854775807,"f":0.5,"whole":55562855904.0,"b":false,"s":"x","a":[1],"o":{}})");
  EXPECT_EQ(get_int(json, "i"), -3);
  EXPECT_EQ(get_int(json, "big"), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(get_int(json, "whole"), 55562855904);
  EXPECT_EQ(get_double(json, "f"), 0.5);
  EXPECT_EQ(get_double(json, "i"), -3.0);
  EXPECT_EQ(get_bool(json, "b"), false);
  EXPECT_EQ(get_string(json, "s"), "x");
  EXPECT_EQ(get_array(json, "a")->size(), 1U);
  EXPECT_TRUE(get_object(json, "o")->empty());
}

TEST(JsonGetters, AnotherTypeIsMalformed) {
  const Json json = parse(
      R"({"s":"4","f":0.5,"b":true,"a":[],"o":{},"i":1,"huge":9223372036854775808,"rough":9007199254740994.0,"far":1e300})");
  const auto refuses = [&json](auto getter, std::initializer_list<const char*> keys) {
    for (const char* key : keys) {
      try {
        getter(json, key);
        ADD_FAILURE() << key;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::malformed);
        EXPECT_NE(error.message().find(key), std::string::npos) << error.what();
      }
    }
  };
  refuses(get_int, {"s", "f", "b", "a", "o", "huge", "rough", "far"});
  refuses(get_double, {"s", "b", "a", "o"});
  refuses(get_bool, {"s", "f", "a", "o", "i"});
  refuses(get_string, {"f", "b", "a", "o", "i"});
  refuses(get_array, {"s", "f", "b", "o", "i"});
  refuses(get_object, {"s", "f", "b", "a", "i"});
  EXPECT_THROW(get_int(json["a"], "i"), Error) << "not an object at all";
}

TEST(JsonGetters, AKeyMayHoldDotsAndAPathIsSplitAtThem) {
  const Json json = parse(R"({"a.b":1,"a":{"b":{"c":2,"n":null},"s":"x"}})");
  EXPECT_EQ(get_int(json, "a.b"), 1);
  ASSERT_NE(find_path(json, "a.b.c"), nullptr);
  EXPECT_EQ(*find_path(json, "a.b.c"), 2);
  EXPECT_EQ(find_path(json, "a.x.c"), nullptr);
  EXPECT_EQ(find_path(json, "a.b.n.deeper"), nullptr);
  EXPECT_THROW(find_path(json, "a.s.deeper"), Error);
}

}  // namespace
}  // namespace regauge
