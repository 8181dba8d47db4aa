// What an application gives to the TypeScript SDKs for OAuth: a place for registration and tokens, and a user at a
// browser.

import { auth } from '@modelcontextprotocol/sdk/client/auth.js';
import { same } from '../node/lib.mjs';
import { authorize } from './browser.mjs';

/** A public client that registers itself. It asks for no scope of its own; the server says which. */
export class Login {
  /** The authorization URLs that the user was sent to. */
  visits = [];
  /** All token responses, oldest first. */
  issued = [];

  // Nothing listens there: the browser stops when it is sent back.
  redirectUrl = 'http://localhost:1/callback';
  clientMetadata = {
    client_name: 'interop',
    redirect_uris: [this.redirectUrl],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
  };

  constructor(account) {
    this.account = account;
  }

  clientInformation() { return this.client; }
  saveClientInformation(client) { this.client = client; }
  tokens() { return this.issued.at(-1); }
  saveTokens(tokens) { this.issued.push(tokens); }
  redirectToAuthorization(url) { this.visits.push(url); }
  codeVerifier() { return this.verifier; }
  saveCodeVerifier(verifier) { this.verifier = verifier; }
  discoveryState() { return this.discovered; }
  saveDiscoveryState(state) { this.discovered = state; }

  get accessToken() { return this.tokens().access_token; }

  /** The user opens the address visited last, logs in and consents: the parameters that come back. */
  async approve() {
    return (await authorize(this.visits.at(-1), this.account)).searchParams;
  }
}

/**
 * Someone logged in to the server at `url`, without any connection to it; with the registration of another `Login`, if
 * one is given.
 */
export async function loggedIn(url, account, registered) {
  const login = new Login(account);
  login.client = registered?.client;
  same(await auth(login, { serverUrl: url }), 'REDIRECT');
  const authorizationCode = (await login.approve()).get('code');
  same(await auth(login, { serverUrl: url, authorizationCode }), 'AUTHORIZED');
  return login;
}

/** The header and the claims of a token. */
export function decoded(token) {
  const [header, claims] = token.split('.').slice(0, 2).map(part => JSON.parse(Buffer.from(part, 'base64url')));
  return { header, claims };
}
