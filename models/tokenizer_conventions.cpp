#include "models/tokenizer_conventions.h"

namespace regauge {

bool looks_special(std::string_view text) {
  if (text == "<pad>" || text == "<mask>" || text == "<2mass>" || text == "[@BOS@]") return true;
  if (text.starts_with("<|") && text.ends_with("|>")) return true;
  if (text.starts_with("<\xEF\xBD\x9C") && text.ends_with("\xEF\xBD\x9C>")) return true;  // with full-width bars
  return text.starts_with("<unused") && text.ends_with(">");
}

}  // namespace regauge
