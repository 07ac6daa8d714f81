/** Which processes hold a session's mount. */

/** One process that holds the mount, and by what. */
export interface Holder {
  pid: number;
  /** As /proc/PID/comm has it. */
  name: string;
  /** `cwd`, `root`, `exe`, `mapped`, `fd 3`, `mount /path`, `mount namespace`; at most a few of each process. */
  by: string[];
}
