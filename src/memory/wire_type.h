#pragma once

#include <concepts>
#include <type_traits>

namespace strato {

// What may be read from and written to guest memory as a value: unsigned integers (in host order), and structs of
// le16/le32/le64, uint8_t and arrays of them. Alignment 1 keeps pointers, host integers and padding out of the structs.
// `bool` and enumerations inside a struct cannot be seen from here and are forbidden all the same: make them from
// the integer by a checked function.
template <class T>
concept WireType = std::is_trivially_copyable_v<T> && !std::is_pointer_v<T> &&
                   ((std::unsigned_integral<T> && !std::same_as<T, bool>) ||
                    (std::is_class_v<T> && alignof(T) == 1 && std::has_unique_object_representations_v<T> &&
                     std::is_default_constructible_v<T>));

}  // namespace strato
