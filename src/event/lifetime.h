#pragma once

#include <memory>

namespace strato {

// Says whether the Lifetime that it came from still exists. Copyable, any thread.
class Token {
 public:
  bool alive() const { return !life_.expired(); }

 private:
  friend class Lifetime;
  explicit Token(std::weak_ptr<const char> life) : life_(std::move(life)) {}
  std::weak_ptr<const char> life_;
};

// A member (by convention the last one, `alive_`) of whatever posts to an EventLoop: closures posted with its token are
// dropped once it is gone. Destroyed on the loop's thread, else a closure may just be running.
class Lifetime {
 public:
  Lifetime() = default;
  Lifetime(const Lifetime&) = delete;
  Lifetime& operator=(const Lifetime&) = delete;
  Token token() const { return Token(life_); }

 private:
  std::shared_ptr<const char> life_ = std::make_shared<const char>('\0');
};

}  // namespace strato
