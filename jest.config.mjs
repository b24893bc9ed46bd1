import { existsSync } from 'node:fs';
import { join } from 'node:path';

const root = import.meta.dirname;
// Jest refuses a root that does not exist, and an empty folder is not in a checkout.
const folders = ['services', 'shared', 'examples', 'deploy', 'tools'].map((folder) => join(root, folder)).filter(existsSync);

function typescript(tsx) {
  const jsc = { parser: { syntax: 'typescript', tsx }, target: 'es2022' };
  return ['@swc/jest', { jsc, module: { type: 'es6' }, sourceMaps: 'inline' }];
}

/** @type {import('jest').Config} */
export default {
  rootDir: root,
  roots: folders,
  testEnvironment: 'node',
  testMatch: ['**/*.test.ts'],
  testPathIgnorePatterns: ['/node_modules/', '/dist/'],
  modulePathIgnorePatterns: ['/dist/', '/\\.nx/', '/\\.millrace/'],
  extensionsToTreatAsEsm: ['.ts', '.tsx'],
  transform: { '^.+\\.ts$': typescript(false), '^.+\\.tsx$': typescript(true) },
  testTimeout: 30_000,
};
