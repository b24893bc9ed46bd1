import { loadConfigFile } from './config-file.ts';
import { collectOptions, isOption, type Option, type Options, refuseProblems } from './options.ts';
import { type PlatformConfig, platformOptions } from './platform-options.ts';

/** For each setting of a service a declared option, or a value that cannot be changed from outside. */
export type Declared<Config> = { readonly [Key in keyof Config]: Config[Key] | Option<Config[Key]> };

export interface ConfigureOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Where `millrace.config.*` is looked for. */
  readonly directory: string;
  /** Replaces declared defaults; environment and file still win. */
  readonly defaults?: Partial<PlatformConfig>;
  /** Declared settings by service. */
  readonly services?: Readonly<Record<string, object>>;
}

export interface Configuration {
  readonly platform: PlatformConfig;
  /** Settings by service. */
  readonly services: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

/** Objects in the configuration file that belong to other processes than this one. */
const SECTIONS = ['clock', 'planner', 'processor', 'audit', 'console'];

/** Environment over file over default, everything checked before any connection: MR2001 lists all problems at once. */
export async function configure({ env, directory, defaults = {}, services = {} }: ConfigureOptions): Promise<Configuration> {
  const file = await loadConfigFile(directory, env.MILLRACE_CONFIG || undefined);
  const sources = { env, ...(file && { fileName: file.name, directory: file.directory }) };
  const platform = collectOptions(withDefaults(platformOptions, defaults), { ...sources, ...(file && { file: file.values }) });
  const problems = [
    ...platform.problems,
    ...unknownKeys(file?.values ?? {}, file?.name ?? '', [...Object.keys(platformOptions), ...SECTIONS]),
  ];
  const settings: Record<string, Record<string, unknown>> = {};
  for (const [service, declared] of Object.entries(services)) {
    const options = Object.fromEntries(Object.entries(declared).filter(([, value]) => isOption(value))) as Options;
    const fixed = Object.fromEntries(Object.entries(declared).filter(([, value]) => !isOption(value)));
    const section = file?.values[service] ?? {};
    if (typeof section !== 'object' || Array.isArray(section)) {
      problems.push(`${service} in ${file?.name} is ${JSON.stringify(section)}; expected an object`);
      continue;
    }
    const values = collectOptions(options, {
      ...sources,
      fileName: `${service} of ${file?.name}`,
      file: section as Record<string, unknown>,
    });
    problems.push(...values.problems, ...unknownKeys(section, `${service} of ${file?.name}`, Object.keys(options)));
    settings[service] = { ...fixed, ...values.values };
  }
  refuseProblems(problems);
  return { platform: platform.values, services: settings };
}

function withDefaults(options: typeof platformOptions, defaults: Partial<PlatformConfig>): typeof platformOptions {
  const entries = Object.entries(options as Options).map(([name, one]) => [
    name,
    name in defaults ? { ...one, default: defaults[name as keyof PlatformConfig] } : one,
  ]);
  return Object.fromEntries(entries) as typeof platformOptions;
}

function unknownKeys(values: object, where: string, known: readonly string[]): string[] {
  return Object.keys(values)
    .filter((key) => !known.includes(key))
    .map((key) => `${key} in ${where} is no option; known are ${known.join(', ') || 'none'}`);
}
