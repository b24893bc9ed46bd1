export { checkBooks } from './adapters/postgres-books.ts';
export { type App, buildApp, type ConsoleParts } from './app.ts';
export { type BooksReport, BooksView } from './books.ts';
export { type ConsoleConfig, consoleDefaults, consoleOptions } from './config.ts';
export { Console } from './console.ts';
export { RunView } from './run-view.ts';
export { wireConsole } from './wiring.ts';
