// The TypeScript SDK 1.x: `@modelcontextprotocol/sdk`.

import { runSdk } from './sdk.mjs';
import { sdk1x } from './sdks.mjs';

runSdk(sdk1x);
