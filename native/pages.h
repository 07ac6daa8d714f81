// Page-aligned memory: what the kernel copies to and from page by page, without a page in two parts.
#ifndef OSTREE_TS_PAGES_H
#define OSTREE_TS_PAGES_H

#include <cstddef>
#include <cstdint>
#include <sys/mman.h>
#include <utility>

class Pages {
 public:
  Pages() = default;
  // `data` is null when there was no memory.
  explicit Pages(size_t size) : size_(size) {
    void* memory =
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED) data_ = static_cast<uint8_t*>(memory);
  }
  Pages(Pages&& other) noexcept { *this = std::move(other); }
  Pages& operator=(Pages&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Pages() {
    if (data_ != nullptr) munmap(data_, size_);
  }

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

#endif
