/**
 * Modal's SDK reads its settings from the variables of the process, and from nowhere else: while it does, they are those that
 * the provider was given.
 */
const isSetting = (name: string) => name.startsWith("MODAL_");

/** Puts the settings of `environment` in the place of the process's own; disposal brings those back. */
export function settingsOfSdk(environment: Readonly<Record<string, string | undefined>>): Disposable {
  const before = settingsIn(process.env);
  replace(settingsIn(environment));
  return { [Symbol.dispose]: () => replace(before) };
}

function settingsIn(environment: Readonly<Record<string, string | undefined>>): [name: string, value: string][] {
  return Object.entries(environment).filter(
    (entry): entry is [string, string] => isSetting(entry[0]) && entry[1] !== undefined,
  );
}

function replace(settings: readonly [name: string, value: string][]): void {
  for (const name of Object.keys(process.env).filter(isSetting)) delete process.env[name];
  Object.assign(process.env, Object.fromEntries(settings));
}
