import { execFileSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { docker, dockerWorks } from './docker-server.ts';
import { natsRecipe, postgresRecipe, rabbitRecipe } from './recipes.ts';

const PACKAGES = ['rabbitmq-server', 'nats-server', 'postgresql'];
const recipes = () => [rabbitRecipe(), natsRecipe(), postgresRecipe({}, false)];

/**
 * Makes sure that RabbitMQ, NATS and PostgreSQL can be started here: installs the Debian packages as root, else pulls the images for Docker.
 * Throws, saying what to do, where neither is possible. Does nothing when all three are there.
 */
export async function ensureServers(report: (line: string) => void = () => {}): Promise<void> {
  if (missing().length === 0) return;
  if (canInstall()) {
    report(`installing ${PACKAGES.join(', ')} for the integration tests`);
    installPackages();
    if (missing().length > 0) throw new Error(`installed, and still missing: ${missing().join(', ')}`);
  } else if (await dockerWorks()) {
    for (const recipe of recipes()) {
      if (recipe.binary()) continue;
      report(`fetching ${recipe.docker.image} for the integration tests`);
      await docker('image', 'inspect', recipe.docker.image).catch(() => docker('pull', recipe.docker.image));
    }
  } else {
    throw new Error(
      `the integration tests need ${missing().join(', ')}: start Docker, or run \`sudo apt-get install ${PACKAGES.join(' ')}\` on Debian or Ubuntu`,
    );
  }
}

const missing = () =>
  recipes()
    .filter((recipe) => recipe.binary() === undefined)
    .map((recipe) => recipe.name);

const canInstall = () => existsSync('/etc/debian_version') && process.getuid?.() === 0;

/** Debian starts a server as soon as it is installed, unless this policy says no; the tests want private ones only. */
function installPackages(): void {
  const policy = '/usr/sbin/policy-rc.d';
  const ours = !existsSync(policy);
  if (ours) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  try {
    execFileSync('apt-get', ['update', '-q'], { env, stdio: ['ignore', 'ignore', 'inherit'] });
    execFileSync('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...PACKAGES], {
      env,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  } finally {
    if (ours) rmSync(policy, { force: true });
  }
}
