// What the channel's counters are told as.
import test from 'ava';
import { FUSE_FORGET, FUSE_LOOKUP } from '../src/fuse/abi.ts';
import { operationStatistics } from '../src/fuse/statistics.ts';
import { STATISTICS } from '../src/native-channel.ts';

function counted(rows: Record<number, { requests: number; ns: number; buckets: number[] }>) {
  const values = new BigUint64Array(STATISTICS.COUNTERS + STATISTICS.OPCODES * STATISTICS.ROW);
  for (const [opcode, { requests, ns, buckets }] of Object.entries(rows)) {
    const at = STATISTICS.COUNTERS + Number(opcode) * STATISTICS.ROW;
    values[at] = BigInt(requests);
    values[at + 1] = BigInt(ns);
    for (const [bucket, count] of buckets.entries()) values[at + 2 + bucket] = BigInt(count);
  }
  return values;
}

test('operations that came are told by name, with what their buckets say', (t) => {
  // 90 replies took 1024 to 2047 ns, 9 twice to four times that, 1 about a millisecond.
  const buckets = Array.from({ length: STATISTICS.BUCKETS }, () => 0);
  buckets[10] = 90;
  buckets[11] = 9;
  buckets[20] = 1;
  t.deepEqual(
    operationStatistics(
      counted({
        [FUSE_LOOKUP]: { requests: 101, ns: 1_200_000, buckets },
        [FUSE_FORGET]: { requests: 5, ns: 0, buckets: [] },
      }),
    ),
    {
      LOOKUP: { requests: 101, meanUs: 12, p50Us: 1.45, p90Us: 1.45, p99Us: 2.9 },
      FORGET: { requests: 5 },
    },
  );
});

test('nothing counted, nothing told', (t) => {
  t.deepEqual(operationStatistics(counted({})), {});
});
