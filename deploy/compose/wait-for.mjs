// `node wait-for.mjs <url> <seconds>`: ends with 0 as soon as the address answers with success, with 1 when it has not in time.
import { setTimeout as delay } from 'node:timers/promises';

const [url, seconds] = process.argv.slice(2);
for (let left = Number(seconds) * 4; left > 0; left--) {
  if (
    await fetch(url, { signal: AbortSignal.timeout(5_000) }).then(
      (answer) => answer.ok,
      () => false,
    )
  )
    process.exit(0);
  await delay(250);
}
console.error(`${url} has not answered within ${seconds} s`);
process.exit(1);
