// What does not pass, and why. A pattern or a value for each of `part`, `revision`, `era`, `spoken`, `route`, `scenario` and
// `check`; one that is left out matches all.

/** Without the gateway. */
export const DIRECTLY = [
  { part: 'server', revision: '2026-07-28', scenario: /^tasks-/, reason: 'an extension that the SDK does not have' },
];

/** Only through it. */
export const KNOWN = [
  {
    part: 'server', revision: '2025-11-25', scenario: 'server-sse-polling',
    check: 'server-sse-disconnect-resume (ServerDisconnectResume)',
    reason: 'a server on stdio has no stream to close, and one that a remote server closes is resumed by the gateway, so that '
      + 'the client has its answer on the stream that it opened',
  },
];
