#pragma once

#include <cstdint>
#include <string_view>

namespace strato {

// One line of a state struct's list:
//
//   struct BlockState {
//     static constexpr std::string_view kKind = "virtio-block";   // of a struct that is saved on its own
//     uint64_t acked_features = 0;
//     uint8_t write_cache = 1;
//     bool operator==(const BlockState&) const = default;
//     static constexpr auto fields() {
//       return std::tuple(Field{1, "acked_features", &BlockState::acked_features},
//                         Field{2, "write_cache", &BlockState::write_cache, /*since=*/2});
//     }
//   };
//
// Numbers ascend from 1 and are never used again for anything else; a name may change, it is for messages only. `since`
// is the level of the format at which the field came: a file's level is the highest among the fields that are in it.
template <class Struct, class Member>
struct Field {
  constexpr Field(uint16_t field_id, std::string_view field_name, Member Struct::* field_member,
                  uint16_t field_since = 1)
      : member(field_member), name(field_name), id(field_id), since(field_since) {}

  Member Struct::* member;
  std::string_view name;
  uint16_t id;
  uint16_t since;
};

}  // namespace strato
