// Chromium's own `EventSource`, as page.mjs has it, and what happens when its stream is cut.

import assert from 'node:assert/strict';
import { Queue, STATS, echo, longTask, run, same, standardChecks, stats, statsBecome } from './lib.mjs';
import { PageClient, browserName, launch } from './page.mjs';

/** The stream is cut while idle; a call is posted, and answered, before the page is let back. */
async function replyMadeWhileAway(url) {
  const { client, observer, updates } = await clientAndObserver(url);
  await echo(client, 'before');
  const { calls, running } = await stats(observer);
  client.proxy.cut();
  await Promise.all([
    echo(client, 'made while away'),
    statsBecome(observer, updates, { calls: calls + 1, running }).then(() => resumes(client)),
  ]);
  await echo(client, 'after');
  await closed(client, observer);
}

/** The connection breaks between two bytes of an event, and the rest of the events are made while away. */
async function cutInsideAnEvent(url) {
  const { client, observer, updates } = await clientAndObserver(url);
  const { calls, running } = await stats(observer);
  client.proxy.cutBefore(/"progress":\s*3\b/);
  await Promise.all([
    longTask(client, 6, 50),
    client.proxy.wasCut
      .then(() => statsBecome(observer, updates, { calls: calls + 1, running }))
      .then(() => resumes(client)),
  ]);
  await echo(client, 'after');
  await closed(client, observer);
}

/** A client, and a second one whose updates tell when the server is done. */
async function clientAndObserver(url) {
  const updates = new Queue();
  const client = await PageClient.connect(url, () => {});
  const observer = await PageClient.connect(url, uri => updates.push(uri));
  await observer.subscribe(STATS);
  return { client, observer, updates };
}

/** The page comes back by itself, says what it got last, and is let through. */
async function resumes(client) {
  const lastEventId = await client.proxy.reconnects.next();
  assert.ok(lastEventId, 'no Last-Event-ID');
  client.proxy.release();
}

/** Closes both. All went well only if the session stayed the same and each reply came once. */
async function closed(client, observer) {
  same(new Set(client.endpoints).size, 1);
  assert.deepEqual([...client.replies.values()].filter(count => count !== 1), [], 'doubled replies');
  await client.close();
  await observer.close();
}

run(browserName, async (check, url) => {
  await launch();
  if (!await standardChecks(check, onUpdated => PageClient.connect(url, onUpdated))) return;
  await check('reply made while away', () => replyMadeWhileAway(url));
  await check('cut inside an event', () => cutInsideAnEvent(url));
});
