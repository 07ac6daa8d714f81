// Finds the mounts of this session in mountinfo.
#include "keeper.h"

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <unistd.h>

namespace {

// Undoes the octal escapes of mountinfo, in place.
void Unescape(char* text) {
  char* to = text;
  for (const char* from = text; *from != '\0'; to++) {
    if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] != '\0' && from[3] != '\0') {
      *to = static_cast<char>((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
      from += 4;
    } else {
      *to = *from++;
    }
  }
  *to = '\0';
}

}  // namespace

// Finds the last of this session's mounts for which `wanted` says yes. The last one is the topmost of a path. Device
// numbers are used again, so the name and the owner count as well: as long as we live, the name is ours.
bool FindMount(bool (*wanted)(const Mount&), Mount* found) {
  static char named[160];
  static const int named_length =
      snprintf(named, sizeof named, "%s %s ", kType, keeper.options.name);
  static char owner[40];
  snprintf(owner, sizeof owner, ",user_id=%u,", getuid());
  // Static, as the stack is locked memory too; the size bounds the longest line: four paths, escaped.
  static char buffer[4 * 4 * PATH_MAX];
  static Mount mount;
  size_t held = 0;
  bool any = false;
  if (lseek(keeper.mountinfo, 0, SEEK_SET) < 0) return false;
  for (;;) {
    const ssize_t more = read(keeper.mountinfo, buffer + held, sizeof buffer - 1 - held);
    if (more < 0 && errno == EINTR) continue;
    if (more <= 0) return any;
    held += static_cast<size_t>(more);
    buffer[held] = '\0';
    char* line = buffer;
    while (char* end = strchr(line, '\n')) {
      *end = '\0';
      // id parent major:minor root mountpoint options... - type source options
      char* dash = strstr(line, " - ");
      int path_at = 0;
      if (dash != nullptr && sscanf(line, "%ld %*d %u:%u %*s %n", &mount.id, &mount.major,
                                    &mount.minor, &path_at) == 3) {
        *dash = '\0';
        char* path = line + path_at;
        if (char* space = strchr(path, ' ')) *space = '\0';
        snprintf(mount.path, sizeof mount.path, "%s", path);
        Unescape(mount.path);
        const bool is_named = strncmp(dash + 3, named, static_cast<size_t>(named_length)) == 0;
        if (is_named && strstr(dash + 3, owner) != nullptr && wanted(mount)) {
          *found = mount;
          any = true;
        }
      }
      line = end + 1;
    }
    held = strlen(line);
    memmove(buffer, line, held + 1);
    if (held >= sizeof buffer - 1) held = 0;
  }
}

bool IsNew(const Mount& mount) { return strcmp(mount.path, keeper.options.mountpoint) == 0; }

bool IsOurs(const Mount& mount) {
  return mount.major == keeper.major && mount.minor == keeper.minor;
}

bool IsMounted() {
  static Mount mount;
  return keeper.minor != 0 && FindMount(IsOurs, &mount);
}
