import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { EXIT } from './exit-codes.ts';
import { FORMATS, type Format, type Output, openOutput } from './output.ts';

/** Runs one command line; resolves with the exit code. Commands are loaded when they are called: `--help` stays quick. */
export async function main(argv: readonly string[]): Promise<number> {
  let code: number = EXIT.ok;
  const program = programOf((exitCode) => {
    code = exitCode;
  });
  try {
    await program.parseAsync(argv);
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    const { exitCodeOf, failureText } = await import('./describe-failure.ts');
    process.stderr.write(`${failureText(error)}\n`);
    return exitCodeOf(error);
  }
}

type Action = (output: Output, ...args: never[]) => Promise<number>;

function programOf(exit: (code: number) => void): Command {
  const program = new Command('millrace')
    .description('Scheduled bulk jobs with the truth about every item.')
    .version('0.1.0')
    .exitOverride()
    .showHelpAfterError('See `millrace --help`.')
    .showSuggestionAfterError();

  /** Calls the command's function with the output that `-o` asks for, then the arguments and options of the command line. */
  const act =
    (load: () => Promise<Action>) =>
    async (...parsed: unknown[]) => {
      const command = parsed.pop() as Command;
      const options = command.optsWithGlobals() as { output?: Format; json?: boolean };
      const run = (await load()) as (output: Output, ...args: unknown[]) => Promise<number>;
      exit(await run(openOutput(options.json ? 'json' : (options.output ?? 'table')), ...parsed.slice(0, -1), options));
    };
  const add = (parent: Command, usage: string, description: string) =>
    parent
      .command(usage)
      .description(description)
      .addOption(new Option('-o, --output <format>', 'form of the data on stdout').choices(FORMATS).default('table'))
      .option('--json', 'same as -o json');

  add(program, 'dev', 'everything in one process, dashboard included; embedded unless servers are configured')
    .option('--once', 'end when the runs of the latest ticks, and all that depend on them, are closed')
    .action(act(async () => (await import('./commands/dev.ts')).dev));
  add(program, 'start', 'one service, or all, in the foreground')
    .argument('<service>', 'clock, planner, processor, audit, console or all')
    .action(act(async () => (await import('./commands/start.ts')).start));
  add(program, 'run', 'start a run of a job')
    .argument('<job>')
    .option('--param <name=value...>', 'parameter of the job; values that are JSON are taken as such')
    .option('--key <key>', 'idempotency key: the same key names the same run')
    .option('--at <instant>', 'the instant the job is told, as 2026-11-24T00:10:00Z')
    .option('--limit <n>', 'at most this many items', wholeNumber)
    .option('--wait', 'wait until the run is closed; the exit code tells its verdict')
    .option('--timeout <duration>', 'wait at most this long, as 90s or 10m')
    .action(act(async () => (await import('./commands/run.ts')).run));

  const runs = program.command('runs').description('list and watch runs');
  add(runs, 'ls', 'newest first')
    .option('--job <job>')
    .addOption(new Option('--state <state>').choices(['planning', 'running', 'closed']))
    .option('--limit <n>', 'at most this many', wholeNumber, 20)
    .action(act(async () => (await import('./commands/runs.ts')).listRuns));
  add(runs, 'show', 'one run with its equation and failure groups')
    .argument('<run>')
    .action(act(async () => (await import('./commands/runs.ts')).showRun));
  add(runs, 'watch', 'follow a run until it is closed')
    .argument('<run>')
    .option('--timeout <duration>')
    .action(act(async () => (await import('./commands/runs.ts')).watchRun));

  add(program, 'failures', 'what failed and why')
    .argument('<run>')
    .option('--group <fingerprint>', 'the items of one group')
    .option('--limit <n>', 'at most this many', wholeNumber, 50)
    .option('--after <cursor>', 'continue after this page')
    .action(act(async () => (await import('./commands/failures.ts')).failures));
  add(program, 'redrive', 'try the failing items of a closed run again')
    .argument('<run>')
    .option('--group <fingerprint>', 'only this failure group')
    .option('--key <key...>', 'only these keys')
    .option('-y, --yes', 'do not ask')
    .option('--wait', 'wait until the run is closed again')
    .option('--timeout <duration>')
    .action(act(async () => (await import('./commands/redrive.ts')).redrive));
  add(program, 'audit', 'rebuild the balance sheet of a run, or of all, and compare every book; exits 9 on a leak')
    .argument('[run]')
    .option('--all', 'every run that any book knows')
    .action(act(async () => (await import('./commands/audit.ts')).audit));
  add(program, 'jobs', 'the jobs that are known').action(act(async () => (await import('./commands/jobs.ts')).jobs));
  const ticks = program.command('ticks').description('schedules');
  add(ticks, 'next', 'when a job is due next')
    .argument('<job>')
    .option('-n <n>', 'how many', wholeNumber, 10)
    .action(act(async () => (await import('./commands/ticks.ts')).nextTicks));
  add(program, 'migrate', 'bring the database schemas up to date').action(
    act(async () => (await import('./commands/migrate.ts')).migrateDatabase),
  );
  add(program, 'doctor', 'check this installation; a fix per line').action(act(async () => (await import('./commands/doctor.ts')).doctor));

  // Sub-commands do not inherit it.
  const strict = (command: Command): void => {
    command.exitOverride();
    for (const child of command.commands) strict(child);
  };
  strict(program);
  program.addHelpText(
    'after',
    '\nQuick start:\n  millrace dev                 run the jobs in ./jobs, dashboard on http://localhost:4400\n  millrace run <job> --wait    start one now and wait for its verdict\n  millrace failures <run>      what failed and why\n  millrace redrive <run>       try that part again',
  );
  return program;
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('give a whole number of at least 1.');
  return Number(text);
}
