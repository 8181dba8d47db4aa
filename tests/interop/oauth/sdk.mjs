// The OAuth support of the TypeScript SDKs, 1.x and 2.x, against a server that wants tokens.
//
// With `--expiry` tokens should live a few seconds, and what happens when they end is checked; `--leeway` is for how
// many seconds more the server takes them. With `--rotate` the authorization server at `--as` is told to change its
// keys and to fail.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client as Client1x } from '@modelcontextprotocol/sdk/client/index.js';
import { UnauthorizedError as Unauthorized1x } from '@modelcontextprotocol/sdk/client/auth.js';
import { SSEClientTransport as Sse1x } from '@modelcontextprotocol/sdk/client/sse.js';
import * as client2x from '@modelcontextprotocol/client';
import { Queue, TOOLS, run, same, textOf } from '../node/lib.mjs';
import { Login, decoded, loggedIn } from './login.mjs';
import { Traffic } from './traffic.mjs';

/** How long a new key of the authorization server may be unknown to the server. */
const NEW_KEY_MS = 15_000;

const SDKS = {
  '1x': {
    package: '@modelcontextprotocol/sdk',
    Client: Client1x,
    SSEClientTransport: Sse1x,
    UnauthorizedError: Unauthorized1x,
    finishAuth: (transport, parameters) => transport.finishAuth(parameters.get('code')),
  },
  '2x': {
    package: '@modelcontextprotocol/client',
    Client: client2x.Client,
    SSEClientTransport: client2x.SSEClientTransport,
    UnauthorizedError: client2x.UnauthorizedError,
    // It also checks who sent the user back (`iss`).
    finishAuth: (transport, parameters) => transport.finishAuth(parameters),
  },
};

function name({ client }) {
  const { package: folder } = SDKS[client];
  const { version } = JSON.parse(readFileSync(new URL(`node_modules/${folder}/package.json`, import.meta.url)));
  return `typescript-oauth ${version}`;
}

/** A client of one SDK for one user, with a record of its traffic. */
class Connection {
  traffic = new Traffic();
  endpoints = new Queue();

  constructor(sdk, url, login) {
    this.sdk = sdk;
    this.login = login;
    this.transport = new sdk.SSEClientTransport(new URL(url), { authProvider: login, fetch: this.traffic.fetch });
    this.client = new sdk.Client({ name: 'interop', version: '0' });
    // Private, but the only place that tells where the session is, and when it has moved.
    Object.defineProperty(this.transport, '_endpoint', {
      get: () => this.endpoint,
      set: endpoint => {
        this.endpoint = endpoint;
        this.endpoints.push(endpoint);
      },
    });
  }

  connect() {
    return this.client.connect(this.transport);
  }

  async echo(message) {
    same(textOf(await this.client.callTool({ name: 'echo', arguments: { message } })), message);
  }

  close() {
    return this.client.close();
  }
}

/** The whole way from a first 401 to a session. */
async function authorized(check, sdk, url) {
  const login = new Login('alice');
  const first = new Connection(sdk, url, login);
  const { traffic } = first;
  const metadata = new URL('/.well-known/oauth-protected-resource/sse', url).href;
  const sent = await check('401 leads to the authorization server', async () => {
    await assert.rejects(first.connect(), sdk.UnauthorizedError);
    const [{ status, challenge }, ...others] = traffic.responses;
    same(status, 401);
    assert.match(challenge, /^Bearer /);
    assert.ok(challenge.includes(`resource_metadata="${metadata}"`), challenge);
    // Where the challenge and the metadata point is there; nothing had to be guessed.
    same(others[0].url.href, metadata);
    assert.deepEqual(others.filter(({ status }) => status >= 400), []);
    same(login.visits.length, 1);
    const { searchParams } = login.visits[0];
    same(searchParams.get('resource'), url);
    same(searchParams.get('code_challenge_method'), 'S256');
  });
  if (!sent) return undefined;
  return check('token and session', async () => {
    await sdk.finishAuth(first.transport, await login.approve());
    await first.close();
    const { claims } = decoded(login.accessToken);
    same(claims.aud, url);
    same(claims.sub, 'alice');
    assert.ok(login.tokens().refresh_token, 'no refresh token');
    const connection = new Connection(sdk, url, login);
    await connection.connect();
    await connection.echo('with a token');
    same(login.visits.length, 1);
    return connection;
  });
}

