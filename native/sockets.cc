// Messages over sockets of kinds that Node has no word for.
#include "native.h"

#include <memory>
#include <poll.h>
#include <cstddef>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace {

constexpr size_t kLargestMessage = 64 * 1024;

// A socket that Node has touched is non-blocking: waits until it is ready instead.
template <typename Call>
ssize_t Blocking(int socket, short events, Call call) {
  for (;;) {
    const ssize_t result = Retried(call);
    if (result >= 0 || errno != EAGAIN) return result;
    pollfd wanted{socket, events, 0};
    if (Retried([&] { return poll(&wanted, 1, -1); }) < 0) return -1;
  }
}

// The fd of the first SCM_RIGHTS message, or -1; the space we give holds one.
int ReceivedFd(msghdr* message) {
  for (cmsghdr* part = CMSG_FIRSTHDR(message); part != nullptr; part = CMSG_NXTHDR(message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    int fd = -1;
    memcpy(&fd, CMSG_DATA(part), sizeof fd);
    return fd;
  }
  return -1;
}

}  // namespace

Napi::Value ReceiveMessage(const Info& info) {
  const Napi::Env env = info.Env();
  const int socket = Int(info, 0);
  const auto buffer = std::make_unique_for_overwrite<uint8_t[]>(kLargestMessage);
  iovec body{buffer.get(), kLargestMessage};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &body;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t length = Blocking(socket, POLLIN, [&] {
    message.msg_controllen = sizeof control;
    return recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  });
  if (length < 0) return Called(info, length);
  Fd fd(ReceivedFd(&message));
  if ((message.msg_flags & MSG_TRUNC) != 0) return Result(env, -EMSGSIZE);

  auto data = Napi::Uint8Array::New(env, static_cast<size_t>(length));
  if (length > 0) memcpy(data.Data(), buffer.get(), static_cast<size_t>(length));
  Napi::Object result = Napi::Object::New(env);
  result.Set("data", data);
  result.Set("fd", Napi::Number::New(env, fd.release()));
  return result;
}

Napi::Value SendMessage(const Info& info) {
  const int socket = Int(info, 0);
  const Span<uint8_t> data(info, 1);
  const int fd = Int(info, 2);
  iovec body{data.data, data.length};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &body;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(part), &fd, sizeof fd);
  }
  return Called(info, Blocking(socket, POLLOUT, [&] {
                  return sendmsg(socket, &message, MSG_NOSIGNAL);
                }));
}

// To a path, or to the abstract name that follows an '@'. Does not wait.
Napi::Value SendDatagram(const Info& info) {
  const ByteString to(info, 0);
  const Span<uint8_t> data(info, 1);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t length = strlen(to.c_str());
  if (length == 0 || length >= sizeof address.sun_path) return Result(info.Env(), -ENAMETOOLONG);
  memcpy(address.sun_path, to.c_str(), length);
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
  const int from = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (from < 0) return Called(info, from);
  const ssize_t sent = Retried([&] {
    return sendto(from, data.data, data.length, MSG_NOSIGNAL | MSG_DONTWAIT,
                  reinterpret_cast<const sockaddr*>(&address),
                  static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length));
  });
  const int64_t result = sent < 0 ? -errno : sent;
  close(from);
  return Result(info.Env(), result);
}
