import { Command } from 'commander';
import type { Finding } from '../../index.ts';
import type { Context } from '../context.ts';
import type { Colour } from '../output.ts';
import { displayText, table } from '../output.ts';

const COLOURS: Record<Finding['state'], Colour> = {
  ok: 'green',
  limited: 'yellow',
  missing: 'red',
};

export function doctor(context: Context): Command {
  return new Command('doctor')
    .summary('say what this kernel, user and system allow')
    .description(
      'Tries what sessions need, feature by feature, and says what to do about what is missing. Exits with 1 when no ' +
        'session can start here.',
    )
    .option('--json', 'one JSON object a line, errors too')
    .addHelpText(
      'after',
      `
Examples:
  ostree-ts doctor
  ostree-ts doctor --json | jq 'select(.state != "ok")'`,
    )
    .action(async ({ json }: { json?: true }) => {
      const { out, exitWith } = context;
      const findings = await (await context.load()).doctor();
      const lines =
        json === true ? findings.map((one) => JSON.stringify(one)) : show(context, findings);
      for (const line of lines) out(line);
      if (findings.some(({ state }) => state === 'missing')) exitWith(1);
    });
}

function show({ paint }: Context, findings: Finding[]): string[] {
  const rows = table(
    findings.map(({ feature, state, detail }) => [
      state,
      displayText(feature),
      displayText(detail),
    ]),
  );
  return findings.flatMap(({ state, remedy }, i) => {
    const row = rows[i] ?? '';
    const line = paint(COLOURS[state], state) + row.slice(state.length);
    return remedy === undefined ? [line] : [line, `         -> ${displayText(remedy)}`];
  });
}
