import { main } from './main.ts';

process.exitCode = await main(process.argv);
// Connections of libraries that nobody can close must not keep a finished command alive. Output first: pipes are written in the background.
for (const stream of [process.stdout, process.stderr]) await new Promise((done) => stream.write('', done));
process.exit();
