// Makes the passwords of an installation and writes what servers and services read of them: `node secrets.mjs <folder>`, with one folder in
// it per reader. What exists stays, so that it can run before every start; a deleted file is made anew.
import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const root = process.argv[2];
if (!root) {
  console.error('usage: node secrets.mjs <folder>');
  process.exit(2);
}
const definitions = JSON.parse(readFileSync(new URL('rabbitmq/definitions.json', import.meta.url), 'utf8'));

const superuser = kept('postgres', 'password', (password) => password);
kept('migrate', 'DATABASE_URL', (password) => `postgres://postgres:${password}@postgres:5432/millrace`, superuser);
for (const service of ['planner', 'processor', 'audit', 'console'])
  write(
    'postgres',
    service,
    kept(service, 'DATABASE_URL', (password) => `postgres://millrace_${service}:${password}@postgres:5432/millrace`),
  );

const nats = ['clock', 'planner', 'processor', 'audit', 'console'].map((service) => {
  const password = kept(service, 'NATS_URL', (made) => `nats://${service}:${made}@nats:4222`);
  return `${service.toUpperCase()}_PASSWORD: "${password}"\n`;
});
write('nats', 'passwords.conf', nats.join(''));

for (const user of definitions.users) {
  const password = kept(user.name, 'AMQP_URL', (made) => `amqp://${user.name}:${made}@rabbitmq:5672/millrace`);
  const salt = randomBytes(4);
  user.password_hash = Buffer.concat([salt, createHash('sha256').update(salt).update(password).digest()]).toString('base64');
  user.hashing_algorithm = 'rabbit_password_hashing_sha256';
}
write('rabbitmq', 'definitions.json', JSON.stringify(definitions, null, 2));

/** The password in a file that exists, or a new one, written as `text` has it. */
function kept(reader, file, text, made = randomBytes(24).toString('hex')) {
  const path = join(root, reader, file);
  const existing = existsSync(path) ? /[0-9a-f]{48}/.exec(readFileSync(path, 'utf8'))?.[0] : undefined;
  if (existing) return existing;
  write(reader, file, text(made));
  return made;
}

/** Readable for whatever user the reader runs as: nobody else has the volume. */
function write(reader, file, content) {
  mkdirSync(join(root, reader), { recursive: true });
  const path = join(root, reader, file);
  writeFileSync(path, content);
  chmodSync(path, 0o444);
}
