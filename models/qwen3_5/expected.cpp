#include "models/qwen3_5/expected.h"

#include "models/qwen3_5/slots.h"

namespace regauge::qwen3_5 {
namespace {

class List {
 public:
  explicit List(const Config& config) : config_(config) {}

  void add_site(Site site, bool in_mtp, int layer, bool optional) {
    for (const SlotKind& kind : slot_kinds()) {
      if (kind.site != site || kind.presence == Presence::foreign) continue;
      if (kind.presence == Presence::untied && config_.tied) continue;
      const Slot first = make_slot(kind, in_mtp, layer, kind.expert ? 0 : -1);
      if (find_kind(first, config_) == nullptr) continue;
      const Shape shape = canonical_shape(kind, config_);
      const int count = kind.expert ? static_cast<int>(config_.experts) : 1;
      for (int i = 0; i < count; ++i) {
        ExpectedSlot& slot = slots_.emplace_back();
        slot.slot = make_slot(kind, in_mtp, layer, kind.expert ? i : -1);
        slot.shape = shape;
        slot.usual = kind.usual;
        slot.optional = optional;
      }
    }
  }

  std::vector<ExpectedSlot> take() { return std::move(slots_); }

 private:
  const Config& config_;
  std::vector<ExpectedSlot> slots_;
};

}  // namespace

std::vector<ExpectedSlot> expected_slots(const Config& config) {
  if (!config.sizes_known) return {};
  List list(config);
  if (config.text) {
    list.add_site(Site::text, false, -1, false);
    for (int layer = 0; layer < config.layers; ++layer) list.add_site(Site::block, false, layer, false);
    if (config.mtp_layers > 0) list.add_site(Site::mtp, true, -1, true);
    for (int layer = 0; layer < config.mtp_layers; ++layer) list.add_site(Site::block, true, layer, true);
  }
  if (config.vision) {
    list.add_site(Site::vision, false, -1, config.text);
    for (int block = 0; block < config.vision->depth; ++block) {
      list.add_site(Site::vision_block, false, block, config.text);
    }
  }
  return list.take();
}

}  // namespace regauge::qwen3_5
