#include "config/topology.h"

#include <gtest/gtest.h>

namespace strato {
namespace {

struct Row {
  SmpConfig given;
  SmpConfig expected;
};

TEST(TopologyTest, MissingFactorsAreFilledInTheContractsOrder) {
  const Row kRows[] = {
      {{1, 0, 0, 1, 1, 0, 0}, {1, 1, 1, 1, 1, 1, 1}},
      {{4, 0, 0, 1, 1, 0, 0}, {4, 4, 1, 1, 1, 4, 1}},  // cores first
      {{254, 0, 0, 1, 1, 0, 0}, {254, 254, 1, 1, 1, 254, 1}},
      {{2, 8, 0, 1, 1, 0, 0}, {2, 8, 1, 1, 1, 8, 1}},
      {{4, 0, 2, 1, 1, 0, 0}, {4, 4, 2, 1, 1, 2, 1}},
      {{8, 0, 0, 1, 1, 0, 2}, {8, 8, 1, 1, 1, 4, 2}},
      {{8, 0, 0, 1, 1, 2, 0}, {8, 8, 4, 1, 1, 2, 1}},  // then sockets
      {{8, 0, 2, 1, 1, 2, 0}, {8, 8, 2, 1, 1, 2, 2}},  // then threads
      {{2, 0, 2, 1, 1, 2, 2}, {2, 8, 2, 1, 1, 2, 2}},  // the product is max_cpus
      {{16, 16, 2, 2, 2, 0, 0}, {16, 16, 2, 2, 2, 2, 1}},
      {{6, 6, 0, 3, 1, 1, 0}, {6, 6, 2, 3, 1, 1, 1}},
  };
  for (const Row& row : kRows) {
    SmpConfig smp = row.given;
    const Result<> result = complete_topology(smp);
    ASSERT_TRUE(result.has_value()) << result.error().text();
    EXPECT_EQ(smp, row.expected) << "cpus=" << row.given.cpus << ",maxcpus=" << row.given.max_cpus
                                 << ",sockets=" << row.given.sockets << ",cores=" << row.given.cores;
  }
}

TEST(TopologyTest, WhatDoesNotMultiplyOutIsRefused) {
  const SmpConfig kRows[] = {
      {3, 0, 2, 1, 1, 0, 0},                                   // 3 does not split over 2 sockets
      {2, 2, 4, 1, 1, 0, 0},                                   // more sockets than CPUs
      {4, 6, 2, 1, 1, 2, 1},           {8, 4, 0, 1, 1, 0, 0},  // cpus > maxcpus
      {1, 0, 254, 254, 254, 254, 254},                         // far over the limit
      {255, 0, 3, 1, 1, 85, 1},        {1, 254, 254, 254, 254, 0, 0},
  };
  for (SmpConfig smp : kRows) EXPECT_FALSE(complete_topology(smp).has_value()) << smp.cpus << ' ' << smp.max_cpus;
}

}  // namespace
}  // namespace strato
