/** What this kernel, this user and this system allow, feature by feature. */

export interface Finding {
  /** A short name: `fuse device`, `mount`, `keeper`, ... */
  feature: string;
  /** `ok`; `limited`: works with restrictions; `missing`: sessions do not start without it. */
  state: 'ok' | 'limited' | 'missing';
  /** What was seen, in one line. */
  detail: string;
  /** What to do about it, in one line. */
  remedy?: string;
}

export async function doctor(): Promise<Finding[]> {
  throw new Error('not yet');
}
