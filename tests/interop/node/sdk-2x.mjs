// The TypeScript SDK 2.x: `@modelcontextprotocol/client`.

import { echo } from './lib.mjs';
import { runSdk } from './sdk.mjs';
import { sdk2x } from './sdks.mjs';

// Without this option it sends `initialize` at once; with it, `server/discover` first.
runSdk(sdk2x, (check, connect) => check('connect in mode auto', async () => {
  const client = await connect(() => {}, { versionNegotiation: { mode: 'auto' } });
  await echo(client, 'auto');
  await client.close();
}));
