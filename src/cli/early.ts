/** Begins the processes of a session while the command loads itself, when it is likely to need one: before all else. */
// oxlint-disable-next-line no-restricted-imports -- the library as a whole is what must not be waited for
import { beginKeeper, dropKeeper } from '../session/keeper-process.ts';

const [, , command, ...rest] = process.argv;
const end = rest.indexOf('--');
const options = end < 0 ? rest : rest.slice(0, end);
/** Of sessions that are started in another way, or not at all. A wrong guess costs time only. */
const UNFIT = /^(?:-h$|--(?:help|keep|upper|transport)\b)/;

if (command === 'run' && !options.some((option) => UNFIT.test(option))) beginKeeper();

/** Ends what was begun, if no session took it. */
export const dropEarly: () => Promise<void> = dropKeeper;
