export { type App, buildApp, type ConsoleParts } from './app.ts';
export { type BooksReport, BooksView, checkBooks } from './books.ts';
export { type ConsoleConfig, consoleDefaults, consoleOptions } from './config.ts';
export { Console } from './console.ts';
export { RunView } from './run-view.ts';
export { wireConsole } from './wiring.ts';
