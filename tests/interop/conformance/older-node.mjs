// Lets Node 20 load the conformance suite: it imports `globSync` of `fs`, which came with Node 22, and uses it only to
// look at source code. `node --import ./older-node.mjs` puts one in its place that finds nothing.
//
// The same file is what intercepts the import, which Node does in a thread of its own.

import * as fs from 'node:fs';
import { register } from 'node:module';
import { isMainThread } from 'node:worker_threads';

const URL_OF_FS = 'conformance:fs';

if (isMainThread && !('globSync' in fs)) register(import.meta.url);

export async function resolve(specifier, context, next) {
  const asked = specifier === 'fs' && context.parentURL?.includes('/@modelcontextprotocol/conformance/');
  return asked ? { url: URL_OF_FS, shortCircuit: true } : next(specifier, context);
}

export async function load(url, context, next) {
  if (url !== URL_OF_FS) return next(url, context);
  const source = "export * from 'node:fs'; export const globSync = () => [];";
  return { format: 'module', source, shortCircuit: true };
}
