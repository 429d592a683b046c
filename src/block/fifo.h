#pragma once

namespace strato {

// A first-in-first-out list through a pointer inside of its elements, which `T*& fifo_next(T&)` names: nothing is
// allocated, and an element is in one list at most.
template <class T>
class Fifo {
 public:
  bool empty() const { return first_ == nullptr; }
  T* front() const { return first_; }
  void push(T& one) {
    fifo_next(one) = nullptr;
    if (first_ == nullptr) {
      first_ = &one;
    } else {
      fifo_next(*last_) = &one;
    }
    last_ = &one;
  }
  // Null when empty.
  T* pop() {
    T* const one = first_;
    if (one != nullptr) first_ = fifo_next(*one);
    return one;
  }
  // All of it; this one is empty then.
  Fifo take() {
    const Fifo all = *this;
    first_ = nullptr;
    return all;
  }

 private:
  T* first_ = nullptr;
  T* last_ = nullptr;  // when not empty
};

}  // namespace strato