async function sessionChecks(check, sdk, url, connection) {
  await check('list tools', async () => {
    const names = (await connection.client.listTools()).tools.map(tool => tool.name);
    assert.deepEqual(TOOLS.filter(tool => !names.includes(tool)), [], 'missing tools');
  });
  await check('20 calls at once', () =>
    Promise.all(Array.from({ length: 20 }, (_, i) => connection.echo(`call ${i}`))));
  await check('another connection needs no browser', async () => {
    const another = new Connection(sdk, url, connection.login);
    await another.connect();
    await another.echo('another');
    await another.close();
    same(connection.login.visits.length, 1);
  });
  await check('bad tokens', async () => {
    const without = await post(connection.endpoint);
    same(without.status, 401);
    assert.ok(!without.headers.get('www-authenticate').includes('error='), 'an error without a token');
    // The signature of another token.
    const token = connection.login.accessToken.split('.');
    const { accessToken } = await loggedIn(url, 'alice');
    token[2] = accessToken.split('.')[2];
    const forged = await post(connection.endpoint, token.join('.'));
    same(forged.status, 401);
    assert.match(forged.headers.get('www-authenticate'), /^Bearer .*error="invalid_token"/);
  });
  await check('a session is for one user', async () => {
    const mine = account => loggedIn(url, account, connection.login);
    const [alice, bob, other] = [await mine('alice'), await mine('bob'), await loggedIn(url, 'alice')];
    same(decoded(bob.accessToken).claims.sub, 'bob');
    same((await post(connection.endpoint, bob.accessToken)).status, 404);
    // Another client of the same user is somebody else.
    same((await post(connection.endpoint, other.accessToken)).status, 404);
    // The same user and client, whatever token it is.
    same((await post(connection.endpoint, alice.accessToken)).status, 202);
    const his = new Connection(sdk, url, bob);
    await his.connect();
    await his.echo('of bob');
    await his.close();
    await connection.echo('of alice');
  });
}

/** A ping from someone who knows the address of a session. */
async function post(endpoint, token) {
  const headers = { 'content-type': 'application/json', ...token && { authorization: `Bearer ${token}` } };
  const body = JSON.stringify({ jsonrpc: '2.0', method: 'notifications/interop' });
  const response = await fetch(endpoint, { method: 'POST', headers, body });
  await response.text();
  return response;
}

/** The SDKs send a token until it is refused, then they refresh it and send the message again. */
async function expiryChecks(check, connection, leeway) {
  const { login, traffic, endpoint, endpoints } = connection;
  same(await endpoints.next(), endpoint);
  const silences = [['once', false], ['twice', false], ['on a new connection', true], ['once more', false]];
  for (const [title, onNewConnection] of silences) {
    await check(`expired ${title}`, async () => {
      const tokens = login.issued.length;
      await untilExpired(login.accessToken, leeway);
      traffic.clear();
      if (onNewConnection) traffic.useNewConnections();
      await connection.echo(`expired ${title}`);
      const posts = traffic.to('POST', '/messages/');
      assert.deepEqual(posts.map(({ status }) => status), [401, 202]);
      const [refused] = posts;
      assert.match(refused.challenge, /^Bearer .*error="invalid_token"/);
      same(refused.onNewConnection, onNewConnection);
      // The stream was left alone, and so was the user.
      same(traffic.to('GET', '/sse').length, 0);
      same(connection.endpoint, endpoint);
      same(login.issued.length, tokens + 1);
      same(login.visits.length, 1);
    });
  }
  // As after a night: the token has ended, and the connections are gone.
  await check('expired and cut', async () => {
    const tokens = login.issued.length;
    await untilExpired(login.accessToken, leeway);
    traffic.clear();
    await traffic.cut();
    await endpoints.next();
    await connection.echo('expired and cut');
    assert.deepEqual(traffic.to('GET', '/sse').map(({ status }) => status), [401, 200]);
    same(login.issued.length, tokens + 1);
    same(login.visits.length, 1);
  });
}

async function untilExpired(token, leeway) {
  // `exp` has whole seconds, and the server may round them up.
  const milliseconds = (decoded(token).claims.exp + Number(leeway) + 1) * 1000 - Date.now();
  assert.ok(milliseconds < 20_000, 'the tokens live too long for this');
  await sleep(milliseconds);
}

async function rotationChecks(check, sdk, url, connection, as) {
  const control = async path => {
    const response = await fetch(new URL(path, as), { method: 'POST' });
    same(response.status, 200);
    return response.text();
  };
  const connectsWithKey = async kid => {
    const login = await loggedIn(url, 'alice');
    same(decoded(login.accessToken).header.kid, kid);
    // The server may ask for keys only so often; 2.x would give up when a token that is new is refused.
    const until = Date.now() + NEW_KEY_MS;
    while ((await post(connection.endpoint, login.accessToken)).status === 401 && Date.now() < until) await sleep(250);
    const another = new Connection(sdk, url, login);
    await another.connect();
    await another.echo('with a new key');
    await another.close();
    same(login.visits.length, 1);
  };
  await check('a new key', async () => connectsWithKey(await control('/test/rotate')));
  await check('the old key goes on', () => connection.echo('with the old key'));
  await check('without the authorization server', async () => {
    await control('/test/down');
    try {
      await connection.echo('without the authorization server');
      const another = new Connection(sdk, url, connection.login);
      await another.connect();
      await another.close();
    } finally {
      await control('/test/up');
    }
  });
  await check('a new key, after a failure', async () => connectsWithKey(await control('/test/rotate')));
}

run(
  name,
  async (check, url, { client, as, expiry, leeway, rotate }) => {
    const sdk = SDKS[client];
    const connection = await authorized(check, sdk, url);
    if (!connection) return;
    if (expiry) await expiryChecks(check, connection, leeway);
    else if (rotate) await rotationChecks(check, sdk, url, connection, as);
    else await sessionChecks(check, sdk, url, connection);
    await check('close', () => connection.close());
  },
  {
    client: { type: 'string', choices: Object.keys(SDKS) },
    as: { type: 'string', optional: true },
    expiry: { type: 'boolean', default: false },
    leeway: { type: 'string', default: '0' },
    rotate: { type: 'boolean', default: false },
  },
);
