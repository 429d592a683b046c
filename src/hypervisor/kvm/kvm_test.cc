#include "hypervisor/kvm/kvm.h"

#include <gtest/gtest.h>

namespace strato {
namespace {

TEST(Kvm, AMissingDeviceIsNamedWithWhatMayBeDone) {
  const Result<Kvm> kvm = Kvm::open("/nonexistent/kvm");
  ASSERT_FALSE(kvm.has_value());
  EXPECT_NE(kvm.error().text().find("cannot open /nonexistent/kvm"), std::string::npos) << kvm.error().text();
  EXPECT_NE(kvm.error().text().find("kvm_intel or kvm_amd"), std::string::npos) << kvm.error().text();
}

TEST(Kvm, AnotherKindOfDeviceIsRefused) {
  const Result<Kvm> kvm = Kvm::open("/dev/null");
  ASSERT_FALSE(kvm.has_value());
  EXPECT_NE(kvm.error().text().find("/dev/null is no KVM device"), std::string::npos) << kvm.error().text();
}

}  // namespace
}  // namespace strato
