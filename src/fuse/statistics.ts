/** What the channel has counted and timed of each operation, told in words: see STATISTICS of native.ts. */
import { STATISTICS } from '../native-channel.ts';
import { OPERATIONS } from './operations.ts';

export interface OperationStatistics {
  requests: number;
  /** Microseconds from the receipt of a request until its reply was sent. Percentiles are true within a factor of 1.5. */
  meanUs?: number;
  p50Us?: number;
  p90Us?: number;
  p99Us?: number;
}

/** By the names of the operations; those that never came are left out. */
export function operationStatistics(values: BigUint64Array): Record<string, OperationStatistics> {
  const operations: Record<string, OperationStatistics> = {};
  for (let opcode = 0; opcode < STATISTICS.OPCODES; opcode++) {
    const at = STATISTICS.COUNTERS + opcode * STATISTICS.ROW;
    const [requests = 0, nanoseconds = 0, ...buckets] = Array.from(
      values.subarray(at, at + STATISTICS.ROW),
      Number,
    );
    if (requests === 0) continue;
    const answered = buckets.reduce((sum, count) => sum + count, 0);
    operations[OPERATIONS[opcode]?.name ?? `OPCODE_${opcode}`] = {
      requests,
      // Some are not answered, as FORGET.
      ...(answered > 0 && {
        meanUs: microseconds(nanoseconds / answered),
        p50Us: microseconds(percentile(buckets, 0.5)),
        p90Us: microseconds(percentile(buckets, 0.9)),
        p99Us: microseconds(percentile(buckets, 0.99)),
      }),
    };
  }
  return operations;
}

/** Nanoseconds: the middle, on a scale of ratios, of the bucket [2^b, 2^(b+1)) that holds the one asked for. */
function percentile(buckets: readonly number[], part: number): number {
  const wanted = part * buckets.reduce((sum, count) => sum + count, 0);
  let seen = 0;
  const bucket = buckets.findIndex((count) => (seen += count) >= wanted && count > 0);
  return 2 ** (Math.max(0, bucket) + 0.5);
}

function microseconds(nanoseconds: number): number {
  return Math.round(nanoseconds / 10) / 100;
}
