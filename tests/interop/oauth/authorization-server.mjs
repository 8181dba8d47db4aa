// A real authorization server, `oidc-provider`, for clients that register themselves. Nobody has to click: whoever
// asks is logged in as an account and gives its consent, by redirects alone.
//
// It prints its issuer once it listens. Paths under /test/ change it while it runs:
//
// - `POST /test/rotate` signs with a new key from now on; with `?drop=1` the old ones are no longer published;
// - `POST /test/down` lets the metadata and the keys fail with 503, `POST /test/up` ends that;
// - `POST /test/account?name=NAME` changes who is logged in, for all who send no cookie `account`;
// - `GET /test/count` tells how often the keys were asked for.

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import { parseArgs } from 'node:util';
import { Provider } from 'oidc-provider';
import { createMemoryAdapter } from 'oidc-provider/lib/adapters/memory_adapter.js';

/** What `generateKeyPairSync` wants for each algorithm. */
const KEY_TYPES = {
  RS256: ['rsa', { modulusLength: 2048 }],
  PS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  EdDSA: ['ed25519', {}],
};

const SCOPE = 'mcp';
const SCOPES = ['openid', 'offline_access', SCOPE];
const OPENID_METADATA = '/.well-known/openid-configuration';
const METADATA = ['/.well-known/oauth-authorization-server', OPENID_METADATA];
const KEYS = '/jwks';
const AUTHORIZATION = '/auth';

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    account: { type: 'string', default: 'alice' },
    'access-token-seconds': { type: 'string', default: '3600' },
    alg: { type: 'string', default: 'RS256' },
  },
});
if (!KEY_TYPES[options.alg]) throw new Error(`--alg ${Object.keys(KEY_TYPES).join('|')}`);

const server = http.createServer((request, response) => handle(request, response).catch(error => {
  // Only a mistake here gets this far, and the client waits for an answer.
  console.error(error);
  if (!response.headersSent) response.writeHead(500);
  response.end();
}));
server.listen(Number(options.port), '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;

// What outlives a change of keys: registrations, grants and refresh tokens, and the signatures of cookies.
const adapter = createMemoryAdapter();
const cookieKeys = [randomUUID()];
let { account } = options;
let keys = [newKey()];
let provider = newProvider();
let down = false;
let keyRequests = 0;

console.log(issuer);

function newKey() {
  const [type, parameters] = KEY_TYPES[options.alg];
  const jwk = generateKeyPairSync(type, parameters).privateKey.export({ format: 'jwk' });
  return { ...jwk, kid: randomUUID(), alg: options.alg, use: 'sig' };
}

/** The provider takes its keys once, and signs with the first that fits; so new keys are a new provider. */
function newProvider() {
  const provider = new Provider(issuer, {
    adapter,
    jwks: { keys },
    cookies: { keys: cookieKeys },
    routes: { authorization: AUTHORIZATION, jwks: KEYS },
    // ID tokens, too, can only be signed with the keys that are there.
    clientDefaults: { id_token_signed_response_alg: options.alg },
    scopes: SCOPES,
    pkce: { required: () => true },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    // By the book a refresh token needs `offline_access`, which needs `prompt=consent`; most servers give it to all.
    issueRefreshToken: (_, client) => client.grantTypeAllowed('refresh_token'),
    expiresWithSession: () => false,
    rotateRefreshToken: true,
    ttl: {
      AccessToken: Number(options['access-token-seconds']),
      Grant: 86_400, IdToken: 3600, Interaction: 600, RefreshToken: 86_400, Session: 86_400,
    },
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_, __, oneOf) => oneOf,
        // A token request that names no resource is for the one that was granted.
        useGrantedResource: () => true,
        getResourceServerInfo: (_, resource) => ({
          scope: SCOPE,
          audience: resource,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: options.alg } },
        }),
      },
    },
  });
  provider.on('server_error', (_, error) => console.error(error));
  return provider;
}

async function handle(request, response) {
  const { pathname, searchParams } = new URL(request.url, issuer);
  if (pathname === KEYS) keyRequests += 1;
  if (pathname.startsWith('/test/')) {
    const text = control(request.method, pathname, searchParams);
    response.writeHead(text === undefined ? 404 : 200, { 'content-type': 'text/plain' }).end(text);
  } else if (down && [KEYS, ...METADATA].includes(pathname)) {
    response.writeHead(503).end();
  } else if (pathname.startsWith('/interaction/')) {
    await approve(request, response);
  } else {
    // It knows its metadata under the name of OpenID only; the document is the same.
    if (METADATA.includes(pathname)) request.url = OPENID_METADATA;
    // It refuses who asks for no scope; RFC 6749 allows a default as well, and most servers have one.
    if (pathname === AUTHORIZATION && !searchParams.has('scope')) request.url += `&scope=${SCOPE}`;
    await provider.callback()(request, response);
  }
}

function control(method, pathname, searchParams) {
  switch (`${method} ${pathname}`) {
    case 'POST /test/rotate':
      keys = [newKey(), ...searchParams.get('drop') ? [] : keys];
      provider = newProvider();
      return keys[0].kid;
    case 'POST /test/down':
      down = true;
      return '';
    case 'POST /test/up':
      down = false;
      return '';
    case 'POST /test/account':
      account = searchParams.get('name');
      return account;
    case 'GET /test/count':
      return String(keyRequests);
    default:
      return undefined;
  }
}

/** What the pages for login and consent would do, had they been submitted. */
async function approve(request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  let result;
  if (prompt.name === 'login') {
    const cookie = /(?:^|; )account=([^;]+)/.exec(request.headers.cookie ?? '');
    result = { login: { accountId: cookie?.[1] ?? account } };
  } else {
    const { accountId } = session;
    const grant = await provider.Grant.find(grantId) ?? new provider.Grant({ accountId, clientId: params.client_id });
    grant.addOIDCScope(SCOPES.join(' '));
    for (const resource of [params.resource ?? []].flat()) grant.addResourceScope(resource, SCOPE);
    result = { consent: { grantId: await grant.save() } };
  }
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}
