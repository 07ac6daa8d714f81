// Replies whose bytes are in memory already: they go from a file to the device through a pipe, copied once.
#ifndef OSTREE_TS_RELAY_H
#define OSTREE_TS_RELAY_H

#include "pipe.h"
#include "pool.h"

#include <vector>

class Relay {
 public:
  // `memory` is a file whose reads never block.
  Relay(Device& device, int memory) : device_(device), memory_(memory) {}

  // Replies with these segments, if that needs no waiting and pays. @returns whether it has replied.
  bool Reply(const Pending& request, uint64_t unique, const std::vector<Segment>& segments);

 private:
  bool IsAtHand(const Segment& segment);
  bool FillPipe(const std::vector<Segment>& segments, const OutHeader& header);
  void Empty();

  Device& device_;
  const int memory_;
  Pipe pipe_;
  // The kernel does not say what of a file is in memory.
  bool unknown_ = false;
};

#endif
