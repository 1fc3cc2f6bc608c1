/**
 * The two small programs of every image: `launch` starts the main process, `enter` one beside it. Modal hands secrets over as
 * environment variables, where every child would see them: both take them out again.
 */

export const launchPath = "/agent/bin/launch";
export const enterPath = "/agent/bin/enter";
/** the process numbers of what was started, by the id of its exec; the main one's is written when its files and secrets are there */
const pidFolder = "/run/modal-sb-exec";
/** the id of the main process there */
export const mainProcess = "main";
/** words `name=VARIABLE`: which variable holds which secret */
export const secretsVariable = "MODAL_SB_SECRETS";
/** copies of what belongs below the mount path of a volume, which hides the image's own; and a line with the path of each */
export const underVolumes = "/agent/under-volumes";
export const underVolumesList = "/agent/under-volumes.list";

const forgetSecrets = `for word in $${secretsVariable}; do unset "\${word#*=}"; done
unset ${secretsVariable}`;

/** A volume that comes first on the path may hold programs of an earlier agent: they are not run here. */
const ownPath = `given_path=$PATH
PATH=/usr/local/bin:/usr/bin:/bin`;

/** `launch <program> <arguments>…` */
export const launchScript = `#!/bin/sh
${ownPath}
umask 077
mkdir -p /run/secrets /run/modal-sb ${pidFolder}
for word in $${secretsVariable}; do
  eval 'printf %s "$'"\${word#*=}"'"' > "/run/secrets/\${word%%=*}"
done
${forgetSecrets}
umask 022
if [ -e ${underVolumesList} ]; then
  while IFS= read -r path; do
    rm -rf "$path"; mkdir -p "\${path%/*}/"; cp -a "${underVolumes}$path" "$path"
  done < ${underVolumesList}
fi
echo $$ > ${pidFolder}/${mainProcess}
PATH=$given_path
exec /usr/bin/env "$@"
`;

/** Modal takes processes as soon as a sandbox starts: they wait for the launcher, but not for ever, since an agent can wipe /run. */
const launchTries = 1200;

/** `enter <id> <program> <arguments>…` */
export const enterScript = `#!/bin/sh
${ownPath}
mkdir -p ${pidFolder}
echo $$ > "${pidFolder}/$1"
shift
${forgetSecrets}
(tries=0; until [ -s ${pidFolder}/${mainProcess} ] || [ $tries = ${launchTries} ]; do sleep 0.05; tries=$((tries+1)); done)
PATH=$given_path
exec /usr/bin/env "$@"
`;

/** Sleeps so long in place of an earlier one: a session that was left for a day and is taken over is held for minutes again. */
export function holdCommand(seconds: number): string[] {
  const script = `PATH=/usr/bin:/bin; old=$(cat "$1" 2>/dev/null); echo $$ > "$1"; case $(tr '\\0' ' ' < "/proc/$old/cmdline" 2>/dev/null) in sleep\\ *) kill "$old";; esac; exec sleep "$2"`;
  return ["/bin/sh", "-c", script, "hold", `${pidFolder}/hold`, String(seconds)];
}

/** Sends a signal to what was started under an id, which may be about to write its number. */
export function killCommand(id: string, signal: NodeJS.Signals): string[] {
  const script = `tries=0; until [ -s "$1" ] || [ $tries = 100 ]; do sleep 0.05; tries=$((tries+1)); done; kill -${signal.replace(/^SIG/, "")} "$(cat "$1")"`;
  return ["/bin/sh", "-c", `PATH=/usr/bin:/bin; ${script}`, "kill", `${pidFolder}/${id}`];
}
